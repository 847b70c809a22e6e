"""The HLO that Neuron's tracer would hand to neuronx-cc, by the same front end: torch_xla.

``torch_neuronx.trace`` moves a module to an XLA device, runs it, and takes the graph that was
recorded. torch_xla does so on the CPU, without Neuron's SDK; it goes with torch 2.9 only, so this
is run in an environment of its own (``make test-xla``).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from partitioner.backends.lifting import export_graph, lifted_module
from partitioner.program import TensorType

__all__ = ["Traced", "trace"]


@dataclass(frozen=True)
class Traced:
    """What came of a graph on the XLA device.

    Attributes:
        text: HLO.
        proto: the same as the protobuf that neuronx-cc reads.
        results: computed by XLA on the CPU.
    """

    text: str
    proto: bytes
    results: tuple[torch.Tensor, ...]


def trace(
    graph: fx.Graph, constants: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]
) -> Traced:
    """Record a segment's graph, and run it.

    Args:
        graph: written to.
        constants: by name; they are parameters of the HLO, as weights are for the tracer.
        inputs: in the order of the graph's placeholders.

    Raises:
        ImportError: torch_xla is not installed.
    """
    os.environ.setdefault("PJRT_DEVICE", "CPU")
    from torch.export.passes import move_to_device_pass

    names = dict.fromkeys(cast(str, n.target) for n in graph.nodes if n.op == "get_attr")
    lifted = {name: TensorType.of(constants[name]) for name in names}
    exported, _ = export_graph(lifted_module(graph, {}, lifted), graph)
    torch_xla: Any = importlib.import_module("torch_xla")
    device = torch_xla.device()
    moved: Any = move_to_device_pass(exported, str(device)).module()
    arguments = [*inputs, *(constants[name] for name in names)]
    with torch.no_grad():
        results = moved(*(tensor.detach().to(device) for tensor in arguments))
    bridge = torch_xla._XLAC
    text = bridge._get_xla_tensors_hlo(list(results))
    proto = bridge._get_xla_tensors_hlo_proto(list(results))
    return Traced(text, proto, tuple(one.cpu() for one in results))
