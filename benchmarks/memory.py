"""Memory: of a build, and of a loaded bundle in both modes, against the weights' size.

Peaks are resident set sizes of whole process trees, sampled every 20 ms. "Beyond" is what comes on
top of the same process with the same imports and nothing loaded.

Run: python benchmarks/memory.py [--size base] [--steps 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "examples" / "bernini" / "model.py"
PARTITION = [sys.executable, "-c", "from partitioner.cli import main; main()"]

RUN = """
import sys, numpy as np, onnxruntime, skimage.measure, partitioner.runtime
if sys.argv[2] != "none":
    pipe = partitioner.runtime.load(sys.argv[1], memory=sys.argv[2])
    pipe({n: np.zeros(s.shape, s.dtype) for n, s in pipe.inputs.items()}, seed=1)
"""


def peak_of(command: list[str]) -> tuple[int, float]:
    """Largest resident set of a command's process tree in bytes, and its seconds."""
    start = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _tree(process))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return peak, time.perf_counter() - start


def _tree(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        # It ended between two looks.
        return total
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "memory.bundle"
        build = [
            *PARTITION,
            "build",
            str(MODEL),
            "--set",
            f"size={given.size}",
            "--set",
            f"steps={given.steps}",
            "-o",
            str(bundle),
            "--cache",
            "off",
            "--json",
        ]
        build_peak, build_s = peak_of(build)
        files = sum(f.stat().st_size for f in bundle.rglob("*") if f.is_file())
        weights = _weights(given.size)
        result: dict[str, Any] = {
            "size": given.size,
            "weights_bytes": weights,
            "bundle_by_weights": files / weights,
            "build_peak_bytes": build_peak,
            "build_limit_bytes": 3 * weights + 2**30,
            "build_peak_by_limit": build_peak / (3 * weights + 2**30),
            "build_s": build_s,
        }
        base, _ = peak_of([sys.executable, "-c", RUN, str(bundle), "none"])
        for mode in ("fast", "low"):
            peak, seconds = peak_of([sys.executable, "-c", RUN, str(bundle), mode])
            result[f"loaded_{mode}_beyond_by_weights"] = (peak - base) / weights
            result[f"loaded_{mode}_s"] = seconds
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


def _weights(size: str) -> int:
    """Bytes of all parameters and buffers of the pipeline, counted on the meta device."""
    sys.path.insert(0, str(ROOT / "examples"))
    from bernini.config import SIZES
    from bernini.weights import without_weights

    module = without_weights(SIZES[size], "image")
    return sum(t.nbytes for t in [*module.parameters(), *module.buffers()])


if __name__ == "__main__":
    main()
