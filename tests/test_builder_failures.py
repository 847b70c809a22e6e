"""Builds that are refused, go wrong on the way or are ended."""

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

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.errors import CaptureError, ParityError, PlacementError, UsageError
from partitioner.targets import find_target
from tests.small_pipeline import EXAMPLE, Pipeline, left_over


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
    assert "test_builder_failures.py" in str(caught.value)
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
        from tests.small_pipeline import EXAMPLE, Pipeline
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
        from tests.small_pipeline import EXAMPLE, Pipeline
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
