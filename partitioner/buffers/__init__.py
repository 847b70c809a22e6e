"""Where the values of a run stand in memory, decided before it runs, from the plan alone.

:func:`plan_buffers` makes the buffer plan, :mod:`partitioner.buffers.check` proves one, and
:func:`measure` gives the figures that a bundle records. Nothing here imports torch: the runtime
makes the buffer plan again when it loads a bundle, and never trusts one from outside.
"""

from partitioner.buffers.liveness import plan_buffers
from partitioner.buffers.plan import BufferPlan, Storage
from partitioner.buffers.usage import RULES, MemoryUse, measure

__all__ = ["RULES", "BufferPlan", "MemoryUse", "Storage", "measure", "plan_buffers"]
