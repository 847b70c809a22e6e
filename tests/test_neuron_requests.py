"""Requests to one bundle for Neuron beside each other, on several cores and copies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import partitioner
from tests.neuron_bundles import deferred, finished, standin

#: Fixtures.
__all__ = ["deferred", "finished", "standin"]

# The stand-in tells within each call which model on which core it is. What is to be at once meets
# there at a barrier, which breaks if the two never are.

only_standin = pytest.mark.parametrize("sdk", ["standin"], indirect=True)

#: How long a call waits for another before the test fails; none waits that long where it passes.
PATIENCE_S = 60

Hook = Callable[[Any], None]
Outputs = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def during(standin: Path) -> Iterator[Callable[[Hook], None]]:
    """Sets what is called within each call of a model."""
    import torch_neuronx

    def set_hook(hook: Hook) -> None:
        torch_neuronx.during = hook

    yield set_hook
    torch_neuronx.during = None


def part(model: Any) -> str:
    """Which segment of the pipeline a model is, by what it takes."""
    shapes = [shape for shape, _ in model.types]
    if shapes == [[2, 64]]:
        return "encoder"
    return "decoder" if shapes == [[2, 256]] else "denoiser"


def request(pipe: Any, number: int) -> Outputs:
    image = np.random.default_rng(number).standard_normal((2, 64)).astype(np.float32)
    return pipe(image=image, seed=number)


def check_equal(expected: Outputs, actual: Outputs) -> None:
    for name, array in expected.items():
        np.testing.assert_array_equal(array, actual[name])


@only_standin
def test_one_request_is_encoded_while_the_loop_of_another_runs(
    finished: Path, during: Callable[[Hook], None]
) -> None:
    with partitioner.load(finished, allow_executable=True) as pipe:
        expected = [request(pipe, number) for number in (1, 2)]
        in_loop, together = threading.Event(), threading.Barrier(2)
        first = threading.get_ident()
        met: dict[str, int] = {}

        def meet(model: Any) -> None:
            own = threading.get_ident() == first
            if own and part(model) == "denoiser" and not in_loop.is_set():
                in_loop.set()
            elif own or part(model) != "encoder":
                return
            met[part(model)] = model.core
            together.wait(PATIENCE_S)

        def encode_later() -> Outputs:
            assert in_loop.wait(PATIENCE_S)
            return request(pipe, 2)

        during(meet)
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(encode_later)
            results = [request(pipe, 1), second.result()]
    assert {"encoder", "denoiser"} == met.keys()
    assert met["encoder"] != met["denoiser"]
    for alone, beside in zip(expected, results, strict=True):
        check_equal(alone, beside)


@only_standin
def test_two_requests_are_at_once_in_copies_of_one_segment(
    finished: Path, during: Callable[[Hook], None]
) -> None:
    with partitioner.load(finished, mode="throughput", allow_executable=True) as pipe:
        expected = [request(pipe, number) for number in (1, 2)]
        together = threading.Barrier(2)
        cores: set[int] = set()

        def meet(model: Any) -> None:
            if part(model) == "denoiser":
                cores.add(model.core)
                # Every step of both loops is beside a step of the other.
                together.wait(PATIENCE_S)

        during(meet)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda number: request(pipe, number), (1, 2)))
    assert {0, 1} == cores
    for alone, beside in zip(expected, results, strict=True):
        check_equal(alone, beside)


@only_standin
def test_copies_are_used_in_turn(finished: Path, during: Callable[[Hook], None]) -> None:
    cores: dict[str, list[int]] = {"encoder": [], "denoiser": [], "decoder": []}
    with partitioner.load(finished, mode="throughput", allow_executable=True) as pipe:
        during(lambda model: cores[part(model)].append(model.core))
        for number in range(4):
            request(pipe, number)
    assert [0, 1, 0, 1] == cores["encoder"] == cores["decoder"]
    # A loop of four steps.
    assert [0, 1] * 8 == cores["denoiser"]


@only_standin
def test_more_requests_than_copies_give_each_its_own(finished: Path) -> None:
    with partitioner.load(finished, mode="throughput", allow_executable=True) as pipe:
        expected = [request(pipe, number) for number in range(6)]
        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(lambda number: request(pipe, number), range(6)))
    for alone, beside in zip(expected, results, strict=True):
        check_equal(alone, beside)
    # And they are not all the same.
    assert not np.array_equal(results[0]["picture"], results[1]["picture"])
