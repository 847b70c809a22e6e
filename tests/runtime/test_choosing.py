"""Which member a host takes, and what it says of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import Requirement
from partitioner.artifacts.oci import Member
from partitioner.artifacts.writer import BundleWriter
from partitioner.errors import IncompatibleBundleError, MissingDependencyError, UsageError
from partitioner.runtime.choosing import choose, judge
from partitioner.runtime.host import Host
from tests.artifacts.samples import BLOBS, manifest

XEON = (
    Requirement("machine", "x86_64", firm=False, reason="of the target xeon"),
    Requirement("instructions", "x86_64", "x86-64-v4", firm=False),
)
GRAVITON = (Requirement("machine", "aarch64", firm=False),)
INF2 = (Requirement("device", "neuron"),)
VERSIONS = {"onnxruntime": "1.20.0"}


def host(machine: str = "x86_64", instructions: str = "x86-64-v3", *devices: str) -> Host:
    return Host(machine, instructions, frozenset(devices), VERSIONS.get)


def write(path: Path, **members: Sequence[Requirement]) -> BundleIndex:
    """A bundle with a member for each target, in this order."""
    with BundleWriter(path) as writer:
        for target, requirements in members.items():
            for data, media_type in BLOBS.items():
                writer.add_bytes(data, media_type)
            writer.add_member(manifest().replace(target=target, requirements=tuple(requirements)))
        writer.publish()
    return BundleIndex.open(path)


@pytest.fixture
def index(tmp_path: Path) -> BundleIndex:
    return write(tmp_path / "b", inf2=INF2, xeon=XEON, graviton=GRAVITON, cpu=())


@pytest.mark.parametrize(
    ("here", "target"),
    [
        (host(), "cpu"),
        (host("x86_64", "x86-64-v4"), "xeon"),
        (host("aarch64", "armv8-a"), "graviton"),
        (host("riscv64", ""), "cpu"),
        (host("x86_64", "x86-64-v2", "neuron"), "inf2"),
    ],
)
def test_the_first_that_fits_is_taken(index: BundleIndex, here: Host, target: str) -> None:
    assert target == choose(index, host=here).bundle.manifest.target


def test_reasons(index: BundleIndex) -> None:
    assert [
        "target=inf2: the bundle needs device neuron; this host has none",
        "target=xeon: the bundle needs instructions x86_64 >= x86-64-v4; this CPU has x86-64-v3",
        "target=graviton: the bundle needs machine aarch64; this host is x86_64",
        "target=cpu: taken",
    ] == list(choose(index, host=host()).reasons)


def test_what_is_named_is_taken(index: BundleIndex) -> None:
    for target in ("xeon", "graviton", "cpu"):
        choice = choose(index, {"target": target}, host())
        assert target == choice.bundle.manifest.target
        assert (f"target={target}: asked for",) == choice.reasons


def test_what_is_firm_is_not_waived(index: BundleIndex) -> None:
    with pytest.raises(IncompatibleBundleError, match="device neuron") as caught:
        choose(index, {"target": "inf2"}, host())
    assert "neuron devices and their driver" in (caught.value.advice or "")


def test_the_only_member_must_fit(tmp_path: Path) -> None:
    index = write(tmp_path / "b", graviton=GRAVITON)
    with pytest.raises(IncompatibleBundleError, match="machine aarch64; this host is x86_64") as c:
        choose(index, host=host())
    assert "--variant target=graviton runs this one all the same" in (c.value.advice or "")
    assert ("target=graviton: the only member",) == choose(index, host=host("aarch64", "")).reasons


def test_none_fits(tmp_path: Path) -> None:
    index = write(tmp_path / "b", inf2=INF2, graviton=GRAVITON)
    with pytest.raises(IncompatibleBundleError) as caught:
        choose(index, host=host())
    assert "target=inf2: the bundle needs device neuron" in caught.value.what
    assert "target=graviton: the bundle needs machine aarch64" in caught.value.what
    assert "build for 'cpu', too" in (caught.value.advice or "")


def test_no_such_member(index: BundleIndex) -> None:
    with pytest.raises(UsageError, match="no member target=tpu"):
        choose(index, {"target": "tpu"}, host())


def test_a_member_of_a_later_format_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = write(tmp_path / "b", xeon=(), cpu=())
    real = Bundle.of_member

    def refusing(path: Path, root: object, member: Member, *rest: object) -> Bundle:
        if member.labels["target"] == "xeon":
            raise IncompatibleBundleError("the bundle has the schema version 2.0")
        return real(path, root, member, *rest)  # pyright: ignore[reportArgumentType] passed on

    monkeypatch.setattr(Bundle, "of_member", refusing)
    choice = choose(index, host=host())
    assert "target=xeon: the bundle has the schema version 2.0" == choice.reasons[0]
    assert "cpu" == choice.bundle.manifest.target


def test_missing_libraries(tmp_path: Path) -> None:
    index = write(tmp_path / "b", other=[Requirement("library", "no-such-library", "3")])
    with pytest.raises(MissingDependencyError, match="no-such-library >= 3, which is not") as c:
        choose(index, host=host())
    assert "pip install 'no-such-library>=3'" == c.value.advice


def test_the_gravest_comes_first(index: BundleIndex) -> None:
    lacking = judge(index, index.members[0], host())
    assert [True] == [one.firm for one in lacking]
    both = judge(index, index.members[1], host("aarch64", "armv9-a"))
    assert ["machine"] == [one.error.what.split()[3] for one in both]
