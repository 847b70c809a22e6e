"""How long capture takes by the number of steps: the driver, loop recovery, and all of it.

Run: python benchmarks/capture_scaling.py [--steps 50 200 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from partitioner.capture import capture, find_modules
from partitioner.capture.driver import Recorder
from partitioner.capture.loops import find_loops
from tests import diffusion


def measure(steps: int) -> dict[str, float | int]:
    """Seconds for one number of steps, DDPM with a small UNet."""
    pipeline = diffusion.LatentPipeline(
        diffusion.unet(), diffusion.scheduler("DDPMScheduler"), diffusion.vae()
    )
    example = {"condition": torch.randn(1, 4, 16)}
    start = time.perf_counter()
    captured = capture(pipeline, example, options={"steps": steps})
    total = time.perf_counter() - start

    recorder = Recorder(find_modules(pipeline), {id(pipeline)})
    recorder.run(
        pipeline,
        {"condition": recorder.add_input("condition", example["condition"]), "steps": steps},
    )
    start = time.perf_counter()
    loops = find_loops(recorder.tape.entries)
    recovery = time.perf_counter() - start
    return {
        "steps": steps,
        "trips": sum(loop.trips for loop in captured.loops),
        "tape": len(recorder.tape.entries),
        "loops": len(loops),
        "recovery_s": round(recovery, 3),
        "recovery_us_per_step": round(recovery / steps * 1e6, 1),
        "capture_s": round(total, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measure(4)  # imports and first-time costs
    rows = [measure(steps) for steps in options.steps]
    print("\t".join(rows[0]))
    for row in rows:
        print("\t".join(str(value) for value in row.values()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
