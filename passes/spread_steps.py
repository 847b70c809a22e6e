"""Give what depends on the step only a row for each request, so that requests at different steps
can share a loop's body.

Every step of a loop is the same body with its own rows of the tables. Where the body serves several
requests at once, a table's row is broadcast over all of them: ``x * weight[step]``. This pass makes
it ``x * weight[step, :, None]`` with a row for each request. A run as ever gives all rows the same
step, so the program means what it meant; what serves requests step by step
(:mod:`partitioner.runtime.scheduling.stepping`) gives each row its own.

1. The rows of the body's values are followed from its inputs (:mod:`partitioner.passes.rows`). A
   guidance batch holds the requests' rows several times, block after block.
2. What depends on the step only becomes tables where other nodes read it.
3. Where an op broadcasts such a value over the rows, the table gets them; where the value has rows
   already, it is taken as it is; anything else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import fx

from partitioner.errors import UsageError
from partitioner.interpreter import run_graph
from partitioner.passes.base import Pass
from partitioner.passes.dependence import Depends, LoopSite, dependences, loop_sites
from partitioner.passes.frontier import Choice
from partitioner.passes.lifting import add_slices, lengthened, step_graph, table_name
from partitioner.passes.notes import note
from partitioner.passes.ops import op_name, shape_of
from partitioner.passes.rows import row_operands
from partitioner.program import Program, TensorType, add_node, node_type

__all__ = ["SpreadSteps", "row_dims"]


# --- rows ---------------------------------------------------------------------------------------


def row_dims(
    body: fx.Graph, flags: dict[fx.Node, Depends], rows: int
) -> dict[fx.Node, tuple[int, int]]:
    """The dimension with the requests' rows, and how many blocks of them it holds.

    Inputs of the body that requests bring have them in dimension 0. Values of which it is not
    known, and those that no request decides, are not named.
    """
    found: dict[fx.Node, tuple[int, int]] = {}
    for node in body.nodes:
        if node.op == "output" or not flags[node] & (Depends.CARRY | Depends.REQUEST):
            continue
        if node.op == "placeholder":
            shape = shape_of(node)
            dim = 0 if shape and shape[0] % rows == 0 else None
        else:
            dim = _row_dim(node, found)
        if dim is not None and shape_of(node)[dim] % rows == 0:
            found[node] = dim, shape_of(node)[dim] // rows
    return found


def _row_dim(node: fx.Node, found: dict[fx.Node, tuple[int, int]]) -> int | None:
    brought = [operand for operand in node.all_input_nodes if operand in found]
    for dim in range(len(shape_of(node))):
        operands = row_operands(node, dim)
        if operands is None:
            operands = _blocks(node, dim)
        if brought and all(operands.get(one) == found[one][0] for one in brought):
            return dim
    return None


def _blocks(node: fx.Node, dim: int) -> dict[fx.Node, int]:
    """Operands of ops that put blocks of rows together, or take some of them."""
    name, rank = op_name(node), len(shape_of(node))
    places = {"cat": 1, "slice": 1, "split": 2, "chunk": 2, "split_with_sizes": 2}
    if name not in places:
        return {}
    along = node.args[places[name]] if len(node.args) > places[name] else node.kwargs.get("dim", 0)
    return dict.fromkeys(node.all_input_nodes, dim) if cast(int, along) % rank == dim else {}


# --- values of the step -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Use:
    """Where a value of the step meets values of requests.

    Args:
        value: a node of the body.
        user: that reads it beside them.
        shape: that the value gets.
        dim: its dimension with rows.
        blocks: how often the user needs all rows of it, one after the other.
    """

    value: fx.Node
    user: fx.Node
    shape: tuple[int, ...]
    dim: int
    blocks: int

    @property
    def is_there(self) -> bool:
        """Whether the body is given the value in this form already."""
        return self.value.op == "placeholder" and shape_of(self.value) == self.shape


def _uses(body: fx.Graph, flags: dict[fx.Node, Depends], rows: int) -> Iterator[_Use]:
    dims = row_dims(body, flags, rows)
    for value in body.nodes:
        if value.op == "output" or flags[value] != Depends.STEP:
            continue
        for user in value.users:
            if user.op == "output" or flags[user] != Depends.STEP:
                yield _use(value, user, dims, rows)


def _use(value: fx.Node, user: fx.Node, dims: dict[fx.Node, tuple[int, int]], rows: int) -> _Use:
    if user not in dims:
        raise _refusal(value, user, "it is not known how that treats the requests' rows")
    dim, blocks = dims[user]
    shape = shape_of(value)
    place = (row_operands(user, dim) or {}).get(value)
    if place is not None and shape[place] > 1:
        return _Use(value, user, shape, place, 1)
    target = user.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.pointwise not in target.tags:
        if place is not None:
            return _Use(value, user, shape, place, 1)
        raise _refusal(value, user, "that takes one value for all rows")
    aligned = (*[1] * (len(shape_of(user)) - len(shape)), *shape)
    if aligned[dim] != 1:
        raise _refusal(value, user, "its own dimensions stand where the rows do")
    spread = (*aligned[:dim], rows, *aligned[dim + 1 :])
    return _Use(value, user, spread, dim, blocks if rows > 1 else 1)


def _refusal(value: fx.Node, user: fx.Node, why: str) -> UsageError:
    return UsageError(
        f"requests at different steps cannot share a call: {value.name!r} depends on the step and "
        f"is read by {op_name(user) or user.op!r}, and {why}",
        where=user.meta.get("source") or None,
        advice="give the pipeline's timesteps a row for each request (t.expand(x.shape[0])), or "
        "build without --step-batching: requests then share calls from the first step on",
    )


def _check_carried(site: LoopSite, dims: dict[fx.Node, tuple[int, int]]) -> None:
    """Rows must be followed to the end, and be one block: then they are the requests' own."""
    nexts = cast("tuple[fx.Node, ...]", site.body.output_node().args[0])[: site.carries]
    for carry, following in zip(site.inner, nexts, strict=False):
        if dims.get(carry) != (0, 1) or dims.get(following) != (0, 1):
            raise UsageError(
                "requests at different steps cannot share a call: the rows of what the loop "
                f"carries as {carry.name!r} cannot be followed through its body",
                where=following.meta.get("source") or None,
                advice="keep a row for each request in dimension 0, or build without "
                "--step-batching",
            )


