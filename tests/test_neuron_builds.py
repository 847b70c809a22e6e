"""Bundles for Neuron from build to numbers: deferred, compiled, loaded, run, verified.

The same tests run with the stand-in and, where it is, the SDK itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import partitioner
from partitioner.artifacts.attestations import read_attestation
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.index import BundleIndex
from partitioner.backends.neuron.sdk import find_kind
from partitioner.builder import build
from partitioner.cli import main
from partitioner.errors import (
    CompileError,
    IncompatibleBundleError,
    MissingDependencyError,
    OutputError,
    UsageError,
)
from partitioner.finishing import deferred_segments, finish_bundle
from partitioner.runtime.verify import verify_bundle
from tests.neuron_bundles import deferred, finished, standin
from tests.neuron_pipeline import EXAMPLE, Pipeline, mlp
from tests.neuron_standin import behave

#: Fixtures.
__all__ = ["deferred", "finished", "standin"]

# --- before there is an SDK ---------------------------------------------------------------------


def test_a_deferred_bundle_says_what_is_missing(
    deferred: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Bundle.open(deferred).manifest
    assert {"encoder", "denoiser", "decoder"} == set(deferred_segments(manifest))
    assert manifest.parity is not None
    assert 0 == exit_code(["inspect", str(deferred)])
    said = capsys.readouterr().out
    assert "missing  decoder, denoiser, encoder: run `partition compile`" in said
    assert 3 == said.count("not compiled")


def test_a_deferred_bundle_is_not_loaded(deferred: Path) -> None:
    with pytest.raises(IncompatibleBundleError) as caught:
        partitioner.load(deferred)
    assert "3 segments of the bundle are still to be compiled" in caught.value.what
    assert "run `partition compile BUNDLE`" in str(caught.value.advice)


def test_nothing_in_a_deferred_bundle_is_a_pickle(deferred: Path) -> None:
    manifest = Bundle.open(deferred).manifest
    kinds = {manifest.blob(str(one.graph)).media_type for one in manifest.artifacts.values()}
    assert {
        "application/vnd.partitioner.neuron.graph.v1+json",
        "application/vnd.partitioner.onnx.v1",
    } == kinds


def test_without_an_sdk_it_says_which(deferred: Path, tmp_path: Path) -> None:
    if find_kind() != "none":
        return
    with pytest.raises(MissingDependencyError, match="torch_neuronx is not installed"):
        finish_bundle(deferred, output=tmp_path / "b")
    with pytest.raises(UsageError) as caught:
        build(Pipeline(), EXAMPLE, target="inf2", output=tmp_path / "b")
    assert "--defer-compile" in str(caught.value.advice)
    assert [] == list(tmp_path.iterdir())


def test_an_output_that_is_there_is_refused_before_anything_is_compiled(
    deferred: Path, tmp_path: Path
) -> None:
    # Not as a missing SDK, which is found by the first segment.
    with pytest.raises(OutputError, match="the output exists already"):
        finish_bundle(deferred, output=tmp_path)
    assert [] == list(tmp_path.iterdir())
    assert not tmp_path.with_name(f"{tmp_path.name}.compiling").exists()


# --- with one -----------------------------------------------------------------------------------


def test_a_finished_bundle_gives_eagers_numbers(finished: Path) -> None:
    image = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    pipeline = Pipeline()
    torch.manual_seed(7)
    with torch.no_grad():
        expected = pipeline(torch.from_numpy(image))
    for mode in ("latency", "throughput"):
        with partitioner.load(finished, mode=mode, allow_executable=True) as pipe:
            actual = pipe(image=image, seed=7)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value.numpy(), rtol=1e-3, atol=1e-4)
    assert verify_bundle(finished, allow_executable=True).ok


def test_a_finished_bundle_needs_nothing_more(finished: Path, deferred: Path) -> None:
    digest = Bundle.open(finished).digest
    again = finish_bundle(finished)
    assert (digest, (), ()) == (again.digest, again.compiled, again.resumed)
    manifest = Bundle.open(finished).manifest
    assert () == deferred_segments(manifest)
    assert "torch-neuronx" in manifest.toolchain
    # Weights that went into what was compiled are there no more.
    before = Bundle.open(deferred).manifest.artifacts.values()
    portable = {str(one.graph) for one in before if one.is_deferred}
    assert set() == portable & {blob.digest for blob in manifest.blobs}


def test_the_documents_speak_of_what_was_compiled(finished: Path, deferred: Path) -> None:
    before, after = Bundle.open(deferred), Bundle.open(finished)
    statement = read_attestation(after, "provenance")
    subjects = {f"sha256:{row['digest']['sha256']}" for row in statement["subject"]}
    documents = set(after.manifest.report["attestations"].values())
    assert {blob.digest for blob in after.manifest.blobs} - documents == subjects
    components = read_attestation(after, "sbom")["components"]
    assert subjects == {row["bom-ref"] for row in components if "purl" not in row}
    old = [row for row in read_attestation(before, "sbom")["components"] if "purl" in row]
    new = [row for row in components if "purl" in row]
    # Nothing that the build has named is lost, and what has compiled is there.
    assert [] == [row for row in old if row not in new]
    assert {"neuronx-cc", "torch-neuronx"} <= {row["name"] for row in new}
    sources = [
        [row for row in rows if "uri" not in row]
        for rows in (
            read_attestation(one, "provenance")["predicate"]["buildDefinition"][
                "resolvedDependencies"
            ]
            for one in (before, after)
        )
    ]
    assert sources[0] == sources[1] != []


def test_members_for_other_targets_are_left_as_they_are(standin: Path, tmp_path: Path) -> None:
    path = tmp_path / "b"
    build(Pipeline(), EXAMPLE, target=["inf2", "cpu"], defer_compile=True, output=path)
    cpu = Bundle.open(path, wanted={"target": "cpu"}).image
    machines = [member.machine for member in BundleIndex.open(path).members]
    finish_bundle(path)
    index = BundleIndex.open(path, "always")
    assert ["x86_64", ""] == machines == [member.machine for member in index.members]
    assert ["inf2", "cpu"] == [member.labels["target"] for member in index.members]
    for member in index.members:
        index.bundle(member).check()
        assert () == deferred_segments(index.bundle(member).manifest)
    assert cpu == Bundle.open(path, wanted={"target": "cpu"}).image
    # At once: weights that only the CPU's member reads are still there.
    once = build(Pipeline(), EXAMPLE, target=["inf2", "cpu"], output=tmp_path / "once")
    index = BundleIndex.open(once.path, "always")
    declared = {blob.digest for blob in index.closure(index.members)}
    for member in index.members:
        index.bundle(member).check()
    present = {f"sha256:{p.name}" for p in index.bundle(index.members[0]).blobs_dir.iterdir()}
    assert set() == present ^ {*declared, index.root.digest}


def test_a_run_that_fails_is_gone_on_with(
    deferred: Path, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b"
    shutil.copytree(deferred, path)
    behave(standin, fail="status:-9@2")
    with pytest.raises(CompileError) as caught:
        finish_bundle(path)
    behave(standin)
    assert "kept, so run it again" in str(caught.value.advice)
    assert Bundle.open(deferred).digest == Bundle.open(path).digest
    done = finish_bundle(path)
    assert (2, 1) == (len(done.compiled), len(done.resumed))
    assert ["b"] == [p.name for p in tmp_path.iterdir()]
    assert verify_bundle(path, allow_executable=True).ok


def test_a_build_compiles_at_once_and_falls_back(standin: Path, tmp_path: Path) -> None:
    behave(standin, fail="status:70@1")
    result = build(
        Pipeline(),
        EXAMPLE,
        target="inf2",
        backend_options={"neuron": {"optlevel": 1, "decoder.optlevel": 3}},
        output=tmp_path / "b",
    )
    behave(standin)
    artifacts = Bundle.open(result.path).manifest.artifacts
    assert "onnx" == artifacts["encoder"].backend
    assert "exit code 70" in result.report["compile"]["encoder"]["failures"]["neuron"]
    levels = {
        name: one.options["args"][one.options["args"].index("--optlevel") + 1]
        for name, one in artifacts.items()
        if one.backend == "neuron"
    }
    assert {"denoiser": "1", "decoder": "3"} == levels
    assert verify_bundle(result.path, allow_executable=True).ok


def test_the_command_line_goes_the_whole_way(
    sdk: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.py"
    model.write_text(
        "from tests.neuron_pipeline import EXAMPLE as example_inputs, Pipeline\n"
        "pipeline = Pipeline()\n"
    )
    path = tmp_path / "b"
    words = ["build", str(model), "--target", "inf2", "--defer-compile"]
    words += ["--backend-option", "neuron.optlevel=1", "-o", str(path)]
    assert 0 == exit_code(words)
    assert 0 == exit_code(["compile", str(path)])
    assert 0 == exit_code(["verify", str(path), "--allow-executable"])
    said = capsys.readouterr().out
    assert "compiled decoder, denoiser, encoder" in said
    assert "ok: the numbers are those of the eager pipeline" in said


class Rows(torch.nn.Module):
    """A pipeline whose inputs have rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.encoder = mlp(64, 1024)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.encoder(image)


def test_any_number_of_requests_is_served_in_batches(standin: Path, tmp_path: Path) -> None:
    pipeline, images = Rows(), np.linspace(-1, 1, 5 * 64, dtype=np.float32).reshape(5, 64)
    example = {"image": torch.ones(1, 64)}
    build(pipeline, example, target="inf2", batch=(2,), output=tmp_path / "b")
    with torch.no_grad():
        expected = pipeline(torch.from_numpy(images)).numpy()
    with partitioner.load(tmp_path / "b", allow_executable=True) as pipe:
        assert "neuron" == next(iter(pipe.manifest.artifacts.values())).backend
        # Two of two, and one that is filled up: what torch_neuronx calls a dynamic batch.
        (actual,) = pipe(image=images).values()
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def exit_code(words: list[str]) -> Any:
    with pytest.raises(SystemExit) as caught:
        main(words)
    return caught.value.code
