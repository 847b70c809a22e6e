"""How long planning takes by the number of nodes, in CPU seconds (it runs on one core).

``place_s`` are the verdicts, ``cut_s`` the cut of the main graph, ``plan_s`` all of ``make_plan``:
verdicts, cut, segments, steps, and the proof that the plan computes the program.

- ``tangled``: nodes read a recent and an older one and are scattered over two backends, with a host
  op every 1,000 nodes, so that there are many levels and wide borders;
- ``chain``: one backend, one segment;
- ``called``: a sub-graph of 1,000 nodes, called as often as it takes.

Run: python benchmarks/segmentation_scaling.py [--nodes 10000 30000 100000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import operator
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx

sys.path.insert(0, str(Path(__file__).parent.parent))

from partitioner.backends.base import Rejected, Supported, Verdict
from partitioner.hostops import host_op
from partitioner.planning.placement import place
from partitioner.planning.plan import make_plan
from partitioner.planning.segments import Part, cut_graph
from partitioner.program import Program, TensorType, add_node, call, host
from partitioner.specs import InputSpec, TensorSpec
from partitioner.targets import Target

TARGET = Target("two", ("first", "second", "host"), 1e-4, 1e-6, (), "two backends")
TYPE = TensorType((4,), torch.float32)


@host_op(outputs={"same": ("float32", (4,))}, name="benchmark.same")
def same(a: Any) -> Any:
    return a


class Judge:
    """Takes nodes whose source line is not its bane."""

    def __init__(self, bane: str) -> None:
        self.bane = bane

    def verdict(self, node: fx.Node, target: Target) -> Verdict:
        if node.meta["source"] == self.bane:
            return Rejected("op-unsupported", "not here", "")
        return Supported()


def program_of(graph: fx.Graph, last: fx.Node, **graphs: fx.Graph) -> Program:
    graph.output((last,))
    return Program(
        main=graph,
        graphs=graphs,
        inputs=(InputSpec("x", TensorSpec("float32", (4,))),),
        outputs=("y",),
        host_ops={"benchmark.same": same},
    )


def add(graph: fx.Graph, a: fx.Node, b: fx.Node, source: str = "", stage: str = "") -> fx.Node:
    return add_node(
        graph,
        "call_function",
        torch.ops.aten.add.Tensor,
        (a, b),
        type=TYPE,
        source=source,
        stage=stage,
    )


def item(graph: fx.Graph, node: fx.Node) -> fx.Node:
    return add_node(graph, "call_function", operator.getitem, (node, 0), type=TYPE)


def tangled(count: int) -> Program:
    """Runs of ops on either backend, a host op every 1,000 nodes."""
    graph, draw = fx.Graph(), random.Random(0)
    nodes = [add_node(graph, "placeholder", "x", type=TYPE, name="x")]
    source = ""
    for index in range(count):
        if draw.random() < 0.02:
            source = draw.choice(["", "second"])
        if index % 1000 == 999:
            node = add_node(
                graph,
                "call_function",
                host,
                ("benchmark.same", (nodes[-1],), {}),
                type=(TYPE,),
            )
            nodes.append(item(graph, node))
            continue
        older = nodes[draw.randrange(max(0, len(nodes) - 2000), len(nodes))]
        nodes.append(add(graph, nodes[-1], older, source, f"stage_{index // 5000}"))
    return program_of(graph, nodes[-1])


def chain(count: int) -> Program:
    graph = fx.Graph()
    node = add_node(graph, "placeholder", "x", type=TYPE, name="x")
    for _ in range(count):
        node = add(graph, node, node)
    return program_of(graph, node)


def called(count: int) -> Program:
    """A sub-graph of 1,000 nodes called ``count / 1000`` times, with an op between the calls."""
    body = fx.Graph()
    inner = add_node(body, "placeholder", "a", type=TYPE, name="a")
    for _ in range(1000):
        inner = add(body, inner, inner, stage="denoiser")
    body.output((inner,))
    graph = fx.Graph()
    node = add_node(graph, "placeholder", "x", type=TYPE, name="x")
    for _ in range(count // 1000):
        made = add_node(graph, "call_function", call, ("denoiser", (node,)), type=(TYPE,))
        node = add(graph, item(graph, made), node)
    return program_of(graph, node, denoiser=body)


def measure(kind: Callable[[int], Program], count: int) -> dict[str, float | int | str]:
    """CPU seconds for one size, the best of two runs."""
    judges = {"first": Judge("second"), "second": Judge("")}
    program = kind(count)
    row: dict[str, float | int | str] = {"graph": kind.__name__, "nodes": count}
    seconds: list[tuple[float, float, float]] = []
    for _ in range(2):
        start = time.process_time()
        placement = place(program, TARGET, judges)
        placed = time.process_time()
        parts = cut_graph(program.main, placement.backends)
        cut = time.process_time()
        planned = make_plan(program, TARGET, judges)
        end = time.process_time()
        seconds.append((placed - start, cut - placed, end - cut))
        row["parts"] = sum(isinstance(part, Part) for part in parts)
        row["segments"] = len(planned.segments)
        row["steps"] = len(planned.plan.steps)
    best = min(seconds, key=lambda s: s[2])
    row["place_s"], row["cut_s"], row["plan_s"] = (round(s, 3) for s in best)
    row["plan_us_per_node"] = round(best[2] / count * 1e6, 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(kind, n) for kind in (tangled, chain, called) for n in options.nodes]
    print("\t".join(rows[0]))
    for row in rows:
        print("\t".join(str(value) for value in row.values()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
