"""Each segment in float32 and in 8 bits, by OpenVINO, in turn, on the same inputs.

Two bundles are built of each pipeline, one of them with `--quantize int8` (or given); then every
segment that has the same inputs in both is run on bound buffers, in turn. Medians, their ratio
(below 1 the 8 bits are faster), and the level that the accuracy budget has left to the segment.

Names are bernini-tiny, bernini-base, stable_diffusion, dit.

Run: python benchmarks/quantise.py [--model NAME] [--budget 0.1] [--repeat 15]
     python benchmarks/quantise.py --bundles FLOAT INT8
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import partitioner
from benchmarks.backends import calls, pipeline, timed_in_turn
from partitioner.artifacts.bundle import Bundle


def built(name: str, folder: Path, budget: float) -> list[Path]:
    """The bundle in float32, and the one in 8 bits."""
    paths: list[Path] = []
    eight = {"quantize": "int8", "accuracy_budget": budget}
    for label, options in (("float", {}), ("int8", eight)):
        paths.append(folder / f"{name}.{label}")
        arguments = pipeline(name)
        partitioner.build(
            *arguments.pop("args"),
            **arguments,
            **options,
            backends=["openvino", "host"],
            output=paths[-1],
            parity=False,
        )
    return paths


def measured(paths: list[Path], repeat: int) -> dict[str, Any]:
    """Median milliseconds of each segment in either."""
    sides = [calls(path) for path in paths]
    manifest = Bundle.open(paths[1]).manifest
    trades = {trade["segment"]: trade for trade in manifest.report["compression"]}
    rows: dict[str, Any] = {}
    for name in sides[0].keys() & sides[1].keys():
        times = timed_in_turn([side[name] for side in sides], repeat)
        float_, eight = (statistics.median(own) * 1e3 for own in times)
        rows[name] = {
            "float32, ms": float_,
            "8 bits, ms": eight,
            "ratio": statistics.median(b / a for a, b in zip(*times, strict=True)),
            **{key: trades.get(name, {}).get(key) for key in ("level", "error", "tried")},
        }
    sizes = [sum(b.size for b in Bundle.open(path).manifest.blobs) for path in paths]
    return {"bundle's bytes, ratio": sizes[1] / sizes[0], "segments": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--bundles", nargs=2, type=Path)
    parser.add_argument("--budget", type=float, default=0.1)
    parser.add_argument("--repeat", type=int, default=15)
    given = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if given.bundles:
            results["bundles"] = measured(given.bundles, given.repeat)
        else:
            for name in given.model or ["bernini-tiny", "bernini-base"]:
                paths = built(name, Path(folder), given.budget)
                results[name] = measured(paths, given.repeat)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
