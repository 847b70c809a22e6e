"""The adapter over the SDK: which of the three things is installed, and what is uncertain in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from partitioner.backends.neuron.sdk import (
    OVERRIDE,
    find_kind,
    import_sdk,
    namesake,
    override_platform,
)
from partitioner.errors import BackendError, MissingDependencyError
from tests.neuron_standin import BEFORE_STABLE, NATIVE, OLD, STUB, XLA, behave, install

ARGS = ["--target", "inf2"]


def trace(folder: Path) -> Any:
    return import_sdk().trace(
        torch.nn.Linear(2, 2).eval(),
        (torch.ones(1, 2),),
        compiler_args=ARGS,
        workdir=folder / "compiler",
        inline_weights=True,
    )


@pytest.mark.parametrize(
    ("version", "kind", "what", "advice"),
    [
        (STUB, "stub", "the empty package of the public index", "uninstall it"),
        (NATIVE, "native", "TorchNeuron, which has no torch_neuronx.trace", "environment"),
    ],
)
def test_what_has_the_name_and_cannot_trace(
    version: str, kind: str, what: str, advice: str, tmp_path: Path
) -> None:
    with install(tmp_path, version):
        assert kind == find_kind()
        with pytest.raises(MissingDependencyError) as caught:
            import_sdk()
        # For `partition doctor`.
        assert what in namesake()
    assert what in caught.value.what
    assert advice in str(caught.value.advice)
    assert XLA in str(caught.value.advice)


def test_nothing_is_said_to_be_nothing() -> None:
    if find_kind() != "none":
        return
    with pytest.raises(MissingDependencyError, match="torch_neuronx is not installed"):
        import_sdk()


def test_a_module_without_trace_is_no_release_on_xla_whatever_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with install(tmp_path, XLA):
        module = import_sdk().module
        monkeypatch.delattr(module, "trace")
        with pytest.raises(MissingDependencyError, match="TorchNeuron"):
            import_sdk()


def test_the_release_on_xla(tmp_path: Path) -> None:
    with install(tmp_path):
        assert ("xla", "") == (find_kind(), namesake())
        override_platform("trn1")
        assert {"torch-neuronx": XLA, "neuronx-cc": "2.27.5334.0"}.items() <= (
            import_sdk().versions.items()
        )
        traced = trace(tmp_path)
        command = (tmp_path / "compiler" / "command.txt").read_text()
        assert command.endswith("--target inf2")
        assert (1, 2) == traced(torch.ones(1, 2)).shape


def test_a_release_that_would_ignore_cpu_backend_is_refused(tmp_path: Path) -> None:
    with install(tmp_path, OLD), pytest.raises(BackendError) as caught:
        trace(tmp_path)
    assert "does not know cpu_backend" in caught.value.what


def test_the_platform_is_named_before_the_import(tmp_path: Path) -> None:
    with install(tmp_path):
        override_platform("trn1")
        assert "trn1" == os.environ[OVERRIDE]
        import_sdk()
        override_platform("trn1")
        with pytest.raises(BackendError, match="imported before"):
            override_platform("trn2")


@pytest.mark.parametrize("version", [XLA, BEFORE_STABLE])
def test_core_placement_is_where_the_release_has_it(version: str, tmp_path: Path) -> None:
    with install(tmp_path, version):
        override_platform("trn1")
        sdk = import_sdk()
        assert hasattr(sdk.module, "neuron_cores_context") == (version == XLA)
        sdk.save(trace(tmp_path), tmp_path / "model.pt")
        behave(tmp_path, cores="4")
        sdk.load(tmp_path / "model.pt", 3)
        sdk.load(tmp_path / "model.pt", None)
        sdk.load(tmp_path / "model.pt", None)
        assert [(3, 1), (0, 1), (1, 1)] == sdk.module.placements
