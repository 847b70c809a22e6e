"""Segments to Neuron: written down in a form that can be compiled anywhere, then traced in a
process of its own. The second half may come later, on another machine: see ``partition compile``.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from partitioner.artifacts.codec import encode
from partitioner.artifacts.digest import hex_of
from partitioner.backends.base import CacheFacts, Compiled, CompileOptions, Resources, Verdict
from partitioner.backends.execution import place_of
from partitioner.backends.facts import SHARED, code_digest, versions_of
from partitioner.backends.graphs import identifier
from partitioner.backends.lifting import lifted_bytes, lifted_names
from partitioner.backends.neuron.devices import find_devices
from partitioner.backends.neuron.portable import write_portable
from partitioner.backends.neuron.record import (
    ARCHIVE_TYPE,
    PORTABLE_TYPE,
    Deferred,
    read_deferred,
)
from partitioner.backends.neuron.sdk import require_trace, versions
from partitioner.backends.neuron.settings import Settings, lnc_of, read_settings
from partitioner.backends.neuron.support import verdict
from partitioner.backends.neuron.weighing import Way, weighed
from partitioner.backends.worker import run_job
from partitioner.errors import BackendError
from partitioner.plan import SegmentInfo
from partitioner.planning.cuts import info_of

if TYPE_CHECKING:
    from partitioner.planning.segments import Segment
    from partitioner.targets import Target
    from partitioner.weights import Layout

__all__ = ["NeuronCompiler"]

#: What a signal that ends the tracing process means here.
_ADVICE: dict[int, str] = {
    signal.SIGKILL: "compile on a machine with more memory (SDXL needs 128 GiB), or split the "
    "stage",
    signal.SIGSEGV: "torch-neuronx 2.9 crashes on some models while it traces them: try 2.8, or "
    "give the stage to another backend (--place)",
}


class NeuronCompiler:
    """The backend ``neuron`` at build time."""

    name = "neuron"

    def verdict(self, node: fx.Node, target: Target) -> Verdict:
        """See :func:`partitioner.backends.neuron.support.verdict`."""
        return verdict(node, target)

    def outside(self, segment: Segment, constants: Mapping[str, torch.Tensor]) -> set[str]:
        """The constants of a segment that must lie in blobs."""
        return lifted_names(segment, constants)

    def resources(
        self, segment: Segment, constants: Mapping[str, torch.Tensor], options: CompileOptions
    ) -> Resources:
        """By a bound of our own: SDXL's denoiser, 10 GB of weights, is said to need 128 GiB."""
        if options.defer:
            return Resources(1.0, 2**30)
        return Resources(4.0, 8 * 2**30 + 12 * lifted_bytes(segment, constants))

    def cache_facts(self, segment: Segment, target: Target, options: CompileOptions) -> CacheFacts:
        """The weights are in the artifact; settings may differ by stage, and so does the model.

        Raises:
            UsageError: a setting that there is none of.
        """
        code = code_digest("partitioner.backends.neuron", *SHARED)
        settings = _settings(segment, options)
        # What was measured holds for the devices that it was measured on.
        here = asdict(find_devices()) if settings.weights == "measured" else None
        return CacheFacts(
            {**versions_of("torch"), **versions(), "code": code},
            {
                "settings": encode(settings),
                "stages": list(segment.stages),
                "precision": options.precision,
                "deferred": options.defer,
            },
            {"family": target.family or target.name, "devices": here},
            limited=settings.weights == "measured",
        )

    def compile(
        self,
        segment: Segment,
        constants: Mapping[str, torch.Tensor],
        layout: Layout,
        options: CompileOptions,
    ) -> Compiled:
        """Compile one segment, or write down what is needed to do so later.

        Raises:
            CompileError: the tracer or neuronx-cc refuses it, crashes, or runs out of time or
                memory.
            MissingDependencyError: torch-neuronx is not here, or is one without ``trace``.
            UsageError: a setting that there is none of, or that the target does not have.
        """
        if options.target is None:
            raise BackendError("a segment is compiled for Neuron without saying for which target")
        family = options.target.family or options.target.name
        settings = _settings(segment, options)
        lnc_of(settings, family)
        deferred = Deferred(family, settings, "bf16" if options.precision == "bf16" else "f32")
        job = options.workdir / f"{identifier(segment.name)}.neuron"
        job.mkdir(parents=True)
        graph = job / "portable.json"
        weights = write_portable(segment, constants, layout, graph)
        if options.defer:
            return Compiled(graph, weights, deferred.options(), media_type=PORTABLE_TYPE)
        paths = [options.blobs_dir / hex_of(digest) for digest in weights]
        return self.finish(graph, paths, deferred.options(), options, info_of(segment), job)

    def finish(
        self,
        graph: Path,
        weights: Sequence[Path],
        deferred: Mapping[str, Any],
        options: CompileOptions,
        info: SegmentInfo,
        job: Path,
    ) -> Compiled:
        """Compile what was written down.

        Args:
            graph, weights: a portable graph, and the blobs that it reads.
            deferred: how it is to be compiled: the options of the deferred artifact.
            options: limits and log.
            info: of the segment.
            job: an empty directory, or one with the portable graph in it.

        Raises:
            CompileError, MissingDependencyError: as :meth:`compile`.
        """
        require_trace()
        found = read_deferred(deferred, place_of(info))

        def compile_as(way: Way) -> Compiled:
            folder = job / way
            folder.mkdir()
            settings = replace(found.settings, weights=way)
            return _trace(graph, weights, replace(found, settings=settings), options, info, folder)

        if found.settings.weights == "measured":
            return weighed(compile_as, info)
        return _trace(graph, weights, found, options, info, job)


def _settings(segment: Segment, options: CompileOptions) -> Settings:
    """What holds for a segment.

    Raises:
        UsageError: as :func:`read_settings`.
    """
    settings = read_settings(options.settings.get("neuron", {}), segment.stages)
    if options.tune and settings.weights == "auto":
        return replace(settings, weights="measured")
    return settings


def _trace(
    graph: Path,
    weights: Sequence[Path],
    deferred: Deferred,
    options: CompileOptions,
    info: SegmentInfo,
    job: Path,
) -> Compiled:
    """Trace in a process of its own, in the folder ``job``."""
    document = {
        "graph": str(graph),
        "weights": [str(path) for path in weights],
        "deferred": deferred.options(),
        "log": str(options.log or job / "log.txt"),
    }
    (job / "job.json").write_text(json.dumps(document))
    report = run_job(
        "partitioner.backends.neuron.trace:run",
        job,
        what=f"segment {info.name!r}",
        where=info.sources[0] if info.sources else None,
        **options.limits,
        advice=_ADVICE,
    )
    return Compiled(
        job / "model.pt", (), report["record"], report["report"], media_type=ARCHIVE_TYPE
    )
