"""The form of a target table: its keys, what each may be, and the range of every figure.

A figure is a number, or a table of the number and where it comes from::

    bandwidth_per_core = 6.4e9
    bandwidth_per_core = { value = 6.4e9, source = "307.2 GB/s a socket / 48 cores" }

Ranges are wide; what lies outside of them is a slip of the pen and no hardware.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "FILE",
    "TARGET",
    "Each",
    "Flag",
    "Keys",
    "Kind",
    "Names",
    "Number",
    "PriceOf",
    "Text",
]

#: What a dtype may be: NumPy's names, and that of the small float which NumPy lacks.
_DTYPES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("bfloat16", "float16", "float32", "float64"),
)


@dataclass(frozen=True)
class Text:
    """A text that is not empty, of a form if one is given.

    Attributes:
        pattern: what the whole text must match.
        form: the same for people.
    """

    meaning: str
    pattern: str = ""
    form: str = ""


@dataclass(frozen=True)
class Flag:
    """True or false."""

    meaning: str


@dataclass(frozen=True)
class Names:
    """A list of texts, each once.

    Attributes:
        known: those there are; empty for any.
    """

    meaning: str
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Number:
    """A figure from ``low`` to ``high``, both included.

    Attributes:
        whole: whether it is a count.
    """

    meaning: str
    low: float
    high: float
    unit: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Keys:
    """A table with these keys and no others."""

    meaning: str
    kinds: Mapping[str, Kind]


@dataclass(frozen=True)
class Each:
    """A table with any keys, or those that are known, and one kind of value."""

    meaning: str
    kind: Kind
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class PriceOf:
    """A number, with the rest from the file's ``prices``, or a table of a price's keys."""

    meaning: str
    kinds: Mapping[str, Kind]


Kind = Text | Flag | Names | Number | Keys | Each | PriceOf

_DATE = Text(
    "on which prices were so", r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", "2026-07-20"
)

_PRICE: dict[str, Kind] = {
    "per_hour": Number("of the instance, an hour", 1e-6, 1e4),
    "currency": Text("of the price", r"[A-Z]{3}", "USD"),
    "date": _DATE,
    "source": Text("where prices stand"),
    "terms": Text("region and kind"),
}

_DEVICE: dict[str, Kind] = {
    "backends": Names("those that run on it"),
    "cores": Number("of one copy of the pipeline", 1, 4096, whole=True),
    "memory_gib": Number("that one copy may use", 0.0625, 65536, "GiB"),
    "bandwidth_per_core": Number("between memory and a core", 1e7, 1e14, "bytes/s"),
    "flops_per_core": Each(
        "in products, by dtype; a multiplication or an addition is one",
        Number("in this dtype", 1e7, 1e16, "operations/s"),
        _DTYPES,
    ),
    "vector_flops_per_core": Number("in float32, of what is no product", 1e7, 1e15, "operations/s"),
    "call_s": Each(
        "by backend: what a call of a segment takes beyond its nodes",
        Number("on this backend", 0, 1, "s"),
    ),
    "transfer_bandwidth": Number("between its memory and the host's", 1e6, 1e13, "bytes/s"),
    "transfer_s": Number("of each transfer beyond its bytes", 0, 1, "s"),
    "efficiency": Number("the share of the peaks that is sustained", 0.01, 1),
    "time_factor": Each(
        "by backend: what a node takes on it, by what the figures say",
        Number("on this backend; 1 by default", 0.1, 100),
    ),
}

_LIMITS: dict[str, Kind] = {
    "instructions": Number("of one segment", 1000, 1e12, whole=True),
    "memory_gib": Number("weights, borders and live values of a segment", 0.0625, 65536, "GiB"),
    "graph_bytes": Number("of the compiled file without outer weights", 1e5, 1e13, "bytes", True),
}

#: One table ``targets.NAME``.
TARGET = Keys(
    "one kind of hardware",
    {
        "base": Text("the target whose values hold where this table has none"),
        "family": Text("the family's name; that of the base, or its own, by default"),
        "instance": Text("the instance whose figures these are"),
        "note": Text("for people"),
        "aliases": Names("other names of it"),
        "machine": Names("values of platform.machine() that it runs on; none for any"),
        "instructions": Text("the level of instructions that figures rest on: x86-64-v4"),
        "backends": Names("in order of preference"),
        "dtypes": Names("what tensor ops compute in", _DTYPES),
        "arithmetic": Names("small floats that products are faster in", ("bfloat16", "float16")),
        "static_shapes": Flag("whether every size must be known at build time"),
        "sources": Names("where facts that are no figures come from"),
        "copies": Number("of the pipeline that run at the same time", 1, 4096, whole=True),
        "price": PriceOf("of the instance", _PRICE),
        "parity": Keys(
            "how far outputs may be from eager's",
            {
                "relative": Number("of the output's norm", 1e-7, 0.5),
                "absolute": Number("of each value", 1e-12, 0.5),
            },
        ),
        "devices": Each("what backends run on", Keys("a device", _DEVICE)),
        "limits": Each("what one segment may not exceed, by backend", Keys("limits", _LIMITS)),
    },
)

#: A file of target tables.
FILE = Keys(
    "a file of targets",
    {
        "source": Text("of figures that name none"),
        "prices": Keys(
            "what the file's prices share", {k: v for k, v in _PRICE.items() if k != "per_hour"}
        ),
        "targets": Each("the targets by name", TARGET),
    },
)
