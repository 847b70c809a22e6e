"""Values for a program's placeholders: the example inputs, and the noise of a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from partitioner.capture.structure import named_tensors
from partitioner.plan import Draw, DrawGroup, Plan
from partitioner.program import Program, node_type
from partitioner.runtime.draws import draw_noise
from partitioner.specs import InputSpec

__all__ = ["placeholder_values"]


def placeholder_values(
    program: Program, example_inputs: Mapping[str, Any], seed: int
) -> dict[str, torch.Tensor]:
    """A tensor for each placeholder of the main graph, by name.

    Inputs that are declared as noise, and draws, come from the seed, in the order in which a
    bundle's runtime draws them; other inputs are the examples.

    Args:
        example_inputs: as given to :func:`partitioner.capture.capture`.
    """
    nodes = {cast(str, n.target): n for n in program.main.nodes if n.op == "placeholder"}
    given = named_tensors(example_inputs)
    values = {name: given[name].detach() for name in nodes if name in given}
    plan = Plan(
        values={name: node_type(node).spec for name, node in nodes.items()},
        inputs={spec.name: spec.name for spec in program.inputs if spec.used},
        constants=(),
        draws=tuple(
            DrawGroup(
                sequence.repeat,
                tuple(
                    Draw(d.placeholder, d.distribution, d.args, d.row, d.stream)
                    for d in sequence.draws
                ),
            )
            for sequence in program.draws
        ),
        steps=(),
        outputs={},
    )
    noise = draw_noise(_Drawn(program.inputs, plan), seed, {})
    return values | {name: torch.from_numpy(array) for name, array in noise.items()}


@dataclass(frozen=True)
class _Drawn:
    inputs: tuple[InputSpec, ...]
    plan: Plan
