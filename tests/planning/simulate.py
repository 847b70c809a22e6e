"""Run a plan in torch, step by step, and by the runtime itself: both must give the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from partitioner.plan import Call, Loop, Step
from partitioner.planning.planned import Planned
from partitioner.planning.segments import run_segment
from partitioner.planning.tables import HostCall
from partitioner.program import Program
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule

__all__ = ["random_inputs", "run_by_runtime", "simulate"]

Tensors = Mapping[str, torch.Tensor]


def random_inputs(program: Program, seed: int = 0) -> dict[str, torch.Tensor]:
    """A tensor for each placeholder of the main graph, draws included."""
    generator = torch.Generator().manual_seed(seed)
    return {
        str(n.target): torch.randn(n.meta["type"].shape, generator=generator)
        for n in program.main.nodes
        if n.op == "placeholder"
    }


def start(planned: Planned, program: Program, inputs: Tensors) -> dict[str, torch.Tensor]:
    """What a run of the plan starts with, by value id."""
    plan = planned.plan
    env = {value: inputs[name] for name, value in plan.inputs.items()}
    env |= {value: program.constants[name] for value, name in planned.constants.items()}
    for sequence, group in zip(program.draws, plan.draws, strict=True):
        for draw, own in zip(sequence.draws, group.draws, strict=True):
            env[own.value] = inputs[draw.placeholder]
    return env


def compute(
    planned: Planned, program: Program, name: str, args: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    segment = planned.segments[name]
    if isinstance(segment, HostCall):
        op = program.host_ops[segment.op]
        results = op.run(*[a.numpy() for a in args], **segment.options)
        return tuple(torch.from_numpy(results[key]) for key in op.outputs)
    return run_segment(segment, program.constants, args)


def simulate(planned: Planned, program: Program, inputs: Tensors) -> dict[str, torch.Tensor]:
    env = start(planned, program, inputs)
    _steps(planned, program, planned.plan.steps, env)
    return {name: env[value] for name, value in planned.plan.outputs.items()}


def _steps(
    planned: Planned, program: Program, steps: Sequence[Step], env: dict[str, torch.Tensor]
) -> None:
    for step in steps:
        if isinstance(step, Call):
            results = compute(planned, program, step.segment, [env[v] for v in step.inputs])
            env.update(zip(step.outputs, results, strict=True))
        else:
            _loop(planned, program, step, env)


def _loop(planned: Planned, program: Program, step: Loop, env: dict[str, torch.Tensor]) -> None:
    carried = [env[c.init] for c in step.carries]
    rows: list[list[torch.Tensor]] = [[] for _ in step.stacked]
    for trip in range(step.trips):
        inside = dict(env)
        inside.update(zip((c.inner for c in step.carries), carried, strict=True))
        inside.update({s.inner: env[s.source][trip] for s in step.slices})
        _steps(planned, program, step.body, inside)
        carried = [inside[c.next] for c in step.carries]
        for column, stacked in zip(rows, step.stacked, strict=True):
            column.append(inside[stacked.inner])
    finals = zip(step.carries, carried, strict=True)
    env.update({c.final: value for c, value in finals if c.final is not None})
    for stacked, column in zip(step.stacked, rows, strict=True):
        env[stacked.result] = torch.stack(column)


# --- by the runtime -----------------------------------------------------------------------------


class _Executable:
    """A segment that computes with torch, as a loaded artifact would."""

    def __init__(self, planned: Planned, program: Program, name: str) -> None:
        info = planned.plan.segments[name]
        self.inputs, self.outputs = info.inputs, info.outputs
        self.run = lambda args: compute(planned, program, name, args)

    def bind(self) -> _Bound:
        return _Bound(self)

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        raise NotImplementedError

    def close(self) -> None: ...


class _Bound:
    def __init__(self, executable: _Executable) -> None:
        self.executable = executable
        self.given: dict[int, Any] = {}
        self.places: dict[int, Any] = {}

    def set_input(self, index: int, array: Any) -> None:
        self.given[index] = array

    def set_output(self, index: int, array: Any) -> None:
        self.places[index] = array

    def run(self) -> tuple[Any, ...]:
        args = [torch.from_numpy(self.given[i].copy()) for i in range(len(self.given))]
        results = [r.contiguous().numpy() for r in self.executable.run(args)]
        for index, place in self.places.items():
            if place is not None:
                place[...] = results[index]
                results[index] = place
        return tuple(results)


def run_by_runtime(planned: Planned, program: Program, inputs: Tensors) -> dict[str, torch.Tensor]:
    """What the thin runtime makes of the plan, with torch as its only backend."""
    executables = {name: _Executable(planned, program, name) for name in planned.segments}
    values = {
        value: np.ascontiguousarray(tensor.numpy())
        for value, tensor in start(planned, program, inputs).items()
    }
    outputs = Run(executables, schedule(planned.plan), values).run()
    return {k: torch.from_numpy(v) for k, v in outputs.items()}
