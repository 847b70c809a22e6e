"""Segments compiled for Neuron and run: by the stand-in, and by the SDK itself where it is.

Tests with the fixture ``sdk`` are the same for both; on a machine with devices the segments run on
them.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from partitioner.artifacts.jsontext import dumps, loads
from partitioner.backends.execution import DeviceOptions
from partitioner.backends.neuron.compile import NeuronCompiler
from partitioner.backends.neuron.execute import NeuronExecutor
from partitioner.backends.neuron.failures import CODES
from partitioner.backends.neuron.portable import read_portable
from partitioner.errors import (
    BackendError,
    BundleError,
    CompileError,
    UsageError,
)
from tests.backends.neuron_segments import Files, segment_files
from tests.neuron_standin import behave

# --- both ---------------------------------------------------------------------------------------


def test_the_numbers_are_torchs(made: Any, files: Files) -> None:
    executable = NeuronExecutor().load(files.artifact(made), DeviceOptions())
    inputs = files.inputs()
    for actual, expected in zip(executable(*inputs), files.expected(*inputs), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    executable.close()
    with pytest.raises(BackendError, match="has been closed"):
        executable(*inputs)


def test_the_artifact_says_what_it_is(made: Any, files: Files) -> None:
    options = made.options
    assert ("compiled", "inf2", 1) == (options["state"], options["target"], options["lnc"])
    assert ["--target", "inf2", "--model-type", "transformer"] == options["args"][:4]
    assert {"torch", "torch-neuronx", "neuronx-cc"} <= options["versions"].keys()
    assert 64 == len(options["neff"]["sha256"])
    assert made.graph.stat().st_size > options["neff"]["bytes"]
    assert () == made.weights


def test_calls_from_many_threads_share_the_copies(made: Any, files: Files) -> None:
    executable = NeuronExecutor().load(files.artifact(made), DeviceOptions(mode="throughput"))
    inputs = files.inputs()
    (expected,) = files.expected(*inputs)
    results: list[Any] = []

    def call() -> None:
        bound = executable.bind()
        target = np.empty_like(expected)
        bound.set_output(0, target)
        for index, array in enumerate(inputs):
            bound.set_input(index, array)
        assert bound.run()[0] is target
        results.append(target)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 == len(results)
    for actual in results:
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    executable.close()


class Indexed(torch.nn.Module):
    """Integers in, and a number without dimensions out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(7, 4)

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.table(ids)
        return {"found": found, "total": found.sum()}


def test_integers_and_numbers_without_dimensions(sdk: str, tmp_path: Path) -> None:
    files = segment_files(tmp_path, Indexed(), {"ids": torch.tensor([1, 6, 0])})
    made = files.compile(tmp_path)
    executable = NeuronExecutor().load(files.artifact(made), DeviceOptions())
    ids = np.array([5, 2, 3], dtype=files.info.inputs[0][1].dtype)
    for actual, expected in zip(executable(ids), files.expected(ids), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
        assert expected.shape == actual.shape


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({"weights": "separate"}, ("inline_weights", False)),
        ({"lazy_load": True, "async_load": True}, ("lazy_load", True)),
        ({"auto_cast": "matmult"}, ("precision", "bf16")),
    ],
)
def test_options_are_recorded(
    options: dict[str, Any], recorded: tuple[str, Any], sdk: str, files: Files, tmp_path: Path
) -> None:
    made = files.compile(tmp_path, settings={"neuron": options})
    assert recorded[1] == made.options[recorded[0]]
    executable = NeuronExecutor().load(files.artifact(made), DeviceOptions())
    inputs = files.inputs()
    np.testing.assert_allclose(
        executable(*inputs)[0], files.expected(*inputs)[0], rtol=3e-2, atol=3e-2
    )


# --- in two steps -------------------------------------------------------------------------------


def test_what_is_deferred_needs_no_sdk_and_is_compiled_later(
    sdk: str, files: Files, tmp_path: Path
) -> None:
    deferred = files.compile(tmp_path, defer=True)
    assert "deferred" == deferred.options["state"]
    assert deferred.weights
    again = files.compile(tmp_path / "again", defer=True)
    assert deferred.graph.read_bytes() == again.graph.read_bytes()
    (tmp_path / "later").mkdir()
    weights = [files.writer.blob_path(digest) for digest in deferred.weights]
    made = NeuronCompiler().finish(
        deferred.graph,
        weights,
        deferred.options,
        compile_options(files, tmp_path),
        files.info,
        tmp_path / "later",
    )
    executable = NeuronExecutor().load(files.artifact(made), DeviceOptions())
    inputs = files.inputs()
    np.testing.assert_allclose(
        executable(*inputs)[0], files.expected(*inputs)[0], rtol=1e-3, atol=1e-4
    )


def compile_options(files: Files, folder: Path) -> Any:
    from partitioner.backends.base import CompileOptions

    return CompileOptions(folder, files.writer.blobs_dir)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format=2), "of the format 2"),
        (lambda d: d.pop("weights"), "malformed"),
        (lambda d: d["graph"]["nodes"][-2].update(target="os.system.default"), "no op of torch"),
        (lambda d: d["graph"]["nodes"][-2].update(op="call_module"), "of kind 'call_module'"),
        (lambda d: d["graph"]["nodes"][-2].update(target="aten.sort.default"), "does not take"),
        (lambda d: d["graph"]["nodes"][-2]["args"].update(tuple=[{"node": "x9"}]), "malformed"),
        (lambda d: next(iter(d["weights"].values())).__setitem__(1, 2**40), "outside of its blob"),
        (lambda d: next(iter(d["weights"].values())).__setitem__(0, 7), "outside of its blob"),
        (lambda d: next(iter(d["weights"].values())).__setitem__(2, 4), "malformed"),
    ],
)
def test_a_portable_graph_is_read_with_distrust(
    change: Any, said: str, files: Files, tmp_path: Path
) -> None:
    deferred = files.compile(tmp_path, defer=True)
    document = loads(deferred.graph.read_bytes(), "graph")
    change(document)
    path = tmp_path / "changed.json"
    path.write_bytes(dumps(document))
    weights = [files.writer.blob_path(digest) for digest in deferred.weights]
    with pytest.raises(BundleError) as caught:
        read_portable(path, weights, "inf2")
    assert said in caught.value.what


