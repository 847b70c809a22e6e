"""OpenVINO segments: loading, binding, refusing, and the host's cache."""

from __future__ import annotations

import re
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
from partitioner.backends.openvino import cache, loading
from partitioner.backends.openvino.execute import OpenvinoExecutable, OpenvinoExecutor
from partitioner.backends.openvino.ir import ALIGNMENT, read_graph, starts_of
from partitioner.backends.openvino.settings import (
    Settings,
    has_bfloat16,
    plugin_properties,
    read_settings,
)
from partitioner.errors import BackendError, BundleError, IncompatibleBundleError
from partitioner.runtime.cpus import usable_cpus
from tests.backends.openvino_files import BIAS, FIRST, WEIGHT, X, affine_xml, files
from tests.bundles import specs

EXPECTED = X @ WEIGHT + BIAS


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


def load(artifact: ArtifactFiles, **device: Any) -> OpenvinoExecutable:
    return OpenvinoExecutor().load(artifact, DeviceOptions(**device))


def close(actual: Any) -> bool:
    return np.allclose(EXPECTED, actual, rtol=1e-5, atol=1e-5)


# --- running ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"snippets": False}, {"dynamic": True}])
@pytest.mark.parametrize("cached", [True, False])
def test_weights_come_from_two_blobs(tmp_path: Path, options: Any, cached: bool) -> None:
    for _ in range(2):
        segment = load(files(tmp_path, **options), cache=cached)
        assert close(segment(X)[0])
    assert specs({"x": "float32[2, 64]"}) == segment.inputs


def test_arrays_that_may_not_be_written_to(tmp_path: Path) -> None:
    segment = load(files(tmp_path))
    given = X.copy()
    given.flags.writeable = False
    assert close(segment(given)[0])
    assert close(segment(np.asfortranarray(X))[0])


def test_a_bound_call_reads_and_writes_in_place(tmp_path: Path) -> None:
    call = load(files(tmp_path)).bind()
    given, one, two = X.copy(), np.zeros_like(X), np.zeros_like(X)
    call.set_input(0, given)
    call.set_output(0, one)
    assert one is call.run()[0]
    assert close(one)
    # What the array holds when it is run counts; what was given before stays as it was.
    given[:] = 0
    call.set_output(0, two)
    call.run()
    np.testing.assert_allclose(np.broadcast_to(BIAS, X.shape), two, rtol=1e-5)
    assert close(one)
    call.set_output(0, None)
    (fresh,) = call.run()
    (another,) = call.run()
    np.testing.assert_array_equal(fresh, another)
    assert not np.shares_memory(fresh, another)


def test_carried_arrays_may_be_swapped_many_times(tmp_path: Path) -> None:
    call = load(files(tmp_path)).bind()
    arrays = [X * k for k in range(20)]
    for array in [*arrays, *arrays]:
        call.set_input(0, array)
        (actual,) = call.run()
        np.testing.assert_allclose(array @ WEIGHT + BIAS, actual, rtol=1e-4, atol=1e-4)


def test_what_a_call_gave_is_not_overwritten_by_the_next(tmp_path: Path) -> None:
    segment = load(files(tmp_path))
    call, other = segment.bind(), segment.bind()
    given: list[Any] = []
    for k in range(5):
        for one in (call, other):
            one.set_input(0, X * k)
            given.append(one.run()[0])
    for k, pair in enumerate(zip(given[::2], given[1::2], strict=True)):
        for actual in pair:
            np.testing.assert_allclose(X * k @ WEIGHT + BIAS, actual, rtol=1e-4, atol=1e-4)


def test_each_bound_call_has_a_request_of_its_own(tmp_path: Path) -> None:
    """Bound at the same time, run in any order: neither reads what the other is given."""
    segment = load(files(tmp_path))
    calls = [segment.bind() for _ in range(3)]
    for k, call in enumerate(calls):
        call.set_input(0, X * k)
    for k in (2, 0, 1):
        (actual,) = calls[k].run()
        np.testing.assert_allclose(X * k @ WEIGHT + BIAS, actual, rtol=1e-4, atol=1e-4)


def test_calls_from_several_threads(tmp_path: Path) -> None:
    segment = load(files(tmp_path), mode="throughput")
    wrong: list[int] = []

    def run(k: int) -> None:
        call, given = segment.bind(), X * k
        call.set_input(0, given)
        for _ in range(50):
            (actual,) = call.run()
            if not np.allclose(given @ WEIGHT + BIAS, actual, rtol=1e-4, atol=1e-4):
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == wrong


