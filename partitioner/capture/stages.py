"""Stages: the modules a driver calls, found by name and exported once per input signature."""

from __future__ import annotations

import functools
import inspect
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from partitioner.capture.draws import Streams, classify, is_random, memory_order
from partitioner.capture.sources import line_of_error, line_of_trace
from partitioner.capture.structure import register_dataclasses
from partitioner.capture.tape import DrawSpec
from partitioner.errors import CaptureError, UsageError
from partitioner.program import TensorType, add_node
from partitioner.torchexport import ops_listed_once

__all__ = ["StageGraph", "export_stage", "find_modules", "freeze", "holds_loop", "signature"]

#: A part with this share of a module's parameters that is called this often makes it a driver.
_LOOP_SHARE = 0.25
_LOOP_CALLS = 3

#: Ops of an exported graph that check and give nothing.
_CHECKS = frozenset(
    {
        "aten::_assert_tensor_metadata",
        "aten::_assert_async",
        "aten::_assert_scalar",
        "aten::sym_constrain_range_for_size",
    }
)


@dataclass(frozen=True)
class StageGraph:
    """A stage, exported for one signature, as a graph of the program.

    Attributes:
        name: of the graph in the program.
        graph: placeholders are the tensor arguments in the order of their leaves, then draws.
        constants: weights and other constants the graph names.
        types: of the results that are tensors.
        strides: of each of them in eager, without gaps.
        draws: what the stage draws at random, in order: an extra operand each.
        rebuild: makes what the module returns from its tensors.
    """

    name: str
    graph: fx.Graph
    constants: dict[str, torch.Tensor]
    types: tuple[TensorType, ...]
    strides: tuple[tuple[int, ...], ...]
    draws: tuple[tuple[DrawSpec, TensorType], ...]
    rebuild: Callable[[Sequence[torch.Tensor]], Any]

    def stand_ins(self) -> list[torch.Tensor]:
        """Zeros for the results, in the layout that eager gives them: draws may follow it."""
        return [
            torch.empty_strided(type_.empty().shape, strides, dtype=type_.dtype).zero_()
            for type_, strides in zip(self.types, self.strides, strict=True)
        ]


# --- names --------------------------------------------------------------------------------------


def find_modules(pipeline: Any, named: Mapping[str, str] | None = None) -> dict[str, nn.Module]:
    """Every module that a pipeline object leads to, by attribute path, outer ones first.

    A module's children; a diffusers pipeline's components; a function's closure, globals, defaults
    and bound object. ``named`` gives paths other names.

    Raises:
        UsageError: a path in ``named`` leads to no module.
    """
    found = dict(_walk_roots(pipeline))
    for name, path in (named or {}).items():
        if path not in found:
            raise UsageError(
                f"stage {name!r} is said to be {path!r}, which is no module of this pipeline",
                advice=f"paths of this pipeline begin with: {', '.join(list(found)[:20])}",
            )
    names = {path: name for name, path in (named or {}).items()}
    return {names.get(path, path): module for path, module in found.items()}


def _walk_roots(pipeline: Any) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(pipeline, nn.Module):
        yield from ((path, m) for path, m in pipeline.named_modules() if path)
        return
    for name, value in _attributes(pipeline):
        if isinstance(value, nn.Module):
            yield name, value
            yield from ((f"{name}.{path}", m) for path, m in value.named_modules() if path)


