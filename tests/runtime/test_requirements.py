"""Requirements are ordered comparisons, each with a remedy."""

from __future__ import annotations

import pytest

from partitioner.artifacts.manifest import Requirement
from partitioner.errors import IncompatibleBundleError
from partitioner.runtime.host import Host
from partitioner.runtime.requirements import requirement_text, unmet
from tests.artifacts.samples import manifest


def host(version: str | None = None) -> Host:
    return Host("x86_64", "x86-64-v3", frozenset(), lambda name: version)


def lacking(requirement: Requirement, here: Host) -> list[str]:
    content = manifest().replace(requirements=(requirement,), artifacts={})
    return [one.error.what for one in unmet(content, here)]


@pytest.mark.parametrize(
    ("version", "at_least", "below", "met"),
    [
        ("1.20.0", "1.20", "", True),
        ("1.20.0", "1.20.0.0", "", True),
        ("1.20.1", "1.20.1", "", True),
        # Numbers, not text.
        ("1.9.3", "1.17", "", False),
        ("10.0", "9.9", "", True),
        ("1.16.3", "1.17", "", False),
        ("2026.4.1-22982-e213a147257", "2026.4", "", True),
        ("2026.0.0", "2026.1", "", False),
        ("1.17.0rc1", "1.17", "", True),
        ("2.0", "", "2", False),
        ("1.99", "", "2", True),
        ("1.18", "1.17", "1.18", False),
        ("unknown", "1", "", False),
    ],
)
def test_libraries(version: str, at_least: str, below: str, met: bool) -> None:
    requirement = Requirement("library", "onnxruntime", at_least, below)
    assert met == (not lacking(requirement, host(version)))


@pytest.mark.parametrize(
    ("requirement", "what", "advice"),
    [
        (
            Requirement("library", "openvino", "2026.1", reason="the release of the IR"),
            "the bundle needs openvino >= 2026.1 (the release of the IR); 2025.2 is installed",
            "pip install 'openvino>=2026.1', choose another variant",
        ),
        (
            Requirement("library", "onnxruntime", "1.17", "3"),
            "the bundle needs onnxruntime >= 1.17, < 3; 2025.2 is installed",
            "pip install 'onnxruntime>=1.17,<3'",
        ),
        (
            Requirement("instructions", "x86_64", "x86-64-v4"),
            "the bundle needs instructions x86_64 >= x86-64-v4; this CPU has x86-64-v3",
            "build for 'cpu', which any CPU runs",
        ),
        (
            Requirement("instructions", "x86_64", "v9"),
            "the bundle needs instructions x86_64 >= v9; this version does not know what that is",
            "install a newer partitioner",
        ),
        (
            Requirement("machine", "aarch64,riscv64"),
            "the bundle needs machine aarch64,riscv64; this host is x86_64",
            "choose another variant of the bundle",
        ),
        (
            Requirement("device", "neuron"),
            "the bundle needs device neuron; this host has none",
            "run it on a host with neuron devices",
        ),
        (
            Requirement("moon", "full"),
            "the bundle needs moon full; this version does not know what that is",
            "install a newer partitioner",
        ),
    ],
)
def test_the_message_has_a_remedy(requirement: Requirement, what: str, advice: str) -> None:
    content = manifest().replace(requirements=(requirement,), artifacts={})
    (one,) = unmet(content, host("2025.2"))
    assert isinstance(one.error, IncompatibleBundleError)
    assert (what, 10) == (one.error.what, one.error.exit_code)
    assert advice in (one.error.advice or "")


@pytest.mark.parametrize(
    "requirement",
    [
        Requirement("machine", "aarch64,x86_64"),
        Requirement("instructions", "x86_64", "x86-64-v2"),
        # About another machine.
        Requirement("instructions", "aarch64", "armv9-a"),
    ],
)
def test_what_is_met(requirement: Requirement) -> None:
    assert [] == lacking(requirement, host())


def test_a_backend_that_is_not_here_is_told_once() -> None:
    content = manifest().replace(requirements=(Requirement("library", "no-such-thing", "1"),))
    content.artifacts["march"] = content.artifacts["march"].__class__("moon", None, (), {})
    assert ["backend 'moon' is not installed"] == [
        one.error.what.split(";")[0] for one in unmet(content, host())
    ]


def test_as_text() -> None:
    assert "device neuron" == requirement_text(Requirement("device", "neuron"))
    assert "numpy >= 2" == requirement_text(Requirement("library", "numpy", "2"))
