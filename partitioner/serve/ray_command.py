"""``partition serve --engine ray``: a bundle on a cluster, with proxies that listen."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from partitioner.clusters import connect, import_ray
from partitioner.serve.server import ListenOptions

__all__ = ["serve_bundle"]

_LOG = logging.getLogger("partitioner.serve")


def serve_bundle(
    uri: str | os.PathLike[str], listening: ListenOptions, how: Mapping[str, Any]
) -> None:
    """Deploy a bundle, in place of another of its name, on the cluster that there is.

    Where there is none, one is started on this machine; it serves until SIGTERM or SIGINT. Send
    no second one (:func:`partitioner.serve.supervising.go_on_supervised` sees to that): Ray, while
    it ends, would die of it. On a cluster that was there already the bundle stays when this
    returns; another call replaces it.

    Args:
        listening: of the proxies, one on each node with replicas. Where Ray Serve runs already,
            they listen as they do.
        how: arguments of :func:`partitioner.serve.ray.deploy`.

    Raises:
        as :func:`partitioner.serve.ray.deploy`; and
        MissingDependencyError: Ray is not installed.
        BackendError: the cluster cannot be reached.
        KeyboardInterrupt: a signal came before the bundle was served.
    """
    ray = import_ray()
    from ray import serve

    from partitioner.serve.ray import deploy

    ours = connect(ray)
    if ours:
        _end_at_first_signal()  # in place of the handler that Ray has set
    try:
        serve.start(
            proxy_location="EveryNode",
            http_options={
                "host": listening.host,
                "port": listening.port,
                "ssl_certfile": listening.ssl_certfile and os.fspath(listening.ssl_certfile),
                "ssl_keyfile": listening.ssl_keyfile and os.fspath(listening.ssl_keyfile),
                "ssl_keyfile_password": listening.ssl_keyfile_password,
            },
        )
        served = deploy(uri, **how)
        fields = {"bundle": served.uri, "host": listening.host, "port": listening.port}
        try:
            _LOG.info("listening", extra={"fields": fields})
            if ours:
                threading.Event().wait()
        except KeyboardInterrupt:
            serve.shutdown()
    finally:
        if ours:
            ray.shutdown()


def _end_at_first_signal() -> None:
    """Let the first SIGTERM or SIGINT interrupt, and ignore all others."""
    numbers = (signal.SIGTERM, signal.SIGINT)

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
