"""Compile parts of a segment again, and compare what they give with torch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from partitioner.artifacts.manifest import Tolerance
from partitioner.artifacts.writer import BundleWriter
from partitioner.backendoptions import BackendOptions
from partitioner.backends import find_backend
from partitioner.backends.base import CompileOptions, Compiler
from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable
from partitioner.planning.cuts import cut_after, info_of
from partitioner.planning.segments import Segment, run_segment
from partitioner.runtime.compare import Difference, compare_gists, gist_of
from partitioner.targets import Target
from partitioner.weights import Layout

__all__ = ["Recompiler", "WrongValue"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class WrongValue:
    """A node whose value is not torch's."""

    node: fx.Node
    difference: Difference


@dataclass
class Recompiler:
    """Compiles parts of segments into files of its own.

    Attributes:
        layout, writer: where the weights lie.
        folder: for files; removed by the caller.
        graph: the file that was compiled last.
        compiled: how many were.
        target: what is compiled for.
        precision, settings: as of :class:`CompileOptions`.
    """

    compiler: Compiler
    constants: Mapping[str, torch.Tensor]
    layout: Layout
    writer: BundleWriter
    folder: Path
    graph: Path | None = None
    compiled: int = 0
    target: Target | None = None
    precision: str = "f32"
    settings: BackendOptions = field(default_factory=dict[str, Mapping[str, Any]])

    def first_wrong(
        self, segment: Segment, count: int, given: Mapping[str, Array], tolerance: Tolerance
    ) -> WrongValue | None:
        """Compile the first ``count`` ops; of the values that are read later, the first wrong one.

        Args:
            given: the segment's inputs by name.

        Raises:
            CompileError: the part cannot be compiled.
        """
        cut, crossing = cut_after(segment, count)
        inputs = [np.array(given[name]) for name in cut.inputs]
        expected = run_segment(cut, self.constants, [torch.from_numpy(a) for a in inputs])
        executable = self._compile(cut)
        try:
            actual = executable(*inputs)
        finally:
            executable.close()
        for node, want, have in zip(crossing, expected, actual, strict=True):
            difference = compare_gists(gist_of(want.numpy()), gist_of(have), tolerance)
            if not difference.ok:
                return WrongValue(node, difference)
        return None

    def _compile(self, segment: Segment) -> Executable:
        self.compiled += 1
        workdir = Path(tempfile.mkdtemp(dir=self.folder))
        options = CompileOptions(
            workdir,
            self.writer.blobs_dir,
            precision=self.precision,
            target=self.target,
            settings=self.settings,
        )
        compiled = self.compiler.compile(segment, self.constants, self.layout, options)
        self.graph = compiled.graph
        files = ArtifactFiles(
            graph=compiled.graph,
            blobs_dir=self.writer.blobs_dir,
            weights=compiled.weight_files(self.writer.blob_path),
            options=compiled.options,
            info=info_of(segment),
        )
        executor = find_backend(segment.backend).make_executor()
        return executor.load(files, DeviceOptions(memory="low", cache=False))
