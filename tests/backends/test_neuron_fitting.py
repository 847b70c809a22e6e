"""Whether what was compiled is for a host: target, logical cores, number of cores, format."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from partitioner.backends.neuron.devices import Devices
from partitioner.backends.neuron.fitting import check_neff
from partitioner.backends.neuron.neff import NeffHeader, read_header
from partitioner.backends.neuron.record import NeffFacts, Record
from partitioner.errors import BundleError, IncompatibleBundleError
from tests.neuron_standin.neffs import neff


def header_and_record(target: str, lnc: int, **header: Any) -> tuple[NeffHeader, Record]:
    data = neff(**{"lnc": lnc, **header})
    found = read_header(data, len(data), "here")
    known = asdict(found)
    facts = {name: known[name] for name in NeffFacts.__dataclass_fields__ if name in known}
    neff_facts = NeffFacts(sha256="0" * 64, bytes=len(data), **facts)
    return found, Record(target, lnc, (), {}, (), (), neff_facts)


@pytest.mark.parametrize(
    ("target", "lnc", "devices", "environment"),
    [
        ("inf2", 1, Devices(1, 2, "inf2"), {}),
        ("trn1", 1, Devices(1, 2, "inf2"), {}),
        ("trn2", 2, Devices(1, 8, "trn2"), {}),
        ("trn2", 1, Devices(1, 8, "trn2"), {"NEURON_LOGICAL_NC_CONFIG": "1"}),
        ("trn2", 1, Devices(1, 8, "trn2", 1), {}),
        # Nothing is known of the host.
        ("trn2", 1, Devices(0, 0), {}),
    ],
)
def test_what_fits(target: str, lnc: int, devices: Devices, environment: dict[str, str]) -> None:
    check_neff(*header_and_record(target, lnc), devices, environment, "segment")


@pytest.mark.parametrize(
    ("target", "lnc", "header", "devices", "environment", "said"),
    [
        ("inf2", 1, {}, Devices(1, 8, "trn2"), {}, "compiled for inf2, and this host is trn2"),
        # A runtime that is told nothing makes logical cores of two.
        ("trn2", 1, {}, Devices(1, 8, "trn2"), {}, "this host has them of 2"),
        ("trn2", 2, {}, Devices(1, 8, "trn2", 1), {}, "this host has them of 1"),
        ("trn2", 2, {}, Devices(0, 0), {"NEURON_LOGICAL_NC_CONFIG": "1"}, "has them of 1"),
        ("inf2", 1, {"major": 3}, Devices(0, 0), {}, "the format 3.0"),
        ("inf2", 1, {"requested_cores": 4}, Devices(1, 2, "inf2"), {}, "asks for 4 cores"),
    ],
)
def test_what_does_not_fit_is_refused(
    target: str,
    lnc: int,
    header: dict[str, Any],
    devices: Devices,
    environment: dict[str, str],
    said: str,
) -> None:
    with pytest.raises(IncompatibleBundleError) as caught:
        check_neff(*header_and_record(target, lnc, **header), devices, environment, "segment")
    assert said in caught.value.what
    assert caught.value.advice


def test_a_header_that_the_manifest_does_not_speak_of() -> None:
    header, _ = header_and_record("trn2", 2)
    _, record = header_and_record("trn2", 2, build=b"1.0")
    with pytest.raises(BundleError, match="header has build"):
        check_neff(header, record, Devices(0, 0), {}, "segment")
