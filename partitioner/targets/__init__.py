"""Targets: the hardware a bundle is built for, as one table.

A target names backends in order of preference. The table lists what can be built with the backends
of this version; a name of hardware whose backend is missing gets an error that says so.
"""

from __future__ import annotations

import difflib

from partitioner.errors import UsageError
from partitioner.targets.facts import Device, Limits, Price, Target

__all__ = ["TARGETS", "Device", "Limits", "Price", "Target", "all_targets", "find_target"]


#: What ONNX Runtime's CPU kernels compute in; they have no arithmetic in bfloat16.
_ONNX_CPU_DTYPES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)

_ONNX_CPU_SOURCES = (
    "https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md",
    "https://onnxruntime.ai/docs/execution-providers/",
)


def _through_onnx(
    name: str, note: str, machine: tuple[str, ...] = (), aliases: tuple[str, ...] = ()
) -> Target:
    """A CPU, through ONNX Runtime.

    The tolerance is four digits: convolutions and products are summed in another order than eager
    torch does it, which a loop of tens of steps amplifies.
    """
    return Target(
        name=name,
        backends=("onnx", "host"),
        relative=1e-4,
        absolute=1e-6,
        machine=machine,
        note=note,
        aliases=aliases,
        dtypes=_ONNX_CPU_DTYPES,
        sources=_ONNX_CPU_SOURCES,
    )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        _through_onnx("cpu", "any CPU, through ONNX Runtime, in float32"),
        _through_onnx(
            "graviton",
            "AWS Graviton (64-bit Arm), through ONNX Runtime, in float32",
            machine=("aarch64", "arm64"),
            aliases=("graviton2", "graviton3", "graviton4"),
        ),
        _through_onnx(
            "xeon",
            "Intel Xeon (x86-64), through ONNX Runtime, in float32",
            machine=("x86_64", "AMD64"),
        ),
    )
}

#: Hardware known by name, and the backend that it needs and this version does not have.
_WITHOUT_BACKEND = {"inf2": "neuron", "trn1": "neuron", "trn2": "neuron", "trn3": "neuron"}


def all_targets() -> tuple[Target, ...]:
    """Every target that can be built, by name."""
    return tuple(TARGETS[name] for name in sorted(TARGETS))


def find_target(name: str) -> Target:
    """The target of this name, in whatever case.

    Raises:
        UsageError: there is none, or its backend is not in this version.
    """
    wanted = name.lower()
    for target in TARGETS.values():
        if wanted == target.name or wanted in target.aliases:
            return target
    # Instance types too: inf2.xlarge.
    family = wanted.split(".")[0]
    if family in _WITHOUT_BACKEND:
        raise UsageError(
            f"target {name!r} needs the backend {_WITHOUT_BACKEND[family]!r}, which this version "
            "does not have",
            advice="build for 'cpu', which runs on any CPU",
        )
    known = [*TARGETS, *(alias for t in TARGETS.values() for alias in t.aliases)]
    near = difflib.get_close_matches(wanted, [*known, *_WITHOUT_BACKEND], 1)
    raise UsageError(
        f"there is no target {name!r}",
        advice=f"did you mean {near[0]!r}?" if near else f"targets: {', '.join(sorted(TARGETS))}",
    )
