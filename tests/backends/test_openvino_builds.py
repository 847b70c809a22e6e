"""Whole builds with OpenVINO segments: alone, beside ONNX, and in place of one another."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.cachedir import VARIABLE
from partitioner.backends.openvino.compile import OpenvinoCompiler
from partitioner.backends.openvino.settings import has_bfloat16
from partitioner.bisection import bisect_bundle
from partitioner.cli import inspect
from partitioner.errors import BundleError, CompileError
from partitioner.findings import Finding
from partitioner.modelfile import load_model
from partitioner.planning.overrides import Overrides

MODEL = Path(__file__).resolve().parents[2] / "examples" / "bernini" / "model.py"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))


class Sampler(nn.Module):
    """An encoder, and a loop of a small denoiser."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 32))
        self.denoiser = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 32))

    def forward(self, x: torch.Tensor, steps: int = 4) -> torch.Tensor:
        state = self.encoder(x)
        for step in range(steps):
            state = state - self.denoiser(state) / (step + 2)
        return state


class Huge(nn.Module):
    """A result of 16 GiB on the way, which whoever runs it must have room for."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Outer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


class Outer(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x * x.transpose(0, 1), 1).sum(1)


X = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))


def built(folder: Path, name: str, module: nn.Module, x: torch.Tensor, **options: Any) -> Any:
    """A bundle that a build has verified against the eager pipeline."""
    return partitioner.build(
        module.eval(), {"x": x}, output=folder / name, log=folder / f"{name}.log", **options
    )


def backends_of(path: Path) -> dict[str, str]:
    artifacts = Bundle.open(path).manifest.artifacts
    return {name: artifact.backend for name, artifact in artifacts.items()}


CASES: dict[str, dict[str, Any]] = {
    "onnx": {"backends": ["onnx", "host"]},
    "openvino": {"backends": ["openvino", "host"]},
    "both": {
        "backends": ["onnx", "openvino", "host"],
        "overrides": Overrides({"denoiser": "openvino"}, {}),
    },
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sampler's bundle of each case."""
    folder = tmp_path_factory.mktemp("bundles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(folder / "cache"))
        for name, options in CASES.items():
            built(folder, name, Sampler(), X, **options)
    return folder


def test_the_same_pipeline_through_each_backend_and_both(bundles: Path) -> None:
    expected = Sampler().eval()(X).detach().numpy()
    weights: dict[str, set[str]] = {}
    for name in CASES:
        manifest = Bundle.open(bundles / name).manifest
        weights[name] = {
            digest
            for artifact in manifest.artifacts.values()
            for digest in artifact.weights
            if next(b.size for b in manifest.blobs if b.digest == digest) > 2**11
        }
        with partitioner.load(bundles / name) as pipe:
            for _ in range(2):
                (actual,) = pipe(x=X.numpy(), seed=0).values()
                np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert {"openvino"} == set(backends_of(bundles / "openvino").values())
    assert {"onnx", "openvino"} == set(backends_of(bundles / "both").values())
    # The weights are the same blobs, whichever backend reads them.
    assert weights["onnx"] == weights["openvino"] == weights["both"]


def test_threads_spin_for_a_moment_in_a_bundle_of_several_backends_only(bundles: Path) -> None:
    """In a process of its own, as no shared pool must be there before; mixed, then not."""
    script = f"""
        import partitioner
        from partitioner.backends.onnx.execute import OnnxExecutable

        for name in ("both", "onnx"):
            with partitioner.load({str(bundles)!r} + "/" + name) as pipe:
                for one in pipe._executables.values():
                    if isinstance(one, OnnxExecutable):
                        options = one._session.get_session_options()
                        print(name, options.use_per_session_threads)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # Releases of ONNX Runtime without a shared pool have one for each session, always.
    alone = not hasattr(onnxruntime, "set_global_thread_pool_sizes")
    assert {"both True", f"onnx {alone}"} == set(done.stdout.splitlines())


def test_two_builds_have_one_digest(tmp_path: Path) -> None:
    digests = [
        built(tmp_path, name, Sampler(), X, backends=["openvino", "host"], parity=False).digest
        for name in ("one", "two")
    ]
    assert digests[0] == digests[1]


def test_a_segment_that_one_backend_fails_on_goes_to_the_next(tmp_path: Path) -> None:
    """OpenVINO has to run it, in less address space than that takes; ONNX is compiled only."""
    limits = {"memory_bytes": 12 * 2**30, "parity": False}
    result = built(
        tmp_path, "next", Huge(), torch.ones(2**16, 1), backends=["openvino", "onnx"], **limits
    )
    ((name, backend),) = backends_of(tmp_path / "next").items()
    assert "onnx" == backend
    assert "onnx" == Bundle.open(tmp_path / "next").manifest.plan.segments[name].backend
    failure = result.report["compile"][name]["failures"]["openvino"]
    assert f"OpenVINO does not run segment {name!r}: normal: " in failure
    log = (tmp_path / "next.log").read_text()
    for settings in ("normal", "snippets off", "snippets off, dynamic shapes"):
        assert f"openvino: segment {name!r}: {settings}: " in log
    with pytest.raises(CompileError, match="does not run segment"):
        built(tmp_path, "none", Huge(), torch.ones(2**16, 1), backends=["openvino"], **limits)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("precision", "recorded"), [(None, "bf16"), pytest.param("f32", "f32", marks=pytest.mark.slow)]
)
def test_a_xeon_multiplies_in_bfloat16_unless_told_otherwise(
    precision: str | None, recorded: str, tmp_path: Path
) -> None:
    """Where the host has instructions for it; the artifact says so wherever it was built."""
    options = {"target": "xeon", "backends": ["openvino", "host"], "precision": precision}
    built(tmp_path, "b", Sampler(), X, **options)
    bundle = Bundle.open(tmp_path / "b")
    artifacts = bundle.manifest.artifacts
    assert {recorded} == {artifact.options["precision"] for artifact in artifacts.values()}
    printed = CliRunner().invoke(inspect.command, [str(tmp_path / "b")]).output
    assert len(artifacts) == printed.count(f"[openvino {recorded}]")

    expected = Sampler().eval()(X).detach().numpy()
    # By name, since a host with fewer instructions than the target's is to run it, too.
    with partitioner.load(tmp_path / "b", variant={"target": "xeon"}) as pipe:
        (actual,) = pipe(x=X.numpy()).values()
    error = float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
    rounds = recorded == "bf16" and has_bfloat16()
    assert (1e-4 < error < 5e-2) if rounds else (error < 1e-5)


def test_bisecting_compiles_segments_as_the_build_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment in bfloat16 is no fault of the bundle's graph, and here none at all."""
    options: dict[str, Any] = {"target": "xeon", "backends": ["openvino", "host"]}
    built(tmp_path, "b", Sampler(), X, **options, parity=False)
    assert "healthy" == bisected(tmp_path / "b").kind
    monkeypatch.setattr("partitioner.bisection.allowed_error", lambda *given, **named: 1e-4)
    assert ("node" if has_bfloat16() else "healthy") == bisected(tmp_path / "b").kind


def test_a_bundle_whose_own_graph_is_wrong_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_ = OpenvinoCompiler.compile

    def doctored(*arguments: Any, **options: Any) -> Any:
        compiled = compile_(*arguments, **options)
        graph = compiled.graph.read_bytes()
        compiled.graph.write_bytes(graph.replace(b'type="Swish"', b'type="Mish"'))
        return compiled

    with monkeypatch.context() as patch:
        patch.setattr(OpenvinoCompiler, "compile", doctored)
        built(tmp_path, "b", Sampler(), X, backends=["openvino", "host"], parity=False)
    found = bisected(tmp_path / "b")
    assert ("segment", "denoiser") == (found.kind, found.segment)
    assert "the bundle's own graph is not what this version makes of it" in found.what


def bisected(path: Path) -> Finding:
    return bisect_bundle(Bundle.open(path), Sampler().eval(), {"x": X})


def test_weights_that_were_changed_are_refused_whatever_the_cache_holds(tmp_path: Path) -> None:
    built(tmp_path, "b", Sampler(), X, backends=["openvino", "host"], parity=False)
    with partitioner.load(tmp_path / "b") as pipe:
        pipe(x=X.numpy())
    assert list((tmp_path / "cache" / "openvino").glob("*.blob"))
    bundle = Bundle.open(tmp_path / "b")
    digests = {d for a in bundle.manifest.artifacts.values() for d in a.weights}
    for digest in digests:
        blob = bundle.blob_path(digest)
        blob.chmod(0o644)
        data = bytearray(blob.read_bytes())
        data[-1] ^= 1
        blob.write_bytes(data)
    with pytest.raises(BundleError):
        partitioner.load(tmp_path / "b")


@pytest.mark.slow
def test_bernini(tmp_path: Path) -> None:
    model = load_model(str(MODEL), {"size": "tiny", "steps": 5})
    result = partitioner.build(
        model.pipeline,
        model.example_inputs,
        inputs=model.inputs,
        options=model.options,
        backends=["openvino", "host"],
        output=tmp_path / "bernini",
    )
    assert {"openvino", "host"} == set(backends_of(tmp_path / "bernini").values())
    assert max(result.report["parity"]["outputs"].values()) < 1e-4
