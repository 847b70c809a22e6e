"""What a manifest records of a build besides artifacts: labels, versions, options, the report."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import partitioner
from partitioner.artifacts.manifest import ConstantRef, ParitySample, Variant
from partitioner.artifacts.names import check_label
from partitioner.buffers import measure
from partitioner.capture.sources import portable
from partitioner.cases import Case
from partitioner.compiling import Compilation
from partitioner.errors import BundleError, UsageError
from partitioner.plan import Plan
from partitioner.prepared import Prepared
from partitioner.report.groups import node_groups

__all__ = [
    "check_labels",
    "label_of",
    "plain_options",
    "portable_plan",
    "report_of",
    "toolchain",
    "variants_of",
]

#: Recorded in the manifest, where installed.
_TOOLS = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "numpy",
    "torch-neuronx",
    "neuronx-cc",
)


def variants_of(
    cases: Sequence[Case],
    constants: Sequence[Mapping[str, ConstantRef]],
    samples: Sequence[ParitySample | None],
) -> tuple[Variant, ...]:
    """The manifest's entry of each schedule: what it has for itself; the first has the plan's."""
    return tuple(
        Variant(
            options=case.choice,
            trips=case.trips,
            repeats=tuple(group.repeat for group in case.plan.draws),
            constants={v: ref for v, ref in own.items() if ref != constants[0][v]},
            parity=None if case is cases[0] else sample,
            memory=None if case is cases[0] else measure(case.plan),
        )
        for case, own, sample in zip(cases, constants, samples, strict=True)
    )


def label_of(module: Any) -> str:
    """A name for a bundle, after the pipeline's own or its class's."""
    own = getattr(module, "__name__", None)
    text = re.sub(r"\W+", "-", str(own or type(module).__name__)).strip("-")
    return text.lower() or "pipeline"


def check_labels(name: str, version: str) -> None:
    """Before the work, not after it.

    Raises:
        UsageError: a label that a manifest does not take.
    """
    try:
        check_label(name, "the bundle's name")
        check_label(version, "the bundle's version")
    except BundleError as error:
        raise UsageError(error.what, advice="use printable text without slashes") from error


def toolchain() -> dict[str, str]:
    """Versions of what builds, of what is installed."""
    tools = {"partitioner": partitioner.__version__, "python": platform.python_version()}
    for name in _TOOLS:
        try:
            tools[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return tools


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON values; what is none by its type, since its text may hold an address."""
    plain: dict[str, Any] = {}
    for name, value in options.items():
        simple = value is None or isinstance(value, bool | int | float | str)
        plain[name] = value if simple else type(value).__name__
    return plain


def portable_plan(plan: Plan) -> Plan:
    """The plan without paths of this machine: bundles of one model are equal wherever it lies."""
    segments = {
        name: replace(info, sources=tuple(portable(s) for s in info.sources))
        for name, info in plan.segments.items()
    }
    return replace(plan, segments=segments)


def report_of(prepared: Prepared, compilation: Compilation) -> dict[str, Any]:
    """What people may want to know of a build: loops, passes, compilers, weights in few bits."""
    captured, records = prepared.captured, prepared.records
    # No seconds here: the report is part of the bundle, whose digest must not depend on them.
    rows = [{**asdict(r), "notes": list(r.notes)} for r in records]
    for row in rows:
        del row["seconds"]
    # Each member is judged by itself, on each of its variants.
    judged = {"judged": [case.choice for case in prepared.cases]} if prepared.trades else {}
    return {
        **judged,
        "loops": [
            {**asdict(loop), "stages": list(loop.stages), "source": portable(loop.source)}
            for loop in captured.loops
        ],
        "stage_calls": dict(captured.stage_calls),
        "compile": compilation.report,
        "compression": [asdict(trade) for trade in prepared.trades],
        "warnings": list(captured.warnings),
        "passes": rows,
        "holds": node_groups(prepared.planned),
    }
