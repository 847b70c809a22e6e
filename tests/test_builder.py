"""Builds end to end, on small pipelines, and what goes wrong on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.capture.replay import drawn_in_order, run_eager
from partitioner.errors import (
    CaptureError,
    OutputError,
    ParityError,
    PlacementError,
    UsageError,
)
from partitioner.runtime.verify import verify_bundle
from partitioner.targets import find_target


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(16, 64)
        self.outer = nn.Linear(64, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        time = torch.sin(t.float() / 1000)
        return self.outer(nn.functional.gelu(self.inner(self.norm(x) + cond + time)))


class Pipeline(nn.Module):
    """A condition, a loop with noise, a decoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(8, 16)
        self.denoiser = Denoiser()
        self.decoder = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 3))

    def forward(self, image: torch.Tensor, *, steps: int = 4) -> dict[str, torch.Tensor]:
        cond = self.encoder(image)
        x = torch.randn(2, 16)
        for i, t in enumerate(torch.linspace(999, 0, steps)):
            x = 0.5 * x + 0.3 * self.denoiser(x, t, cond) + 0.1 / (i + 1) * torch.randn_like(x)
        return {"picture": self.decoder(x), "latent": x}


EXAMPLE = {"image": torch.linspace(-1, 1, 16).reshape(2, 8)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("build") / "small.bundle"
    partitioner.build(Pipeline(), EXAMPLE, output=path)
    return path


def test_the_bundle_gives_what_eager_gives_with_the_same_seed(bundle: Path) -> None:
    image = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    pipeline = Pipeline()
    torch.manual_seed(7)
    with torch.no_grad():
        expected = pipeline(torch.from_numpy(image))
    with partitioner.load(bundle) as pipe:
        actual = pipe(image=image, seed=7)
    assert ["picture", "latent"] == list(actual)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value.numpy(), rtol=1e-4, atol=1e-5)


def test_segments_follow_the_pipeline(bundle: Path) -> None:
    plan = Bundle.open(bundle).manifest.plan
    assert ["encoder", "denoiser", "decoder"] == list(plan.segments)
    assert [4] == [step.trips for step in plan.steps if hasattr(step, "trips")]


def test_verify_repeats_the_check(bundle: Path) -> None:
    report = verify_bundle(bundle)
    assert report.ok
    assert "output picture" in {row.name for row in report.rows}
    assert any(row.name.startswith("denoiser[0]") for row in report.rows)


def test_building_twice_gives_the_same_digest(bundle: Path, tmp_path: Path) -> None:
    again = partitioner.build(Pipeline(), EXAMPLE, output=tmp_path / "again.bundle")
    assert Bundle.open(bundle).digest == again.digest


def test_a_build_in_another_process_gives_the_same_digest(bundle: Path, tmp_path: Path) -> None:
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        import partitioner
        from tests.test_builder import EXAMPLE, Pipeline
        # No `if __name__ == "__main__"`: a build must not run a user's script again.
        print(partitioner.build(Pipeline(), EXAMPLE, output={str(tmp_path / "b")!r}).digest)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert Bundle.open(bundle).digest == done.stdout.strip()


def test_options_are_fixed_at_build(tmp_path: Path) -> None:
    partitioner.build(Pipeline(), EXAMPLE, output=tmp_path / "b", options={"steps": 7})
    manifest = Bundle.open(tmp_path / "b").manifest
    assert 7 == manifest.options["steps"]
    assert 7 == manifest.report["loops"][0]["trips"]


def test_an_option_overrides_one_among_the_example_inputs(tmp_path: Path) -> None:
    example = {**EXAMPLE, "steps": 3}
    partitioner.build(Pipeline(), example, output=tmp_path / "b", options={"steps": 6})
    assert 6 == Bundle.open(tmp_path / "b").manifest.report["loops"][0]["trips"]


def test_constants_and_inputs_as_outputs_and_unused_inputs(tmp_path: Path) -> None:
    def pipeline(x: torch.Tensor, unused: torch.Tensor) -> dict[str, Any]:
        return {"same": x, "fixed": torch.arange(3), "number": 5, "twice": x * 2}

    example = {"x": torch.ones(2, 2), "unused": torch.zeros(1)}
    partitioner.build(pipeline, example, output=tmp_path / "b")
    with partitioner.load(tmp_path / "b") as pipe:
        out = pipe(x=np.full((2, 2), 3, np.float32))
    assert [[3, 3], [3, 3]] == out["same"].tolist()
    assert [0, 1, 2] == out["fixed"].tolist()
    assert 5 == out["number"].item()
    assert [[6, 6], [6, 6]] == out["twice"].tolist()


