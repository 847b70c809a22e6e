"""Places at which a run writes what it gives, and names that lead nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partitioner.cli.outputs import check_output, write_outputs
from partitioner.cli.run import parse_inputs
from partitioner.errors import InputError, OutputError

ONE = np.ones((1, 3), np.float32)


def test_outputs_by_names_of_parameters_are_written(tmp_path: Path) -> None:
    write_outputs(tmp_path / "all.npz", {"file": ONE, "y": [ONE, ONE]})
    with np.load(tmp_path / "all.npz") as loaded:
        assert ["file", "y.0", "y.1"] == loaded.files


@pytest.mark.parametrize("name", ["../y", "/tmp/y", "a/b", "a\0b"])
def test_a_name_leads_out_of_no_directory(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no name that a file can have(.|\n)*\.npz"):
        write_outputs(tmp_path / "inside" / "many", {"first": ONE, name: ONE})
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("none/x.npz", "make the folder"),
        ("folder.npz", "Is a directory"),
        ("file", "is a file"),
        ("x.xyz", "not written as"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_run(
    name: str, what: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=what):
        check_output(tmp_path / name)


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_int64_stay_floats() -> None:
    found = parse_inputs(("x=1e30,1", "y=1e30", "z=3", "n=nan"))
    assert ["float64", "float64", "int64", "float64"] == [one.dtype.name for one in found.values()]


def test_an_input_without_a_value_says_what_to_give() -> None:
    with pytest.raises(InputError, match=r"NAME=VALUE(.|\n)*label=3"):
        parse_inputs(("x=",))


def test_an_npy_file_has_no_names(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ONE)
    with pytest.raises(InputError, match="one array, and none by the name 'x'"):
        parse_inputs((f"x={tmp_path / 'x.npy'}:x",))
