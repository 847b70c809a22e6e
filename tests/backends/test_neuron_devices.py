"""Which devices a host has, which cores a process may use, and who gets which copy."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from partitioner.backends.neuron.cores import Copies, Placer
from partitioner.backends.neuron.devices import Devices, find_devices, visible_cores
from partitioner.errors import BackendError, UsageError


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def chip(root: Path, index: int, cores: int, instance: str) -> None:
    put(root, **{f"dev__neuron{index}": ""})
    folder = f"sys/devices/virtual/neuron_device/neuron{index}"
    put(root, **{f"{folder}/core_count": f"{cores}\n"})
    put(root, **{f"{folder}/neuron_core0/info/architecture/instance_type": f"{instance}\n"})


def neuron_ls(root: Path, document: object) -> None:
    tool = root / "opt/aws/neuron/bin/neuron-ls"
    tool.parent.mkdir(parents=True)
    tool.write_text(f"#!/bin/sh\necho '{json.dumps(document)}'\n")
    tool.chmod(0o755)


def test_a_host_without_devices(tmp_path: Path) -> None:
    assert Devices(0, 0) == find_devices(tmp_path)


def test_what_the_driver_says(tmp_path: Path) -> None:
    for index in range(6):
        chip(tmp_path, index, 2, "Inf2")
    assert Devices(6, 12, "inf2") == find_devices(tmp_path)


def test_neuron_ls_is_asked_where_the_driver_is_silent(tmp_path: Path) -> None:
    put(tmp_path, proc__devices="248 neuron\n")
    neuron_ls(tmp_path, [{"neuron_device": 0, "nc_count": 8, "logical_neuroncore_config": 2}])
    put(tmp_path, sys__devices__virtual__dmi__id__product_name="trn2.3xlarge\n")
    assert Devices(1, 8, "trn2", 2) == find_devices(tmp_path)


@pytest.mark.parametrize("output", ["nonsense", "exit 3", "[1]"])
def test_a_tool_that_says_nothing(output: str, tmp_path: Path) -> None:
    put(tmp_path, dev__neuron0="")
    tool = tmp_path / "opt/aws/neuron/bin/neuron-ls"
    tool.parent.mkdir(parents=True)
    tool.write_text(f"#!/bin/sh\n{output if ' ' in output else f'echo {output}'}\n")
    tool.chmod(0o755)
    assert Devices(1, 0) == find_devices(tmp_path)


@pytest.mark.parametrize(
    ("environment", "cores"),
    [
        ({}, 4),
        ({"NEURON_RT_VISIBLE_CORES": "0"}, 1),
        ({"NEURON_RT_VISIBLE_CORES": "4-7"}, 4),
        ({"NEURON_RT_VISIBLE_CORES": "0,1"}, 2),
        ({"NEURON_RT_VISIBLE_CORES": "0-1", "NEURON_RT_NUM_CORES": "4"}, 2),
        ({"NEURON_RT_NUM_CORES": "3"}, 3),
    ],
)
def test_visible_cores(environment: dict[str, str], cores: int) -> None:
    # Logical cores of two.
    assert tuple(range(cores)) == visible_cores(environment, Devices(1, 8, "trn2"), 2)


@pytest.mark.parametrize("text", ["one", "0-", "2-1", "1,1", "-1"])
def test_a_list_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="NEURON_RT_VISIBLE_CORES"):
        visible_cores({"NEURON_RT_VISIBLE_CORES": text}, Devices(0, 0), 1)


def test_cores_of_one_generation_run_one_anothers_segments() -> None:
    assert Devices(1, 2, "inf2").runs("trn1")
    assert not Devices(1, 8, "trn2").runs("inf2")
    assert Devices(0, 0).runs("trn3")


def test_segments_take_cores_in_turn_or_all_of_them() -> None:
    one = Placer((0, 1, 2), "latency")
    assert [(0,), (1,), (2,), (0,)] == [one.cores_of() for _ in range(4)]
    # Segments are loaded side by side, and stand where their place in the pipeline puts them.
    assert [(2,), (0,), (1,)] == [one.cores_of(turn) for turn in (2, 3, 1)]
    assert (0, 1, 2) == Placer((0, 1, 2), "throughput").cores_of()


def test_each_copy_has_one_caller_at_a_time() -> None:
    copies = Copies(["a", "b"], "segment")
    busy: set[str] = set()
    most, lock, clashes = 0, threading.Lock(), 0

    def work() -> None:
        nonlocal most, clashes
        for _ in range(200):
            with copies.lent() as copy:
                with lock:
                    clashes += copy in busy
                    busy.add(copy)
                    most = max(most, len(busy))
                with lock:
                    busy.discard(copy)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (0, set()) == (clashes, busy)
    assert most <= 2


def test_callers_are_served_in_the_order_in_which_they_came() -> None:
    copies = Copies(["only"], "segment")
    served: list[int] = []

    def work(number: int) -> None:
        with copies.lent():
            served.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    with copies.lent():
        for index, thread in enumerate(threads):
            thread.start()
            while len(copies._waiting) <= index:
                threading.Event().wait(0.001)
    for thread in threads:
        thread.join()
    assert [0, 1, 2, 3, 4] == served


def test_who_waits_when_it_closes_is_told() -> None:
    copies = Copies(["only"], "segment 'x'")
    errors: list[BackendError] = []

    def wait() -> None:
        try:
            with copies.lent():
                pass
        except BackendError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    with copies.lent():
        thread.start()
        while not copies._waiting:
            threading.Event().wait(0.001)
        assert ("only",) == copies.close()
        thread.join()
    assert ["segment 'x'"] == [error.where for error in errors]
