"""Calls of modules: the outermost are stages, exported once and put on the tape unrun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from partitioner.capture.draw_calls import DrawCalls
from partitioner.capture.loop_holders import holds_loop
from partitioner.capture.recording import Recording
from partitioner.capture.signatures import signature
from partitioner.capture.sources import calling_line
from partitioner.capture.stage_graphs import StageGraph
from partitioner.capture.stages import export_stage
from partitioner.capture.tape import Entry, Value

__all__ = ["StageCalls"]


class StageCalls:
    """Records the calls of stages.

    Args:
        modules: the pipeline's modules by path; a stage is named after its path.
        transparent: ids of modules that are driver code, not stages.
        leaves: ids of modules that are stages whatever they hold.
    """

    def __init__(
        self,
        recording: Recording,
        draws: DrawCalls,
        modules: Mapping[str, nn.Module],
        transparent: set[int],
        leaves: Collection[int],
    ) -> None:
        self.stages: dict[Any, StageGraph] = {}
        self._recording = recording
        self._draws = draws
        self._paths = {id(module): path for path, module in reversed(list(modules.items()))}
        self._transparent = transparent
        self._graph_names: set[str] = set()
        self._leaves = set(leaves)
        self._depth = 0
        self._paused = False
        self._thread = threading.get_ident()

    @property
    def are_inside(self) -> bool:
        """Whether the code that runs is that of a stage."""
        return bool(self._depth) or self._paused

    def takes(self, module: nn.Module) -> bool:
        """Whether a call of a module that begins now is for :meth:`call`."""
        return (
            not self.are_inside
            and threading.get_ident() == self._thread
            and id(module) not in self._transparent
        )

    def call(
        self,
        module: nn.Module,
        original: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """A call of an outermost module."""
        sign, leaves, _ = signature(args, kwargs)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if not any(self._recording.aliases.is_followed(t) for t in tensors):
            self._depth += 1
            try:
                return original(module, *args, **kwargs)
            finally:
                self._depth -= 1
        if self._is_driver(module, args, kwargs):
            return original(module, *args, **kwargs)
        stage = self._stage(module, sign, args, kwargs)
        operands = [self._recording.operand(t) for t in tensors]
        operands += [self._draws.append(spec, type_) for spec, type_ in stage.draws]
        path = self._paths.get(id(module), type(module).__name__.lower())
        entry = Entry(
            "stage",
            stage.name,
            (),
            {},
            tuple(operands),
            stage.types,
            True,
            ("stage", stage.name),
            calling_line(),
            path,
        )
        index = self._recording.tape.append(entry)
        with _disable_current_modes():
            results = stage.stand_ins()
        for item, tensor in enumerate(results):
            self._recording.aliases.follow(tensor, Value(index, item))
        return stage.rebuild(results)

    def _is_driver(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a module called for the first time turns out to hold the loop itself."""
        if id(module) in self._leaves:
            return False
        self._paused = True
        try:
            with _disable_current_modes():
                found = holds_loop(module, args, kwargs)
        finally:
            self._paused = False
        (self._transparent if found else self._leaves).add(id(module))
        return found

    def _stage(
        self, module: nn.Module, sign: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> StageGraph:
        key = (id(module), sign)
        known = self.stages.get(key)
        if known is not None:
            return known
        path = self._paths.setdefault(id(module), self._unique_path(type(module).__name__.lower()))
        name, count = path, 1
        while name in self._graph_names:
            count += 1
            name = f"{path}_{count}"
        self._graph_names.add(name)
        self._paused = True
        try:
            with _disable_current_modes():
                stage = export_stage(module, path, name, args, kwargs)
        finally:
            self._paused = False
        self.stages[key] = stage
        return stage

    def _unique_path(self, path: str) -> str:
        taken = set(self._paths.values())
        unique, count = path, 1
        while unique in taken:
            count += 1
            unique = f"{path}_{count}"
        return unique
