"""What the parts of the application share: models, limits, whether requests are taken."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from partitioner.errors import OverloadedError, UsageError
from partitioner.serve.failures import NotFoundError, UnavailableError
from partitioner.serve.options import ServeOptions
from partitioner.serve.service import ModelService

__all__ = ["ServerState"]


class ServerState:
    """A server's models and the requests that it has taken; used on one event loop.

    Args:
        services: at least one, with names that differ; the first is the one of ``/generate``.

    Attributes:
        active: inference requests that are read, wait or run.
        draining: the server is to end: it is not ready for more, and serves what comes all the
            same until it stops listening.
    """

    def __init__(self, services: Sequence[ModelService], options: ServeOptions) -> None:
        if not services:
            raise UsageError("a server needs at least one model")
        self.services: Mapping[str, ModelService] = {each.name: each for each in services}
        if len(self.services) < len(services):
            raise UsageError("two models have one name", advice="give names by --name")
        self.options = options
        self.active = 0
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether all models are, and the server stays."""
        return not self.draining and all(each.ready() for each in self.services.values())

    def service(self, name: str | None = None, version: str | None = None) -> ModelService:
        """A model by name, or the first; by its version, if one is given.

        Raises:
            NotFoundError: there is none.
        """
        service = self.services.get(name) if name else next(iter(self.services.values()))
        if service is None:
            raise NotFoundError(
                f"there is no model {name!r}", advice=f"there is {', '.join(self.services)}"
            )
        if version is not None and version != service.version:
            raise NotFoundError(
                f"model {service.name!r} has no version {version!r}",
                advice=f"it has {service.version}",
            )
        return service

    @contextmanager
    def admitted(self, service: ModelService) -> Generator[None]:
        """A place for a request, from before its body is read until it is answered.

        Raises:
            OverloadedError: there is none.
            UnavailableError: the model is closed.
        """
        if not service.ready():
            raise UnavailableError(f"model {service.name!r} is not ready")
        if self.active >= self.options.max_requests:
            raise OverloadedError(
                f"{self.active} requests are served already", advice="try again later"
            )
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
