"""The tables that a plan is written into: values by id, segments by name.

Names come from the user's pipeline where that has any, and are made unique by counting, so they are
readable, and the same program always gives the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import fx

from partitioner.plan import SegmentInfo
from partitioner.planning.segments import Part, Segment, distinct, fingerprint, make_segment
from partitioner.program import Program, TensorType
from partitioner.specs import TensorSpec

__all__ = ["HostCall", "Names", "Segments", "Values"]

#: Ids and names longer than this are cut.
_MAX_NAME = 120

#: How many stages a segment's name and how many source lines its description lists.
_STAGES, _SOURCES = 3, 5


class Names:
    """Names that are given once."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def unique(self, stem: str) -> str:
        """``stem``, or with the next free number if that is taken, from 2 on."""
        count = self._counts.get(stem, 0) + 1
        name = stem if count == 1 else f"{stem}{self._separator}{count}"
        while name in self._taken:
            count += 1
            name = f"{stem}{self._separator}{count}"
        self._counts[stem] = count
        self._taken.add(name)
        return name


class Values:
    """Value ids, what they hold, and which of them are constants.

    Attributes:
        specs: id -> tensor.
        constants: id -> name of the program's constant.
    """

    def __init__(self) -> None:
        self.specs: dict[str, TensorSpec] = {}
        self.constants: dict[str, str] = {}
        self._names = Names(".")
        self._constant_ids: dict[str, str] = {}

    def new(self, stem: str, type_: TensorType) -> str:
        """A new id that reads like ``stem``."""
        value = self._names.unique(re.sub(r"[^A-Za-z0-9_.]", "_", stem)[:_MAX_NAME])
        self.specs[value] = type_.spec
        return value

    def constant(self, name: str, type_: TensorType) -> str:
        """The id of a constant, the same for everyone who reads it."""
        if name not in self._constant_ids:
            value = self.new(f"const.{name}", type_)
            self._constant_ids[name] = value
            self.constants[value] = name
        return self._constant_ids[name]


@dataclass(frozen=True)
class HostCall:
    """A segment of the backend ``host``: a host op by name, with its options."""

    op: str
    options: dict[str, Any]


@dataclass
class Segments:
    """Segments that are made once, however many parts of the program are equal to them.

    Attributes:
        made: by name; a graph, or a host op.
        infos: by name; what the plan says about them.
    """

    made: dict[str, Segment | HostCall] = field(default_factory=dict[str, "Segment | HostCall"])
    infos: dict[str, SegmentInfo] = field(default_factory=dict[str, SegmentInfo])
    _names: Names = field(default_factory=lambda: Names("_"))
    _twins: dict[Any, str] = field(default_factory=dict[Any, str])

    def of_part(self, part: Part, *, in_loop: bool) -> str:
        """The name of the segment that does what ``part`` does."""
        key = fingerprint(part)
        if key in self._twins:
            return self._met_again(self._twins[key], part.stages, part.sources)
        name = self._twins[key] = self._names.unique(_stem(part.stages, in_loop))
        segment = self.made[name] = make_segment(name, part)
        self.infos[name] = SegmentInfo(
            name=name,
            backend=segment.backend,
            inputs=_named(segment.inputs, segment.input_types),
            outputs=_named(segment.outputs, segment.output_types),
            stages=segment.stages,
            nodes=sum(n.op == "call_function" for n in segment.graph.nodes),
            sources=segment.sources,
        )
        return name

    def of_host(self, node: fx.Node, inputs: Sequence[TensorSpec], program: Program) -> str:
        """The name of the segment that runs a host op on inputs of these types."""
        op, _, options = cast("tuple[str, Any, Mapping[str, Any]]", node.args)
        types = cast("tuple[TensorType, ...]", node.meta["type"])
        stages = distinct([node.meta.get("stage", "").split(".")[0]])
        sources = distinct([node.meta.get("source", "")])
        # As text: sizes that grow with the rows are told from those that do not.
        key = (op, repr(sorted(options.items())), repr(inputs), repr(types))
        if key in self._twins:
            return self._met_again(self._twins[key], stages, sources)
        name = self._twins[key] = self._names.unique(re.sub(r"\W", "_", op.split(".")[-1]))
        self.made[name] = HostCall(op, dict(options))
        self.infos[name] = SegmentInfo(
            name=name,
            backend="host",
            inputs=tuple((f"input_{i}", spec) for i, spec in enumerate(inputs)),
            outputs=_named(tuple(program.host_ops[op].outputs), types),
            stages=stages,
            nodes=1,
            sources=sources,
        )
        return name

    def _met_again(self, name: str, stages: Sequence[str], sources: Sequence[str]) -> str:
        info = self.infos[name]
        self.infos[name] = SegmentInfo(
            name,
            info.backend,
            info.inputs,
            info.outputs,
            distinct([*info.stages, *stages]),
            info.nodes,
            distinct([*info.sources, *sources])[:_SOURCES],
        )
        return name


def _stem(stages: Sequence[str], in_loop: bool) -> str:
    """What to call a segment: after its stages, or for what the driver does between them."""
    if not stages:
        return "glue_step" if in_loop else "glue"
    words = [re.sub(r"\W", "_", stage) for stage in stages]
    return "_".join(words[:_STAGES])[:_MAX_NAME]


def _named(names: Sequence[str], types: Sequence[TensorType]) -> tuple[tuple[str, TensorSpec], ...]:
    return tuple((name, type_.spec) for name, type_ in zip(names, types, strict=True))
