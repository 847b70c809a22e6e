"""Tables that stand on others."""

from pathlib import Path

import pytest

from partitioner.targets import find_target
from tests.targets.files import refused, write


def one(folder: Path, text: str):
    return find_target("mine", [write(folder, text)])


def test_what_a_table_does_not_say_is_its_bases(tmp_path: Path):
    xeon = find_target("xeon")
    mine = one(tmp_path, '[targets.mine]\nbase = "xeon"\ndevices.cpu.cores = 2\n')
    assert ("mine", "xeon", xeon.instance, xeon.price) == (
        *(mine.name, mine.family),
        *(mine.instance, mine.price),
    )
    assert 2 * xeon.devices[0].bandwidth == 4 * mine.devices[0].bandwidth
    assert xeon.dtypes == mine.dtypes
    assert (xeon.devices[0].memory_bytes, ()) == (mine.devices[0].memory_bytes, mine.aliases)


def test_products_and_prices_are_replaced_as_a_whole(tmp_path: Path):
    mine = one(
        tmp_path,
        '[targets.mine]\nbase = "xeon"\ndevices.cpu.flops_per_core = { float32 = 1e11 }\n'
        'price = { per_hour = 0.1, date = "2026-01-01", source = "a bill" }\n',
    )
    assert {"float32": 4e11} == mine.devices[0].flops
    assert mine.price is not None
    assert (0.1, "", "mine") == (mine.price.per_hour, mine.price.terms, mine.instance)


def test_limits_of_backends_that_are_left_out_are_left_out(tmp_path: Path):
    mine = one(tmp_path, '[targets.mine]\nbase = "inf2"\nbackends = ["onnx", "host"]\n')
    assert ["onnx"] == list(mine.limits)


def test_another_instance_has_not_the_price_of_its_base(tmp_path: Path):
    mine = one(tmp_path, '[targets.mine]\nbase = "xeon"\ninstance = "a box in the cellar"\n')
    assert ("a box in the cellar", None) == (mine.instance, mine.price)


def test_a_base_in_the_same_file_may_stand_below(tmp_path: Path):
    text = '[targets.mine]\nbase = "other"\n[targets.other]\nbase = "graviton4"\ncopies = 3\n'
    mine = one(tmp_path, text)
    assert ("graviton", 3) == (mine.family, mine.devices[0].copies)


def test_a_base_may_stand_in_an_earlier_file(tmp_path: Path):
    other = write(tmp_path, '[targets.other]\nbase = "xeon"\ncopies = 3\n', "other.toml")
    mine = write(tmp_path, '[targets.mine]\nbase = "other"\n')
    assert 3 == find_target("mine", [mine, other]).devices[0].copies


def test_an_unknown_base_gets_the_nearest_name(tmp_path: Path):
    error = refused(tmp_path, '[targets.mine]\nbase = "xoen"\n')
    assert "the base 'xoen' of target 'mine' does not exist" == error.what
    assert f"{tmp_path / 'mine.toml'}, table targets.mine, key base" == error.where
    assert "did you mean 'xeon'?" == error.advice


@pytest.mark.parametrize(
    ("bases", "circle", "where"),
    [
        ({"mine": "mine"}, "mine -> mine", "mine"),
        ({"mine": "a", "a": "mine"}, "mine -> a -> mine", "a"),
        ({"mine": "a", "a": "b", "b": "c", "c": "a"}, "a -> b -> c -> a", "c"),
    ],
)
def test_bases_in_a_circle_are_printed(tmp_path: Path, bases, circle: str, where: str):
    text = "".join(f'[targets.{name}]\nbase = "{base}"\n' for name, base in bases.items())
    error = refused(tmp_path, text)
    assert f"the bases of targets go in a circle: {circle}" == error.what
    assert f"{tmp_path / 'mine.toml'}, table targets.{where}, key base" == error.where
