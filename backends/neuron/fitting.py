"""Whether a compiled segment is for this host, by what it and its NEFF say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from partitioner.backends.neuron.devices import Devices, visible_cores
from partitioner.backends.neuron.neff import MAX_FORMAT, NeffHeader
from partitioner.backends.neuron.record import Record
from partitioner.backends.neuron.settings import default_lnc
from partitioner.errors import BundleError, IncompatibleBundleError

__all__ = ["LNC_VARIABLE", "check_neff"]

#: Physical cores a logical one, for the runtime; must be that of the compiler.
LNC_VARIABLE = "NEURON_LOGICAL_NC_CONFIG"


def check_neff(
    header: NeffHeader,
    record: Record,
    devices: Devices,
    environment: Mapping[str, str],
    where: str,
) -> None:
    """Refuse a segment that would fail, or do something else, when it is loaded here.

    Raises:
        BundleError: the NEFF is not the one that the record speaks of.
        IncompatibleBundleError: its format is not known; it is for another target, another kind of
            logical core, or more cores than this process has.
    """
    found = asdict(header)
    for name, value in asdict(record.neff).items():
        if name in found and found[name] != value:
            raise BundleError(
                f"the NEFF's header has {name} {found[name]!r}, the manifest {value!r}",
                where=where,
                advice="the bundle was changed, or its parts are of two builds; fetch it anew",
            )
    if not 1 <= header.major <= MAX_FORMAT:
        raise IncompatibleBundleError(
            f"the NEFF has the format {header.major}.{header.minor}; known are 1 to {MAX_FORMAT}",
            where=where,
            advice="upgrade partitioner, or compile the bundle with an older neuronx-cc",
        )
    if not devices.runs(record.target):
        raise IncompatibleBundleError(
            f"the segment was compiled for {record.target}, and this host is {devices.family}",
            where=where,
            advice=f"build the bundle for {devices.family} (--target {devices.family})",
        )
    _check_lnc(header, record, devices, environment, where)
    cores = len(visible_cores(environment, devices, record.lnc))
    if devices.cores and header.requested_cores > cores:
        raise IncompatibleBundleError(
            f"the NEFF asks for {header.requested_cores} cores, and the process has {cores}",
            where=where,
            advice="give the process more (NEURON_RT_VISIBLE_CORES)",
        )


def _check_lnc(
    header: NeffHeader,
    record: Record,
    devices: Devices,
    environment: Mapping[str, str],
    where: str,
) -> None:
    if header.lnc not in (0, record.lnc):
        raise BundleError(
            f"the NEFF is for logical cores of {header.lnc} cores, the manifest says {record.lnc}",
            where=where,
            advice="the bundle was changed, or its parts are of two builds; fetch it anew",
        )
    said = environment.get(LNC_VARIABLE, "").strip()
    here = int(said) if said.isdigit() else devices.lnc or default_lnc(devices.family)
    if here and here != record.lnc:
        raise IncompatibleBundleError(
            f"the segment is for logical cores of {record.lnc} cores, and this host has them of "
            f"{here}",
            where=where,
            advice=f"set {LNC_VARIABLE}={record.lnc}, or compile with neuron.lnc={here}",
        )
