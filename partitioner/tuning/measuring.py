"""Seconds of pieces on backends, on this machine.

A piece is compiled by each backend as a segment would be, loaded, and run on random numbers; the
backends take turns, so that a machine that gets slower for a while is slower for all of them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from partitioner.artifacts.manifest import ConstantRef
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends import find_backend
from partitioner.backends.base import CompileOptions
from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable
from partitioner.errors import BackendError
from partitioner.planning.cuts import info_of
from partitioner.planning.segments import Part, Segment, make_segment
from partitioner.specs import TensorSpec
from partitioner.weights import lay_out

__all__ = ["Measured", "Workbench", "timed"]

Array = npt.NDArray[Any]

#: At least so many runs and so many seconds of each, and no more runs than that.
_RUNS, _SECONDS, _MOST = 5, 0.3, 100

#: Rest between two backends: threads of the one that ran spin for some time.
_PAUSE_S = 0.005


@dataclass(frozen=True)
class Measured:
    """What a piece takes on one backend.

    Attributes:
        seconds: the median of its runs; None if the backend could not compile or run it.
        failure: why not.
        limited: whether it was compiled as it was for want of time or memory.
    """

    seconds: float | None
    failure: str = ""
    limited: bool = False


@dataclass
class Workbench:
    """Compiles and times pieces in a folder of its own.

    Args:
        options: how pieces are compiled; its folders are not used.
    """

    constants: Mapping[str, torch.Tensor]
    writer: BundleWriter
    folder: Path
    options: CompileOptions
    device: DeviceOptions = field(default_factory=lambda: DeviceOptions(cache=False))
    _compilers: dict[str, Any] = field(default_factory=dict[str, Any])
    _layout: dict[str, ConstantRef] = field(default_factory=dict[str, ConstantRef])

    def measure(self, part: Part, backends: Sequence[str]) -> dict[str, Measured]:
        """The seconds of a piece on each of these backends."""
        loaded: dict[str, Executable] = {}
        limited: dict[str, bool] = {}
        results: dict[str, Measured] = {}
        try:
            for name in backends:
                try:
                    segment = make_segment("piece", part)
                    loaded[name], limited[name] = self._load(segment, name)
                    loaded[name](*_inputs(loaded[name]))
                except BackendError as error:
                    results[name] = Measured(None, error.what)
                    if name in loaded:
                        loaded.pop(name).close()
            seconds = timed(loaded)
            return results | {n: Measured(s, limited=limited[n]) for n, s in seconds.items()}
        finally:
            for executable in loaded.values():
                executable.close()

    def _load(self, segment: Segment, backend: str) -> tuple[Executable, bool]:
        """A piece, ready to run, and whether limits made it what it is."""
        segment = replace(segment, backend=backend)
        compiler = self._compiler(backend)
        outside = compiler.outside(segment, self.constants) - self._layout.keys()
        self._layout |= lay_out(self.constants, outside, self.writer)
        workdir = Path(tempfile.mkdtemp(dir=self.folder))
        options = replace(
            self.options, workdir=workdir, blobs_dir=self.writer.blobs_dir, tune=False
        )
        compiled = compiler.compile(segment, self.constants, self._layout, options)
        files = ArtifactFiles(
            graph=compiled.graph,
            blobs_dir=self.writer.blobs_dir,
            weights=compiled.weight_files(self.writer.blob_path),
            options=compiled.options,
            info=info_of(segment),
        )
        executable = find_backend(backend).make_executor().load(files, self.device)
        return executable, compiled.limited

    def _compiler(self, backend: str) -> Any:
        if backend not in self._compilers:
            self._compilers[backend] = find_backend(backend).make_compiler()
        return self._compilers[backend]


def _inputs(executable: Executable) -> list[Array]:
    return [_numbers(spec) for _, spec in executable.inputs]


def _numbers(spec: TensorSpec) -> Array:
    """Numbers that every op takes: whole ones are 0, since they may be places in a table."""
    shape = tuple(d for d in spec.shape if isinstance(d, int))
    if spec.dtype.startswith("float"):
        return np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)
    return np.zeros(shape, spec.dtype)


def timed(loaded: Mapping[str, Executable]) -> dict[str, float]:
    """Seconds of a call of each, the median of several; they are run in turn on random numbers.

    Raises:
        BackendError: one of them fails.
    """
    calls = {name: (executable.bind(), executable) for name, executable in loaded.items()}
    kept: list[list[Array]] = []
    for call, executable in calls.values():
        kept.append(_inputs(executable))
        for index, array in enumerate(kept[-1]):
            call.set_input(index, array)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    while any(_wants_more(own) for own in seconds.values()):
        for name, (call, _) in calls.items():
            time.sleep(_PAUSE_S)
            start = time.perf_counter()
            call.run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in seconds.items()}


def _wants_more(seconds: Sequence[float]) -> bool:
    return len(seconds) < _RUNS or (sum(seconds) < _SECONDS and len(seconds) < _MOST)
