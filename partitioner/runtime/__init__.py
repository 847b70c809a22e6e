"""The thin runtime: loads bundles and runs them, on NumPy and the backends' own libraries."""

from partitioner.runtime.events import StepEvent
from partitioner.runtime.pipeline import Pipeline, load

__all__ = ["Pipeline", "StepEvent", "load"]
