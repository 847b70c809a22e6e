"""The driver by partial evaluation: run it once, keep what depends on the inputs.

The pipeline runs for real on its example inputs. An op whose operands do not stem from an input
runs and leaves only its result, a constant; so a sampler's arithmetic, its ``.item()`` calls and
its branches on its own timesteps fold away. An op with an operand that does is put on the tape.
The numbers in such tensors are never looked at: a stage is not run, it gives zeros of its types.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from partitioner import hostops
from partitioner.capture.aliases import Aliases, Geometry
from partitioner.capture.draws import Streams, classify, is_random
from partitioner.capture.numbers import canonical, functional
from partitioner.capture.sources import calling_line, line_of_error
from partitioner.capture.stages import StageGraph, export_stage, freeze, holds_loop, signature
from partitioner.capture.tape import Constant, DrawSpec, Entry, Number, Operand, Slot, Tape, Value
from partitioner.errors import CaptureError, PartitionerError
from partitioner.hostops import HostOp
from partitioner.program import TensorType

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

#: Constants up to this size are copied when they go on the tape, since the driver may write to
#: them later; larger ones are checked for that at the end.
_SNAPSHOT_BYTES = 16 * 2**20

_READS = frozenset(("numpy", "tolist", "__array__", "__dlpack__", "item", "__index__"))


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
        self._names = _parameter_names(modules)
        self._constants: dict[Any, tuple[StorageWeakRef, Constant]] = {}
        self._held: list[tuple[torch.Tensor, int]] = []
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
            stack.enter_context(_Functions(self))
            stack.enter_context(_Dispatch(self))
            result = _called(function, args)
        for tensor, version in self._held:
            if tensor._version != version:
                raise CaptureError(
                    f"the driver wrote to a constant of {tensor.nbytes} bytes "
                    f"{list(tensor.shape)} after using it",
                    advice="write the new value to a new tensor",
                )
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
        return value if value is not None else self._constant(tensor)

    def _constant(self, tensor: torch.Tensor) -> Constant:
        storage = StorageWeakRef(tensor.untyped_storage())
        version = 0 if tensor.is_inference() else tensor._version
        key = (storage.cdata, Geometry.of(tensor), version)
        known = self._constants.get(key)
        if known is not None:
            return known[1]
        name = self._names.get((storage.cdata, Geometry.of(tensor)))
        with _disable_current_modes():
            if name is None and tensor.nbytes <= _SNAPSHOT_BYTES:
                constant = Constant(tensor.detach().clone())
            else:
                constant = Constant(tensor.detach(), name)
                self._held.append((constant.tensor, constant.tensor._version))
        self._constants[key] = (storage, constant)
        return constant

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
        self._refuse_reading(func, name)
        written = _written(func, args, kwargs)
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

    def _refuse_reading(self, func: torch._ops.OpOverload, name: str) -> None:
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
            probe = _probe(pure_func, pure_args, pure_kwargs)
        value: Operand = self._append(pure_func, pure_args, pure_kwargs, before, [probe], False)
        value = self._fit(value, TensorType.of(probe), TensorType.of(target))
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
            args, kwargs = _map_leaves(lambda v: self._as_operand(v, before), (args, kwargs))
            func, args, kwargs = canonical(func, args, kwargs, types[0], self._emit_on_tape)
            args, kwargs = _map_leaves(slot, (args, kwargs))
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

        def probe(leaf: Any) -> Any:
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
            real_args, real_kwargs = _map_leaves(probe, (args, kwargs))
            result = func(*real_args, **real_kwargs)
        if not any(isinstance(leaf, Value) for leaf in _leaves((args, kwargs))):
            return Constant(result)
        return self._append(func, args, kwargs, {}, [result], False)

    # --- random numbers ---

    def _draw(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        draw = classify(func, args, kwargs, self.streams)
        result = func(*args, **kwargs)
        if draw.into is None:
            self.aliases.follow(result, self._append_draw(draw.spec, TensorType.of(result)))
            return result
        value = self._append_draw(draw.spec, TensorType.of(draw.into))
        if not self.aliases.is_followed(draw.into):
            base, content = self._begin_following(draw.into)
            self.aliases.follow(base, content)
        self.aliases.write(draw.into, value)
        return result

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
            results = [type_.empty("cpu").zero_() for type_ in stage.types]
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


class _Dispatch(TorchDispatchMode):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self.recorder.dispatch(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Sees what never reaches the dispatcher: ``.numpy()`` and the like, and printing."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _READS or name in ("__repr__", "__format__"):
            tensor = args[0]
            followed = isinstance(tensor, torch.Tensor) and self.recorder.aliases.is_followed(
                tensor
            )
            if followed and name in _READS:
                raise reading_error(f".{name}()")
            if followed:
                return (
                    f"tensor(<input-dependent>, shape={list(tensor.shape)}, dtype={tensor.dtype})"
                )
        return func(*args, **(kwargs or {}))


def _called(function: Callable[..., Any], args: dict[str, Any]) -> Any:
    try:
        return function(**args)
    except PartitionerError:
        raise
    except Exception as error:
        raise CaptureError(
            f"the pipeline raised {type(error).__name__}: {error}",
            where=line_of_error(error),
            advice="check that the pipeline runs eagerly on the example inputs; a diffusers "
            "pipeline takes prompt_embeds and negative_prompt_embeds in place of a prompt, since "
            "tokenising is not done with tensors",
        ) from error


def reading_error(what: str) -> CaptureError:
    """The error for Python code that looks at a number that only a request will decide."""
    return CaptureError(
        f"Python code reads the value of a tensor that depends on the pipeline's input ({what})",
        where=calling_line(),
        advice="keep the computation in tensors (torch.where instead of if), end the pipeline "
        "with tensors (output_type='pt' in diffusers), or make the step that needs values a host "
        "op (@partitioner.host_op)",
    )


def _host_on_constants(op: HostOp, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = hostops.recorder.set(None)
    try:
        with _disable_current_modes():
            return op(*args, **kwargs)
    finally:
        hostops.recorder.reset(token)


def _parameter_names(modules: Mapping[str, nn.Module]) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for path, module in modules.items():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in own:
            key = (tensor.untyped_storage()._cdata, Geometry.of(tensor))
            names.setdefault(key, f"{path}.{name}" if path else name)
    return names


def _written(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    written: list[torch.Tensor] = []
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        written += [t for t in pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]
    return written


def _probe(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The op's result on meta tensors: its type without its work."""
    meta = pytree.tree_map_only(torch.Tensor, lambda t: t.to("meta"), (args, kwargs))
    return func(*meta[0], **meta[1])


def _leaves(value: Any) -> list[Any]:
    found: list[Any] = []
    _map_leaves(found.append, value)
    return found


def _map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    # Not pytree: dataclasses of the tape are leaves here, whatever is registered elsewhere.
    if isinstance(value, tuple):
        return tuple(_map_leaves(function, v) for v in cast("tuple[Any, ...]", value))
    if isinstance(value, list):
        return [_map_leaves(function, v) for v in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: _map_leaves(function, v) for key, v in items}
    return function(value)
