"""The table of targets, and what a name that is not in it gets."""

import platform

import pytest

from partitioner.backends import backend_names
from partitioner.backends.onnx import support
from partitioner.errors import UsageError
from partitioner.specs import DTYPES
from partitioner.targets import TARGETS, all_targets, find_target


def test_every_name_and_alias_finds_its_target():
    for target in all_targets():
        for name in (target.name, target.name.upper(), *target.aliases):
            assert target == find_target(name)


def test_names_and_aliases_are_unique():
    names = [name for t in TARGETS.values() for name in (t.name, *t.aliases)]
    assert sorted(set(names)) == sorted(names)
    assert list(TARGETS) == [t.name for t in TARGETS.values()]


def test_a_target_lists_backends_that_are_there_and_ends_at_the_host():
    for target in all_targets():
        assert set() == set(target.backends) - set(backend_names())
        assert "host" == target.backends[-1]


def test_facts_are_filled_in():
    for target in all_targets():
        assert set() == set(target.dtypes) - set(DTYPES)
        assert 0 < target.absolute < target.relative < 0.01
        assert "" not in (target.note, *target.sources)
        assert () not in (target.sources, target.dtypes)


def test_dtypes_are_those_of_the_backend():
    assert support.table().dtypes == set(find_target("cpu").dtypes)


def test_cpu_runs_here():
    machines = find_target("cpu").machine
    assert not machines or platform.machine() in machines


@pytest.mark.parametrize("name", ["inf2", "trn1", "trn2", "trn3", "inf2.xlarge", "Trn1.32xlarge"])
def test_known_hardware_says_which_backend_is_missing(name):
    with pytest.raises(UsageError) as caught:
        find_target(name)
    assert f"target {name!r} needs the backend 'neuron', which this version does not have" == (
        caught.value.what
    )
    assert "build for 'cpu', which runs on any CPU" == caught.value.advice


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
    assert "targets: cpu, graviton, xeon" == caught.value.advice
