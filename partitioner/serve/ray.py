"""Bundles as replicas on a Ray cluster, by Ray Serve.

A replica is a process with the application of :mod:`partitioner.serve.app` over one loaded bundle;
Ray Serve gives requests to replicas, has as many of them as there is work for, and replaces them
one by one, without losing a request, when another bundle is deployed under the same name. Batching
is the runtime's: it puts together what waits in a replica.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ray import serve
from ray.serve.metrics import Gauge
from starlette.applications import Starlette

from partitioner.errors import BackendError, UsageError
from partitioner.runtime import QueueOptions, load
from partitioner.serve.app import create_app
from partitioner.serve.options import DEFAULT_OPTIONS, ServeOptions
from partitioner.serve.placing import Served, look_up
from partitioner.serve.service import PipelineService

__all__ = ["ReplicaOptions", "deploy", "replica_deployment"]


@dataclass(frozen=True)
class ReplicaOptions:
    """How many replicas there are, and how much each is given.

    Args:
        least, most: replicas; by the number of requests at work, if they differ.
        ongoing: requests at a replica, waiting ones included, that autoscaling aims at; by default
            twice what one call serves.
        limit: requests at a replica at most; more wait at the proxies. By default twice that.
        queue: requests that wait at each proxy at most; another one is refused with status 503.
        surge: per cent of replicas that an update may start before others have ended; 0 where the
            cluster has no room for them, and then a single replica leaves a gap in which requests
            wait.
        health_period: seconds between checks of health.
        drain_limit: seconds in which a replica that is to end serves what it has accepted.
        grow_after, shrink_after: seconds for which there must be work for more replicas, or for
            fewer, before there are.
        window: seconds over which requests are counted for that.

    Raises:
        UsageError: numbers that cannot be meant.
    """

    least: int = 1
    most: int = 1
    ongoing: float | None = None
    limit: int | None = None
    queue: int = 256
    surge: int = 100
    health_period: float = 10.0
    drain_limit: float = 60.0
    grow_after: float = 30.0
    shrink_after: float = 600.0
    window: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise UsageError(
                f"there cannot be from {self.least} to {self.most} replicas",
                advice="give at least 1, and no more at least than at most",
            )
        for name in ("ongoing", "limit", "health_period", "drain_limit", "window"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:  # NaN is neither
                raise UsageError(f"{name} must be a number above 0, not {value}")
        for name in ("queue", "surge", "grow_after", "shrink_after"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be a number from 0 on, not {getattr(self, name)}")


class Replica:
    """One process with a loaded bundle.

    Args:
        uri: the bundle; blobs that this node's cache has are not fetched again.
        name: of the model in addresses.
        loading: arguments of :func:`partitioner.load`.
        serving: of the application.
    """

    def __init__(
        self, uri: str, name: str | None, loading: Mapping[str, Any], serving: ServeOptions
    ) -> None:
        self._service = PipelineService(load(uri, **loading), name)
        self._serving = serving
        kinds = {"waiting": "Requests that wait in the replica.", "running": "Requests that run."}
        self._gauges = {
            kind: Gauge(f"partitioner_{kind}_requests", description=text, tag_keys=("model",))
            for kind, text in kinds.items()
        }

    def __serve_build_asgi_app__(self) -> Starlette:
        """The application; its end closes the bundle."""
        return create_app([self._service], self._serving)

    def check_health(self) -> None:
        """What Ray Serve asks every now and then; figures for its metrics are taken on the way.

        Raises:
            BackendError: the replica cannot serve, and is to be replaced.
        """
        if not self._service.ready():
            raise BackendError(f"the bundle of {self._service.name!r} is closed")
        stats = self._service.stats()
        for kind, gauge in self._gauges.items():
            gauge.set(getattr(stats, kind), tags={"model": self._service.name})


#: Decorators would hide the class from type checkers.
_DEPLOYMENT: Any = serve.deployment(cast(Any, serve.ingress)()(Replica))


def replica_deployment(
    served: Served,
    *,
    name: str | None = None,
    replicas: ReplicaOptions | None = None,
    serving: ServeOptions = DEFAULT_OPTIONS,
    **loading: Any,
) -> serve.Application:
    """An application for ``serve.run``, for callers who compose their own.

    Args:
        served: of :func:`partitioner.serve.placing.look_up`, for the same options of loading.
        name: of the model in addresses; the bundle's own by default.
        loading: arguments of :func:`partitioner.load`.
    """
    how = replicas or ReplicaOptions()
    ongoing = how.ongoing or 2.0 * served.rows
    limit = how.limit or max(2, round(2 * ongoing))
    # No more threads than CPUs that were asked for.
    loading = {"queue": QueueOptions(limit=limit), **loading, "threads": int(served.needs.cpus)}
    return (
        _DEPLOYMENT.options(
            ray_actor_options=_resources(served),
            max_ongoing_requests=limit,
            max_queued_requests=how.queue,
            autoscaling_config={
                "min_replicas": how.least,
                "max_replicas": how.most,
                "initial_replicas": how.least,
                "target_ongoing_requests": ongoing,
                "upscale_delay_s": how.grow_after,
                "downscale_delay_s": how.shrink_after,
                "look_back_period_s": how.window,
                # Ray is about to have it by variables of the environment only; 10 s by default.
                **({"metrics_interval_s": how.window / 3} if how.window < 30 else {}),
            },
            max_surge_percent=how.surge,
            health_check_period_s=how.health_period,
            graceful_shutdown_timeout_s=how.drain_limit,
        )
    ).bind(served.uri, name, loading, serving)


def deploy(
    uri: str | os.PathLike[str],
    *,
    application: str | None = None,
    route_prefix: str = "/",
    name: str | None = None,
    replicas: ReplicaOptions | None = None,
    serving: ServeOptions = DEFAULT_OPTIONS,
    **loading: Any,
) -> Served:
    """Serve a bundle on the cluster that ``ray.init`` has connected to, or another in its place.

    Returns when all replicas serve it. Where there is an application of this name, new replicas
    are started and found healthy before old ones end, which first serve what they have accepted.
    If the new bundle cannot be loaded, the old one is served on.

    Args:
        uri: as of :func:`partitioner.load`. A tag in a store is looked up once, now; a directory
            must be at the same place on each node.
        application: its name on the cluster; that of the model by default.
        route_prefix: before all addresses.
        name, replicas, serving, loading: as of :func:`replica_deployment`.

    Raises:
        as :func:`partitioner.serve.placing.look_up`; and
        BackendError: no replica became healthy; says why.
    """
    queue = loading.get("queue", QueueOptions())
    served = look_up(
        uri,
        variant=loading.get("variant"),
        threads=loading.get("threads"),
        memory=loading.get("memory", "fast"),
        workers=queue.workers,
    )
    bound = replica_deployment(served, name=name, replicas=replicas, serving=serving, **loading)
    try:
        serve.run(bound, name=application or name or served.name, route_prefix=route_prefix)
    except RuntimeError as error:
        raise BackendError(
            f"no replica of {served.name!r} became healthy: {str(error).strip().splitlines()[-1]}",
            where=served.uri,
            advice="see `serve status` and Ray's logs; the bundle served before, if any, still is",
        ) from error
    return served


def _resources(served: Served) -> dict[str, Any]:
    """A replica's needs, as Ray wants them."""
    needs = served.needs
    found: dict[str, Any] = {"num_cpus": needs.cpus, "memory": needs.memory_bytes}
    if needs.neuron_cores:
        found["resources"] = {"neuron_cores": needs.neuron_cores}
    return found
