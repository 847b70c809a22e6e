"""Sizes that depend on how many requests a run serves: numbers that know how they grow.

A pipeline that is built for a range of batch sizes is captured with the most rows of it. Every size
in its program and plan is a plain number then, and those that have rows in them say by how much
they grow with each row. So what knows nothing of ranges (passes, estimates, buffers) works as with
any number of rows, and what does know asks for the size at another.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from partitioner.errors import UsageError
from partitioner.plan import Plan, SegmentInfo
from partitioner.specs import TensorSpec

__all__ = ["Growth", "RowCount", "RowRange", "at_rows", "growth_of", "plain_plan", "row_counts"]

#: Value id -> by how much each of its dimensions grows with a row; only those that grow.
Growth = dict[str, tuple[int, ...]]


@dataclass(frozen=True, order=True)
class RowRange:
    """Numbers of requests, from ``least`` to ``most``."""

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least < self.most:
            raise UsageError(
                f"{self.least}-{self.most} is no range of batch sizes",
                advice="give the smaller one first, at least 1: --batch 1-8",
            )

    def __str__(self) -> str:
        return f"{self.least}-{self.most}"

    @property
    def sizes(self) -> range:
        """All of them, in rising order."""
        return range(self.least, self.most + 1)

    @property
    def checked(self) -> tuple[int, ...]:
        """Those that a build compares with the eager pipeline: the most, the least, one between."""
        middle = (self.least + self.most) // 2
        return tuple(dict.fromkeys((self.most, self.least, middle)))


class RowCount(int):
    """A size that grows by ``growth`` with each row; as a number, the size at ``span.most`` rows.

    Arithmetic gives plain numbers.
    """

    growth: int
    span: RowRange

    def __new__(cls, size: int, growth: int, span: RowRange) -> RowCount:
        made = super().__new__(cls, size)
        made.growth, made.span = growth, span
        return made

    def __getnewargs__(self) -> tuple[int, int, RowRange]:  # type: ignore[override] - int has one
        return int(self), self.growth, self.span

    def __str__(self) -> str:
        return int.__repr__(self)

    def __repr__(self) -> str:
        # Texts of parts tell parts apart; and no code that is made of a graph can hold it.
        return f"RowCount({int(self)}, {self.growth})"

    def at(self, rows: int) -> int:
        """The size with so many rows."""
        return int(self) - self.growth * (self.span.most - rows)


def at_rows(value: Any, rows: int) -> Any:
    """An argument of an op, or a shape, with the sizes that it has with so many rows."""
    if isinstance(value, RowCount):
        return value.at(rows)
    if isinstance(value, list):
        return [at_rows(item, rows) for item in cast("list[Any]", value)]
    if isinstance(value, tuple):
        return tuple(at_rows(item, rows) for item in cast("tuple[Any, ...]", value))
    if isinstance(value, dict):
        return {key: at_rows(item, rows) for key, item in cast("dict[Any, Any]", value).items()}
    return value


def row_counts(value: Any) -> list[RowCount]:
    """The sizes that grow in an argument or a shape, in order."""
    if isinstance(value, RowCount):
        return [value]
    if isinstance(value, dict):
        value = list(cast("dict[Any, Any]", value).values())
    if isinstance(value, list | tuple):
        return [one for item in cast("list[Any]", value) for one in row_counts(item)]
    return []


def growth_of(plan: Plan) -> Growth:
    """How the values of a plan grow."""
    return {
        value: tuple(dim.growth if isinstance(dim, RowCount) else 0 for dim in spec.shape)
        for value, spec in plan.values.items()
        if row_counts(spec.shape)
    }


def plain_plan(plan: Plan) -> Plan:
    """The plan with plain numbers: for the most rows."""

    def plain(spec: TensorSpec) -> TensorSpec:
        dims = (int(dim) if isinstance(dim, int) else dim for dim in spec.shape)
        return TensorSpec(spec.dtype, tuple(dims))

    def segment(info: SegmentInfo) -> SegmentInfo:
        inputs = tuple((name, plain(spec)) for name, spec in info.inputs)
        outputs = tuple((name, plain(spec)) for name, spec in info.outputs)
        return replace(info, inputs=inputs, outputs=outputs)

    return replace(
        plan,
        values={value: plain(spec) for value, spec in plan.values.items()},
        segments={name: segment(info) for name, info in plan.segments.items()},
    )
