"""Weights in the NEFF or outside of it, by measurement where there is a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.backends.execution import DeviceOptions
from partitioner.backends.neuron.execute import NeuronExecutor
from tests.backends.neuron_segments import Files
from tests.neuron_standin import behave

MEASURED = {"neuron": {"weights": "measured"}}


def compilations(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.rglob("job.json")}


def check_numbers(made: Any, files: Files) -> None:
    executable = NeuronExecutor().load(files.artifact(made), DeviceOptions())
    inputs = files.inputs()
    np.testing.assert_allclose(
        executable(*inputs)[0], files.expected(*inputs)[0], rtol=1e-3, atol=1e-4
    )
    executable.close()


def test_one_of_two_ways_is_taken(sdk: str, files: Files, tmp_path: Path) -> None:
    made = files.compile(tmp_path, settings=MEASURED)
    measured, warnings = made.options["measured"], made.options["warnings"]
    # A machine without a device compiles all the same.
    assert measured or "was not measured" in warnings[-1]
    faster = min(measured, key=lambda way: measured[way], default="inline")
    assert made.options["inline_weights"] == (faster == "inline")
    if measured:
        check_numbers(made, files)


@pytest.mark.parametrize(("slow", "taken"), [("inline", "separate"), ("separate", "inline")])
def test_the_faster_way_is_taken(
    slow: str, taken: str, well: Path, files: Files, tmp_path: Path
) -> None:
    behave(well, slow=slow)
    # As --tune does where nothing is said of the weights.
    made = files.compile(tmp_path, tune=True)
    assert {"inline", "separate"} == made.options["measured"].keys()
    assert (taken == "inline") == made.options["inline_weights"]
    assert (taken == "separate") == ("moved to the device" in str(made.options["warnings"]))
    check_numbers(made, files)


def test_what_is_said_of_the_weights_is_not_measured(
    well: Path, files: Files, tmp_path: Path
) -> None:
    behave(well, slow="inline")
    made = files.compile(tmp_path, tune=True, settings={"neuron": {"weights": "inline"}})
    assert made.options["inline_weights"]
    assert {} == made.options["measured"]


def test_a_machine_that_only_compiles_goes_by_size(
    well: Path, files: Files, tmp_path: Path
) -> None:
    behave(well, cores="0")
    made = files.compile(tmp_path, settings=MEASURED)
    assert {} == made.options["measured"]
    assert made.options["inline_weights"]
    (note,) = made.options["warnings"]
    assert "was not measured" in note
    assert "the Neuron runtime does not start here" in note
    # And not twice.
    assert {"auto"} == compilations(tmp_path)


def test_a_way_that_cannot_be_compiled_is_left(well: Path, files: Files, tmp_path: Path) -> None:
    behave(well, fail="status:70@2")
    made = files.compile(tmp_path, settings=MEASURED)
    assert {"auto", "separate"} == compilations(tmp_path)
    assert made.options["inline_weights"]
    assert "exit code 70" in made.options["warnings"][-1]
    check_numbers(made, files)


def test_what_is_deferred_is_measured_later(files: Files, tmp_path: Path) -> None:
    deferred = files.compile(tmp_path, defer=True, tune=True)
    assert "measured" == deferred.options["settings"]["weights"]
