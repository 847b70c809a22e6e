"""A limit of memory is compared with what a bundle needs before anything is loaded."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.backends.execution import DeviceOptions
from partitioner.errors import InsufficientMemoryError, UsageError
from partitioner.runtime import QueueOptions, load
from partitioner.runtime.admitting import need_of
from tests.cli.verbs import partition
from tests.runtime.stacks import WEIGHT, make_stack


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stack(tmp_path_factory.mktemp("admitting") / "b")


def test_the_need_is_of_weights_constants_and_arenas(path: Path) -> None:
    need = need_of(Bundle.open(path), DeviceOptions())
    assert (4 * WEIGHT, 2 * WEIGHT, 0) == (need.packed, need.least, need.fixed)
    with load(path) as pipe:
        assert need.arena == pipe._schedules.arenas.nbytes
    assert need.whole(3) == 4 * WEIGHT + 3 * need.arena
    assert need.smallest == 2 * WEIGHT + need.arena


def test_what_fits_is_loaded_and_what_does_not_is_refused(path: Path) -> None:
    need = need_of(Bundle.open(path), DeviceOptions())
    load(path, max_memory=need.whole(1)).close()
    load(path, lazy=True, max_memory=need.smallest).close()
    with pytest.raises(InsufficientMemoryError) as caught:
        load(path, max_memory=need.whole(1) - 1)
    assert f"({need.whole(1)} bytes)" in caught.value.what
    assert "lazy=True at least" in (caught.value.advice or "")
    # As it comes back from another process, where its figures must be with it; own bytes.
    assert 32 == pickle.loads(pickle.dumps(caught.value)).exit_code
    with pytest.raises(InsufficientMemoryError, match="even with lazy=True"):
        load(path, lazy=True, max_memory=need.smallest - 1)


def test_workers_have_an_arena_each(path: Path) -> None:
    need = need_of(Bundle.open(path), DeviceOptions())
    queue = QueueOptions(workers=4)
    load(path, max_memory=need.whole(4), queue=queue).close()
    with pytest.raises(InsufficientMemoryError) as caught:
        load(path, max_memory=need.whole(4) - 1, queue=queue)
    assert "one worker" in (caught.value.advice or "")


def test_a_limit_that_is_no_amount_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="no amount of memory"):
        load(path, max_memory="lots")


def test_device_is_a_target(path: Path) -> None:
    load(path, device="cpu").close()
    with pytest.raises(UsageError, match="xeon"):
        load(path, device="xeon")
    with pytest.raises(UsageError, match="different targets"):
        load(path, device="cpu", variant={"target": "xeon"})


def test_the_command_line_refuses_with_a_code_of_its_own(path: Path) -> None:
    words = ("run", str(path), "--input", "x=1", "--max-memory", "1KiB")
    done = partition(*words)
    assert (32, True) == (done.returncode, "allowed by max_memory are 1 KiB" in done.stderr)
    assert 32 == partition(*words, "--lazy").returncode
