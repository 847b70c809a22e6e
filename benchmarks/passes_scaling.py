"""How long the passes of a build take by the number of nodes, and how that grows.

The program is what capture gives for a guided latent diffusion pipeline: glue that makes the
latents, a loop whose body doubles the batch, embeds the step and calls a denoiser, and a decoder.
The denoiser's blocks are those of a diffusion transformer (norm, modulation by the step's
embedding, self-attention, cross-attention to a condition, gated MLP), about 60 nodes each, with the
clones, casts and views that capture leaves. Tensors are tiny: passes look at nodes, not numbers.

For each pass the seconds at both sizes and the exponent of their growth (1 is linear); 50,000 nodes
are to take less than a minute in all. Exit code 1 if they take longer.

Run: python benchmarks/passes_scaling.py [--nodes 5000 50000] [--passes STRING] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from partitioner.passes.pipeline import DEFAULT, PassRecord, parse_pipeline, run_pipeline
from partitioner.program import (
    DrawOp,
    DrawSequence,
    Program,
    TensorType,
    add_node,
    call,
    loop,
)
from partitioner.specs import InputSpec
from partitioner.verifier import verify

aten = torch.ops.aten

#: What the largest size may take, in seconds.
LIMIT_S = 60.0

TRIPS, TOKENS, WIDTH = 10, 4, 8

#: Nodes of a block, about; the share of the nodes that stand in blocks of the denoiser.
BLOCK_NODES, BODY_SHARE = 62, 0.8


class Builder:
    """Appends ops to one graph; types come from running them on meta tensors."""

    def __init__(self, program: Program, graph: fx.Graph, stage: str) -> None:
        self.program, self.graph, self.stage = program, graph, stage
        self.count = 0

    def op(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        def empty(node: fx.Node) -> Any:
            return node.meta["type"].empty()

        meta_args, meta_kwargs = map_arg((args, kwargs), empty)
        result = target(*meta_args, **meta_kwargs)
        several = isinstance(result, list | tuple)
        types = tuple(map(TensorType.of, result)) if several else TensorType.of(result)
        return add_node(
            self.graph,
            "call_function",
            target,
            args,
            kwargs,
            type=types,
            stage=self.stage,
            source="model.py:1 in forward",
        )

    def items(self, node: fx.Node) -> list[fx.Node]:
        return [self.item(node, index) for index in range(len(node.meta["type"]))]

    def item(self, node: fx.Node, index: int) -> fx.Node:
        return add_node(
            self.graph,
            "call_function",
            operator.getitem,
            (node, index),
            type=node.meta["type"][index],
            like=node,
        )

    def weight(self, *shape: int) -> fx.Node:
        self.count += 1
        tensor = torch.randn(shape) / math.sqrt(shape[-1])
        name = self.program.add_constant(f"{self.stage}.weight_{self.count}", tensor)
        return add_node(self.graph, "get_attr", name, type=TensorType.of(tensor), stage=self.stage)

    def linear(self, x: fx.Node, out: int = WIDTH) -> fx.Node:
        width = x.meta["type"].shape[-1]
        return self.op(aten.linear.default, x, self.weight(out, width), self.weight(out))

    def placeholder(self, name: str, *shape: int) -> fx.Node:
        type_ = TensorType(shape, torch.float32)
        return add_node(self.graph, "placeholder", name, type=type_, name=name)


# --- the model ----------------------------------------------------------------------------------


def attention(b: Builder, x: fx.Node, context: fx.Node) -> fx.Node:
    heads = []
    for source in (x, context, context):
        projected = b.linear(source)
        split = b.op(aten.view.default, projected, [projected.meta["type"].shape[0], TOKENS, 2, -1])
        heads.append(b.op(aten.transpose.int, split, 1, 2))
    mixed = b.op(aten.scaled_dot_product_attention.default, *heads)
    turned = b.op(aten.clone.default, b.op(aten.transpose.int, mixed, 1, 2))
    joined = b.op(aten.view.default, turned, [turned.meta["type"].shape[0], TOKENS, WIDTH])
    return b.linear(joined)


def block(b: Builder, x: fx.Node, time: fx.Node, context: fx.Node) -> fx.Node:
    """A block of a diffusion transformer."""
    modulation = b.linear(b.op(aten.silu.default, time), 2 * WIDTH)
    scale, shift = b.items(b.op(aten.chunk.default, modulation, 2, -1))
    normed = b.op(aten.layer_norm.default, x, [WIDTH], b.weight(WIDTH), b.weight(WIDTH))
    one = b.op(aten.full.default, [1], 1.0)
    scaled = b.op(aten.mul.Tensor, normed, b.op(aten.add.Tensor, scale, one))
    modulated = b.op(aten.add.Tensor, scaled, b.op(aten.to.dtype, shift, torch.float32))
    x = b.op(aten.add.Tensor, x, attention(b, modulated, modulated))
    normed = b.op(aten.layer_norm.default, x, [WIDTH])
    x = b.op(aten.add.Tensor, x, attention(b, normed, context))
    hidden = b.op(aten.gelu.default, b.linear(x, 2 * WIDTH))
    return b.op(aten.add.Tensor, x, b.op(aten.dropout.default, b.linear(hidden), 0.1, False))


def denoiser(program: Program, blocks: int) -> str:
    """The sub-graph ``denoiser``: (x, t, context) -> prediction, for a batch of two."""
    b = Builder(program, fx.Graph(), "denoiser")
    x, t = b.placeholder("x", 2, TOKENS, WIDTH), b.placeholder("t", 1)
    context = b.placeholder("context", 2, TOKENS, WIDTH)
    frequencies = b.op(aten.exp.default, b.op(aten.arange.default, WIDTH))
    angles = b.op(aten.mul.Tensor, b.op(aten.reshape.default, t, [1, 1, 1]), frequencies)
    time = b.linear(b.op(aten.sin.default, angles))
    for _ in range(blocks):
        x = block(b, x, time, context)
    b.graph.output((x,))
    program.graphs["denoiser"] = b.graph
    return "denoiser"


def body(program: Program) -> str:
    """One step: guided prediction, and the sampler's arithmetic."""
    b = Builder(program, fx.Graph(), "")
    x, t = b.placeholder("x", 1, TOKENS, WIDTH), b.placeholder("t", 1)
    context = b.placeholder("context", 2, TOKENS, WIDTH)
    both = b.op(aten.cat.default, [x, x])
    result = TensorType((2, TOKENS, WIDTH), torch.float32)
    node = add_node(
        b.graph, "call_function", call, ("denoiser", (both, t, context)), type=(result,)
    )
    plain, guided = b.items(b.op(aten.chunk.default, b.item(node, 0), 2))
    difference = b.op(aten.mul.Tensor, b.op(aten.sub.Tensor, guided, plain), 2.0)
    step = b.op(aten.mul.Tensor, b.op(aten.add.Tensor, plain, difference), t)
    b.graph.output((b.op(aten.sub.Tensor, x, step),))
    program.graphs["body"] = b.graph
    return "body"


