"""What serving code writes against the runtime passes the strictest type check."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import asyncio
from typing import Any

import numpy as np

import partitioner
from partitioner.errors import InsufficientMemoryError
from partitioner.runtime import BatchedPipeline, Pipeline, QueueOptions, Request, Stats, StepEvent
from partitioner.specs import TensorSpec

previews: list[dict[str, np.ndarray[Any, Any]]] = []


def show(event: StepEvent) -> None:
    print(event.loop, event.step, event.trips, event.done)
    previews.append(event.carried())


def serve(path: str) -> Stats:
    queue = QueueOptions(workers=2, limit=8)
    with partitioner.load(path, lazy=True, max_memory="4GiB", queue=queue) as pipe:
        kind: type[Pipeline] | type[BatchedPipeline] = type(pipe)
        inputs: dict[str, TensorSpec] = pipe.inputs
        outputs: dict[str, TensorSpec] = pipe.outputs
        print(kind, inputs, outputs, pipe.warmup() + 1.0)
        latent: np.ndarray[Any, Any] = pipe(image=np.zeros(3), seed=7, callback=show)["latent"]
        request: Request = pipe.submit({"image": latent}, seed=[1, 2], timeout=1.5)
        print(request.result().keys(), request.cancel())
        stats = pipe.stats()
        print(stats.requests.seconds.p99 + 1.0, stats.memory.packed.items())
        for segment in stats.segments:
            print(segment.name.upper(), segment.seconds + 1.0)
        return stats


async def ask(pipe: Pipeline | BatchedPipeline) -> None:
    print((await pipe.run_async(image=1.0)).keys())


def main() -> None:
    try:
        serve("my.bundle")
    except InsufficientMemoryError as error:
        print(error.what, error.advice)
    asyncio.run(ask(partitioner.load("my.bundle")))
"""


@pytest.mark.slow
def test_a_users_script_passes_pyright_strict(tmp_path: Path) -> None:
    package = tmp_path / "site" / "partitioner"
    shutil.copytree(ROOT / "partitioner", package)
    for part in ("backends", "passes", "artifacts"):
        shutil.copytree(ROOT / part, package / part)
    assert (package / "py.typed").exists()
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    config = {"include": ["script.py"], "extraPaths": ["site"], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert [] == report["generalDiagnostics"]
    assert 1 == report["summary"]["filesAnalyzed"]
