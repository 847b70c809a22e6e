"""What a bundle takes where it is served: latency, throughput, segments, loading, memory, price."""

from partitioner.benching.benchmark import Options, bench
from partitioner.benching.results import Benchmark

__all__ = ["Benchmark", "Options", "bench"]
