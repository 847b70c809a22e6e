"""How a segment is compiled for Neuron: what a caller may say, and neuronx-cc's arguments for it.

Names and values are those of the compiler's command line (documentation of AWS Neuron SDK 2.32.0);
the right-most of two equal arguments counts there, so nothing is given twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from partitioner.errors import UsageError

__all__ = [
    "FAMILIES",
    "HLO_LIMIT",
    "PLATFORMS",
    "Kind",
    "Settings",
    "compiler_args",
    "decided",
    "default_lnc",
    "lnc_of",
    "read_settings",
    "warnings_of",
]

#: Kind of a segment, for ``--model-type``.
Kind = Literal["generic", "transformer", "unet-inference"]

#: Families of targets that neuronx-cc compiles for.
FAMILIES = ("inf2", "trn1", "trn1n", "trn2", "trn3")

#: Family -> value of the platform override. inf2 and trn1n have the cores of trn1.
PLATFORMS = {"inf2": "trn1", "trn1": "trn1", "trn1n": "trn1", "trn2": "trn2", "trn3": "trn3"}

#: Families whose logical cores are two physical ones unless something else is asked for.
_LOGICAL = ("trn2", "trn3")

#: Options of ``torch_neuronx`` that something else takes the place of: why, and what.
_ELSEWHERE = {
    "dynamic_batch": (
        "segments are called with the sizes that they were compiled for, never with another batch",
        "build with --batch ROWS[,...]: the bundle then serves any number of requests",
    )
}

#: A protobuf, which the HLO with inlined weights is, ends at 2 GiB; the graph itself is in it, too.
HLO_LIMIT = 2 * 2**30 - 64 * 2**20


@dataclass(frozen=True)
class Settings:
    """What a caller may say of a segment.

    Attributes:
        model_type: ``auto`` goes by what the segment computes.
        auto_cast: which float32 ops the compiler may compute in ``auto_cast_type``. ``auto``:
            products, where the build's precision is bf16; none otherwise. The compiler's own
            default has changed with its versions, so it is always said.
        optlevel: 1 compiles faster, and helps where a graph is too large.
        lnc: physical cores a logical core; 0 for the target's default.
        fast_loading: binaries that load faster. ``auto``: not for ``unet-inference``, whose larger
            models it has broken (SDXL).
        saturate: infinities become the largest numbers.
        weights: ``inline`` makes them part of the NEFF. ``auto`` does so while they fit in it;
            ``measured`` takes the faster way, see :mod:`.weighing`.
        lazy_load: weights go to the device at the first call.
        async_load: loading goes on in the background.
    """

    model_type: Literal["auto", "generic", "transformer", "unet-inference"] = "auto"
    auto_cast: Literal["auto", "none", "matmult", "all"] = "auto"
    auto_cast_type: Literal["bf16", "fp16", "tf32", "fp8_e4m3"] = "bf16"
    optlevel: Literal[1, 2, 3] = 2
    lnc: Literal[0, 1, 2] = 0
    fast_loading: Literal["auto", "on", "off"] = "auto"
    saturate: bool = False
    weights: Literal["auto", "inline", "separate", "measured"] = "auto"
    lazy_load: bool = False
    async_load: bool = False


def read_settings(given: Mapping[str, Any], stages: tuple[str, ...] = ()) -> Settings:
    """Settings as a caller gives them: ``{"optlevel": 1, "decoder.optlevel": 2}``.

    Args:
        given: name -> value; with a stage before the name, for segments that hold the stage.
        stages: outermost stages of the segment.

    Raises:
        UsageError: there is no such setting, or it does not take the value.
    """
    own: dict[str, Any] = {}
    staged: dict[str, Any] = {}
    for key, value in given.items():
        stage, _, name = key.rpartition(".")
        _check(name, value)
        if not stage:
            own[name] = value
        elif stage in stages:
            staged[name] = value
    return Settings(**{**own, **staged})


def _check(name: str, value: Any) -> None:
    hints = get_type_hints(Settings)
    if name in _ELSEWHERE:
        what, advice = _ELSEWHERE[name]
        raise UsageError(f"the backend 'neuron' has no option {name!r}: {what}", advice=advice)
    if name not in hints:
        near = difflib.get_close_matches(name, hints, 1)
        raise UsageError(
            f"the backend 'neuron' has no option {name!r}",
            advice=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(hints)}",
        )
    choices = (True, False) if hints[name] is bool else get_args(hints[name])
    if not any(type(value) is type(one) and value == one for one in choices):
        raise UsageError(
            f"neuron.{name} cannot be {value!r}",
            advice=f"one of {', '.join(str(one).lower() for one in choices)}",
        )


def decided(settings: Settings, kind: Kind, precision: str, weight_bytes: int) -> Settings:
    """The same with nothing left to decide.

    Args:
        kind: of the segment.
        precision: of the build: ``bf16`` or ``f32``.
        weight_bytes: of the segment's weights.
    """
    model_type = kind if settings.model_type == "auto" else settings.model_type
    auto_cast = settings.auto_cast
    if auto_cast == "auto":
        auto_cast = "matmult" if precision == "bf16" else "none"
    fast_loading = settings.fast_loading
    if fast_loading == "auto":
        fast_loading = "off" if model_type == "unet-inference" else "on"
    weights = settings.weights
    if weights in ("auto", "measured"):
        weights = "inline" if weight_bytes <= HLO_LIMIT else "separate"
    return replace(
        settings,
        model_type=model_type,
        auto_cast=auto_cast,
        fast_loading=fast_loading,
        weights=weights,
    )


def default_lnc(family: str) -> int:
    """Physical cores a logical core where nothing else is said; 0 for a family that is not known.

    The runtime's default is the compiler's.
    """
    if family not in FAMILIES:
        return 0
    return 2 if family in _LOGICAL else 1


def lnc_of(settings: Settings, family: str) -> int:
    """Physical cores a logical core.

    Raises:
        UsageError: the family has none such (NCC_EARG001).
    """
    if family not in FAMILIES:
        raise UsageError(
            f"neuronx-cc does not compile for {family!r}", advice=f"one of {', '.join(FAMILIES)}"
        )
    if family in _LOGICAL:
        return settings.lnc or default_lnc(family)
    if settings.lnc > 1:
        raise UsageError(
            f"{family} has no logical cores of {settings.lnc} cores (NCC_EARG001)",
            advice="leave neuron.lnc out, or set it to 1",
        )
    return 1


def compiler_args(settings: Settings, family: str, compiler: str = "") -> list[str]:
    """neuronx-cc's arguments.

    Args:
        settings: with nothing left to decide.
        family: of the target.
        compiler: version of neuronx-cc; some arguments are new.

    Raises:
        UsageError: as :func:`lnc_of`.
    """
    lnc = lnc_of(settings, family)
    args = ["--target", family, "--model-type", settings.model_type]
    args += ["--auto-cast", settings.auto_cast]
    args += ["--auto-cast-type", settings.auto_cast_type]
    args += ["--optlevel", str(settings.optlevel)]
    if family in _LOGICAL:
        args += ["--lnc", str(lnc)]
        if _minor(compiler) >= (2, 27):
            # Announced to change: say what holds now. No segment has integers of 64 bits.
            args += ["--native-int64", "disabled", "--implicit-integer-downcast", "default"]
    if settings.saturate:
        args.append("--enable-saturate-infinity")
    if settings.fast_loading == "on":
        args.append("--enable-fast-loading-neuron-binaries")
    return args


def warnings_of(settings: Settings, family: str, weight_bytes: int) -> list[str]:
    """What is known to go wrong with these settings, for people."""
    found: list[str] = []
    if family == "trn3":
        found.append("no document says that torch_neuronx.trace compiles for trn3")
    if settings.weights == "separate":
        found.append(
            "weights outside of the NEFF: they are moved to the device when the segment is "
            "loaded; in SDK 2.18 and later this has failed for the UNets of SDXL"
        )
    elif weight_bytes > HLO_LIMIT:
        found.append(
            f"{weight_bytes / 2**30:.2f} GiB of weights in one HLO, which ends at 2 GiB: "
            "set neuron.weights=separate, or split the stage"
        )
    if settings.model_type == "unet-inference" and settings.fast_loading == "on":
        found.append("fast-loading binaries have failed for the UNets of SDXL (SDK 2.19.1)")
    if settings.auto_cast == "matmult" and settings.model_type == "unet-inference":
        found.append("--auto-cast matmult has given NaN in networks of many convolutions")
    return found


def _minor(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else (0, 0)