# --- the change ---------------------------------------------------------------------------------


def _tables(
    program: Program, site: LoopSite, values: Sequence[fx.Node]
) -> dict[fx.Node, torch.Tensor]:
    """The values of all trips, stacked."""
    given = dict(zip(site.inner, site.given, strict=True))
    tables = {n: program.constants[cast(str, given[n].target)] for n in values if n in given}
    made = [node for node in values if node not in given]
    if not made:
        return tables
    graph, read = step_graph(site, Choice(_made_of(site.body, made), made))
    sources = [program.constants[cast(str, given[node].target)] for node in read]
    step = Program(main=graph, graphs=program.graphs, constants=program.constants)
    trips = [
        run_graph(step, "main", [source[trip] for source in sources]) for trip in range(site.trips)
    ]
    length = max(len(source) for source in sources)
    for node, column in zip(made, zip(*trips, strict=True), strict=True):
        tables[node] = lengthened(torch.stack(column), length)
    return tables


def _made_of(body: fx.Graph, values: Sequence[fx.Node]) -> list[fx.Node]:
    found, open_ = set[fx.Node](), list(values)
    while open_:
        node = open_.pop()
        if node not in found and node.op == "call_function":
            found.add(node)
            open_ += node.all_input_nodes
    return [node for node in body.nodes if node in found]


def _spread(program: Program, site: LoopSite, uses: Sequence[_Use]) -> None:
    tables = _tables(program, site, list(dict.fromkeys(use.value for use in uses)))
    slices: dict[tuple[fx.Node, tuple[int, ...]], fx.Node] = {}
    for use in uses:
        key = use.value, use.shape
        if key not in slices:
            slices[key] = _add_slice(program, site, use, tables[use.value])
        use.user.replace_input_with(use.value, _repeated(site.body, slices[key], use))


def _add_slice(program: Program, site: LoopSite, use: _Use, table: torch.Tensor) -> fx.Node:
    """Give the body a row of a table in the shape of a use; the body's node for it."""
    like, length = use.value, len(table)
    one = list(use.shape)
    one[use.dim] = 1
    alike = table.numel() == length * math.prod(one)
    spread = table.reshape(length, *one).expand(length, *use.shape) if alike else table
    name = program.add_constant(f"{table_name(program, like)}.spread", spread.contiguous())
    with site.graph.inserting_before(site.node):
        type_ = TensorType.of(program.constants[name])
        stacked = add_node(site.graph, "get_attr", name, type=type_, like=like)
    inner = TensorType(use.shape, table.dtype)
    with site.body.inserting_after(site.inner[-1]):
        stand_in = add_node(site.body, "get_attr", name, type=inner, like=like)
    add_slices(site, [(stacked, stand_in)])
    site.body.erase_node(stand_in)
    return site.inner[site.carries + site.slices - 1]


def _repeated(body: fx.Graph, slice_: fx.Node, use: _Use) -> fx.Node:
    if use.blocks == 1:
        return slice_
    shape = list(use.shape)
    shape[use.dim] *= use.blocks
    with body.inserting_before(use.user):
        return add_node(
            body,
            "call_function",
            torch.ops.aten.cat.default,
            ([slice_] * use.blocks, use.dim),
            type=TensorType(tuple(shape), node_type(slice_).dtype),
            like=use.user,
        )


@dataclass(frozen=True)
class SpreadSteps(Pass):
    """Give the tables of loops a row for each request.

    Args:
        rows: requests that the program serves at once; 0 to leave it alone.
    """

    rows: int = 0

    name: ClassVar[str] = "spread-steps"
    tolerance: ClassVar[float] = 0.0

    def apply(self, program: Program) -> bool:
        changed = False
        for site in loop_sites(program) if self.rows else ():
            flags = dependences(program, site)
            _check_carried(site, row_dims(site.body, flags, self.rows))
            uses = [u for u in _uses(site.body, flags, self.rows) if not u.is_there]
            if uses:
                _spread(program, site, uses)
                values = len({use.value for use in uses})
                note(f"loop {site.node.args[0]!r}: {values} tables have a row for each request")
                changed = True
        return changed