def diffusion(nodes: int) -> Program:
    """A program of about so many nodes."""
    torch.manual_seed(0)
    program = Program(main=fx.Graph())
    blocks = int(nodes * BODY_SHARE / BLOCK_NODES)
    denoiser(program, blocks)
    body(program)
    b = Builder(program, program.main, "encoder")
    condition = b.placeholder("condition", 2, TOKENS, WIDTH)
    noise = b.placeholder("noise_1", 1, TOKENS, WIDTH)
    context, time = condition, b.weight(1, 1, WIDTH)
    others = int(nodes * (1 - BODY_SHARE) / BLOCK_NODES) // 2
    for _ in range(others):
        context = block(b, context, time, context)
    table = program.add_constant("times", torch.linspace(1, 0, TRIPS).reshape(TRIPS, 1))
    times = add_node(b.graph, "get_attr", table, type=TensorType((TRIPS, 1), torch.float32))
    node = add_node(
        b.graph,
        "call_function",
        loop,
        ("body", (noise, times, context), TRIPS, 1, 1),
        type=(noise.meta["type"],),
    )
    x = b.item(node, 0)
    b.stage = "decoder"
    for _ in range(others):
        x = block(b, x, time, x)
    b.graph.output((x,))
    program.inputs = (InputSpec("condition", condition.meta["type"].spec),)
    program.outputs = ("picture",)
    program.draws = (DrawSequence(1, (DrawOp("noise_1", "normal", (0.0, 1.0)),)),)
    verify(program)
    return program


# --- the benchmark ------------------------------------------------------------------------------


def measured(nodes: int, passes: str) -> tuple[int, float, list[PassRecord]]:
    """The exact number of nodes, the seconds in all, and the records."""
    program = diffusion(nodes)
    count = sum(len(graph.nodes) for _, graph in program.all_graphs())
    start = time.perf_counter()
    _, records = run_pipeline(program, parse_pipeline(passes))
    return count, time.perf_counter() - start, records


def exponent(few: int, many: int, before: float, after: float) -> float:
    """p where seconds grow as nodes to the p."""
    return math.log(after / before) / math.log(many / few)


def report(sizes: Sequence[int], passes: str) -> dict[str, Any]:
    (few, small_s, small), (many, large_s, large) = (measured(n, passes) for n in sizes)
    rows = [
        {
            "pass": a.name,
            "seconds": [a.seconds, z.seconds],
            "exponent": exponent(few, many, a.seconds, z.seconds),
            "nodes_after": [a.nodes_after, z.nodes_after],
        }
        for a, z in zip(small, large, strict=True)
    ]
    total = {"seconds": [small_s, large_s], "exponent": exponent(few, many, small_s, large_s)}
    return {"nodes": [few, many], "passes": rows, "total": total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs=2, default=[5_000, 50_000])
    parser.add_argument("--passes", default=DEFAULT)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = report(given.nodes, given.passes)
    few, many = found["nodes"]
    print(f"{'pass':<20} {few:>10} {many:>10}   seconds, exponent, nodes after")
    for row in [*found["passes"], {"pass": "in all", **found["total"]}]:
        small, large = row["seconds"]
        after = row.get("nodes_after", ["", ""])[1]
        print(f"{row['pass']:<20} {small:>10.3f} {large:>10.3f} {row['exponent']:>6.2f} {after:>7}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))
    sys.exit(int(found["total"]["seconds"][1] > LIMIT_S))


if __name__ == "__main__":
    main()
