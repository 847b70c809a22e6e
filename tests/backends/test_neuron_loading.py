"""Compiled Neuron segments brought to cores: placement, loaders, and what is refused.

What the fixture ``made`` gives is compiled by the stand-in, and by the SDK itself where it is.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from partitioner.backends.execution import DeviceOptions
from partitioner.backends.neuron import execute
from partitioner.backends.neuron.execute import NeuronExecutor
from partitioner.errors import (
    BackendError,
    BundleError,
    IncompatibleBundleError,
    PartitionerError,
    UsageError,
)
from tests.backends.neuron_segments import Files
from tests.neuron_standin import behave
from tests.neuron_standin.neffs import neff

LOADING = [
    (
        "NEFF version: 2.0, features: 0x100 are not supported",
        "the runtime is older than the compiler",
        "partition compile",
    ),
    ("NEFF version mismatch supported: 1.1 received: 2.0", "does not know the NEFF's", "SDK"),
    ("Unsupported hardware operator code", "does not know", "compile for this device"),
    ("NRT_RESOURCE: failed to allocate", "the device's memory is used up", "fewer copies"),
]


@pytest.mark.parametrize(("said", "cause", "advice"), LOADING)
def test_what_loading_says_is_explained(
    said: str, cause: str, advice: str, well: Path, files: Files, tmp_path: Path
) -> None:
    made = files.compile(tmp_path)
    behave(well, load=said)
    with pytest.raises(BackendError) as caught:
        NeuronExecutor().load(files.artifact(made), DeviceOptions())
    assert cause in caught.value.what
    assert advice in str(caught.value.advice)
    assert "it was compiled with" in str(caught.value.advice)


def test_no_device_is_said_to_be_none(well: Path, files: Files, tmp_path: Path) -> None:
    made = files.compile(tmp_path)
    behave(well, cores="0")
    with pytest.raises(BackendError, match="the Neuron runtime does not start here"):
        NeuronExecutor().load(files.artifact(made), DeviceOptions())


def test_segments_of_a_pipeline_stand_on_different_cores(
    well: Path, files: Files, tmp_path: Path
) -> None:
    import torch_neuronx

    artifact = files.artifact(files.compile(tmp_path))
    torch_neuronx.placements.clear()
    executor = NeuronExecutor()
    for _ in range(3):
        executor.load(artifact, DeviceOptions())
    assert [(0, 1), (1, 1), (0, 1)] == torch_neuronx.placements
    torch_neuronx.placements.clear()
    NeuronExecutor().load(artifact, DeviceOptions(mode="throughput"))
    assert [(0, 1), (1, 1)] == torch_neuronx.placements


def test_segments_that_are_loaded_side_by_side_stand_on_different_cores(
    well: Path, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch_neuronx

    found = execute.visible_cores

    def looked_for(*given: Any) -> tuple[int, ...]:
        # As long as it takes the other thread to get here, if it may.
        time.sleep(0.2)
        return found(*given)

    monkeypatch.setattr(execute, "visible_cores", looked_for)
    artifact = files.artifact(files.compile(tmp_path))
    torch_neuronx.placements.clear()
    executor = NeuronExecutor()
    with ThreadPoolExecutor(2) as pool:
        for loading in [pool.submit(executor.load, artifact, DeviceOptions()) for _ in range(2)]:
            loading.result()
    assert [(0, 1), (1, 1)] == sorted(torch_neuronx.placements)


def test_weights_outside_of_the_neff_are_moved_to_the_core(
    well: Path, files: Files, tmp_path: Path
) -> None:
    import torch_neuronx

    made = files.compile(tmp_path, settings={"neuron": {"weights": "separate"}})
    torch_neuronx.moved.clear()
    NeuronExecutor().load(files.artifact(made), DeviceOptions())
    assert [0] == torch_neuronx.moved
    assert "moved to the device" in made.options["warnings"][0]


def test_the_loader_without_torch(
    standin: Path, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nrtpy

    made = files.compile(tmp_path)
    monkeypatch.setenv("PARTITIONER_NEURON_LOADER", "nrtpy")
    nrtpy.cores.clear()
    with pytest.warns(RuntimeWarning, match="experimental"):
        executable = NeuronExecutor().load(files.artifact(made), DeviceOptions(mode="throughput"))
    assert [0, 1] == nrtpy.cores
    inputs = files.inputs()
    (result,) = executable(*inputs)
    expected = sum(float(array.sum()) for array in inputs)
    np.testing.assert_allclose(result, np.full(result.shape, expected), rtol=1e-5)
    separate = files.compile(tmp_path / "separate", settings={"neuron": {"weights": "separate"}})
    with (
        pytest.warns(RuntimeWarning, match="experimental"),
        pytest.raises(IncompatibleBundleError, match="inlined weights only"),
    ):
        NeuronExecutor().load(files.artifact(separate), DeviceOptions())


def test_a_loader_that_there_is_not(
    made: Any, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTITIONER_NEURON_LOADER", "tensorrt")
    with pytest.raises(UsageError, match="PARTITIONER_NEURON_LOADER is 'tensorrt'"):
        NeuronExecutor().load(files.artifact(made), DeviceOptions())


def change(made: Any, **fields: Any) -> Any:
    return replace(made, options={**made.options, **fields})


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"format": 2}, IncompatibleBundleError, "format 2"),
        ({"library": "x.so"}, IncompatibleBundleError, "asks for 'library'"),
        ({"lnc": "2"}, BundleError, "malformed"),
        ({"arguments": []}, BundleError, None),
        ({"results": []}, BundleError, "are not those of the segment"),
        ({"target": "trn2", "lnc": 2}, BundleError, "logical cores of 1 cores"),
    ],
)
def test_what_an_artifact_says_is_checked_first(
    fields: dict[str, Any], kind: type[PartitionerError], said: str | None, made: Any, files: Files
) -> None:
    if "arguments" in fields:
        wrong = {**made.options["arguments"][0], "input": 9}
        fields, said = {"arguments": [wrong]}, "are not those of the segment"
    with pytest.raises(kind) as caught:
        NeuronExecutor().load(files.artifact(change(made, **fields)), DeviceOptions())
    assert str(said) in caught.value.what


def test_another_neff_than_the_manifest_speaks_of(made: Any, files: Files) -> None:
    facts = {**made.options["neff"], "build": "1.0"}
    with pytest.raises(BundleError, match="header has build"):
        NeuronExecutor().load(files.artifact(change(made, neff=facts)), DeviceOptions())


def test_an_archive_without_a_neff(made: Any, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), str(path))
    with pytest.raises(BundleError, match="holds no NEFFs"):
        NeuronExecutor().load(files.artifact(replace(made, graph=path)), DeviceOptions())
    path.write_bytes(neff())
    with pytest.raises(BundleError, match="not a TorchScript archive"):
        NeuronExecutor().load(files.artifact(replace(made, graph=path)), DeviceOptions())
