"""Run a program, or one graph of it, eagerly with torch.

This is the reference that passes and segments are checked against, so it is as plain as can be:
nodes in order, each called as torch would, values dropped after their last use.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.errors import ProgramError
from partitioner.program import Program, call, host, loop, operands

__all__ = ["Watcher", "run_graph", "run_nodes", "run_program"]

#: Called with (graph name, trip of the loop or None, node, value) after each node.
Watcher = Callable[[str, int | None, fx.Node, Any], None]


def run_program(
    program: Program, inputs: Mapping[str, torch.Tensor], *, watch: Watcher | None = None
) -> dict[str, torch.Tensor]:
    """Run the whole program.

    Args:
        inputs: a tensor for each placeholder of the main graph, draws included, by name.
        watch: called after each node.

    Returns:
        output name -> tensor.

    Raises:
        ProgramError: an input is missing, or an op fails; the message has the source line.
    """
    names = [n.target for n in program.main.nodes if n.op == "placeholder"]
    missing = [name for name in names if name not in inputs]
    if missing:
        raise ProgramError(f"the program needs values for {missing}")
    values = run_graph(program, "main", [inputs[name] for name in names], watch=watch)
    return dict(zip(program.outputs, values, strict=True))


@torch.no_grad()
def run_graph(
    program: Program,
    name: str,
    args: Sequence[torch.Tensor],
    *,
    trip: int | None = None,
    watch: Watcher | None = None,
) -> tuple[torch.Tensor, ...]:
    """Run one graph of a program on its placeholders' values, in order."""
    graph = program.main if name == "main" else program.graphs[name]
    last_use = _last_uses(graph)
    env: dict[fx.Node, Any] = {}
    feed = iter(args)
    for node in graph.nodes:
        if node.op == "output":
            return tuple(env[n] for n in cast("tuple[fx.Node, ...]", node.args[0]))
        env[node] = _run_node(program, node, env, feed, trip, watch)
        if watch is not None:
            watch(name, trip, node, env[node])
        for dead in last_use.get(node, ()):
            del env[dead]
    raise ProgramError(f"graph {name!r} has no output")


@torch.no_grad()
def run_nodes(
    graph: fx.Graph, constants: Mapping[str, torch.Tensor], args: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Run a graph without structural ops on its placeholders' values, in order."""
    program = Program(main=graph, constants=dict(constants))
    return run_graph(program, "main", args)


def _run_node(
    program: Program,
    node: fx.Node,
    env: dict[fx.Node, Any],
    feed: Any,
    trip: int | None,
    watch: Watcher | None,
) -> Any:
    if node.op == "placeholder":
        return next(feed)
    if node.op == "get_attr":
        return program.constants[cast(str, node.target)]
    if node.target is call:
        args = [env[n] for n in operands(node)]
        return run_graph(program, cast(str, node.args[0]), args, trip=trip, watch=watch)
    if node.target is loop:
        return _run_loop(program, node, [env[n] for n in operands(node)], watch)
    if node.target is host:
        return _run_host(program, node, [env[n] for n in operands(node)])
    if node.target is operator.getitem:
        return env[cast(fx.Node, node.args[0])][cast(int, node.args[1])]
    try:
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: env[n])
        return cast("Callable[..., Any]", node.target)(*args, **kwargs)
    except Exception as error:
        raise ProgramError(
            f"{node.name} = {node.target} failed: {error}", where=node.meta.get("source")
        ) from error


def _run_loop(
    program: Program, node: fx.Node, args: list[torch.Tensor], watch: Watcher | None
) -> tuple[torch.Tensor, ...]:
    body, _, trips, carries, slices = cast("tuple[str, Any, int, int, int]", node.args)
    carried = args[:carries]
    stacked, invariants = args[carries : carries + slices], args[carries + slices :]
    collected: list[list[torch.Tensor]] = []
    for trip in range(trips):
        rows = [value[trip] for value in stacked]
        results = run_graph(program, body, [*carried, *rows, *invariants], trip=trip, watch=watch)
        carried = list(results[:carries])
        collected.append(list(results[carries:]))
    return (*carried, *(torch.stack(column) for column in zip(*collected, strict=True)))


def _run_host(program: Program, node: fx.Node, args: list[torch.Tensor]) -> tuple[Any, ...]:
    name, _, options = cast("tuple[str, Any, dict[str, Any]]", node.args)
    op = program.host_ops[name]
    results = op.run(*[value.detach().cpu().numpy() for value in args], **options)
    return tuple(torch.from_numpy(results[key]) for key in op.outputs)


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    seen: set[fx.Node] = set()
    last: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(graph.nodes):
        # An unused node is its own last use.
        for operand in (*node.all_input_nodes, node):
            if operand not in seen and node.op != "output":
                last.setdefault(node, []).append(operand)
            seen.add(operand)
    return last
