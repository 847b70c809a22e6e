"""Host ops: NumPy functions that stay on the host."""

from partitioner.backends.execution import BackendInfo

__all__ = ["BACKEND"]

BACKEND = BackendInfo(
    name="host",
    executor="partitioner.backends.host.execute:HostExecutor",
    compiler="partitioner.backends.host.compile:HostCompiler",
    support="partitioner.backends.host.support:verdict",
    ranges=True,
)
