"""Whole benchmarks of a small bundle: from Python, on the command line, as drawings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from partitioner.benching import Benchmark, Options, bench
from partitioner.benching.chart import write_chart
from partitioner.benching.loading import starts
from partitioner.benching.measuring import Budget
from partitioner.benching.pricing import Cost, cost_of
from partitioner.benching.requests import made_up, sample_request
from partitioner.benching.serving import Serving
from partitioner.benching.worker import Task, Usage, memory_usage
from partitioner.errors import BackendError, InputError, MissingDependencyError, UsageError
from partitioner.specs import InputSpec, Noise
from tests.bundles import spec
from tests.cli.verbs import partition
from tests.runtime.samples import make_sampler
from tests.runtime.tracefiles import read_trace

HOST_OP = "tests.runtime.samples:count_positive"
QUICK = ("--seconds", "0", "--requests", "3", "--warm-up", "1", "--starts", "0")
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_sampler(tmp_path_factory.mktemp("bundles") / "sampler.bundle"))


@pytest.fixture(scope="module")
def found(path: str) -> Benchmark:
    """The bundle beside itself, with a start of each kind."""
    options = Options(
        budget=Budget(seconds=0, least=6, warm_up=1), concurrency=(1, 3), starts=1, per_hour=3.6
    )
    serving = Serving(path, host_ops=(HOST_OP,))
    return bench(serving, options, other=serving)


def test_what_is_found(found: Benchmark) -> None:
    assert "hand-made" == found.subject.name
    assert {"image": "made up"} == found.origins
    assert 6 == found.latency.count == len(found.seconds)
    assert [(1, 3), (3, 3)] == [(one.concurrency, one.workers) for one in found.throughput]
    assert all(6 == one.latency.count for one in found.throughput)
    assert {"encode", "mix", "denoise", "rows", "inputs", "runtime"} == {
        part.name for part in found.parts
    }
    json.dumps(found.to_dict())


def test_processes_of_their_own(found: Benchmark) -> None:
    for loading in (found.cold, found.warm):
        assert loading is not None
        assert loading.imports > 0
        assert loading.load > 0
        assert loading.first > 0
        for usage in (loading.imported, loading.loaded, loading.served):
            assert usage.resident is not None
            assert usage.proportional is not None
            assert 0 < usage.proportional <= usage.resident


def test_a_bundle_beside_itself(found: Benchmark) -> None:
    comparison = found.comparison
    assert comparison is not None

    assert found.subject == comparison.other
    assert comparison.latency.count == found.latency.count
    assert comparison.ratio.low is not None
    assert comparison.cold is not None
    assert comparison.cold.low is None


def test_the_price_of_a_million_requests(found: Benchmark) -> None:
    best = max(one.per_second for one in found.throughput)

    assert isinstance(found.cost, Cost)
    assert pytest.approx(1000 / best) == found.cost.per_million
    of_target = cost_of("m7i.xlarge", 10.0)
    assert isinstance(of_target, Cost)
    assert pytest.approx(of_target.per_hour / 36_000 * 1e6) == of_target.per_million
    assert "no price of cpu is known; --price gives one" == cost_of("cpu", 1.0)
    assert "there is no target 'moon'" == cost_of("moon", 1.0)
    with pytest.raises(UsageError, match="not negative"):
        cost_of("cpu", 1.0, -1.0)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_charts(found: Benchmark, tmp_path: Path, suffix: str) -> None:
    file = write_chart(tmp_path / f"chart.{suffix}", found)

    assert [file] == list(tmp_path.iterdir())
    content = file.read_bytes()
    if suffix == "png":
        assert b"\x89PNG" == content[:4]
    else:
        assert ET.fromstring(content).tag.endswith("svg")


def test_charts_that_cannot_be_drawn(
    found: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"is \.svg or \.png"):
        write_chart(tmp_path / "chart.pdf", found)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="matplotlib"):
        write_chart(tmp_path / "chart.svg", found)


def test_a_process_that_fails_says_why(path: str) -> None:
    with pytest.raises(BackendError, match="ended with 1") as failed:
        starts([Task(Serving(path), {}, seed=1, requests=0)], 1)

    assert "tests.count_positive" in str(failed.value.advice)


def test_memory_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert Usage(None, None) == memory_usage(tmp_path / "smaps_rollup")


# --- requests -----------------------------------------------------------------------------------


def test_inputs_are_given_or_made_up(path: str) -> None:
    specs = (
        InputSpec("x", spec("float32[n, 3]")),
        InputSpec("label", spec("int64[2]")),
        InputSpec("noise", spec("float32[4]"), Noise()),
        InputSpec("unread", spec("float32[4]"), used=False),
    )
    sample = sample_request(path, specs, {"label": 3})

    assert {"label": "given", "x": "made up"} == sample.origins
    assert 3 == sample.inputs["label"]
    assert (1, 3) == sample.inputs["x"].shape
    assert [0, 0] == made_up(spec("int64[2]")).tolist()


# --- the command line ---------------------------------------------------------------------------


def test_bench_prints_tables(path: str) -> None:
    done = partition("bench", path, "--host-op", HOST_OP, "--concurrency", "2", *QUICK)

    assert 0 == done.returncode
    for text in ("inputs: image made up", "in turn", "denoise", "no price of cpu is known"):
        assert text in done.stdout


def test_bench_ends_in_16_where_it_is_slower_than_allowed(path: str) -> None:
    compared = ("bench", path, "--host-op", HOST_OP, "--compare", path, *QUICK, "--json")
    slower = partition(*compared, "--fail-above", "1e-9")
    allowed = partition(*compared, "--fail-above", "1e9")

    assert 16 == slower.returncode
    assert 0 == allowed.returncode
    assert "allowed are 1e-09" in slower.stderr
    assert {"value", "low", "high"} == set(json.loads(allowed.stdout)["comparison"]["ratio"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fail-above", "1.05"), "--compare, which is not given"),
        (("--concurrency", "1,x"), "no list of whole numbers"),
        (("--concurrency", "0"), "a number below 1"),
        (("--chart", "chart.pdf"), "is .svg or .png"),
    ],
)
def test_bench_refuses(path: str, arguments: tuple[str, ...], said: str) -> None:
    done = partition("bench", path, *arguments)

    assert 2 == done.returncode
    assert said in done.stderr


def test_trace_writes_a_file(path: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    done = partition(
        "trace", path, "--host-op", HOST_OP, "-o", str(file), "--requests", "3", "--json"
    )
    events = read_trace(file)

    assert 0 == done.returncode
    assert {"written": str(file), "requests": 3, "events": len(events)}.items() <= json.loads(
        done.stdout
    ).items()
    assert 3 == sum(event.get("cat") == "call" for event in events)


def test_a_host_op_that_is_none(path: str) -> None:
    with pytest.raises(InputError, match="is no host op"):
        Serving(path, host_ops=("json:loads",)).load()
