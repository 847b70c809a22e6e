"""Memory of requests: what is planned, what is measured, and what there would be without reuse.

The Bernini example, and a guided diffusers UNet with a multistep sampler whose states are all
collected. Each bundle is run in a process of its own: a first request under tracemalloc, which sees
NumPy's arrays (host ops' own included) and nothing of the backends; then three more, and what the
resident set has grown by since the bundle was loaded.

Run: python benchmarks/buffers.py [--size base] [--steps 5] [--bundle PATH] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.buffers import measure
from partitioner.buffers.timeline import Moment, timeline, written
from partitioner.modelfile import load_model
from partitioner.specs import fixed_nbytes
from tests.diffusion import scheduler, unet

MODEL = ROOT / "examples" / "bernini" / "model.py"

REQUESTS = """
import json, sys, tracemalloc
import numpy as np, onnxruntime, psutil
import partitioner.runtime

pipe = partitioner.runtime.load(sys.argv[1])
given = {n: np.zeros(s.shape, s.dtype) for n, s in pipe.inputs.items()}
rss = lambda: psutil.Process().memory_info().rss
loaded = rss()
tracemalloc.start()
start, _ = tracemalloc.get_traced_memory()
pipe(given, seed=1)
first = tracemalloc.get_traced_memory()[1] - start
tracemalloc.stop()
after = [rss()]
for _ in range(3):
    pipe(given, seed=1)
    after.append(rss())
print(json.dumps({"traced": first, "rss_first": after[0] - loaded, "rss_last": after[-1] - loaded}))
"""


class Sampling(torch.nn.Module):
    """Latents of 64 x 64 by DPM-Solver++, which looks back a step; every state is handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = unet()
        self.sampler = scheduler("DPMSolverMultistepScheduler")

    def forward(self, context: torch.Tensor, *, steps: int = 10) -> dict[str, torch.Tensor]:
        self.sampler.set_timesteps(steps)
        latents, path = torch.randn(1, 4, 64, 64), []
        for t in self.sampler.timesteps:
            both = torch.cat([latents, latents])
            texts = torch.cat([torch.zeros_like(context), context])
            plain, guided = self.unet(both, t, encoder_hidden_states=texts).sample.chunk(2)
            latents = self.sampler.step(plain + 2 * (guided - plain), t, latents).prev_sample
            path.append(latents)
        return {"latents": latents, "path": torch.stack(path)}


def build_example(folder: Path, size: str, steps: int) -> Path:
    model = load_model(str(MODEL), {"size": size, "steps": steps})
    return partitioner.build(
        model.pipeline,
        model.example_inputs,
        inputs=model.inputs,
        options=model.options,
        output=folder / "bernini",
        parity=False,
    ).path


def build_sampling(folder: Path) -> Path:
    example = {"context": torch.randn(1, 4, 16)}
    return partitioner.build(Sampling(), example, output=folder / "unet", parity=False).path


def figures(path: Path) -> dict[str, Any]:
    """What is planned, from the plan; what is measured, by another process."""
    plan = Bundle.open(path, "never").manifest.plan
    use = measure(plan)
    every = sum(fixed_nbytes(plan.values[v]) or 0 for v in _written(timeline(plan.steps)))
    output = subprocess.check_output([sys.executable, "-c", REQUESTS, str(path)], text=True)
    seen = json.loads(output.splitlines()[-1])
    return {
        "planned peak": use.peak,
        "arena": use.arena,
        "arena / alive": use.arena / max(use.alive, 1),
        "arena and outputs / all values": (use.arena + use.outputs) / max(every, 1),
        "planned, draws and inputs": use.peak + use.draws + use.inputs,
        "traced": seen["traced"],
        "resident, first request": seen["rss_first"],
        "resident, fourth request": seen["rss_last"],
    }


def _written(moments: tuple[Moment, ...]) -> list[str]:
    found: list[str] = []
    for moment in moments:
        found += [*written(moment.step), *_written(moment.body)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base", choices=["tiny", "base", "paper"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--bundle", type=Path, help="of the example, built already")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = {
            f"bernini {given.size}": given.bundle or build_example(folder, given.size, given.steps),
            "unet": build_sampling(folder),
        }
        results = {name: figures(path) for name, path in paths.items()}
    for name, numbers in results.items():
        print(name)
        for label, number in numbers.items():
            text = f"{number / 2**20:.3f} MiB" if isinstance(number, int) else f"{number:.3f}"
            print(f"  {label:32} {text:>14}")
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
