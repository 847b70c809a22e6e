"""The driver by partial evaluation: run it once, keep what depends on the inputs.

The pipeline runs for real on its example inputs. An op whose operands do not stem from an input
runs and leaves only its result, a constant; so a sampler's arithmetic, its ``.item()`` calls and
its branches on its own timesteps fold away. An op with an operand that does is put on the tape.
The numbers in such tensors are never looked at: a stage is not run, it gives zeros of its types.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from partitioner import hostops
from partitioner.capture.draw_calls import DrawCalls
from partitioner.capture.draws import is_random
from partitioner.capture.host_calls import HostCalls
from partitioner.capture.modes import DispatchMode, FunctionMode, called
from partitioner.capture.op_calls import OpCalls
from partitioner.capture.recording import Recording
from partitioner.capture.stage_calls import StageCalls
from partitioner.capture.stage_graphs import StageGraph
from partitioner.capture.tape import Operand, Tape
from partitioner.hostops import HostOp

__all__ = ["Recorder"]


class Recorder:
    """Records one run of a driver on a tape.

    Args:
        modules: the pipeline's modules by path; a stage is named after its path.
        transparent: ids of modules that are driver code, not stages.
        leaves: ids of modules that are stages whatever they hold.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        transparent: set[int],
        leaves: Collection[int] = (),
    ) -> None:
        self._recording = Recording(modules)
        self._draws = DrawCalls(self._recording)
        self._ops = OpCalls(self._recording)
        self._stages = StageCalls(self._recording, self._draws, modules, transparent, leaves)
        self._hosts = HostCalls(self._recording, self._stages)

    # --- what was recorded ---

    @property
    def tape(self) -> Tape:
        return self._recording.tape

    @property
    def stages(self) -> list[StageGraph]:
        """The stages that were called, each once for every signature."""
        return list(self._stages.stages.values())

    @property
    def host_ops(self) -> dict[str, HostOp]:
        """Those that are on the tape, by name."""
        return self._hosts.host_ops

    def operand(self, tensor: torch.Tensor) -> Operand:
        """What a tensor of the driver holds: a value on the tape, or a constant."""
        return self._recording.operand(tensor)

    # --- running ---

    def add_input(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A fresh tensor that stands for an input of the pipeline."""
        return self._recording.add_input(name, tensor)

    def run(self, function: Callable[..., Any], args: dict[str, Any]) -> Any:
        """Run the driver and give what it returns; its tensors are looked up by ``operand``."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(self._hooked())
            stack.enter_context(FunctionMode(self))
            stack.enter_context(DispatchMode(self))
            result = called(function, args)
        self._recording.constants.check_unchanged()
        return result

    @contextmanager
    def _hooked(self) -> Generator[None, None, None]:
        original = nn.Module.__call__
        calls = self._stages

        def hooked(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if calls.takes(module):
                return calls.call(module, original, args, kwargs)
            return original(module, *args, **kwargs)

        token = hostops.recorder.set(self._hosts.call)
        nn.Module.__call__ = hooked
        try:
            yield
        finally:
            nn.Module.__call__ = original
            hostops.recorder.reset(token)

    # --- what the modes tell ---

    def is_followed(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor depends on an input."""
        return self._recording.is_followed(tensor)

    def dispatch(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """One op of the driver."""
        if is_random(func, args, kwargs):
            return self._draws.draw(func, args, kwargs)
        return self._ops.call(func, args, kwargs)
