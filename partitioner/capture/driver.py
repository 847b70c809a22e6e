"""The driver by partial evaluation: run it once, keep what depends on the inputs.

The pipeline runs for real on its example inputs. An op whose operands do not stem from an input
runs and leaves only its result, a constant; so a sampler's arithmetic, its ``.item()`` calls and
its branches on its own timesteps fold away. An op with an operand that does is put on the tape.
The numbers in such tensors are never looked at: a stage is not run, it gives zeros of its types.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from partitioner import hostops
from partitioner.capture.aliases import Aliases
from partitioner.capture.constants import Constants
from partitioner.capture.draws import Streams, classify, is_random, memory_order
from partitioner.capture.leaves import leaves_of, map_leaves, probe, written_by
from partitioner.capture.modes import DispatchMode, FunctionMode, called, reading_error
from partitioner.capture.numbers import canonical, functional
from partitioner.capture.sources import calling_line
from partitioner.capture.stages import StageGraph, export_stage, freeze, holds_loop, signature
from partitioner.capture.tape import Constant, DrawSpec, Entry, Number, Operand, Slot, Tape, Value
from partitioner.errors import CaptureError
from partitioner.hostops import HostOp
from partitioner.program import TensorType

aten = torch.ops.aten

__all__ = ["Recorder"]

#: Results depend on the operand's shape and dtype alone.
_SHAPE_ONLY = frozenset(
    [
        "empty_like",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "new_empty_strided",
    ]
)


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
        self.tape = Tape()
        self.stages: dict[Any, StageGraph] = {}
        self.host_ops: dict[str, HostOp] = {}
        self.streams = Streams()
        self.paths = {id(module): path for path, module in reversed(list(modules.items()))}
        self.transparent = transparent
        self.aliases = Aliases(self._emit_on_tape)
        self.constants = Constants(modules)
        self._graph_names: set[str] = set()
        self._leaves = set(leaves)
        self._depth = 0
        self._paused = False
        self._thread = threading.get_ident()

    # --- running ---

    def add_input(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A fresh tensor that stands for an input of the pipeline."""
        entry = Entry(
            "input", name, (), {}, (), (TensorType.of(tensor),), False, ("input", name), ""
        )
        stand_in = tensor.detach().clone()
        self.aliases.follow(stand_in, Value(self.tape.append(entry)))
        return stand_in

    def run(self, function: Callable[..., Any], args: dict[str, Any]) -> Any:
        """Run the driver and give what it returns; its tensors are looked up by ``operand``."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(self._hooked())
            stack.enter_context(FunctionMode(self))
            stack.enter_context(DispatchMode(self))
            result = called(function, args)
        self.constants.check_unchanged()
        return result

    @contextmanager
    def _hooked(self) -> Generator[None, None, None]:
        original = nn.Module.__call__
        recorder = self

        def hooked(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if recorder._is_stage_call(module):
                return recorder.stage_call(module, original, args, kwargs)
            return original(module, *args, **kwargs)

        token = hostops.recorder.set(self.host_call)
        nn.Module.__call__ = hooked
        try:
            yield
        finally:
            nn.Module.__call__ = original
            hostops.recorder.reset(token)

    def _is_stage_call(self, module: nn.Module) -> bool:
        return (
            self._depth == 0
            and not self._paused
            and threading.get_ident() == self._thread
            and id(module) not in self.transparent
        )

    # --- operands ---

    def is_followed(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor depends on an input."""
        return self.aliases.is_followed(tensor)

    def operand(self, tensor: torch.Tensor) -> Operand:
        """What a tensor of the driver holds: a value on the tape, or a constant."""
        try:
            value = self.aliases.value(tensor)
        except TypeError as error:
            raise CaptureError(
                f"cannot follow the content of a tensor through {error}",
                where=calling_line(),
                advice="use an op that makes a new tensor (.clone(), torch.cat) here",
            ) from error
        return value if value is not None else self.constants.of(tensor)

    # --- ops ---

    def dispatch(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """One op of the driver."""
        if is_random(func, args, kwargs):
            return self._draw(func, args, kwargs)
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        name = func.name().split("::")[1].split(".")[0]
        if name in _SHAPE_ONLY or not any(self.aliases.is_followed(t) for t in tensors):
            return func(*args, **kwargs)
        if func is aten.index.Tensor:
            args = self._with_fixed_masks(args)
            tensors = [t for t in pytree.tree_leaves(args) if isinstance(t, torch.Tensor)]
        self._refuse_reading(func, name, args)
        written = written_by(func, args, kwargs)
        before = {id(t): self.operand(t) for t in tensors}
        bases = [self._begin_following(t) for t in written if not self.aliases.is_followed(t)]
        result = func(*args, **kwargs)
        for base, content in bases:
            self.aliases.follow(base, content)
        if written:
            self._record_write(func, args, kwargs, before, written)
        else:
            self._record_op(func, args, kwargs, before, result)
        return result

    def _with_fixed_masks(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments of ``index`` with masks that no input has a part in as the places they name."""
        places: list[Any] = []
        for index in args[1]:
            is_mask = isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
            if is_mask and not self.aliases.is_followed(index):
                with _disable_current_modes():
                    places += index.nonzero(as_tuple=True)
            else:
                places.append(index)
        return (args[0], places)

    def _refuse_reading(
        self, func: torch._ops.OpOverload, name: str, args: tuple[Any, ...]
    ) -> None:
        if func is aten.index.Tensor and not _masks(args[1]):
            # Its shape depends on data only where a mask does.
            return
        reads = torch.Tag.data_dependent_output in func.tags or name in ("equal", "is_nonzero")
        if reads:
            raise reading_error(f"{name!r}")
        if torch.Tag.dynamic_output_shape in func.tags:
            raise CaptureError(
                f"the shape of the result of {name!r} depends on the pipeline's input",
                where=calling_line(),
                advice="use an op whose result has a fixed shape (torch.where, a mask), or make "
                "this step a host op (@partitioner.host_op)",
            )

    def _begin_following(self, tensor: torch.Tensor) -> tuple[torch.Tensor, Operand]:
        """A constant is about to be written to: its whole storage and its content until now."""
        with _disable_current_modes():
            storage = tensor.untyped_storage()
            size = storage.nbytes() // tensor.dtype.itemsize
            base = torch.empty(0, dtype=tensor.dtype).set_(storage, 0, (size,), (1,))
            return base, Constant(base.clone())

    def _record_op(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: dict[int, Operand],
        result: Any,
    ) -> None:
        if not func._schema.returns:
            # It looks at its operand and gives nothing: a check that eager makes for itself.
            return
        results = cast("list[Any]", list(result) if isinstance(result, tuple | list) else [result])
        multiple = isinstance(result, tuple | list)
        if not all(r is None or isinstance(r, torch.Tensor) for r in results):
            raise reading_error(f"{func.name()!r}")
        value = self._append(func, args, kwargs, before, results, multiple)
        operands = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        shared = {t.untyped_storage()._cdata for t in operands}
        for index, tensor in enumerate(results):
            if tensor is None:
                continue
            item = Value(value.entry, index)
            if tensor.untyped_storage()._cdata in shared:
                self.aliases.add_view(tensor, item)
            else:
                self.aliases.follow(tensor, item)

    def _record_write(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: dict[int, Operand],
        written: list[torch.Tensor],
    ) -> None:
        if len(written) != 1:
            raise CaptureError(
                f"{func.name()!r} writes to {len(written)} tensors at once",
                where=calling_line(),
                advice="use the op that makes new tensors",
            )
        target = written[0]
        pure = functional(func, args, kwargs)
        if pure is None:
            raise CaptureError(
                f"{func.name()!r} writes to its operand and has no functional form",
                where=calling_line(),
                advice="use the op that makes a new tensor",
            )
        pure_func, pure_args, pure_kwargs = pure
        with _disable_current_modes():
            shaped = probe(pure_func, pure_args, pure_kwargs)
        value: Operand = self._append(pure_func, pure_args, pure_kwargs, before, [shaped], False)
        value = self._fit(value, TensorType.of(shaped), TensorType.of(target))
        self.aliases.write(target, value)

    def _fit(self, value: Operand, have: TensorType, want: TensorType) -> Operand:
        """Broadcast and cast to what the written tensor is."""
        if have.dtype != want.dtype:
            value = self._emit_on_tape(torch.ops.aten._to_copy.default, value, dtype=want.dtype)
        if have.shape != want.shape:
            shape = [cast(int, d) for d in want.shape]
            value = self._emit_on_tape(torch.ops.aten.expand.default, value, shape)
        return value

    def _append(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: Mapping[int, Operand],
        results: list[Any],
        multiple: bool,
    ) -> Value:
        """Put an aten op on the tape; tensors become slots, liftable numbers too."""
        types = tuple(None if r is None else TensorType.of(r) for r in results)
        operands: list[Operand] = []

        def slot(leaf: Any) -> Any:
            if not isinstance(leaf, Number | Value | Constant):
                return leaf
            operands.append(leaf)
            return Slot(len(operands) - 1)

        with _disable_current_modes():
            args, kwargs = map_leaves(lambda v: self._as_operand(v, before), (args, kwargs))
            func, args, kwargs = canonical(func, args, kwargs, types[0], self._emit_on_tape)
            args, kwargs = map_leaves(slot, (args, kwargs))
        self._refuse_unknown_sizes(operands)
        key = ("aten", func, freeze(args), freeze(kwargs), types)
        entry = Entry(
            "aten", func, args, kwargs, tuple(operands), types, multiple, key, calling_line()
        )
        return Value(self.tape.append(entry))

    def _as_operand(self, leaf: Any, before: Mapping[int, Operand]) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        known = before.get(id(leaf))
        return known if known is not None else self.operand(leaf)

    def _refuse_unknown_sizes(self, operands: list[Operand]) -> None:
        for operand in operands:
            if isinstance(operand, Value):
                type_ = self.tape.entries[operand.entry].types[operand.item]
                if type_ is not None and None in type_.shape:
                    raise CaptureError(
                        "a tensor op takes the result of a host op whose size only the data decide",
                        where=calling_line(),
                        advice="return it from the pipeline as it is, or do the rest in the op",
                    )

    def _emit_on_tape(self, func: torch._ops.OpOverload, *args: Any, **kwargs: Any) -> Operand:
        """An op that the driver did not call itself, on operands; constants fold at once."""

        def stand_in(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                leaf = self.operand(leaf)
            if isinstance(leaf, Constant):
                return leaf.tensor
            if isinstance(leaf, Number):
                return leaf.value
            if isinstance(leaf, Value):
                type_ = self.tape.entries[leaf.entry].types[leaf.item]
                return cast(TensorType, type_).empty("cpu").zero_()
            return leaf

        with _disable_current_modes():
            real_args, real_kwargs = map_leaves(stand_in, (args, kwargs))
            result = func(*real_args, **real_kwargs)
        if not any(isinstance(leaf, Value) for leaf in leaves_of((args, kwargs))):
            return Constant(result)
        return self._append(func, args, kwargs, {}, [result], False)

    # --- random numbers ---

    def _draw(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        draw = classify(func, args, kwargs, self.streams)
        result = func(*args, **kwargs)
        if draw.into is None:
            self.aliases.follow(result, self._drawn(draw.spec, result))
            return result
        value = self._drawn(draw.spec, draw.into)
        if not self.aliases.is_followed(draw.into):
            base, content = self._begin_following(draw.into)
            self.aliases.follow(base, content)
        self.aliases.write(draw.into, value)
        return result

    def _drawn(self, spec: DrawSpec, like: torch.Tensor) -> Operand:
        """Numbers in the order of the memory of ``like``, in its shape."""
        order = memory_order(spec, like, calling_line())
        if order == tuple(range(like.ndim)):
            return self._append_draw(spec, TensorType.of(like))
        with _disable_current_modes():
            type_ = TensorType.of(like.permute(order))
        value = self._append_draw(spec, type_)
        inverse = [order.index(dim) for dim in range(like.ndim)]
        return self._emit_on_tape(aten.permute.default, value, inverse)

    def _append_draw(self, spec: DrawSpec, type_: TensorType) -> Value:
        key = ("draw", spec, type_)
        entry = Entry("draw", spec, (), {}, (), (type_,), False, key, calling_line())
        return Value(self.tape.append(entry))

    # --- stages and host ops ---

    def stage_call(
        self,
        module: nn.Module,
        original: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """A call of an outermost module."""
        sign, leaves, _ = signature(args, kwargs)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if not any(self.aliases.is_followed(t) for t in tensors):
            self._depth += 1
            try:
                return original(module, *args, **kwargs)
            finally:
                self._depth -= 1
        if self._is_driver(module, args, kwargs):
            return original(module, *args, **kwargs)
        stage = self._stage(module, sign, args, kwargs)
        operands = [self.operand(t) for t in tensors]
        operands += [self._append_draw(spec, type_) for spec, type_ in stage.draws]
        path = self.paths.get(id(module), type(module).__name__.lower())
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
        index = self.tape.append(entry)
        with _disable_current_modes():
            results = stage.stand_ins()
        for item, tensor in enumerate(results):
            self.aliases.follow(tensor, Value(index, item))
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
        (self.transparent if found else self._leaves).add(id(module))
        return found

    def _stage(
        self, module: nn.Module, sign: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> StageGraph:
        key = (id(module), sign)
        known = self.stages.get(key)
        if known is not None:
            return known
        path = self.paths.setdefault(id(module), self._unique_path(type(module).__name__.lower()))
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
        taken = set(self.paths.values())
        unique, count = path, 1
        while unique in taken:
            count += 1
            unique = f"{path}_{count}"
        return unique

    def host_call(self, op: HostOp, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of a host op."""
        if self._depth or self._paused:
            raise CaptureError(
                f"the host op {op.name!r} is called inside a stage",
                where=calling_line(),
                advice="call it in the pipeline's own forward, between stages",
            )
        if not all(isinstance(a, torch.Tensor) for a in args):
            raise CaptureError(
                f"the host op {op.name!r} takes tensors by position and options by keyword",
                where=calling_line(),
            )
        if not any(self.aliases.is_followed(a) for a in args):
            return _host_on_constants(op, args, kwargs)
        types = tuple(
            TensorType(cast(Any, spec.shape), getattr(torch, spec.dtype))
            for spec in op.outputs.values()
        )
        operands = tuple(self.operand(a) for a in args)
        key = ("host", op.name, freeze(kwargs), types)
        entry = Entry("host", op.name, (), dict(kwargs), operands, types, True, key, calling_line())
        index = self.tape.append(entry)
        self.host_ops[op.name] = op
        results: dict[str, torch.Tensor] = {}
        for item, (name, type_) in enumerate(zip(op.outputs, types, strict=True)):
            with _disable_current_modes():
                results[name] = type_.empty("cpu").zero_()
            self.aliases.follow(results[name], Value(index, item))
        return results


def _host_on_constants(op: HostOp, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = hostops.recorder.set(None)
    try:
        with _disable_current_modes():
            return op(*args, **kwargs)
    finally:
        hostops.recorder.reset(token)


def _masks(indices: Iterable[Any]) -> list[torch.Tensor]:
    tensors = [index for index in indices if isinstance(index, torch.Tensor)]
    return [index for index in tensors if index.dtype in (torch.bool, torch.uint8)]
