"""Capture: an ordinary Python pipeline becomes one program, loops included."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from partitioner.capture.assembly import assemble
from partitioner.capture.driver import Recorder
from partitioner.capture.loops import Repetition
from partitioner.capture.module_paths import find_modules
from partitioner.capture.structure import named_leaves, register_dataclasses, replace_leaves
from partitioner.capture.tape import Constant, Operand
from partitioner.errors import CaptureError
from partitioner.program import Program, TensorType
from partitioner.specs import Image, InputSpec, Noise
from partitioner.verifier import verify

__all__ = ["Captured", "LoopFound", "capture", "evaluation_mode"]


@dataclass(frozen=True)
class LoopFound:
    """A loop that capture recovered, for reports."""

    name: str
    trips: int
    stages: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Captured:
    """A captured pipeline.

    Attributes:
        program: verified.
        loops: what was recovered, in order.
        stage_calls: how often each stage is called in one run, by graph name.
        warnings: what a user should know.
    """

    program: Program
    loops: tuple[LoopFound, ...]
    stage_calls: dict[str, int]
    warnings: tuple[str, ...]


def capture(
    pipeline: Any,
    example_inputs: Mapping[str, Any],
    *,
    options: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Image | Noise] | None = None,
    stages: Mapping[str, str] | None = None,
) -> Captured:
    """Capture a pipeline.

    Args:
        pipeline: an ``nn.Module``, a callable over modules, or an object with ``__call__`` such as
            a diffusers pipeline.
        example_inputs: argument name -> tensor, or a dict, list or dataclass of tensors (its
            tensors become inputs named ``argument.key``). What is not a tensor is an option.
        options: further arguments that are fixed now.
        inputs: how an input is made, where it is more than an array.
        stages: stage name -> attribute path, for stages that should have another name, or that
            stand inside a module which then counts as driver.

    Raises:
        CaptureError: the pipeline does what cannot be captured; says where.
    """
    modules = find_modules(pipeline, stages)
    register_dataclasses(dict(example_inputs))
    named = {id(modules[name]) for name in stages or {}}
    recorder = Recorder(modules, _transparent(pipeline, modules, stages or {}), named)
    with evaluation_mode(pipeline, modules) as trained, _python_random_watched():
        tensors: dict[str, torch.Tensor] = {}

        def stand_in(name: str, value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            tensors[name] = value
            return recorder.add_input(name, value)

        arguments = {k: replace_leaves(v, k, stand_in) for k, v in example_inputs.items()}
        result = recorder.run(pipeline, {**arguments, **(options or {})})
        outputs = _outputs(recorder, result)
    entries = recorder.tape.entries
    program, found = assemble(entries, recorder.stages, outputs)
    program.inputs = _input_specs(program, tensors, inputs or {})
    program.host_ops = dict(recorder.host_ops)
    verify(program)
    calls: dict[str, int] = {}
    for entry in entries:
        if entry.kind == "stage":
            calls[entry.target] = calls.get(entry.target, 0) + 1
    loops = tuple(_describe(f"loop_{i + 1}", loop, entries) for i, loop in enumerate(found))
    return Captured(program, loops, calls, tuple(_warnings(calls, loops, trained)))


def _transparent(
    pipeline: Any, modules: Mapping[str, nn.Module], stages: Mapping[str, str]
) -> set[int]:
    """Modules that are driver code: the pipeline itself, and whatever holds a named stage."""
    transparent = {id(pipeline)}
    named = {id(modules[name]) for name in stages}
    for module in modules.values():
        inner = {id(m) for m in module.modules()} - {id(module)}
        if id(module) not in named and inner & named:
            transparent.add(id(module))
    return transparent


@contextmanager
def evaluation_mode(
    pipeline: Any, modules: Mapping[str, nn.Module]
) -> Generator[list[str], None, None]:
    """Put all modules into evaluation mode, and quiet a diffusers progress bar; undo it after.

    Gives the paths of modules that were in training mode and for which that makes a difference.
    """
    everything = [*modules.values(), *([pipeline] if isinstance(pipeline, nn.Module) else [])]
    training = [m for m in everything if m.training]
    differs = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    trained = [path for path, m in modules.items() if m.training and isinstance(m, differs)]
    bar = getattr(pipeline, "_progress_bar_config", None)
    # Modules answer hasattr for anything; only a pipeline has this method on its class.
    set_bar: Any = getattr(type(pipeline), "set_progress_bar_config", None)
    for module in training:
        module.training = False
    if set_bar is not None:
        set_bar(pipeline, disable=True)
    try:
        yield trained
    finally:
        for module in training:
            module.training = True
        if set_bar is not None:
            set_bar(pipeline, **(bar or {}))


@contextmanager
def _python_random_watched() -> Generator[None, None, None]:
    """Refuse a driver that takes numbers from NumPy's or Python's global generators."""
    before = (random.getstate(), _numpy_state())
    yield
    after = (random.getstate(), _numpy_state())
    for name, old, new in zip(("random", "numpy.random"), before, after, strict=True):
        if old != new:
            raise CaptureError(
                f"the pipeline draws numbers from Python's {name!r}, which would be frozen into "
                "the bundle",
                advice="draw with torch.randn or torch.rand, which become seeded inputs, or pass "
                "the numbers as an input",
            )


def _numpy_state() -> tuple[Any, ...]:
    state = cast("tuple[Any, ...]", np.random.get_state())
    return (state[0], bytes(state[1]), *state[2:])


def _outputs(recorder: Recorder, result: Any) -> dict[str, Operand]:
    outputs: dict[str, Operand] = {}
    for name, value in named_leaves(result, "output").items():
        if isinstance(value, torch.Tensor):
            outputs[name] = recorder.operand(value)
        elif isinstance(value, bool | int | float):
            outputs[name] = Constant(torch.tensor(value))
        elif value is not None:
            raise CaptureError(
                f"the pipeline's output {name!r} is a {type(value).__name__}, not a tensor",
                advice="end the pipeline with tensors (output_type='pt' in diffusers)",
            )
    if not outputs:
        raise CaptureError(
            "the pipeline returns no tensor",
            advice="return a tensor, or a dict, tuple or dataclass of tensors",
        )
    return outputs


def _input_specs(
    program: Program, tensors: Mapping[str, torch.Tensor], how: Mapping[str, Image | Noise]
) -> tuple[InputSpec, ...]:
    unknown = sorted(set(how) - set(tensors))
    if unknown:
        raise CaptureError(
            f"inputs describes {unknown}, but the example inputs are {sorted(tensors)}",
            advice="give an example tensor for each described input",
        )
    used = {n.target for n in program.main.nodes if n.op == "placeholder"}
    return tuple(
        InputSpec(name, TensorType.of(tensor).spec, how.get(name), name in used)
        for name, tensor in tensors.items()
    )


def _describe(name: str, loop: Repetition, entries: Any) -> LoopFound:
    body = entries[loop.start : loop.start + loop.period]
    stages = tuple(dict.fromkeys(e.target for e in body if e.kind == "stage"))
    return LoopFound(name, loop.trips, stages, body[0].source)


def _warnings(
    calls: Mapping[str, int], loops: tuple[LoopFound, ...], trained: list[str]
) -> Generator[str, None, None]:
    if trained:
        yield (
            f"{len(trained)} modules were in training mode ({', '.join(trained[:3])}, ...); "
            "they were captured in evaluation mode"
        )
    looped = {stage for loop in loops for stage in loop.stages}
    for stage, count in calls.items():
        if count > 2 and stage not in looped:
            yield (
                f"stage {stage!r} is called {count} times, but no loop was found around it: "
                "the calls are unrolled"
            )
