"""``partition serve``: a bundle over HTTP."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partitioner.cli.loading import device_options, hash_option, loading_of, residence_options
from partitioner.cli.models import member_option
from partitioner.cli.storing import allow_option, require_option
from partitioner.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from partitioner.serve.options import ServeOptions

__all__ = ["command"]

_MIB = 1 << 20

#: Options of the application and of the socket, by their own names.
_SERVING = ("max_requests", "max_pixels", "timeout", "read_timeout")
_LISTENING = (
    "host",
    "port",
    "ssl_certfile",
    "ssl_keyfile",
    "drain_delay",
    "drain_limit",
)


@click.command("serve")
@click.argument("bundle")
@click.option("--name", help="Of the model in addresses; the bundle's own by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--workers", type=int, default=1, show_default=True, help="Requests at a time.")
@click.option("--queue", type=int, default=64, show_default=True, help="Requests that wait.")
@click.option(
    "--max-wait",
    type=float,
    default=0.0,
    show_default=True,
    help="Seconds that a request waits for others to share a call with, in bundles with batches.",
)
@click.option("--max-requests", type=int, default=256, show_default=True, help="Taken in all.")
@click.option("--max-body", type=float, default=64, show_default=True, help="MiB of a request.")
@click.option(
    "--max-pixels",
    type=int,
    default=64 << 20,
    show_default=True,
    help="Of a picture's file, or of all files of one input.",
)
@click.option("--timeout", type=float, help="Seconds that a request may take; any by default.")
@click.option("--read-timeout", type=float, default=60, show_default=True, help="Of a body.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="Bearer tokens, one a line; else the one in PARTITIONER_TOKEN; else open to all.",
)
@click.option("--ssl-certfile", type=click.Path(path_type=Path), help="PEM, for HTTPS.")
@click.option("--ssl-keyfile", type=click.Path(path_type=Path), help="PEM, of its key.")
@click.option(
    "--drain-delay",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds from SIGTERM, and not being ready, until nothing new is accepted.",
)
@click.option(
    "--drain-limit",
    type=int,
    default=30,
    show_default=True,
    help="Seconds in which accepted requests are served after that.",
)
@device_options
@residence_options
@hash_option
@click.option(
    "--engine",
    type=click.Choice(["embedded", "ray"]),
    default="embedded",
    show_default=True,
    help="In this process, or as replicas on a Ray cluster.",
)
@click.option(
    "--replicas",
    default="1",
    show_default=True,
    metavar="N[-M]",
    help="With --engine ray: processes, by the number of requests from N to M.",
)
@member_option
@require_option
@allow_option
def command(bundle: str, engine: str, **options: Any) -> None:
    """Serve BUNDLE over HTTP: the Open Inference Protocol v2, /generate, /metrics.

    \b
      partition serve my.bundle
      partition serve my.bundle --name chairs --host 0.0.0.0 --port 8443 \\
          --ssl-certfile cert.pem --ssl-keyfile key.pem --token-file tokens
      curl -F image=@chair.png -F seed=7 -o chair.glb http://localhost:8000/generate

    It logs lines of JSON on standard error. SIGTERM ends it when what it has accepted is served.
    BUNDLE is a directory, or the address of a bundle in a store.
    """
    try:
        if engine == "ray":
            _serve_on_ray(bundle, options)
        else:
            _serve_here(bundle, options)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("partitioner"):
            raise
        what = "ray" if engine == "ray" else "serve"
        raise MissingDependencyError(
            f"serving needs {error.name}", advice=f"pip install 'partitioner[{what}]'"
        ) from error


def _serve_here(bundle: str, options: dict[str, Any]) -> None:
    from partitioner.serve.app import create_app
    from partitioner.serve.server import ListenOptions, log_as_json, run
    from partitioner.serve.service import PipelineService

    # Before the bundle is loaded, which may take minutes: what cannot be meant is refused first.
    serving = _serving(options)
    listening = ListenOptions(**_taken(options, _LISTENING))
    log_as_json()
    with _loaded(bundle, options) as pipe:
        run(create_app([PipelineService(pipe, options["name"])], serving), listening)


def _serve_on_ray(bundle: str, options: dict[str, Any]) -> None:
    from partitioner.serve.ray import ReplicaOptions
    from partitioner.serve.ray_command import serve_bundle
    from partitioner.serve.server import ListenOptions, log_as_json
    from partitioner.serve.supervising import go_on_supervised

    least, _, most = options["replicas"].partition("-")
    if not least.isdecimal() or not (most or least).isdecimal():
        raise UsageError(
            f"--replicas {options['replicas']}", advice="give a number, or two: --replicas 1-4"
        )
    how = {
        "name": options["name"],
        "replicas": ReplicaOptions(
            int(least), int(most or least), drain_limit=float(options["drain_limit"])
        ),
        "serving": _serving(options),
        **_loading(options),
    }
    listening = ListenOptions(**_taken(options, _LISTENING))
    log_as_json()
    go_on_supervised()
    serve_bundle(bundle, listening, how)


def _serving(options: dict[str, Any]) -> ServeOptions:
    from partitioner.serve.auth import read_tokens
    from partitioner.serve.options import ServeOptions

    body = options["max_body"] * _MIB
    if not math.isfinite(body):
        raise UsageError(f"--max-body {options['max_body']} is no number of MiB")
    return ServeOptions(
        max_body=int(body),
        tokens=read_tokens(options["token_file"]),
        **_taken(options, _SERVING),
    )


def _loaded(bundle: str, options: dict[str, Any]) -> Any:
    from partitioner.runtime import load

    return load(bundle, **_loading(options))


def _loading(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of :func:`partitioner.load`."""
    from partitioner.runtime import QueueOptions

    queue = QueueOptions(options["workers"], options["queue"], options["max_wait"])
    return {**loading_of(options), "queue": queue}


def _taken(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names}
