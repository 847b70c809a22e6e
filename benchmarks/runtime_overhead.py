"""What the runtime adds to ONNX Runtime: time per call, import time, memory.

Run: python benchmarks/runtime_overhead.py [--weights-mb 200] [--json FILE]

Bare runs and pipeline runs alternate, and the smallest of each is compared, so that what else the
machine does meanwhile disturbs both alike.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from partitioner.backends.onnx.pool import apply_pool
from partitioner.plan import Call, Carry, Loop, Slice
from partitioner.runtime import Pipeline, load
from partitioner.specs import InputSpec
from tests.bundles import Maker, node, spec

RNG = np.random.default_rng(0)


def stack_bundle(path: Path, rows: int, width: int, layers: int, trips: int) -> Path:
    """A loop (``trips`` > 0) or one call of a stack of dense layers, with a row of a table."""
    maker = Maker(path)
    tensor, row = f"float32[{rows}, {width}]", f"float32[1, {width}]"
    nodes, last = [node("Add", ["x", "t"], ["a0"])], "a0"
    for index in range(layers):
        nodes.append(node("MatMul", [last, f"w{index}"], [f"m{index}"]))
        last = "y" if index == layers - 1 else f"a{index + 1}"
        nodes.append(node("Tanh", [f"m{index}"], [last]))
    scale = width**-0.5
    weights = {
        f"w{index}": (RNG.standard_normal((width, width)) * scale).astype(np.float32)
        for index in range(layers)
    }
    maker.onnx("stack", {"x": tensor, "t": row}, {"y": tensor}, nodes, weights=weights)
    maker.constant("table", RNG.standard_normal((max(trips, 1), 1, width)).astype(np.float32))
    inputs = [InputSpec("x", spec(tensor))]
    if trips:
        body = (Call("stack", ("inner", "t"), ("next",)),)
        carry = Carry("x", "inner", "next", "y")
        step = Loop("steps", trips, (carry,), (Slice("table", "t"),), (), body)
        return maker.write(inputs, [step], {"y": "y"})
    maker.constant("t", np.zeros((1, width), np.float32))
    return maker.write(inputs, [Call("stack", ("x", "t"), ("y",))], {"y": "y"})


def bare_session(path: Path, name: str = "stack") -> Any:
    """The same graph in a session of its own, on the same threads."""
    from partitioner.artifacts.bundle import Bundle

    bundle = Bundle.open(path, "never")
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    apply_pool(ort, options, None)
    graph = bundle.manifest.artifacts[name].graph
    assert graph is not None
    return ort.InferenceSession(
        str(bundle.blob_path(graph)), options, providers=["CPUExecutionProvider"]
    )


def bare_loop(session: Any, x: Any, table: Any) -> Any:
    for row in table:
        (x,) = session.run(None, {"x": x, "t": row})
    return x


def table_of(pipe: Pipeline) -> Any:
    """The table whose rows the loop reads."""
    chosen, _ = pipe._schedules.choose({})
    return np.array(chosen.constants["table"])


def alternating(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """The smallest time of each, in seconds."""
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def calls(folder: Path) -> dict[str, float]:
    """Microseconds a call of a tiny segment takes, bare and in a pipeline."""
    trips = 1000
    path = stack_bundle(folder / "tiny-loop", 1, 8, 1, trips)
    pipe, session = load(path), bare_session(path)
    x = RNG.standard_normal((1, 8)).astype(np.float32)
    table = table_of(pipe)
    bare, bound = alternating(
        [lambda: bare_loop(session, x, table), lambda: pipe(x=x, seed=0)], rounds=15
    )
    single = load(stack_bundle(folder / "tiny-call", 1, 8, 1, 0))
    many = range(200)

    def run_bare() -> None:
        for _ in many:
            session.run(None, {"x": x, "t": table[0]})

    def run_pipe() -> None:
        for _ in many:
            single(x=x, seed=0)

    bare_single, request = alternating([run_bare, run_pipe], rounds=15)
    return {
        "session.run, us": bare / trips * 1e6,
        "segment call in a loop, us": bound / trips * 1e6,
        "added per call in a loop, us": (bound - bare) / trips * 1e6,
        "request of one call, us": request / len(many) * 1e6,
        "added per request, us": (request - bare_single) / len(many) * 1e6,
    }


def steps(folder: Path) -> dict[str, float]:
    """A loop of steps of a few milliseconds, against the same runs of a bare session."""
    trips = 20
    path = stack_bundle(folder / "steps", 64, 1024, 16, trips)
    pipe, session = load(path), bare_session(path)
    x = RNG.standard_normal((64, 1024)).astype(np.float32)
    table = table_of(pipe)
    bare, piped = alternating(
        [lambda: bare_loop(session, x, table), lambda: pipe(x=x, seed=0)], rounds=12
    )
    return {
        "bare step, ms": bare / trips * 1e3,
        "pipeline step, ms": piped / trips * 1e3,
        "ratio": piped / bare,
    }


IMPORT = """
import sys, time
import numpy
{before}
start = time.perf_counter()
{what}
print(time.perf_counter() - start)
"""


def imports() -> dict[str, float]:
    """Milliseconds of imports beyond NumPy's, each in a fresh process."""
    measured = {
        "import partitioner.runtime, ms": IMPORT.format(
            before="", what="import partitioner.runtime"
        ),
        "import onnxruntime, ms": IMPORT.format(before="", what="import onnxruntime"),
    }
    times: dict[str, float] = {}
    for name, code in measured.items():
        runs = [
            float(subprocess.check_output([sys.executable, "-c", code], text=True))
            for _ in range(5)
        ]
        times[name] = min(runs) * 1e3
    return times


