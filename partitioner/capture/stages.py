"""The export of stages: one module for the types of one call's arguments."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from partitioner.capture.sources import line_of_error
from partitioner.capture.stage_graphs import Converter, StageGraph
from partitioner.capture.structure import register_dataclasses
from partitioner.errors import CaptureError
from partitioner.torchexport import ops_listed_once

__all__ = ["export_stage"]


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
    return Converter(exported, path, name).convert()


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
