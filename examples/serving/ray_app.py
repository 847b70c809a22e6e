"""A bundle on a Ray cluster, with several replicas, as an application for `serve run`.

serve run --app-dir examples/serving ray_app:app bundle=/models/bernini.bundle least=2 most=4
"""

from __future__ import annotations

from ray import serve

from partitioner.serve.options import ServeOptions
from partitioner.serve.placing import look_up
from partitioner.serve.ray import ReplicaOptions, replica_deployment


def app(arguments: dict[str, str]) -> serve.Application:
    """The application.

    Args:
        arguments: ``bundle``, a path or an address in a store; ``name`` of the model; ``least`` and
            ``most`` replicas; ``threads`` of each; ``timeout``, in seconds, of a request.
    """
    threads = int(arguments.get("threads", "1"))
    least = int(arguments.get("least", "2"))
    most = int(arguments.get("most", str(least)))
    served = look_up(arguments["bundle"], threads=threads)
    return replica_deployment(
        served,
        name=arguments.get("name"),
        replicas=ReplicaOptions(least, most),
        serving=ServeOptions(timeout=float(arguments.get("timeout", "60"))),
        threads=threads,
    )
