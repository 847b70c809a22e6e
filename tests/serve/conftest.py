"""Bundles and servers that tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from partitioner.runtime import Pipeline, QueueOptions, load
from partitioner.serve.app import create_app
from partitioner.serve.options import ServeOptions
from partitioner.serve.service import PipelineService
from tests.serve.models import make_shapes, make_steps, pause
from tests.serve.servers import Served, process_server, thread_server

#: Bytes of a body that the server in a thread takes.
MAX_BODY = 100_000


@pytest.fixture(scope="session")
def steps_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_steps(tmp_path_factory.mktemp("serve") / "steps.bundle")


@pytest.fixture(scope="session")
def steps(steps_bundle: Path) -> Iterator[Pipeline]:
    """The same pipeline in this process, for what answers should be."""
    with load(steps_bundle, host_ops=[pause]) as pipe:
        assert isinstance(pipe, Pipeline)
        yield pipe


@pytest.fixture(scope="session")
def server(steps_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`partition serve` in a process: the model ``steps``."""
    arguments = (str(steps_bundle), "--name", "steps", "--host-op", "tests.serve.models:pause")
    with process_server(tmp_path_factory.mktemp("server"), *arguments) as served:
        yield served


@pytest.fixture(scope="session")
def url(steps_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a thread, with small limits: the models ``shapes`` and ``steps``."""
    shapes = load(make_shapes(tmp_path_factory.mktemp("serve") / "shapes.bundle"))
    slow = load(steps_bundle, host_ops=[pause], queue=QueueOptions(limit=1))
    services = [PipelineService(shapes, "shapes"), PipelineService(slow, "steps")]
    app = create_app(services, ServeOptions(max_body=MAX_BODY, max_pixels=1000, read_timeout=1.0))
    with thread_server(app) as address:
        yield address
