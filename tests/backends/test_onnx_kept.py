"""memory="shared": packed weights in files of the host's cache."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts.cachedir import LIMIT_VARIABLE, VARIABLE
from partitioner.backends.execution import ArtifactFiles, DeviceOptions
from partitioner.backends.onnx import kept, sessions
from partitioner.backends.onnx.execute import OnnxExecutable, OnnxExecutor
from partitioner.backends.onnx.kept import GRAPH, KeptGraphs
from partitioner.plan import SegmentInfo
from tests.bundles import external, model, node, specs

WEIGHT = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((2, 256)).astype(np.float32)
BLOB = "a" * 64


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    return tmp_path / "cache" / "onnx"


def files(blobs: Path, **options: Any) -> ArtifactFiles:
    blobs.mkdir(exist_ok=True)
    (blobs / BLOB).write_bytes(WEIGHT.tobytes())
    inputs, outputs = {"x": "float32[2, 256]"}, {"y": "float32[2, 256]"}
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    (blobs / "graph").write_bytes(model(inputs, outputs, nodes, [external("w", WEIGHT, BLOB, 0)]))
    info = SegmentInfo("block", "onnx", specs(inputs), specs(outputs))
    return ArtifactFiles(blobs / "graph", blobs, (blobs / BLOB,), options, info)


def load(artifact: ArtifactFiles, memory: Any = "shared", **device: Any) -> OnnxExecutable:
    return OnnxExecutor().load(artifact, DeviceOptions(memory=memory, **device))


def made_again(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are written from here on."""
    written: list[Path] = []

    def save(options: Any, folder: Path) -> None:
        written.append(folder)
        plain(options, folder)

    plain = sessions.save_into
    monkeypatch.setattr(sessions, "save_into", save)
    return written


def test_the_first_load_makes_an_entry_and_the_next_takes_it(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = files(tmp_path / "blobs")
    written = made_again(monkeypatch)
    expected = load(artifact, "fast")(X)[0]
    first, second = load(artifact), load(artifact)

    assert [True, True] == [np.array_equal(expected, s(X)[0]) for s in (first, second)]
    assert 1 == len(written) == len(list(folder.iterdir()))
    assert (WEIGHT.nbytes, 0) == (second.weights.mapped, second.weights.packed)


def test_what_is_packed_is_mapped(tmp_path: Path, folder: Path) -> None:
    segment = load(files(tmp_path / "blobs"))
    (entry,) = folder.iterdir()
    assert str(entry / "weights.bin") in Path("/proc/self/maps").read_text()
    assert segment(X)[0].shape == X.shape


@pytest.mark.parametrize("name", [GRAPH, "weights.bin", "digests.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    artifact = files(tmp_path / "blobs")
    expected = load(artifact)(X)[0]
    (entry,) = folder.iterdir()
    good = (entry / name).read_bytes()
    bad = {
        "flip": bytes([good[0] ^ 1]) + good[1:],
        "cut": good[: len(good) // 2],
        "empty": b"",
    }
    (entry / name).unlink()
    if damage != "gone":
        (entry / name).write_bytes(bad[damage])
    written = made_again(monkeypatch)

    assert np.array_equal(expected, load(artifact)(X)[0])
    assert 1 == len(written)
    assert good == (entry / name).read_bytes()


def test_an_entry_that_is_packed_otherwise_is_made_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another CPU: its digests are right, and ONNX Runtime packs other numbers."""
    artifact = files(tmp_path / "blobs")
    expected = load(artifact)(X)[0]
    (entry,) = folder.iterdir()
    packed = bytearray((entry / "weights.bin").read_bytes())
    packed[-4:] = bytes(reversed(packed[-4:]))
    (entry / "weights.bin").write_bytes(packed)
    monkeypatch.setattr("partitioner.backends.onnx.kept._is_whole", lambda *_: True)
    written = made_again(monkeypatch)

    assert np.array_equal(expected, load(artifact)(X)[0])
    assert 1 == len(written)


def test_entries_differ_by_settings_version_and_cpu(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = files(tmp_path / "blobs")
    load(artifact)
    load(files(tmp_path / "blobs", optimization="basic"))
    monkeypatch.setattr(kept, "cpu_flags", lambda: ["another"])
    load(artifact)
    monkeypatch.setattr("onnxruntime.__version__", "another")
    load(artifact)
    assert 4 == len(list(folder.iterdir()))


def test_makers_that_run_at_once_leave_one_entry(tmp_path: Path, folder: Path) -> None:
    artifact = files(tmp_path / "blobs")
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(load(artifact)(X)[0])) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * 3 == [np.array_equal(results[0], one) for one in results]
    assert [64] == [len(path.name) for path in folder.iterdir()]


def test_the_oldest_entries_go(tmp_path: Path) -> None:
    graphs = KeptGraphs(tmp_path / "entries", limit=1000)

    def write(folder: Path) -> None:
        (folder / GRAPH).write_bytes(b"g" * 300)

    for key in "abc":
        assert graphs.put(key, 300, write) == graphs.folder / key
        graphs.get("a")
    assert ["a", "c"] == sorted(path.name for path in graphs.folder.iterdir())
    assert graphs.put("large", 1001, write) is None


def test_a_folder_that_others_may_write_to_is_left_alone(tmp_path: Path, folder: Path) -> None:
    artifact = files(tmp_path / "blobs")
    load(artifact)
    folder.chmod(0o777)
    segment = load(artifact)
    assert (0, WEIGHT.nbytes) == (segment.weights.mapped, segment.weights.packed)


def test_a_cache_that_cannot_be_written_to_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.warns(RuntimeWarning, match="nothing is kept"):
        segment = load(files(tmp_path / "blobs"))
    assert segment(X)[0].shape == X.shape


FULL = """
import resource, sys, warnings
from pathlib import Path
from tests.backends.test_onnx_kept import X, files, load
artifact = files(Path(sys.argv[1]) / "blobs")
# As on a full disk: no file may become as large as the weights.
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    segment = load(artifact)
assert "nothing is kept" in str(caught[0].message), caught
print(segment(X)[0].shape, segment.weights.packed)
"""


def test_a_full_disk_is_warned_of(tmp_path: Path, folder: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path)]
    printed = subprocess.check_output(command, text=True)
    assert f"{X.shape} {WEIGHT.nbytes}" == printed.strip()
    assert [] == list(folder.iterdir())


def test_no_cache_at_all(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    load(files(tmp_path / "blobs"))
    monkeypatch.delenv(LIMIT_VARIABLE)
    load(files(tmp_path / "blobs"), cache=False)
    assert not folder.exists()