@pytest.mark.parametrize("array", [X[:1], X.astype(np.float64)])
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, array: Any) -> None:
    segment = load(files(tmp_path))
    with pytest.raises(BackendError, match=r"input 'x' is float32\[2, 64\], not") as caught:
        segment(array)
    assert "net.py:3" in str(caught.value)
    call = segment.bind()
    call.set_input(0, X)
    call.set_output(0, array.copy())
    with pytest.raises(BackendError, match="output 'y' is"):
        call.run()
    call.set_output(0, np.empty_like(X))
    assert close(call.run()[0])


def test_a_closed_segment(tmp_path: Path) -> None:
    segment = load(files(tmp_path))
    segment.close()
    with pytest.raises(BackendError, match="has been closed"):
        segment.bind()


def test_serving_imports_no_torch_and_sends_nothing(tmp_path: Path) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from tests.backends.openvino_files import X, files
        from partitioner.backends.execution import DeviceOptions
        from partitioner.backends.openvino.execute import OpenvinoExecutor
        artifact = files(Path({str(tmp_path)!r}))
        OpenvinoExecutor().load(artifact, DeviceOptions())(X)
        heavy = {{"torch", "networkx", "click", "rich"}} & set(sys.modules)
        print(sorted(heavy), sys.modules["openvino_telemetry"])
    """
    output = subprocess.check_output([sys.executable, "-c", textwrap.dedent(script)], text=True)
    assert "[] None\n" == output


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"SNIPPETS_MODE": "DISABLE"}, {"snippets": 0}, {"precision": "f16"}, {"dynamic": "yes"}],
)
def test_unknown_options_are_refused(tmp_path: Path, options: Any) -> None:
    with pytest.raises(IncompatibleBundleError, match="does not allow"):
        load(files(tmp_path, **options))


def test_the_precision_and_what_is_not_the_default_are_options() -> None:
    assert {"precision": "f32"} == Settings().options()
    settings = Settings(snippets=False, precision="bf16")
    assert {"snippets": False, "precision": "bf16"} == settings.options()
    assert settings == read_settings(settings.options(), "here")


def test_the_precision_and_the_threads_are_always_set() -> None:
    properties = plugin_properties(Settings(), DeviceOptions())
    assert "f32" == properties["INFERENCE_PRECISION_HINT"]
    assert usable_cpus() == properties["INFERENCE_NUM_THREADS"]
    assert "LATENCY" == properties["PERFORMANCE_HINT"]
    assert "NUM_STREAMS" not in properties
    chosen = plugin_properties(
        Settings(precision="bf16"), DeviceOptions(threads=3, mode="throughput", pinning=True)
    )
    assert ("bf16" if has_bfloat16() else "f32") == chosen["INFERENCE_PRECISION_HINT"]
    assert (3, "THROUGHPUT", True) == (
        chosen["INFERENCE_NUM_THREADS"],
        chosen["PERFORMANCE_HINT"],
        chosen["ENABLE_CPU_PINNING"],
    )


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_openvino_is_told_the_precision(precision: str, tmp_path: Path) -> None:
    """Left alone it takes bfloat16 where the host has it, from the cache, too."""
    for _ in range(2):
        segment = load(files(tmp_path, precision=precision))
        assert segment._loaded is not None
        told = segment._loaded.model.get_property("INFERENCE_PRECISION_HINT")
        allowed = precision == "bf16" and has_bfloat16()
        assert ("bf16" if allowed else "f32") == told.get_type_name()


# --- the cache ----------------------------------------------------------------------------------


def test_a_second_load_takes_what_was_compiled(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(files(tmp_path))
    (entry,) = own_cache.glob("*.blob")
    # Without the weights of the main blob.
    assert entry.stat().st_size < WEIGHT.nbytes + ALIGNMENT

    def fail(*given: Any) -> Any:
        raise AssertionError("compiled again")

    monkeypatch.setattr(loading, "_compile", fail)
    assert close(load(files(tmp_path))(X)[0])


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, own_cache: Path, damage: str) -> None:
    load(files(tmp_path))
    (entry,) = own_cache.glob("*.blob")
    good = entry.read_bytes()
    bad = {
        "flip": good[:-1] + bytes([good[-1] ^ 1]),
        "cut": good[: len(good) // 2],
        "empty": b"",
        "text": b"[]".ljust(2 * ALIGNMENT),
    }
    entry.write_bytes(bad[damage])

    assert close(load(files(tmp_path))(X)[0])
    assert len(good) == entry.stat().st_size


def test_an_entry_that_openvino_refuses_is_made_again(tmp_path: Path, own_cache: Path) -> None:
    load(files(tmp_path))
    (entry,) = own_cache.glob("*.blob")
    cache.Cache().put(entry.stem, b"not a blob of OpenVINO" * 300, {"main": 0})

    assert close(load(files(tmp_path))(X)[0])
    assert b"not a blob" not in entry.read_bytes()
    assert close(load(files(tmp_path))(X)[0])


def test_entries_differ_by_graph_weights_and_settings(tmp_path: Path, own_cache: Path) -> None:
    load(files(tmp_path))
    load(files(tmp_path, snippets=False))
    load(files(tmp_path), threads=1)
    assert 3 == len(list(own_cache.glob("*.blob")))


def test_the_oldest_entries_go(tmp_path: Path) -> None:
    kept = cache.Cache(tmp_path / "entries", limit=3 * (ALIGNMENT + 100))
    for key in "abcd":
        kept.put(key, key.encode() * 100, key)
        kept.get("a")
    assert ["a", "d"] == sorted({"a", "d"} & {p.stem for p in kept.folder.glob("*.blob")})
    assert 3 == len(list(kept.folder.glob("*.blob")))
    entry = kept.get("d")
    assert entry is not None
    assert (b"d" * 100, "d") == (entry.data.tobytes(), entry.note)


def test_readers_see_a_whole_entry_or_none(tmp_path: Path) -> None:
    """While several write under one key, as processes that load the same bundle do."""
    kept = cache.Cache(tmp_path / "entries")

    def write(letter: bytes) -> None:
        for _ in range(30):
            kept.put("key", letter * 5000, letter.decode())

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    seen: list[bool] = []
    while any(thread.is_alive() for thread in threads):
        entry = kept.get("key")
        seen.append(entry is None or entry.note.encode() * 5000 == entry.data.tobytes())
    for thread in threads:
        thread.join()
    assert all(seen)
    assert ["key.blob"] == [path.name for path in kept.folder.iterdir()]


def test_a_folder_that_others_may_write_to_is_left_alone(tmp_path: Path) -> None:
    kept = cache.Cache(tmp_path / "entries")
    kept.put("a", b"one", None)
    kept.folder.chmod(0o777)
    assert kept.get("a") is None
    kept.put("b", b"two", None)
    assert ["a.blob"] == [path.name for path in kept.folder.iterdir()]


def test_a_cache_that_cannot_be_written_to_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="nothing is kept"):
        segment = load(files(tmp_path))
    assert close(segment(X)[0])


def test_no_cache_at_all(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    assert close(load(files(tmp_path))(X)[0])
    assert not own_cache.exists()


# --- hostile graphs -----------------------------------------------------------------------------


def changed(xml: bytes, pattern: str, replacement: str) -> bytes:
    text, count = re.subn(pattern, replacement, xml.decode(), count=1)
    assert count == 1
    return text.encode()


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r'offset="64"', 'offset="128"', "lie in none of the artifact's blobs"),
        (r'offset="64"', 'offset="999999999"', "lie in none of the artifact's blobs"),
        (r'offset="64"', 'offset="-64"', "has the number '-64'"),
        (r'size="16384"', 'size="16383"', "not as long as its shape says"),
        (r'shape="64, ?64"', 'shape="64,65"', "not as long as its shape says"),
        (r'element_type="f32" shape="64', 'element_type="string" shape="64', "of the type"),
        (r"<net ", '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><net ', "entities"),
        (r"</net>", "", "cannot be trusted"),
        (r'name="/weight_1"', 'name="/weight_0"', "two layers are named"),
        (r'type="Const"', 'type="Konst"', "is no constant, but has an offset"),
        (r"<layers>", "<layers><layer><body><layers><layer/></layers></body></layer>", "flat"),
    ],
)
def test_graphs_that_cannot_be_trusted(
    tmp_path: Path, pattern: str, replacement: str, message: str
) -> None:
    xml = changed(affine_xml(tmp_path), pattern, replacement)
    with pytest.raises(BundleError, match=message):
        load(files(tmp_path, xml))


def test_a_constant_may_not_straddle_two_blobs(tmp_path: Path) -> None:
    xml = changed(affine_xml(tmp_path), r'offset="64"', 'offset="4096"')
    with pytest.raises(BundleError, match="none of the artifact's blobs"):
        read_graph(xml, [64 + WEIGHT.nbytes, BIAS.nbytes], "here")


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [(r'<data shape="2, ?64"', '<data shape="3,64"'), (r'names="x"', 'names="z"')],
)
def test_a_graph_of_other_tensors_than_the_plans(
    tmp_path: Path, pattern: str, replacement: str
) -> None:
    with pytest.raises((BundleError, BackendError)):
        load(files(tmp_path, changed(affine_xml(tmp_path), pattern, replacement)))


def test_blobs_start_at_pages() -> None:
    assert [0, ALIGNMENT, 3 * ALIGNMENT, 3 * ALIGNMENT] == starts_of([1, ALIGNMENT + 1, 0, 9])
    assert FIRST
