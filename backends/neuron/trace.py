"""The tracing job: a portable graph in, a TorchScript archive with a NEFF in it out.

Runs in a process of its own (:mod:`partitioner.backends.worker`). Nothing of Neuron has been
imported there before: the libraries read the platform that they compile for when they are.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from partitioner.backends.neuron.archive import EmbeddedNeff, find_neff
from partitioner.backends.neuron.failures import COMPILING, explain
from partitioner.backends.neuron.module import (
    Traceable,
    example_inputs,
    kind_of,
    make_traceable,
)
from partitioner.backends.neuron.portable import Portable, read_portable
from partitioner.backends.neuron.record import Deferred, NeffFacts, Record, read_deferred
from partitioner.backends.neuron.sdk import Sdk, import_sdk, override_platform
from partitioner.backends.neuron.settings import (
    PLATFORMS,
    Settings,
    compiler_args,
    decided,
    lnc_of,
    warnings_of,
)
from partitioner.errors import CompileError, PartitionerError

__all__ = ["run"]

#: Warnings of the tracer after which its module is not the one that was asked for.
_FATAL = ("unknown", "unexpected keyword", "not a valid argument", "duplicate", "unused")

#: How much of a log is looked at for error codes.
_TAIL = 64 * 2**10


def run(directory: Path) -> dict[str, Any]:
    """The job: ``job.json`` in, ``model.pt`` out.

    Returns:
        ``record``, the options of the artifact, and ``report``, for people.

    Raises:
        CompileError: it cannot be compiled; says why and what to do, where that is known.
        MissingDependencyError: torch-neuronx is not here, or is one without ``trace``.
        BundleError: the portable graph is not as it should be.
    """
    job = json.loads((directory / "job.json").read_text())
    deferred = read_deferred(job["deferred"], job["graph"])
    log = Path(job["log"])
    start = log.stat().st_size if log.exists() else 0
    weights = [Path(path) for path in job["weights"]]
    portable = read_portable(Path(job["graph"]), weights, deferred.target)
    kind = kind_of(portable.graph)
    settings = decided(deferred.settings, kind, deferred.precision, portable.weight_bytes)
    traceable = make_traceable(portable.graph, portable.constants)
    override_platform(PLATFORMS[deferred.target])
    sdk = import_sdk()
    args = compiler_args(settings, deferred.target, sdk.versions.get("neuronx-cc", ""))
    try:
        said = _trace(sdk, traceable, settings, args, directory)
    except PartitionerError:
        raise
    except Exception as error:
        raise _failed(error, directory, log, start) from error
    neff = find_neff(directory / "model.pt")
    _check_made(neff, settings, deferred)
    notes = [*warnings_of(settings, deferred.target, portable.weight_bytes), *said]
    record = _record(sdk, traceable, settings, deferred, args, neff, notes)
    return {"record": record.options(), "report": _report(portable, settings, neff, notes)}


def _trace(
    sdk: Sdk, traceable: Traceable, settings: Settings, args: list[str], directory: Path
) -> list[str]:
    """Compile and save; gives what the tracer warned about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced = sdk.trace(
            traceable.module,
            example_inputs(traceable.arguments),
            compiler_args=args,
            workdir=directory / "compiler",
            inline_weights=settings.weights == "inline",
        )
        sdk.prepare_load(traced, lazy=settings.lazy_load, asynchronous=settings.async_load)
    said = _of_tracer(caught)
    _refuse_ignored(said)
    sdk.save(traced, directory / "model.pt")
    return said


def _of_tracer(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """What torch_neuronx said itself; torch warns about much that does not matter here."""
    texts = [str(one.message) for one in caught if "neuron" in one.filename]
    return list(dict.fromkeys(texts))


def _refuse_ignored(said: Sequence[str]) -> None:
    for text in said:
        if any(word in text.lower() for word in _FATAL):
            raise CompileError(
                f"torch_neuronx.trace did not do what it was asked: {text}",
                advice="use the torch-neuronx that docs/neuron.md names; if it is that one, "
                "report this",
            )


def _failed(error: Exception, directory: Path, log: Path, start: int) -> CompileError:
    sys.stdout.flush()
    sys.stderr.flush()
    texts = [f"{type(error).__name__}: {error}", *_logs(directory, log, start)]
    found = explain("\n".join(texts), COMPILING)
    if found is not None:
        cause, advice = found
        return CompileError(f"{cause}: {_first_line(error)}", advice=advice)
    return CompileError(
        f"torch_neuronx.trace failed: {_first_line(error)}",
        advice="the whole log is kept with --log; try neuron.optlevel=1, or give the stage to "
        "another backend (--place)",
    )


def _logs(directory: Path, log: Path, start: int) -> list[str]:
    """Ends of the compiler's own logs, then of the job's."""
    texts = [_end_of(path, 0) for path in sorted((directory / "compiler").rglob("*log*"))]
    return [*texts, _end_of(log, start)]


def _end_of(path: Path, start: int) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(start, path.stat().st_size - _TAIL))
        return file.read().decode(errors="replace")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _check_made(neff: EmbeddedNeff, settings: Settings, deferred: Deferred) -> None:
    lnc, wanted = neff.header.lnc, lnc_of(settings, deferred.target)
    if lnc not in (0, wanted):
        raise CompileError(
            f"the NEFF is for logical cores of {lnc} cores, and {wanted} was asked for",
            advice="this is a defect of the compiler, or of partitioner: report it",
        )


def _record(
    sdk: Sdk,
    traceable: Traceable,
    settings: Settings,
    deferred: Deferred,
    args: list[str],
    neff: EmbeddedNeff,
    notes: list[str],
) -> Record:
    header = asdict(neff.header)
    named = {key: header[key] for key in NeffFacts.__dataclass_fields__ if key in header}
    rounded = settings.auto_cast != "none"
    return Record(
        target=deferred.target,
        lnc=lnc_of(settings, deferred.target),
        args=tuple(args),
        versions=dict(sdk.versions),
        arguments=traceable.arguments,
        results=traceable.results,
        neff=NeffFacts(sha256=neff.sha256(), bytes=neff.header.total_bytes, **named),
        inline_weights=settings.weights == "inline",
        lazy_load=settings.lazy_load,
        async_load=settings.async_load,
        precision="bf16" if rounded else deferred.precision,
        warnings=tuple(notes),
    )


def _report(
    portable: Portable, settings: Settings, neff: EmbeddedNeff, notes: list[str]
) -> dict[str, Any]:
    return {
        "settings": asdict(settings),
        "weight_bytes": portable.weight_bytes,
        "neff_bytes": neff.header.total_bytes,
        "warnings": notes,
    }