MEMORY = """
import sys
import numpy as np, psutil, onnxruntime
import partitioner.runtime
path, mode, shape = sys.argv[1], sys.argv[2], [int(d) for d in sys.argv[3].split(",")]
rss = lambda: psutil.Process().memory_info().rss
before = rss()
pipe = partitioner.runtime.load(path, memory=mode, verify="never")
loaded = rss()
pipe(x=np.zeros(shape, np.float32), seed=0)
print(loaded - before, rss() - before)
"""


def memory(folder: Path, weights_mb: int) -> dict[str, float]:
    """Resident memory of a loaded bundle, as a multiple of its weights."""
    width = 1600
    layers = max(1, weights_mb * 2**20 // (4 * width * width))
    path = stack_bundle(folder / "large", 16, width, layers, 4)
    weights = 4 * width * width * layers
    results: dict[str, float] = {"weights, MB": weights / 2**20}
    for mode in ("fast", "low"):
        output = subprocess.check_output(
            [sys.executable, "-c", MEMORY, str(path), mode, f"16,{width}"], text=True
        )
        loaded, ran = (int(word) for word in output.split())
        results[f"{mode}: loaded, x weights"] = loaded / weights
        results[f"{mode}: after a run, x weights"] = ran / weights
    return results


def first_call(folder: Path) -> dict[str, float]:
    """Milliseconds to load the bundle of the step measurement, and of its first request."""
    start = time.perf_counter()
    pipe: Pipeline = load(folder / "steps")
    loaded = time.perf_counter()
    pipe(x=np.zeros((64, 1024), np.float32), seed=0)
    return {
        "load (67 MB), ms": (loaded - start) * 1e3,
        "first request of 20 steps, ms": (time.perf_counter() - loaded) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights-mb", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = {
            "calls": calls(folder),
            "steps": steps(folder),
            "loading": first_call(folder),
            "imports": imports(),
            "memory": memory(folder, arguments.weights_mb),
        }
    print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, numpy {np.__version__}")
    for part, numbers in results.items():
        print(f"\n{part}")
        for name, number in numbers.items():
            print(f"  {name:34} {number:10.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    else:
        print("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
