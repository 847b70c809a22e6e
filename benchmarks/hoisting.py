"""What relieving the loop saves: the same pipeline with and without these passes, in one run.

Two pipelines: the Bernini example, and a class-conditional DiT of diffusers (12 blocks, 384 wide,
batch 1, DDIM). Each is built twice; then both bundles are run in turn on the same request. Weight
bytes are those of the artifacts: per step, of the segments in the loop. Times are medians: of one
step, of everything from the request to the end of the loop (what is done before the loop counts),
and of the whole request. The results of both are compared.

Run: python benchmarks/hoisting.py [--model bernini|dit] [--size base] [--steps N] [--repeat 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.modelfile import load_model
from partitioner.passes.pipeline import DEFAULT
from partitioner.plan import Call, Plan, Step

#: The default pipeline without what this benchmark is about.
WITHOUT = (
    "inline-calls,normalise,eliminate-dead,transpose-weights,fold-constants,eliminate-common,"
    "eliminate-dead"
)


class DiT(nn.Module):
    """Class to latent picture, DDIM, without guidance."""

    def __init__(self) -> None:
        from diffusers import DDIMScheduler, DiTTransformer2DModel

        super().__init__()
        torch.manual_seed(0)
        self.transformer = DiTTransformer2DModel(
            num_attention_heads=6,
            attention_head_dim=64,
            in_channels=4,
            out_channels=4,
            num_layers=12,
            sample_size=32,
            patch_size=2,
            num_embeds_ada_norm=1000,
        ).eval()
        self.scheduler = DDIMScheduler()

    def forward(self, label: torch.Tensor, *, steps: int = 10) -> torch.Tensor:
        self.scheduler.set_timesteps(steps)
        x = torch.randn(1, 4, 32, 32)
        for step in self.scheduler.timesteps:
            noise = self.transformer(x, timestep=step[None], class_labels=label).sample
            x = self.scheduler.step(noise, step, x).prev_sample
        return x


def pipeline(given: argparse.Namespace) -> tuple[Any, dict[str, Any], dict[str, Any], Any]:
    """The pipeline, its example inputs, its options, and how inputs are made."""
    if given.model == "dit":
        return DiT(), {"label": torch.tensor([7])}, {"steps": given.steps or 10}, None
    path = ROOT / "examples" / "bernini" / "model.py"
    settings = {"size": given.size, "condition": given.condition, "steps": given.steps or 5}
    model = load_model(str(path), settings)
    return model.pipeline, dict(model.example_inputs), dict(model.options), model.inputs


def weight_bytes(bundle: Bundle) -> tuple[int, int]:
    """Bytes of weights that one step of the loops reads, and those in the bundle."""
    manifest = bundle.manifest

    def read(segment: str) -> int:
        artifact = manifest.artifacts[segment]
        if artifact.graph is None:
            return 0
        graph = onnx.load_from_string(bundle.blob_path(artifact.graph).read_bytes()).graph
        entries = [{e.key: e.value for e in i.external_data} for i in graph.initializer]
        places = {(e["location"], e["offset"], int(e["length"])) for e in entries if e}
        return sum(length for _, _, length in places)

    def looped(steps: tuple[Step, ...], inside: bool = False) -> Iterator[str]:
        for step in steps:
            if isinstance(step, Call):
                yield from [step.segment] if inside else []
            else:
                yield from looped(step.body, True)

    used = {digest for artifact in manifest.artifacts.values() for digest in artifact.weights}
    used |= {constant.blob for constant in manifest.constants.values()}
    total = sum(blob.size for blob in manifest.blobs if blob.digest in used)
    return sum(read(segment) for segment in looped(manifest.plan.steps)), total


def carried(plan: Plan) -> dict[str, list[str]]:
    """The outputs, by segment, that are carried from step to step."""
    found: dict[str, list[str]] = {}
    for loop in plan.steps:
        if isinstance(loop, Call):
            continue
        following = {carry.next for carry in loop.carries}
        for step in loop.body:
            if isinstance(step, Call):
                names = [name for name, _ in plan.segments[step.segment].outputs]
                pairs = zip(names, step.outputs, strict=True)
                found[step.segment] = [name for name, value in pairs if value in following]
    return found


def final_values(pipe: partitioner.Pipeline, plan: Plan, inputs: dict[str, Any]) -> list[Any]:
    """What the loops leave; discontinuous stages after them would hide a difference."""
    wanted, last = carried(plan), dict[str, dict[str, Any]]()

    def observe(name: str, count: int, outputs: Any) -> None:
        if name in wanted:
            last[name] = {key: outputs[key] for key in wanted[name]}

    pipe(inputs, seed=7, observe=observe)
    return [array for name in last for array in last[name].values()]


def timed(pipe: partitioner.Pipeline, inputs: dict[str, Any]) -> dict[str, float]:
    """Seconds of one request: a step, up to the end of the loop, and all."""
    marks: list[float] = []
    start = time.perf_counter()
    pipe(inputs, seed=7, callback=lambda _: marks.append(time.perf_counter()))
    end = time.perf_counter()
    step = (marks[-1] - marks[0]) / (len(marks) - 1)
    return {"step": step, "to_the_loops_end": marks[-1] - start, "request": end - start}


def difference(expected: list[Any], actual: list[Any]) -> float:
    """The largest relative difference (norm of the difference by norm)."""
    pairs = zip(expected, actual, strict=True)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bernini", choices=["bernini", "dit"])
    parser.add_argument("--size", default="base", choices=["tiny", "base", "paper"])
    parser.add_argument("--condition", default="image", choices=["image", "cloud", "voxels"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--passes", default=DEFAULT)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    module, example, options, how = pipeline(given)
    with tempfile.TemporaryDirectory() as folder:
        bundles: dict[str, Any] = {}
        for name, passes in (("without", WITHOUT), ("with", given.passes)):
            built = partitioner.build(
                module,
                example,
                inputs=how,
                options=options,
                passes=passes,
                output=Path(folder) / f"{name}.bundle",
            )
            bundles[name] = built.path
        result = compare(bundles, {k: v.numpy() for k, v in example.items()}, given.repeat)
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


def compare(bundles: dict[str, Path], inputs: dict[str, Any], repeat: int) -> dict[str, Any]:
    """Run the bundles in turn; figures of each, and those with the passes by those without."""
    opened = {name: Bundle.open(path) for name, path in bundles.items()}
    weights = {name: weight_bytes(bundle) for name, bundle in opened.items()}
    pipes = {name: partitioner.load(path) for name, path in bundles.items()}
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in bundles}
    values = {n: final_values(p, opened[n].manifest.plan, inputs) for n, p in pipes.items()}
    for _ in range(repeat):
        for name, pipe in pipes.items():
            seconds[name].append(timed(pipe, inputs))
    for pipe in pipes.values():
        pipe.close()
    figures = {
        name: {
            "step_weight_bytes": weights[name][0],
            "bundle_weight_bytes": weights[name][1],
            **{f"{k}_s": statistics.median(r[k] for r in rows) for k in rows[0]},
        }
        for name, rows in seconds.items()
    }
    ratios = {k: figures["with"][k] / v for k, v in figures["without"].items()}
    return {
        **figures,
        "ratios": ratios,
        "difference_at_the_loops_end": difference(values["without"], values["with"]),
    }


if __name__ == "__main__":
    main()
