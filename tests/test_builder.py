"""Builds end to end, on small pipelines."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.capture.replay import drawn_in_order, run_eager
from partitioner.errors import OutputError
from partitioner.runtime.verify import verify_bundle
from tests.small_pipeline import EXAMPLE, Pipeline, left_over


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
        from tests.small_pipeline import EXAMPLE, Pipeline
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
