"""Verbs on a bundle that serves a range of batch sizes: each works on it, or says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.cli.verbs import partition
from tests.serve.servers import process_server

MODEL = """
import torch
torch.manual_seed(3)
layer = torch.nn.Linear(3, 3)
def pipeline(x, scale):
    return layer(x) * scale + torch.randn(x.shape[0], 3)
example_inputs = {"x": torch.ones(1, 3), "scale": torch.tensor(2.0)}
batched = ("x",)
"""

X = np.arange(9, dtype=np.float32).reshape(3, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file, and its bundle with a bucket for one and one for two to four."""
    folder = tmp_path_factory.mktemp("ranges")
    (folder / "model.py").write_text(MODEL)
    done = partition("build", "model.py", "--batch", "1,2-4", "-o", "b", cwd=folder)
    assert 0 == done.returncode, done.stderr
    return folder


def run(folder: Path, *words: str, code: int = 0) -> str:
    done = partition(*words, cwd=folder)
    assert code == done.returncode, done.stderr
    return done.stderr if code else done.stdout


def given(folder: Path, rows: int) -> list[str]:
    np.save(folder / "x.npy", X[:rows])
    return ["-i", "x=x.npy", "-i", "scale=2.0"]


def test_it_is_shown_and_planned(folder: Path) -> None:
    assert "target=cpu,batch=2-4" in run(folder, "inspect", "b")
    shown = run(folder, "inspect", "b", "--variant", "batch=2-4")
    assert "batch    2-4 requests at once, any number of them" in shown
    plan = json.loads(run(folder, "plan", "model.py", "--batch", "2-4", "--json"))
    assert (4, "float32[4, 3]") == (plan["rows"], plan["inputs"]["x"])
    refused = run(folder, "plan", "model.py", "--batch", "1,2-4", code=2)
    assert "a plan is for one batch size, not for 1, 2-4" in refused


def test_both_buckets_are_verified(folder: Path) -> None:
    shown = run(folder, "verify", "b")
    assert all(f"target=cpu,batch={size}: output" in shown for size in ("1", "2-4"))


def test_three_requests_are_those_by_themselves(folder: Path) -> None:
    run(folder, "run", "b", *given(folder, 3), "--seed", "1,2,3", "-o", "three.npz")
    run(folder, "run", "b", *given(folder, 1), "--seed", "1", "-o", "one.npz")
    three, one = (next(iter(np.load(folder / f"{n}.npz").values())) for n in ("three", "one"))
    np.testing.assert_allclose(one, three[:1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(three[0], three[1])


def test_it_is_measured_and_traced(folder: Path) -> None:
    words = ["--seconds", "0", "--requests", "3", "--starts", "0", "--concurrency", "2"]
    for variant in ([], ["--variant", "batch=2-4"]):
        document = json.loads(run(folder, "bench", "b", *variant, *words, "--json"))
        (figures,) = document["throughput"]
        assert (2, 3) == (figures["concurrency"], figures["latency"]["count"])
    run(folder, "trace", "b", "--requests", "3", "-o", "trace.json")
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    assert any(event.get("cat") == "segment" for event in events)


def test_it_is_compared(folder: Path) -> None:
    assert "same" in run(folder, "diff", "b", "b")
    run(folder, "build", "model.py", "--batch", "1-4", "-o", "whole")
    shown = run(folder, "diff", "b", "whole")
    assert "its inputs or outputs have other types" in shown


def test_the_smallest_bucket_is_bisected_and_the_range_refused(folder: Path) -> None:
    assert "ok: the bundle gives torch's numbers" in run(folder, "bisect", "b", "model.py")
    refused = run(folder, "bisect", "b", "model.py", "--variant", "batch=2-4", code=2)
    assert "the bundle serves 2-4 requests by one graph, which cannot be bisected" in refused
    assert "built with --batch 1" in refused


def test_a_size_within_it_is_no_member(folder: Path) -> None:
    refused = run(folder, "run", "b", *given(folder, 3), "--variant", "batch=3", code=2)
    assert "no member batch=3; it has target=cpu,batch=1; target=cpu,batch=2-4" in refused
    assert "leave it out: a call takes the bucket that fits the rows it is given" in refused


def test_any_number_of_rows_is_served(folder: Path) -> None:
    with process_server(folder, "b", "--name", "small") as served:
        url = f"{served.url}/v2/models/small"
        inputs = requests.get(url, timeout=30).json()["inputs"]
        assert [[-1, 3], []] == [one["shape"] for one in inputs]
        for rows in (1, 2, 3, 6):
            x = np.resize(X, (rows, 3))
            tensors = [
                {"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": x.ravel().tolist()},
                {"name": "scale", "datatype": "FP32", "shape": [], "data": [2.0]},
            ]
            body = {"inputs": tensors, "parameters": {"seed": 7}}
            answer = requests.post(f"{url}/infer", json=body, timeout=30)
            assert 200 == answer.status_code, answer.text
            (output,) = answer.json()["outputs"]
            assert [rows, 3] == output["shape"]
