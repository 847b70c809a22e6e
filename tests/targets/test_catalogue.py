"""The targets there are, and what a name that is not among them gets."""

import platform

import pytest

from partitioner.backends import backend_names
from partitioner.backends.onnx import support
from partitioner.errors import UsageError
from partitioner.specs import DTYPES
from partitioner.targets import all_targets, find_target

#: Backends that targets name and this version does not bring.
PLANNED = {"neuron"}

TARGETS = all_targets()

FAMILIES = ("cpu", "graviton", "graviton3", "graviton4", "inf2", "trn1", "trn2", "trn3", "xeon")


def test_the_families_are_there():
    assert set() == set(FAMILIES) - {t.name for t in TARGETS}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_every_name_and_alias_finds_its_target(target):
    for name in (target.name, target.name.upper(), *target.aliases):
        assert target == find_target(name)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_facts_are_filled_in(target):
    assert set() == set(target.backends) - set(backend_names()) - PLANNED
    assert "host" == target.backends[-1]
    assert set() == set(target.dtypes) - set(DTYPES)
    assert 0 < target.absolute < target.relative < 0.01
    assert "" not in (target.note, target.family, *target.sources)
    assert target.sources
    assert {"cpu"} == {target.device_of("host").name, target.device_of("onnx").name}
    assert set(target.backends) == {b for d in target.devices for b in d.call_s}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_every_figure_has_a_source(target):
    figures = {"copies", "parity.relative", "parity.absolute"}
    for device in target.devices:
        figures |= {f"devices.{device.name}.{key}" for key in ("cores", "memory_gib")}
        figures |= {f"devices.{device.name}.flops_per_core.{dtype}" for dtype in device.flops}
    assert set() == figures - set(target.figure_sources)
    assert "" not in target.figure_sources.values()
    if target.price is not None:
        assert target.price.source.startswith("https://")
        assert target.price.terms


def test_dtypes_are_those_of_the_backend():
    judged = {str(dtype).removeprefix("torch.") for dtype in support._DTYPES}
    assert judged == set(find_target("cpu").dtypes)


def test_cpu_runs_here():
    machines = find_target("cpu").machine
    assert not machines or platform.machine() in machines


@pytest.mark.parametrize(
    ("name", "near"), [("xoen", "xeon"), ("gravton", "graviton"), ("inf", "inf2"), ("cpuu", "cpu")]
)
def test_a_slip_of_the_pen_gets_the_nearest_name(name, near):
    with pytest.raises(UsageError) as caught:
        find_target(name)
    assert f"there is no target {name!r}" == caught.value.what
    assert f"did you mean {near!r}?" == caught.value.advice


@pytest.mark.parametrize("name", ["", "quantum", "../etc"])
def test_nonsense_gets_the_list(name):
    with pytest.raises(UsageError) as caught:
        find_target(name)
    assert caught.value.advice is not None
    assert caught.value.advice.startswith("targets: cpu, ")
