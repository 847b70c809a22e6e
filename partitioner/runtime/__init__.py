"""The thin runtime: loads bundles and runs them, on NumPy and the backends' own libraries."""

from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.bundles import load
from partitioner.runtime.events import StepEvent
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.queueing import QueueOptions
from partitioner.runtime.requests import Request
from partitioner.runtime.stats import Stats
from partitioner.runtime.traces import Trace, tracing

__all__ = [
    "BatchedPipeline",
    "Pipeline",
    "QueueOptions",
    "Request",
    "Stats",
    "StepEvent",
    "Trace",
    "load",
    "tracing",
]
