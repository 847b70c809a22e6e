"""From a table's values to a :class:`~partitioner.targets.facts.Target`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from partitioner.errors import UsageError
from partitioner.isa import LEVELS
from partitioner.targets.facts import Device, Limits, Price, Target
from partitioner.targets.reading import Figure, Place, Table

__all__ = ["make_target"]

_GIB = 2**30

#: The device that is the machine itself.
_HOST = "cpu"


def make_target(table: Table, values: Mapping[str, Any]) -> Target:
    """The target that a table describes.

    Args:
        values: of the table, those of its bases included.

    Raises:
        UsageError: something is missing, or two things contradict one another.
    """
    place = table.place
    _require(values, ("note", "backends", "dtypes", "copies", "parity", "devices"), place)
    parity, devices = values["parity"], values["devices"]
    _require(parity, ("relative", "absolute"), place / "parity")
    copies = int(values["copies"].value)
    limits = values.get("limits", {})
    price = values.get("price")
    figures = dict(_figures(values))
    target = Target(
        name=table.name,
        backends=values["backends"],
        relative=parity["relative"].value,
        absolute=parity["absolute"].value,
        machine=values.get("machine", ()),
        instructions=values.get("instructions", ""),
        note=values["note"],
        aliases=values["aliases"],
        dtypes=values["dtypes"],
        arithmetic=values.get("arithmetic", ()),
        static_shapes=values.get("static_shapes", True),
        sources=values.get("sources", ()),
        family=values["family"],
        instance=values.get("instance", ""),
        devices=tuple(
            _device(name, own, copies, place / "devices" / name) for name, own in devices.items()
        ),
        # A base may limit backends that this target does without.
        limits={name: _limits(own) for name, own in limits.items() if name in values["backends"]},
        price=Price(**{**price, "per_hour": price["per_hour"].value}) if price else None,
        figures={key: figure.value for key, figure in figures.items()},
        figure_sources={key: figure.source for key, figure in figures.items()},
        origin=place.file,
    )
    _check(target, table.values.get("limits", {}), place)
    return target


def _device(name: str, values: Mapping[str, Any], copies: int, place: Place) -> Device:
    needed = ["backends", "cores", "memory_gib", "bandwidth_per_core"]
    needed += ["flops_per_core", "vector_flops_per_core", "call_s"]
    if name != _HOST:
        needed += ["transfer_bandwidth", "transfer_s"]
    _require(values, needed, place)
    cores = int(values["cores"].value)
    link = values.get("transfer_bandwidth")
    return Device(
        name=name,
        backends=values["backends"],
        cores=cores,
        copies=copies,
        memory_bytes=int(values["memory_gib"].value * _GIB),
        bandwidth=values["bandwidth_per_core"].value * cores,
        flops={dtype: own.value * cores for dtype, own in values["flops_per_core"].items()},
        vector_flops=values["vector_flops_per_core"].value * cores,
        call_s={backend: own.value for backend, own in values["call_s"].items()},
        transfer_bandwidth=link.value if link else None,
        transfer_s=values["transfer_s"].value if link else 0.0,
        efficiency=values["efficiency"].value if "efficiency" in values else 1.0,
        time_factor={name: own.value for name, own in values.get("time_factor", {}).items()},
    )


def _limits(values: Mapping[str, Any]) -> Limits:
    def count(key: str, unit: int = 1) -> int | None:
        return int(values[key].value * unit) if key in values else None

    return Limits(count("instructions"), count("memory_gib", _GIB), count("graph_bytes"))


def _figures(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Figure]]:
    for key, value in values.items():
        if isinstance(value, Figure):
            yield before + key, value
        elif isinstance(value, dict) and key != "price":
            yield from _figures(cast("dict[str, Any]", value), f"{before}{key}.")


# --- checks -------------------------------------------------------------------------------------


def _require(values: Mapping[str, Any], keys: Any, place: Place) -> None:
    missing = [key for key in keys if key not in values]
    if missing:
        table = ".".join(place.keys)
        raise UsageError(
            f"a target is incomplete: {table} has no {', '.join(missing)}",
            where=str(place / missing[0]),
            advice="say it, or name a 'base' that does",
        )


def _check(target: Target, limited: Mapping[str, Any], place: Place) -> None:
    """What no single value shows.

    Args:
        limited: backends that the table itself, and no base of it, limits.
    """
    owners = [backend for device in target.devices for backend in device.backends]
    calls = {backend for device in target.devices for backend in device.call_s}
    for wrong, key, what in (
        (not target.backends, "backends", "a target has one backend at least"),
        (not target.dtypes, "dtypes", "a target has one dtype at least"),
        (_HOST not in {d.name for d in target.devices}, "devices", f"there is no device {_HOST!r}"),
        (len(owners) > len(set(owners)), "devices", "a backend runs on two devices"),
        *_lacking(target.backends, owners, "backends", "no device has the backend"),
        *_lacking(target.backends, calls, "devices", "no 'call_s' for the backend"),
        *_lacking(limited, target.backends, "limits", "not among the target's backends:"),
        (
            target.instructions not in ("", *LEVELS),
            "instructions",
            f"{target.instructions!r} is none of {', '.join(LEVELS)}",
        ),
        *_lacking(target.arithmetic, target.dtypes, "arithmetic", "not among the dtypes:"),
        *(
            (
                dtype not in device.flops,
                "devices",
                f"{device.name} has no 'flops_per_core' in {dtype}",
            )
            for device in target.devices
            for dtype in ("float32", *(target.arithmetic if device.name != _HOST else ()))
        ),
    ):
        if wrong:
            raise UsageError(f"target {target.name!r} is wrong: {what}", where=str(place / key))


def _lacking(names: Any, known: Any, key: str, what: str) -> Iterator[tuple[bool, str, str]]:
    return ((name not in known, key, f"{what} {name!r}") for name in names)
