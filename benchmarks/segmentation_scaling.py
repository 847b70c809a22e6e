"""How long planning takes by the number of nodes, in CPU seconds (it runs on one core).

``place_s`` are verdicts, owners and levels, ``cut_s`` the parts of the main graph, ``plan_s`` all
of ``make_plan``: those two, segments, steps, and the proof that the plan computes the program.

- ``scattered``: products and sums for an accelerator that refuses 1 % of them, here and there, so
  that they fall back to the host;
- ``tangled``: nodes read a recent and an older one and are scattered over two backends, with a host
  op every 1,000 nodes, so that there are many levels and wide borders;
- ``chain``: one backend, one segment;
- ``called``: a sub-graph of 1,000 nodes, called as often as it takes.

For comparison, torch's CapabilityBasedPartitioner cuts ``scattered`` graphs of 1,000 to 4,000 nodes
by the same verdicts, in the same run.

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
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

sys.path.insert(0, str(Path(__file__).parent.parent))

from partitioner.backends.base import Rejected, Supported, Verdict
from partitioner.hostops import host_op
from partitioner.planning.placement import place
from partitioner.planning.plan import make_plan
from partitioner.planning.segments import Part, cut_graph
from partitioner.program import Program, TensorType, add_node, call, host
from partitioner.specs import InputSpec, TensorSpec
from partitioner.targets import Device, Target

DEVICES = (
    Device(
        "far", ("first",), 1, 1, 2**34, 4e11, {"float32": 2e13}, 1e12, {"first": 1e-4}, 1e10, 2e-5
    ),
    Device("cpu", ("second",), 4, 1, 2**34, 2e10, {"float32": 3e11}, 1e11, {"second": 1e-5}),
)
TARGET = Target("two", ("first", "second", "host"), 1e-4, 1e-6, (), "two backends", devices=DEVICES)
SIZE = 256
TYPE = TensorType((SIZE, SIZE), torch.float32)


@host_op(outputs={"same": ("float32", (SIZE, SIZE))}, name="benchmark.same")
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
        inputs=(InputSpec("x", TensorSpec("float32", (SIZE, SIZE))),),
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


def scattered(count: int) -> Program:
    """Products and sums in a stack with short cuts; 1 % are refused by the accelerator."""
    graph, draw = fx.Graph(), random.Random(0)
    nodes = [add_node(graph, "placeholder", "x", type=TYPE, name="x")]
    for index in range(count):
        source = "second" if draw.random() < 0.01 else ""
        older = nodes[draw.randrange(max(0, len(nodes) - 8), len(nodes))]
        target = torch.ops.aten.mm.default if index % 3 else torch.ops.aten.add.Tensor
        stage = f"stage_{index // 5000}"
        node = add_node(
            graph,
            "call_function",
            target,
            (nodes[-1], older),
            type=TYPE,
            source=source,
            stage=stage,
        )
        nodes.append(node)
    return program_of(graph, nodes[-1])


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
        parts = cut_graph(program.main, placement)
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


class _Support(OperatorSupportBase):
    """The verdicts of the accelerator, as torch asks for them."""

    def is_node_supported(self, submodules: Any, node: fx.Node) -> bool:
        return node.op == "call_function" and node.meta["source"] != "second"


def measure_torch(count: int) -> dict[str, float | int | str]:
    """CPU seconds of torch's partitioner on a scattered graph."""
    module = fx.GraphModule({}, scattered(count).main)
    start = time.process_time()
    partitions = CapabilityBasedPartitioner(module, _Support()).propose_partitions()
    seconds = time.process_time() - start
    ours = measure(scattered, count)
    return {
        "nodes": count,
        "torch_s": round(seconds, 3),
        "torch_partitions": len(partitions),
        "place_and_cut_s": round(float(ours["place_s"]) + float(ours["cut_s"]), 3),
        "parts": ours["parts"],
    }


def show(rows: list[dict[str, float | int | str]]) -> None:
    print("\t".join(rows[0]))
    for row in rows:
        print("\t".join(str(value) for value in row.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--torch-nodes", type=int, nargs="*", default=[1000, 2000, 4000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(kind, n) for kind in (scattered, tangled, chain, called) for n in options.nodes]
    show(rows)
    against = [measure_torch(count) for count in options.torch_nodes]
    show(against)
    if options.json:
        options.json.write_text(json.dumps({"ours": rows, "torch": against}, indent=2))


if __name__ == "__main__":
    main()
