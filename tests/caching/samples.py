"""A small segment made by hand, each thing about it by an argument, and what lies around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from partitioner.artifacts.manifest import ConstantRef
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends.base import CacheFacts, CompileOptions
from partitioner.caching.canonical import Canonical, canonical
from partitioner.caching.keys import Key
from partitioner.caching.segment_key import segment_key
from partitioner.planning.segments import Segment
from partitioner.program import TensorType, add_node
from partitioner.weights import lay_out

aten = torch.ops.aten

WEIGHT = torch.linspace(-1, 1, 32 * 16).reshape(32, 16)
FACTS = CacheFacts({"tool": "1"}, {"precision": "f32"}, {"name": "cpu"})
PLACE = ConstantRef(f"sha256:{'a' * 64}", 0, WEIGHT.nbytes)


@dataclass(frozen=True)
class Sample:
    """(x @ weight - y) * scale, and how it is called here."""

    rows: int = 2
    swapped: bool = False
    second: Any = aten.mul.Tensor
    scale: float = 2.0
    number: float = 1.0
    prefix: str = "v"
    operands: int = 2
    source: str = "model.py:3 in forward"
    stage: str = "stage"

    def segment(self, backend: str = "onnx") -> Segment:
        graph = fx.Graph()
        like: dict[str, Any] = {"source": self.source}
        names = [f"{self.prefix}_{letter}" for letter in "xyabc"]
        wide, out = (
            TensorType((self.rows, 32), torch.float32),
            TensorType((self.rows, 16), torch.float32),
        )
        x, y = (
            add_node(graph, "placeholder", name, type=type_, name=name, **like)
            for name, type_ in zip(names, (wide, out), strict=False)
        )
        weight = add_node(graph, "get_attr", f"{self.stage}.weight", type=TensorType.of(WEIGHT))
        scale = add_node(
            graph, "get_attr", f"{self.stage}.scale", type=TensorType((1,), torch.float32)
        )
        a = add_node(
            graph, "call_function", aten.mm.default, (x, weight), type=out, name=names[2], **like
        )
        pair = (y, a) if self.swapped else (a, y)
        b = add_node(
            graph,
            "call_function",
            aten.sub.Tensor,
            pair,
            {"alpha": self.number},
            type=out,
            name=names[3],
            **like,
        )
        c = add_node(
            graph,
            "call_function",
            self.second,
            (b, scale)[: self.operands],
            type=out,
            name=names[4],
            **like,
        )
        graph.output((c,))
        return Segment(
            "stage", backend, graph, (x.name, y.name), (c.name,), ("stage",), (self.source,)
        )

    def constants(self, weight: torch.Tensor = WEIGHT) -> dict[str, torch.Tensor]:
        return {
            f"{self.stage}.weight": weight,
            f"{self.stage}.scale": torch.tensor([self.scale]),
        }

    def form(self, place: ConstantRef = PLACE) -> Canonical:
        layout = {f"{self.stage}.weight": place}
        return canonical(self.segment(), self.constants(), layout, set(layout))

    def key(self, facts: CacheFacts = FACTS, place: ConstantRef = PLACE) -> Key:
        return segment_key(self.form(place), facts)


@dataclass
class Workplace:
    """Blobs and a folder for files, as a build has them."""

    writer: BundleWriter
    folder: Path
    count: int = 0

    def layout(self, constants: Mapping[str, torch.Tensor]) -> dict[str, ConstantRef]:
        """Only the weights lie in blobs."""
        return lay_out(constants, [n for n in constants if n.endswith("weight")], self.writer)

    def options(self) -> CompileOptions:
        """With a folder of its own for each compile."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        return CompileOptions(folder, self.writer.blobs_dir)


@contextmanager
def workplace(folder: Path) -> Iterator[Workplace]:
    with BundleWriter(folder / "never.bundle") as writer:
        yield Workplace(writer, folder)