def test_a_host_op_in_the_middle(tmp_path: Path) -> None:
    @partitioner.host_op(outputs={"sorted": ("float32", (2, 4))}, name="test.sort_rows")
    def sort_rows(x: np.ndarray, *, descending: bool = False) -> dict[str, np.ndarray]:
        rows = np.sort(x, axis=1)
        return {"sorted": rows[:, ::-1].copy() if descending else rows}

    linear = nn.Linear(4, 4)

    def pipeline(x: torch.Tensor) -> torch.Tensor:
        return linear(sort_rows(linear(x), descending=True)["sorted"])

    partitioner.build(pipeline, {"x": torch.randn(2, 4)}, output=tmp_path / "b")
    x = torch.randn(2, 4)
    with partitioner.load(tmp_path / "b", host_ops=[sort_rows]) as pipe:
        actual = pipe(x=x.numpy())["output"]
    np.testing.assert_allclose(actual, pipeline(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(partitioner.PartitionerError, match=r"test\.sort_rows"):
        partitioner.load(tmp_path / "b")


def test_noise_inputs_are_drawn_from_the_seed(tmp_path: Path) -> None:
    def pipeline(noise: torch.Tensor) -> torch.Tensor:
        return noise * 2 + torch.randn(3)

    partitioner.build(
        pipeline,
        {"noise": torch.zeros(2, 3)},
        inputs={"noise": partitioner.Noise()},
        output=tmp_path / "b",
    )
    torch.manual_seed(3)
    expected = torch.randn(2, 3) * 2 + torch.randn(3)
    with partitioner.load(tmp_path / "b") as pipe:
        np.testing.assert_allclose(pipe(seed=3)["output"], expected.numpy(), rtol=1e-6)


def test_dump_passes_writes_numbered_programs(tmp_path: Path) -> None:
    partitioner.build(
        Pipeline(), EXAMPLE, output=tmp_path / "b", dump_passes=tmp_path / "dump", parity=False
    )
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert "00-capture.txt" == names[0]
    assert "01-inline-calls.txt" == names[1]
    assert "loop loop_1 x 4" in (tmp_path / "dump" / names[-1]).read_text()


def test_the_eager_run_replays_given_noise() -> None:
    from partitioner.capture import capture

    captured = capture(Pipeline(), EXAMPLE)
    main = captured.program.main
    types = {n.target: n.meta["type"] for n in main.nodes if n.op == "placeholder"}
    names = [d.placeholder for s in captured.program.draws for d in s.draws]
    values = {name: np.zeros(types[name].shape, np.float32) for name in names}
    results = [
        run_eager(
            Pipeline(),
            EXAMPLE,
            options={},
            values={},
            drawn=drawn_in_order(captured.program.draws, values),
        )["latent"]
        for _ in range(2)
    ]
    assert np.array_equal(results[0], results[1])


# --- failures -----------------------------------------------------------------------------------


def left_over(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_existing_output_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        partitioner.build(Pipeline(), EXAMPLE, output=tmp_path / "b")
    with pytest.raises(OutputError, match="not a bundle"):
        partitioner.build(Pipeline(), EXAMPLE, output=tmp_path / "b", overwrite=True)
    assert ["b"] == left_over(tmp_path)
    assert "mine" == (tmp_path / "b" / "mine.txt").read_text()


def test_a_bundle_is_overwritten_when_asked(bundle: Path, tmp_path: Path) -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    example = {"x": torch.ones(2)}
    partitioner.build(lambda x: x + 2, example, output=tmp_path / "b")
    partitioner.build(pipeline, example, output=tmp_path / "b", overwrite=True)
    with partitioner.load(tmp_path / "b") as pipe:
        assert [2, 2] == pipe(x=np.ones(2, np.float32))["output"].tolist()
    assert ["b"] == left_over(tmp_path)


def test_an_unknown_target_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'cpu'"):
        partitioner.build(Pipeline(), EXAMPLE, target="cpuu", output=tmp_path / "b")


def test_a_target_whose_backend_is_missing_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        partitioner.build("no pipeline at all", EXAMPLE, target="inf2", output=tmp_path / "b")
    assert caught.value.what.startswith("target 'inf2' needs the backend 'neuron', ")
    assert [] == left_over(tmp_path)


def test_a_target_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[targets.mine]\nbase = "cpu"\nparity.relative = 1e-3\n')
    target = find_target("mine", [tmp_path / "mine.toml"])
    partitioner.build(lambda x: x + 2, {"x": torch.ones(2)}, target=target, output=tmp_path / "b")
    manifest = Bundle.open(tmp_path / "b").manifest
    assert ("mine", "mine") == (manifest.target, manifest.options["target"])
    assert manifest.parity is not None
    assert 1e-3 == manifest.parity.tolerance.relative


def test_a_label_that_no_manifest_takes_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="malformed name"):
        partitioner.build(Pipeline(), EXAMPLE, name="../x", output=tmp_path / "b")
    assert [] == left_over(tmp_path)


def test_an_op_that_nothing_supports_names_the_line(tmp_path: Path) -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.lu_factor(x)[0]

    with pytest.raises(PlacementError) as caught:
        partitioner.build(pipeline, {"x": torch.eye(3)}, output=tmp_path / "b")
    assert "op-unsupported" in str(caught.value)
    assert "test_builder.py" in str(caught.value)
    assert [] == left_over(tmp_path)


def test_control_flow_on_an_input_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="depends on the pipeline's input"):
        partitioner.build(
            lambda x: x if x.sum() > 0 else -x, {"x": torch.ones(2)}, output=tmp_path / "b"
        )
    assert [] == left_over(tmp_path)


def test_nan_in_the_eager_outputs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="NaN or infinite"):
        partitioner.build(
            lambda x: torch.log(x), {"x": torch.full((2, 2), -1.0)}, output=tmp_path / "b"
        )
    assert [] == left_over(tmp_path)


