"""The targets there are, and what a name that is not among them gets."""

import os
import platform
from pathlib import Path

import pytest

from partitioner.backends import backend_names
from partitioner.backends.neuron import support as neuron_support
from partitioner.backends.onnx import support
from partitioner.errors import UsageError
from partitioner.specs import DTYPES
from partitioner.targets import all_targets, find_target
from tests.targets.files import refused, write

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
    assert set() == set(target.backends) - set(backend_names())
    assert "host" == target.backends[-1]
    assert set() == set(target.dtypes) - set(DTYPES)
    assert 0 < target.absolute < target.relative < 0.01
    assert "" not in (target.note, target.family, *target.sources)
    assert target.sources
    assert {"cpu"} == {target.device_of("host").name, target.device_of("onnx").name}
    # A device may have backends that are used only where they are asked for.
    possible = {b for d in target.devices for b in d.backends}
    assert possible >= set(target.backends)
    assert possible == {b for d in target.devices for b in d.call_s}


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
    assert support.table().dtypes == set(find_target("cpu").dtypes)


def test_dtypes_of_an_accelerator_are_among_those_of_its_backend():
    for name in ("inf2", "trn1", "trn2", "trn3"):
        assert set() == set(find_target(name).dtypes) - neuron_support.table().dtypes


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


# --- users' files -------------------------------------------------------------------------------

MINE = '[targets.mine]\nbase = "xeon"\naliases = ["my-box"]\n'


def test_files_come_from_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, MINE)
    more = write(tmp_path, '[targets.more]\nbase = "mine"\n', "more.toml")
    monkeypatch.setenv("PARTITIONER_TARGETS", os.pathsep.join([str(tmp_path / "mine.toml"), ""]))
    assert "mine" == find_target("My-Box").name
    assert "xeon" == find_target("more", [more]).family
    # Named in both ways, a file is read once.
    assert "mine" == find_target("mine", [tmp_path / "mine.toml"]).name
    assert {"mine"} == {t.name for t in all_targets()} - {t.name for t in TARGETS}


def test_nearest_names_are_of_files_too(tmp_path: Path):
    with pytest.raises(UsageError, match="did you mean 'my-box'"):
        find_target("my-bix", [write(tmp_path, MINE)])


@pytest.mark.parametrize(
    ("text", "taken", "owner"),
    [
        ('[targets.xeon]\nbase = "cpu"\n', "xeon", "xeon.toml"),
        ('[targets."m7i.2xlarge"]\nbase = "cpu"\n', "m7i.2xlarge", "xeon.toml"),
        ('[targets.m7i]\nbase = "cpu"\n', "m7i", "xeon.toml"),
        ('[targets.mine]\nbase = "cpu"\naliases = ["INF2"]\n', "INF2", "neuron.toml"),
    ],
)
def test_a_name_that_is_taken_is_refused(tmp_path: Path, text: str, taken: str, owner: str):
    error = refused(tmp_path, text)
    assert f"there is a target {taken!r} already, in {owner}" == error.what


def test_instances_have_figures_and_prices_of_their_own():
    small, large = find_target("inf2.xlarge"), find_target("inf2.48xlarge")
    assert (2, 24) == (small.devices[0].copies, large.devices[0].copies)
    assert small.device_of("neuron").flops == large.device_of("neuron").flops
    assert small.price is not None
    assert large.price is not None
    assert (0.7582, 12.98127) == (small.price.per_hour, large.price.per_hour)
    assert small.price == find_target("inf2").price
    assert None is find_target("trn3").price
    assert "c7i.2xlarge" == find_target("c7i").name


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_a_price_is_that_of_the_instance(target):
    if target.price is not None:
        assert find_target(target.instance).price == target.price


def test_accelerators_have_neither_float64_nor_int64():
    for name in ("inf2", "trn1", "trn2", "trn3"):
        target = find_target(name)
        assert set() == {"float64", "int64", "int16"} & set(target.dtypes)
        assert ("bfloat16", "float16") == target.arithmetic
        assert target.limits["neuron"].instructions == 5_000_000
        assert target.limits["neuron"].memory_bytes == target.device_of("neuron").memory_bytes