def _attributes(pipeline: Any) -> Iterator[tuple[str, Any]]:
    components = getattr(pipeline, "components", None)
    if isinstance(components, dict):
        yield from cast("dict[str, Any]", components).items()
    if isinstance(pipeline, functools.partial):
        yield from pipeline.keywords.items()
        yield from _attributes(pipeline.func)
        return
    owner = getattr(pipeline, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        yield from _walk_object(owner)
    function = inspect.unwrap(pipeline) if callable(pipeline) else None
    if inspect.isfunction(function):
        variables = inspect.getclosurevars(function)
        yield from variables.nonlocals.items()
        yield from variables.globals.items()
        yield from (function.__kwdefaults__ or {}).items()
    elif owner is None:
        yield from _walk_object(pipeline)


def _walk_object(owner: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(owner, nn.Module):
        yield from owner.named_children()
    else:
        yield from getattr(owner, "__dict__", {}).items()


# --- signatures ---------------------------------------------------------------------------------


def freeze(value: Any) -> Hashable:
    """A hashable stand-in for a structure of arguments; equal ones stand for equal arguments."""
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return (type(items).__name__, *(freeze(item) for item in items))
    if isinstance(value, dict):
        return ("dict", *((key, freeze(item)) for key, item in cast("Any", value).items()))
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    try:
        hash(value)
    except TypeError:
        return ("repr", repr(value))
    # 1, 1.0 and True are equal to Python, not to an op.
    return (type(value).__name__, value)


def signature(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Hashable, list[Any], Any]:
    """(hashable signature, flat leaves, structure) of a call."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    parts = [
        TensorType.of(leaf) if isinstance(leaf, torch.Tensor) else freeze(leaf) for leaf in leaves
    ]
    return (str(spec), *parts), leaves, spec


# --- export -------------------------------------------------------------------------------------


def export_stage(
    module: nn.Module, path: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> StageGraph:
    """Export one stage for the types of these arguments.

    Args:
        path: where the module stands in the pipeline; constants are named after it.
        name: of the graph.

    Raises:
        CaptureError: torch.export refuses the module, or the module has side effects.
    """
    exported = _export(module, path, args, kwargs)
    _refuse_side_effects(exported, path)
    return _Converter(exported, path, name).convert()


def _export(
    module: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ExportedProgram:
    # Arguments that are one tensor would be merged by the exporter; distinct ones are not.
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.empty_like, (args, kwargs))
    register_dataclasses((args, kwargs))
    try:
        with torch.no_grad(), warnings.catch_warnings(), ops_listed_once():
            warnings.simplefilter("ignore")
            try:
                exported = torch.export.export(module, args, kwargs, strict=False)
            except Exception:  # any kind: the exporter refuses a result class it does not know
                # That only a run shows; whatever else it was is raised again.
                if not _result_registered(module, args, kwargs):
                    raise
                exported = torch.export.export(module, args, kwargs, strict=False)
            # An empty table: functional, but composite ops (linear, attention) stay whole.
            return exported.run_decompositions({})
    except CaptureError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise CaptureError(
            f"stage {path!r} ({type(module).__name__}) cannot be exported: {reason}",
            where=line_of_error(error),
            advice="keep the stage's forward free of control flow on tensor values; move what "
            "needs values into a host op, or name inner modules as stages so that the code "
            "around them is captured as driver",
        ) from error


def holds_loop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a module's forward calls one large part of itself over and over.

    Such a module holds a sampler's loop: exported as a stage, it would be unrolled. It is run
    without numbers to find out, and only until it is known.
    """
    heavy = sum(p.numel() for p in module.parameters()) * _LOOP_SHARE
    counts: Counter[int] = Counter()

    def count(called: nn.Module, given: Any) -> None:
        counts[id(called)] += 1
        if counts[id(called)] == _LOOP_CALLS:
            raise _LoopFoundError

    inner = [m for m in module.modules() if m is not module]
    heavy_ones = [m for m in inner if 0 < heavy <= sum(p.numel() for p in m.parameters())]
    hooks = [m.register_forward_pre_hook(count) for m in heavy_ones]
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = pytree.tree_map_only(torch.Tensor, mode.from_tensor, (args, kwargs))
            module(*fake[0], **fake[1])
    except _LoopFoundError:
        return True
    except Exception:  # noqa: BLE001 - without numbers a sampler may fail; twice is enough then
        return max(counts.values(), default=0) > 1
    finally:
        for hook in hooks:
            hook.remove()
    return False


class _LoopFoundError(Exception):
    """Ends a run early."""


def _result_registered(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Run the module without numbers; whether its result had an unknown dataclass in it."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = pytree.tree_map_only(torch.Tensor, mode.from_tensor, (args, kwargs))
        try:
            return register_dataclasses(module(*fake[0], **fake[1]))
        except Exception:  # noqa: BLE001 - whatever is wrong, the exporter says it better
            return False


def _refuse_side_effects(exported: ExportedProgram, path: str) -> None:
    for spec in exported.graph_signature.output_specs:
        if spec.kind == OutputKind.USER_OUTPUT:
            continue
        raise CaptureError(
            f"stage {path!r} writes to {spec.target or spec.arg.name!r} ({spec.kind.name.lower()})",
            advice="return the new value instead of writing it into a buffer or an argument; "
            "for batch normalisation call .eval() on the model",
        )


class _Converter:
    """Turns one exported program into a graph of the program."""

    def __init__(self, exported: ExportedProgram, path: str, name: str) -> None:
        self.exported = exported
        self.path = path
        self.name = name
        self.graph = fx.Graph()
        self.env: dict[fx.Node, fx.Node] = {}
        self.constants: dict[str, torch.Tensor] = {}
        self.draws: list[tuple[DrawSpec, TensorType]] = []
        self.orders: dict[fx.Node, tuple[int, ...]] = {}

    def convert(self) -> StageGraph:
        specs = iter(self.exported.graph_signature.input_specs)
        body: list[fx.Node] = []
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, next(specs))
            elif node.op == "call_function" and self._is_draw(node):
                self._draw(node)
            else:
                body.append(node)
        for node, order in self.orders.items():
            self._to_shape(node, order)
        for node in body:
            if node.op == "call_function":
                self._op(node)
        types, strides, rebuild = self._output()
        draws = tuple(self.draws)
        return StageGraph(self.name, self.graph, self.constants, types, strides, draws, rebuild)

    def _placeholder(self, node: fx.Node, spec: Any) -> None:
        if isinstance(spec.arg, ConstantArgument):
            return
        type_ = TensorType.of(node.meta["val"])
        if spec.kind == InputKind.USER_INPUT:
            self.env[node] = add_node(
                self.graph, "placeholder", node.name, type=type_, stage=self.path, name=node.name
            )
            return
        name = f"{self.path}.{spec.target}"
        tensors = (self.exported.state_dict, self.exported.constants)
        tensor = next(t[spec.target] for t in tensors if spec.target in t)
        self.constants[name] = cast(torch.Tensor, tensor).detach()
        self.env[node] = add_node(self.graph, "get_attr", name, type=type_, stage=self.path)

    def _is_draw(self, node: fx.Node) -> bool:
        target = node.target
        return isinstance(target, torch._ops.OpOverload) and is_random(
            target, node.args, dict(node.kwargs)
        )

    def _draw(self, node: fx.Node) -> None:
        if "dropout" in str(node.target):
            raise CaptureError(
                f"stage {self.path!r} has active dropout",
                where=line_of_trace(node.meta.get("stack_trace")),
                advice="call .eval() on the model",
            )
        args = tuple(a for a in node.args if not isinstance(a, fx.Node))
        target = cast(torch._ops.OpOverload, node.target)
        spec = classify(target, args, dict(node.kwargs), Streams()).spec
        value = cast(torch.Tensor, node.meta["val"])
        source = line_of_trace(node.meta.get("stack_trace"))
        order = memory_order(spec, value, source or f"stage {self.path!r}")
        if order != tuple(range(value.ndim)):
            self.orders[node] = order
        type_ = TensorType.of(value.permute(order))
        self.draws.append((spec, type_))
        self.env[node] = add_node(
            self.graph,
            "placeholder",
            f"draw_{len(self.draws)}",
            type=type_,
            source=source,
            stage=self._stage_of(node),
        )

    def _to_shape(self, node: fx.Node, order: tuple[int, ...]) -> None:
        """Numbers that were drawn along memory, in the order of the shape."""
        drawn = self.env[node]
        self.env[node] = add_node(
            self.graph,
            "call_function",
            torch.ops.aten.permute.default,
            (drawn, [order.index(dim) for dim in range(len(order))]),
            type=TensorType.of(node.meta["val"]),
            like=drawn,
        )

    def _op(self, node: fx.Node) -> None:
        source = line_of_trace(node.meta.get("stack_trace"))
        target = node.target
        if target is not operator.getitem:
            if not isinstance(target, torch._ops.OpOverload):
                raise CaptureError(
                    f"stage {self.path!r} uses {target}, which this version does not capture",
                    where=source,
                    advice="write it with plain tensor ops",
                )
            if target.name().split(".")[0] in _CHECKS:
                return
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: self.env[n])
        self.env[node] = add_node(
            self.graph,
            "call_function",
            target,
            cast("tuple[Any, ...]", args),
            cast("dict[str, Any]", kwargs),
            type=_type_of(node.meta["val"]),
            source=source,
            stage=self._stage_of(node),
            name=node.name,
        )

    def _stage_of(self, node: fx.Node) -> str:
        stack = cast("dict[str, tuple[str, Any]]", node.meta.get("nn_module_stack") or {})
        inner = next(reversed(list(stack.values())))[0] if stack else ""
        return f"{self.path}.{inner}" if inner else self.path

    def _output(
        self,
    ) -> tuple[
        tuple[TensorType, ...],
        tuple[tuple[int, ...], ...],
        Callable[[Sequence[torch.Tensor]], Any],
    ]:
        results = cast("tuple[Any, ...]", self.exported.graph.output_node().args[0])
        specs = self.exported.graph_signature.output_specs
        nodes: list[fx.Node] = []
        strides: list[tuple[int, ...]] = []
        template: list[Any] = []
        for value, spec in zip(results, specs, strict=True):
            if isinstance(spec.arg, TensorArgument):
                template.append(_Leaf(len(nodes)))
                nodes.append(self.env[value])
                # As empty_like lays it out: what is expanded or has gaps is made dense.
                strides.append(torch.empty_like(value.meta["val"]).stride())
            else:
                template.append(value)
        self.graph.output(tuple(nodes))
        types = tuple(cast(TensorType, n.meta["type"]) for n in nodes)
        structure = cast("pytree.TreeSpec", self.exported.call_spec.out_spec)

        def rebuild(tensors: Sequence[torch.Tensor]) -> Any:
            leaves = [tensors[v.index] if isinstance(v, _Leaf) else v for v in template]
            return pytree.tree_unflatten(leaves, structure)

        return types, tuple(strides), rebuild


@dataclass(frozen=True)
class _Leaf:
    index: int


def _type_of(value: Any) -> TensorType | tuple[TensorType | None, ...]:
    if isinstance(value, torch.Tensor):
        return TensorType.of(value)
    return tuple(TensorType.of(v) if isinstance(v, torch.Tensor) else None for v in value)