def test_a_wrong_segment_is_named_and_its_evidence_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from partitioner.planning import segments

    def wrong(segment: Any, constants: Any, inputs: Any) -> Any:
        results = segments.run_segment(segment, constants, inputs)
        return tuple(r + 0.01 for r in results) if segment.name == "decoder" else results

    monkeypatch.setattr("partitioner.parity.run_segment", wrong)
    with pytest.raises(ParityError, match="segment 'decoder'"):
        partitioner.build(Pipeline(), EXAMPLE, output=tmp_path / "b")
    assert ["b.parity"] == left_over(tmp_path)
    kept = np.load(tmp_path / "b.parity" / "decoder.npz")
    assert {"input", "expected", "actual"} == {name.split(".")[0] for name in kept.files}


def _build_script(output: Path) -> list[str]:
    script = f"""
        import signal, sys
        # Background jobs of a shell inherit an ignored SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        import partitioner
        from tests.test_builder import EXAMPLE, Pipeline
        def tell(phase, done, total):
            print(phase, done, flush=True)
        partitioner.build(Pipeline(), EXAMPLE, output={str(output)!r}, progress=tell)
    """
    return [sys.executable, "-c", textwrap.dedent(script)]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_ended_leaves_no_bundle(tmp_path: Path, sent: signal.Signals) -> None:
    output = tmp_path / "b"
    process = subprocess.Popen(
        _build_script(output), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("compile 1"):
            break
    process.send_signal(sent)
    assert process.wait() != 0
    process.stdout.close()
    assert not output.exists()
    if sent == signal.SIGKILL:
        # What was left is swept by the next build to the same place.
        assert all(name.endswith(".partial") for name in left_over(tmp_path))
        partitioner.build(lambda x: x + 1, {"x": torch.ones(1)}, output=output)
        assert ["b"] == left_over(tmp_path)
    else:
        assert [] == left_over(tmp_path)


def test_the_compilers_process_ends_with_its_parent(tmp_path: Path) -> None:
    process = subprocess.Popen(
        _build_script(tmp_path / "b"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("compile 1"):
            break
    children = _children(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [] == [pid for pid in children if _alive(pid)]


def _children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A child of a killed parent may stay a zombie of an init that does not reap.
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files fails a write as a full disk does (EFBIG for ENOSPC).
    script = f"""
        import resource, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        import partitioner
        from tests.test_builder import EXAMPLE, Pipeline
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            partitioner.build(Pipeline(), EXAMPLE, output={str(tmp_path / "b")!r})
        except partitioner.PartitionerError as error:
            print(type(error).__name__, error.advice)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert "OutputError" in done.stdout, done.stdout + done.stderr
    assert "make room" in done.stdout
    assert [] == left_over(tmp_path)
