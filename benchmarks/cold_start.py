"""From a process that starts to its first result: a bundle, against torch in eager.

Each run is a process of its own, timed from its start to its end but for the imports of neither:
one loads the bundle from the local disk and serves one request; the other imports torch, makes the
modules without weights, loads the same weights from a safetensors file (memory-mapped), and runs
once in eager. The two alternate; the files are in the page cache for both. Medians.

Run: python benchmarks/cold_start.py --bundle BUNDLE [--size base] [--repeat 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "examples" / "bernini" / "model.py"
PARTITION = [sys.executable, "-c", "from partitioner.cli import main; main()"]

BUNDLE = """
import sys, time
start = time.perf_counter()
import numpy as np
import partitioner.runtime
imported = time.perf_counter()
pipe = partitioner.runtime.load(sys.argv[1], memory=sys.argv[3])
loaded = time.perf_counter()
outputs = pipe(image=np.load(sys.argv[2]), seed=7)
assert outputs["vertices"].size
done = time.perf_counter()
print(imported - start, loaded - imported, done - loaded)
"""

EAGER = """
import sys, time
start = time.perf_counter()
sys.path.insert(0, sys.argv[3])
import numpy as np, torch
from bernini.config import SIZES
from bernini.weights import without_weights
from safetensors.torch import load_file
imported = time.perf_counter()
pipeline = without_weights(SIZES[sys.argv[4]], "image")
pipeline.load_state_dict(load_file(sys.argv[1]), assign=True)
pipeline.eval()
loaded = time.perf_counter()
with torch.inference_mode():
    torch.manual_seed(7)
    outputs = pipeline(image=torch.from_numpy(np.load(sys.argv[2])), steps=int(sys.argv[5]))
done = time.perf_counter()
print(imported - start, loaded - imported, done - loaded)
"""


def timed(code: str, *words: str) -> list[float]:
    """Seconds in all, of all CPUs, and of importing, loading and running."""
    start, before = time.perf_counter(), _cpu_seconds()
    printed = subprocess.check_output([sys.executable, "-c", code, *words], text=True, cwd=ROOT)
    whole, cpu = time.perf_counter() - start, _cpu_seconds() - before
    return [whole, cpu, *map(float, printed.split())]


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def save_weights(size: str, folder: Path) -> tuple[Path, Path]:
    """The example's weights as safetensors, and a request's input."""
    sys.path.insert(0, str(ROOT / "examples"))
    import numpy as np
    from safetensors.torch import save_file

    from bernini.config import SIZES
    from bernini.weights import build

    weights, image = folder / "weights.safetensors", folder / "image.npy"
    save_file(build(SIZES[size], "image").state_dict(), weights)
    shape = SIZES[size].input_shape("image")
    np.save(image, np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32))
    return weights, image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--size", default="base")
    parser.add_argument("--steps", type=int, default=5, help="that the bundle was built with")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory", nargs="+", default=["fast", "shared", "low"])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.bundle or Path(folder) / "b"
        if given.bundle is None:
            words = ["build", str(MODEL), "--set", f"size={given.size}", "-o", str(bundle)]
            words += ["--set", f"steps={given.steps}", "--no-parity"]
            subprocess.check_call([*PARTITION, *words])
        weights, image = save_weights(given.size, Path(folder))
        eager = (str(weights), str(image), str(ROOT / "examples"), given.size, str(given.steps))
        ways = {"eager": (EAGER, *eager)}
        for memory in given.memory:
            ways[f"bundle_{memory}"] = (BUNDLE, str(bundle), str(image), memory)
        runs: dict[str, list[list[float]]] = {name: [] for name in ways}
        for turn in range(given.repeat + 1):
            for name, words in ways.items():
                runs[name].append(timed(*words))
                print(turn, name, runs[name][-1], file=sys.stderr, flush=True)
    parts = ("process_s", "cpu_s", "import_s", "load_s", "run_s")
    result: dict[str, Any] = {"size": given.size, "steps": given.steps}
    for name, rows in runs.items():
        # The first of each brings files and bytecode into memory.
        columns = zip(*(rows[1:] or rows), strict=True)
        result[name] = dict(zip(parts, map(statistics.median, columns), strict=True))
    for name in ways.keys() - {"eager"}:
        for part in ("process_s", "cpu_s"):
            result[f"{name}_by_eager_{part}"] = result[name][part] / result["eager"][part]
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
