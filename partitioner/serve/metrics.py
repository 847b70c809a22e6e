"""Prometheus metrics of a server, in a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram
from prometheus_client import generate_latest as text_of
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from partitioner.serve.state import ServerState

__all__ = ["Metrics"]

#: Seconds: from the cheapest health check to the slowest pipelines on CPUs.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counts requests; reads the rest when it is asked for it.

    Args:
        state: whose models and requests are shown.
    """

    def __init__(self, state: ServerState) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "partitioner_requests",
            "Requests that were answered.",
            ["endpoint", "model", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "partitioner_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["endpoint", "model"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_StateCollector(state))

    def count(self, endpoint: str, model: str, status: int, seconds: float) -> None:
        """Count a request. ``model`` must be one that there is: labels are kept for ever."""
        self._requests.labels(endpoint, model, str(status)).inc()
        self._seconds.labels(endpoint, model).observe(seconds)

    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``, in Prometheus' text format."""
        return Response(text_of(self._registry), media_type=CONTENT_TYPE_LATEST)


class _StateCollector(Collector):
    def __init__(self, state: ServerState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state
        yield _gauge("ready", "Whether requests should be sent here.", float(state.ready))
        yield _gauge("active_requests", "Requests that are read, wait or run.", state.active)
        waiting = _by_model("waiting_requests", "Length of the queue.")
        running = _by_model("running_requests", "Requests that run.")
        seconds = CounterMetricFamily(
            "partitioner_segment_seconds", "Time spent in segments.", labels=["model", "segment"]
        )
        for name, service in state.services.items():
            stats = service.stats()
            waiting.add_metric([name], stats.waiting)
            running.add_metric([name], stats.running)
            for segment, spent in stats.segment_seconds.items():
                seconds.add_metric([name, segment], spent)
        yield from (waiting, running, seconds)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"partitioner_{name}", text, value=value)


def _by_model(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"partitioner_{name}", text, labels=["model"])