# --- weights in the NEFF or outside of it ------------------------------------------------------

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
    assert not made.limited
    # And not twice.
    assert {"auto"} == compilations(tmp_path)


def test_a_way_that_cannot_be_compiled_is_left(well: Path, files: Files, tmp_path: Path) -> None:
    behave(well, fail="status:70@2")
    made = files.compile(tmp_path, settings=MEASURED)
    assert {"auto", "separate"} == compilations(tmp_path)
    assert made.options["inline_weights"]
    assert "exit code 70" in made.options["warnings"][-1]
    # With more time or memory it might not be left, so the compile cache must not say so for good.
    assert made.limited
    check_numbers(made, files)


def test_what_is_deferred_is_measured_later(files: Files, tmp_path: Path) -> None:
    deferred = files.compile(tmp_path, defer=True, tune=True)
    assert "measured" == deferred.options["settings"]["weights"]


# --- failures -----------------------------------------------------------------------------------

#: (how the stand-in fails, what is said, what is advised).
FAILURES = [
    ("missing", "neuronx-cc is not installed", "install neuronx-cc"),
    ("status:-9", "neuronx-cc was killed for want of memory", "more memory"),
    ("print:[F137] neuronx-cc was forcibly killed", "killed for want of memory", "more memory"),
    ("status:-6", "neuronx-cc aborted (SIGABRT)", "another version of neuronx-cc"),
    ("status:-11", "neuronx-cc crashed (SIGSEGV)", "another version of neuronx-cc"),
    ("status:70", "gave up on the graph (exit code 70)", "its log says why"),
    ("status:1", "neuronx-cc failed (exit code 1)", "its log says why"),
    ("encode", "larger than 2 GiB", "neuron.weights=separate"),
    ("killed", "was killed, most likely for want of memory", "SDXL needs 128 GiB"),
    ("segfault", "crashed with SIGSEGV", "try 2.8"),
    ("warn:Unused inputs were removed", "did not do what it was asked: Unused", "report this"),
    ("warn:Duplicate inputs were merged", "did not do what it was asked: Dupl", "report this"),
    ("raise:something new", "torch_neuronx.trace failed: something new", "--log"),
    ("raise:Too many open files", "too many files were opened", "ulimit -n 65535"),
    ("code:EVRF035", "products of wide integers are not supported (NCC_EVRF035)", "cast"),
    ("code:EBVF030", "more instructions than the compiler takes (NCC_EBVF030)", "optlevel=1"),
    ("code:EOOM002", "do not fit in the device's memory (NCC_EOOM002)", "split the stage"),
    ("print:XTP002 too many instructions", "more instructions than", "neuron.optlevel=1"),
    ("print:GCA035", "could not place the graph's buffers (NCC_GCA035)", "batch smaller"),
]


@pytest.mark.parametrize(("way", "what", "advice"), FAILURES)
def test_each_documented_failure_has_its_message(
    way: str, what: str, advice: str, well: Path, files: Files, tmp_path: Path
) -> None:
    behave(well, fail=way)
    with pytest.raises(CompileError) as caught:
        files.compile(tmp_path)
    assert what in caught.value.what
    assert advice in str(caught.value.advice)


def test_a_compiler_that_hangs_is_ended(well: Path, files: Files, tmp_path: Path) -> None:
    behave(well, fail="hang")
    with pytest.raises(CompileError, match="did not end within 2 s"):
        files.compile(tmp_path, timeout_s=2)


def test_the_end_of_the_log_is_kept(well: Path, files: Files, tmp_path: Path) -> None:
    behave(well, fail="print:the compiler's own words")
    with pytest.raises(CompileError):
        files.compile(tmp_path, log=tmp_path / "log.txt")
    assert "the compiler's own words" in (tmp_path / "log.txt").read_text()


def test_every_code_of_the_reference_is_explained() -> None:
    # The error codes of the compiler's documentation that inference can meet.
    documented = (
        "EARG001 EBVF030 EHCA005 EMOD025 EOOM001 EOOM002 ESFH002 ESPP004 ESPP047 EUOC002 EVRF001 "
        "EVRF004 EVRF005 EVRF006 EVRF007 EVRF009 EVRF010 EVRF011 EVRF013 EVRF015 EVRF016 EVRF017 "
        "EVRF018 EVRF019 EVRF022 EVRF029 EVRF031 EVRF035 EVRF051 EVRF052 EVRF056 EVRF059 EVRF060 "
        "EVRF061 EVRF062 EVRF063 EVRF064 EVRF065 EXSP001 EXTP004"
    )
    assert set(documented.split()) <= set(CODES)


def test_settings_are_looked_at_before_anything_runs(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NCC_EARG001"):
        files.compile(tmp_path, settings={"neuron": {"lnc": 2}})
