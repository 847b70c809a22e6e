"""The thin runtime: loads bundles and runs them, on NumPy and the backends' own libraries."""

from partitioner.runtime.events import StepEvent
from partitioner.runtime.pipeline import Pipeline, load
from partitioner.runtime.queueing import QueueOptions
from partitioner.runtime.requests import Request
from partitioner.runtime.traces import Trace, tracing

__all__ = ["Pipeline", "QueueOptions", "Request", "StepEvent", "Trace", "load", "tracing"]
