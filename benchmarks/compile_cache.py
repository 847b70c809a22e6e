"""What the compile cache saves: builds of the Bernini example with an empty and a full cache.

In turn, several times, each in a process of its own as on a command line: a build with an empty
cache; the same again; one after the weights of one stage (the decoder) have changed; one after its
ops have changed; that one once more without any cache. What counts is a build beyond capture, in
which stages are exported: seconds, and seconds of processors, compilers' processes included, which
do not depend on what else runs; medians, and ratios to the first build of the same round.

Run: python benchmarks/compile_cache.py [--size tiny|base] [--repeat 3] [--no-parity]
     [--rebuild-only] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MODEL = ROOT / "examples" / "bernini" / "model.py"

#: Name of a build, what has changed before it, and how it uses the cache.
BUILDS = (
    ("first", "", "use"),
    ("rebuild", "", "use"),
    ("weights", "weights", "use"),
    ("ops", "ops", "use"),
    ("ops, no cache", "ops", "off"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny", choices=["tiny", "base", "paper"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--parity", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rebuild-only", action="store_true", help="The first two builds.")
    parser.add_argument("--build", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        print(json.dumps(build_once(given.size, given.parity, *given.build)))
        return
    builds = BUILDS[:2] if given.rebuild_only else BUILDS
    rounds = [measure(given.size, given.parity, builds) for _ in range(given.repeat)]
    rows = {name: summary(name, rounds) for name, *_ in builds}
    for name, row in rows.items():
        print(
            f"{name:14} {row['wall']:7.2f} s x {row['wall_ratio']:.3f}, "
            f"processors {row['cpu']:7.2f} s x {row['cpu_ratio']:.3f}  {row['phases']}"
        )
        print(f"{'':14} compiled: {', '.join(row['compiled']) or 'nothing'}")
    if given.json:
        given.json.write_text(json.dumps({"size": given.size, "rows": rows}, indent=2))


def measure(
    size: str, parity: bool, builds: Sequence[tuple[str, str, str]]
) -> dict[str, dict[str, Any]]:
    """One round: every build once, with a cache that was empty before the first."""
    folder = Path(tempfile.mkdtemp(prefix="compile-cache-"))
    try:
        found = {name: run(size, parity, change, mode, folder) for name, change, mode in builds}
    finally:
        shutil.rmtree(folder)
    assert found["first"]["digest"] == found["rebuild"]["digest"]
    if "ops" not in found:
        return found
    assert found["ops"]["digest"] == found["ops, no cache"]["digest"]
    return found


def run(size: str, parity: bool, change: str, mode: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--size", size, "--parity" if parity else "--no-parity"]
    done = subprocess.run(
        [*command, "--build", change, mode, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def build_once(size: str, parity: bool, change: str, mode: str, folder: str) -> dict[str, Any]:
    """A build in this process: its digest, the seconds of its phases, what was compiled."""
    import torch

    from partitioner.backends.worker import stop_worker
    from partitioner.builder import build
    from partitioner.caching import CacheOptions
    from partitioner.modelfile import load_model

    model = load_model(str(MODEL), {"size": size})
    decoder = model.pipeline.decoder
    if change == "weights":
        with torch.no_grad():
            next(decoder.parameters()).mul_(1.01)
    elif change == "ops":
        decoder.register_forward_hook(lambda module, args, result: torch.tanh(result))
    after_capture = [0.0, 0.0]

    def watch(phase: str, done: int, total: int) -> None:
        if phase == "capture" and done == total:
            after_capture[:] = time.perf_counter(), processor_seconds()

    result = build(
        model.pipeline,
        model.example_inputs,
        inputs=model.inputs,
        options=model.options,
        output=Path(folder) / "bundle",
        overwrite=True,
        name="bernini",
        parity=parity,
        progress=watch,
        cache=CacheOptions(cast(Any, mode), folder=Path(folder) / "cache"),
    )
    wall = time.perf_counter() - after_capture[0]
    stop_worker()  # What it has taken is known when it has ended.
    lookups = result.report["cache"].get("lookups", [])
    return {
        "digest": result.digest,
        "wall": wall,
        "cpu": processor_seconds() - after_capture[1],
        "seconds": result.report["seconds"],
        "compiled": [row["name"] for row in lookups if not row["where"]],
    }


def processor_seconds() -> float:
    """Of this process, and of its children that have ended."""
    return sum(os.times()[:4])


def summary(name: str, rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"compiled": rounds[0][name]["compiled"]}
    for what in ("wall", "cpu"):
        row[what] = statistics.median(one[name][what] for one in rounds)
        row[f"{what}_ratio"] = statistics.median(
            one[name][what] / one["first"][what] for one in rounds
        )
    row["phases"] = {
        phase: round(statistics.median(one[name]["seconds"][phase] for one in rounds), 2)
        for phase in rounds[0][name]["seconds"]
    }
    return row


if __name__ == "__main__":
    main()
