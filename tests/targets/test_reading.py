"""Files of targets: what their form is, and what else gets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitioner.errors import UsageError
from partitioner.targets import find_target
from partitioner.targets.reading import Place, read_tables
from partitioner.targets.schema import TARGET, Each, Keys, Kind, Number, PriceOf
from tests.targets.files import WHOLE, refused, write


def test_a_file_of_ones_own(tmp_path: Path):
    target = find_target("board", [write(tmp_path, WHOLE)])
    assert ("board", "board", "board") == (target.name, target.family, target.instance)
    assert (2, 4, 4e9) == (target.devices[0].copies, *_cores(target.device_of("host")))
    chip = target.device_of("onnx")
    assert ("chip", 2**29, {"float32": 1e12}, 0.5) == (
        *(chip.name, chip.memory_bytes),
        *(chip.flops, chip.efficiency),
    )
    assert (1e9, 1e-6, None) == (
        *(chip.transfer_bandwidth, chip.transfer_s),
        target.device_of("host").transfer_bandwidth,
    )
    assert 2**28 == target.limits["onnx"].memory_bytes
    assert target.price is not None
    assert (0.25, "USD", "2026-11-01", "https://example.com/prices") == (
        *(target.price.per_hour, target.price.currency),
        *(target.price.date, target.price.source),
    )
    assert "its data sheet" == target.figure_sources["devices.chip.bandwidth_per_core"]
    assert "measured on the bench" == target.figure_sources["devices.cpu.cores"]
    assert str(tmp_path / "mine.toml") == target.origin


def _cores(device):
    return device.cores, device.bandwidth


def test_a_figure_without_a_source_comes_from_its_file(tmp_path: Path):
    path = write(tmp_path, '[targets.mine]\nbase = "xeon"\ndevices.cpu.cores = 6\n')
    target = find_target("mine", [path])
    assert str(path) == target.figure_sources["devices.cpu.cores"]


# --- form ---------------------------------------------------------------------------------------


def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path):
    error = refused(tmp_path, "[targets.mine]\nbase = \n")
    assert error.what.startswith("the target file is not TOML: ")
    assert "line 2" in error.what


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(UsageError, match="No such file") as caught:
        find_target("cpu", [tmp_path / "none.toml"])
    assert str(tmp_path / "none.toml") == caught.value.where


def test_a_file_that_is_no_text(tmp_path: Path):
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        find_target("cpu", [tmp_path / "x.toml"])


@pytest.mark.parametrize("text", ["", "targets = 3", "[targets]"])
def test_a_file_without_targets(tmp_path: Path, text: str):
    refused(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "what", "where", "advice"),
    [
        ("cores = 4", "no 'cores' here", "targets.mine, key cores", "did you mean 'source"),
        ("devises.cpu = {}", "no 'devises'", "targets.mine, key devises", "mean 'devices'"),
        ("devices.cpu.core = 4", "no 'core'", "targets.mine.devices.cpu, key core", "'cores'"),
        (
            "devices.cpu.flops_per_core.bf16 = 1e12",
            "no 'bf16'",
            "targets.mine.devices.cpu.flops_per_core, key bf16",
            None,
        ),
        ('dtypes = ["float31"]', "no 'float31'", "dtypes, key float31", "mean 'float32'"),
        ('backends = ["onnx", "onnx"]', "'onnx' is there twice", "key backends", None),
        ('backends = "onnx"', "expected a list of texts, not 'onnx'", "key backends", None),
        ("static_shapes = 1", "expected true or false, not 1", "key static_shapes", None),
        ("note = ' '", "expected a text, not ' '", "key note", None),
        ("devices.cpu.cores = 2.5", "expected a whole number, not 2.5", "key cores", None),
        ("devices.cpu.cores = true", "expected a number, not True", "key cores", None),
        ('devices.cpu.cores = "4"', "expected a number, not '4'", "key cores", None),
        ("devices.cpu.cores = inf", "expected a whole number, not inf", "key cores", None),
        ("devices.cpu = 4", "expected a table, not 4", "targets.mine.devices, key cpu", None),
        ("devices.cpu.cores = {}", "a figure's table has a 'value'", "key cores", None),
        ("devices.cpu.cores = {value = 4, unit = 1}", "no 'unit'", "cpu.cores, key unit", None),
        ("price = 0.5", "the price has no 'date'", "targets.mine, key price", "table 'prices'"),
        (
            "price = {per_hour = 1, date = '1.5.2026', source = 'x'}",
            "expected a text such as '2026-07-20', not '1.5.2026'",
            "targets.mine.price, key date",
            None,
        ),
    ],
)
def test_what_is_wrong_and_where(tmp_path: Path, line: str, what: str, where: str, advice):
    error = refused(tmp_path, f'[targets.mine]\nbase = "xeon"\n{line}\n')
    assert error.what.startswith("a target file is wrong: ")
    assert what in error.what
    assert f"{tmp_path / 'mine.toml'}, table " in (error.where or "")
    assert where in (error.where or "")
    if advice is not None and "source" not in advice:
        assert advice in (error.advice or "")


@pytest.mark.parametrize("name", ["Mine", "my box", "../x", "a" * 65])
def test_names_are_small_and_plain(tmp_path: Path, name: str):
    assert "is no name" in refused(tmp_path, f'[targets."{name}"]\nbase = "xeon"\n').what


# --- ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("devices.cpu.flops_per_core.float32 = 1e30", "1e+30 is not from 1e+07 to 1e+16 op"),
        ("devices.cpu.bandwidth_per_core = 0", "0 is not from 1e+07 to 1e+14 bytes/s"),
        ("devices.cpu.memory_gib = 0.05", "0.05 is not from 0.0625 to 65536 GiB"),
        (
            "price = {per_hour = -1, date = '2026-01-01', source = 'x'}",
            "-1 is not from 1e-06 to 10000",
        ),
        ("devices.cpu.bandwidth_per_core = nan", "nan is not from"),
    ],
)
def test_absurd_figures_are_refused_with_what_is_allowed(tmp_path: Path, line: str, allowed: str):
    error = refused(tmp_path, f'[targets.mine]\nbase = "xeon"\n{line}\n')
    assert allowed in error.what
    assert "correct the figure" == error.advice


def _numbers(kind: Kind, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Number]]:
    match kind:
        case Number():
            yield path, kind
        case Keys() | PriceOf():
            for key, own in kind.kinds.items():
                yield from _numbers(own, (*path, key))
        case Each():
            yield from _numbers(kind.kind, (*path, kind.known[-1] if kind.known else "onnx"))
        case _:
            pass


NUMBERS = dict(_numbers(TARGET))

PRICE = "price.date = '2026-01-01'\nprice.source = 'x'\n"


def _read(path: tuple[str, ...], value: float) -> None:
    text = f"[targets.x]\n{PRICE if path[0] == 'price' else ''}{'.'.join(path)} = {value!r}\n"
    read_tables(text, "x.toml")


@given(st.sampled_from(sorted(NUMBERS)), st.floats())
def test_a_figure_is_taken_if_and_only_if_it_is_in_its_range(path: tuple[str, ...], value: float):
    kind = NUMBERS[path]
    good = kind.low <= value <= kind.high and (not kind.whole or value == int(value))
    if good:
        _read(path, value)
        return
    with pytest.raises(UsageError) as caught:
        _read(path, value)
    assert f"x.toml, table targets.x{''.join(f'.{p}' for p in path[:-1])}, key {path[-1]}" == (
        caught.value.where
    )


@pytest.mark.parametrize("path", sorted(NUMBERS), ids=".".join)
def test_both_ends_of_a_range_are_in_it(path: tuple[str, ...]):
    for value in (NUMBERS[path].low, NUMBERS[path].high):
        _read(path, float(value))


def test_a_place_in_words():
    place = Place("x.toml")
    assert "x.toml" == str(place)
    assert "x.toml, key source" == str(place / "source")
    at = place / "targets" / "inf2.xlarge" / "copies"
    assert 'x.toml, table targets."inf2.xlarge", key copies' == str(at)
