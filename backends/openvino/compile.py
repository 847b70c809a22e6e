"""Segments to OpenVINO, at build time: convert, then find settings under which it runs.

Compilers crash. OpenVINO 2026.4 ends in a segmentation fault on two chained residual MLP blocks
of a few widths, for one (its tokeniser of MLPs for "snippets"). So what has been converted is
compiled and run once in a process of its own, with the settings of a ladder, one rung after the
other; a crash is an outcome like others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import fx

from partitioner.artifacts.digest import hex_of
from partitioner.backends.base import CacheFacts, Compiled, CompileOptions, Resources, Verdict
from partitioner.backends.facts import SHARED, code_digest, processor, versions_of
from partitioner.backends.graphs import identifier, to_json
from partitioner.backends.lifting import lifted_bytes, lifted_names
from partitioner.backends.openvino.ladder import climb
from partitioner.backends.openvino.quantise import quantise
from partitioner.backends.openvino.support import verdict
from partitioner.backends.worker import run_job
from partitioner.compression.static import StaticProduct

if TYPE_CHECKING:
    from partitioner.planning.segments import Segment
    from partitioner.targets import Target
    from partitioner.weights import Layout

__all__ = ["OpenvinoCompiler"]


class OpenvinoCompiler:
    """The backend ``openvino`` at build time."""

    name = "openvino"
    compresses = True

    def verdict(self, node: fx.Node, target: Target) -> Verdict:
        """See :func:`partitioner.backends.openvino.support.verdict`."""
        return verdict(node, target)

    def outside(self, segment: Segment, constants: Mapping[str, torch.Tensor]) -> set[str]:
        """The constants of a segment that must lie in blobs."""
        return lifted_names(segment, constants)

    def compile(
        self,
        segment: Segment,
        constants: Mapping[str, torch.Tensor],
        layout: Layout,
        options: CompileOptions,
    ) -> Compiled:
        """Convert one segment, and find settings under which it compiles and runs here.

        Raises:
            CompileError: it cannot be converted, or runs under none.
        """
        lifted = sorted(self.outside(segment, constants))
        weights = sorted({layout[name].blob for name in lifted})
        job = options.workdir / f"{identifier(segment.name)}.openvino"
        job.mkdir(parents=True)
        paths = [options.blobs_dir / hex_of(digest) for digest in weights]
        document = {
            "graph": to_json(segment.graph, constants, set(lifted)),
            "inputs": list(segment.inputs),
            "outputs": list(segment.outputs),
            "sizes": [path.stat().st_size for path in paths],
            "external": [
                [weights.index(layout[n].blob), layout[n].offset, layout[n].nbytes] for n in lifted
            ],
        }
        (job / "job.json").write_text(json.dumps(document))
        report = run_job(
            "partitioner.backends.openvino.convert:run",
            job,
            what=f"segment {segment.name!r}",
            where=segment.where,
            **options.limits,
        )
        graph, own = job / "model.xml", job / "constants.bin"
        constants_file = own if own.stat().st_size else None
        if constants_file is not None:
            paths.append(constants_file)
        found = climb(segment, graph, paths, job, options)
        return Compiled(
            graph,
            tuple(weights),
            found.options,
            {**report, "steps": found.steps},
            constants=constants_file,
            limited=found.limited,
        )

    def resources(
        self, segment: Segment, constants: Mapping[str, torch.Tensor], options: CompileOptions
    ) -> Resources:
        """A worker with its libraries; what was converted is loaded, packed and run."""
        return Resources(2.0, 2**30 + 3 * lifted_bytes(segment, constants))

    def cache_facts(self, segment: Segment, target: Target, options: CompileOptions) -> CacheFacts:
        """Settings hold for the processor on which they were tried, offsets for these blobs."""
        code = code_digest("partitioner.backends.openvino", *SHARED)
        return CacheFacts(
            {**versions_of("torch", "openvino"), "code": code},
            {"precision": options.precision},
            {"processor": processor()},
            limited=True,
        )

    def quantise(
        self,
        segment: Segment,
        constants: Mapping[str, torch.Tensor],
        calls: Sequence[Sequence[npt.NDArray[Any]]],
        options: CompileOptions,
        *,
        half_range: bool,
    ) -> dict[str, StaticProduct]:
        """See :func:`partitioner.backends.openvino.quantise.quantise`."""
        return quantise(segment, constants, calls, options, half_range=half_range)
