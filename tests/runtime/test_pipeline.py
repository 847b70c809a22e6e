"""Whole bundles, called: results, seeds, noise, events, closing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.errors import InputError, UsageError
from partitioner.runtime import Pipeline, StepEvent, load
from partitioner.runtime.draws import draw_noise
from tests.bundles import spec
from tests.runtime.samples import (
    IMAGE,
    STEPS,
    Array,
    count_positive,
    expected_sampler,
    make_identity,
)


def test_the_result_is_that_of_the_arithmetic(pipe: Pipeline) -> None:
    noise = draw_noise(pipe.manifest, 7, {})
    expected = expected_sampler(IMAGE, noise["noise"], noise["jitters"])
    actual = pipe(image=IMAGE, seed=7)

    assert list(pipe.outputs) == list(actual)
    for name, array in expected.items():
        np.testing.assert_allclose(array, actual[name], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(actual["latent"], actual["history"][-1])


def test_equal_seeds_give_equal_results_and_others_do_not(pipe: Pipeline) -> None:
    one, again, other, fresh = (pipe(image=IMAGE, seed=seed) for seed in (3, 3, 4, None))

    np.testing.assert_array_equal(one["history"], again["history"])
    assert not np.array_equal(one["latent"], other["latent"])
    assert not np.array_equal(one["latent"], fresh["latent"])


def test_outputs_belong_to_the_caller(pipe: Pipeline) -> None:
    image = IMAGE.copy()
    first = pipe(image=image, seed=1)
    kept = {name: array.copy() for name, array in first.items()}
    for array in pipe(image=image, seed=2).values():
        array[...] = 0

    for name, array in kept.items():
        np.testing.assert_array_equal(array, first[name])
        assert first[name].flags.writeable
    first["image"][...] = 0
    np.testing.assert_array_equal(IMAGE, image)


def test_noise_may_be_given_and_replayed(pipe: Pipeline) -> None:
    drawn = draw_noise(pipe.manifest, 5, {})
    expected = pipe(image=IMAGE, seed=5)
    replayed = pipe(image=IMAGE, seed=6, noise=drawn)
    # An input that is called like an argument of the call itself.
    given = pipe(image=IMAGE, noise=drawn["noise"], seed=5)
    mapped = pipe({"noise": drawn["noise"], "image": IMAGE}, seed=5)

    np.testing.assert_array_equal(expected["latent"], replayed["latent"])
    np.testing.assert_array_equal(given["latent"], mapped["latent"])
    # What is given is not drawn, so what is drawn after it begins where it would have begun.
    moved = draw_noise(pipe.manifest, 5, {"noise": drawn["noise"]})
    assert not np.array_equal(moved["jitters"], drawn["jitters"])


def test_an_array_as_noise_needs_an_input_of_that_name(tmp_path: Path) -> None:
    pipe = load(make_identity(tmp_path / "b"))
    with pytest.raises(InputError, match="noise is a dict"):
        pipe(x=np.zeros(2, np.float32), noise=np.zeros(2))
    with pytest.raises(InputError, match="given twice: x"):
        pipe({"x": np.zeros(2, np.float32)}, x=np.zeros(2, np.float32))


def test_unused_inputs_are_ignored(pipe: Pipeline) -> None:
    expected = pipe(image=IMAGE, seed=1)
    actual = pipe(image=IMAGE, prompt="not even an array", seed=1)

    np.testing.assert_array_equal(expected["latent"], actual["latent"])


@pytest.mark.parametrize("seed", ["7", 1.5, True, 2**64, -(2**63) - 1])
def test_seeds_that_are_none(pipe: Pipeline, seed: Any) -> None:
    with pytest.raises(InputError, match="seed"):
        pipe(image=IMAGE, seed=seed)


@pytest.mark.parametrize("seed", [0, 2**64 - 1, -1, -(2**63), np.int64(4)])
def test_seeds_at_the_limits(pipe: Pipeline, seed: Any) -> None:
    assert (4, 8) == pipe(image=IMAGE, seed=seed)["latent"].shape


def test_description(pipe: Pipeline) -> None:
    assert ["image", "noise", "prompt"] == list(pipe.inputs)
    assert spec("float32[?, 8]") == pipe.outputs["rows"]
    assert repr(pipe).startswith(f"<Pipeline hand-made {pipe.digest[:19]} (image: float32[1, 8],")


def test_threads_give_what_one_thread_gives(pipe: Pipeline) -> None:
    expected = [pipe(image=IMAGE * seed, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            actual = list(threads.map(lambda seed: pipe(image=IMAGE * seed, seed=seed), range(8)))
            for one, other in zip(expected, actual, strict=True):
                for name, array in one.items():
                    np.testing.assert_array_equal(array, other[name])


def test_events(pipe: Pipeline) -> None:
    events = list[StepEvent]()
    pipe(image=IMAGE, callback=events.append)

    assert [StepEvent("sampler", step, STEPS) for step in range(STEPS)] == events


def test_an_exception_in_the_callback_cancels_and_leaves_the_pipeline_usable(
    pipe: Pipeline,
) -> None:
    events = list[StepEvent]()

    class Cancelled(Exception):
        pass

    def callback(event: StepEvent) -> None:
        events.append(event)
        if event.step == 2:
            raise Cancelled

    expected = pipe(image=IMAGE, seed=1)
    with pytest.raises(Cancelled):
        pipe(image=IMAGE, seed=1, callback=callback)

    assert 3 == len(events)
    np.testing.assert_array_equal(expected["latent"], pipe(image=IMAGE, seed=1)["latent"])


def test_observe(pipe: Pipeline) -> None:
    seen = list[tuple[str, int, dict[str, Array]]]()
    result = pipe(
        image=IMAGE, observe=lambda name, call, outputs: seen.append((name, call, dict(outputs)))
    )
    calls = [(name, call) for call in range(STEPS) for name in ("mix", "denoise")]

    assert [("encode", 0), *calls, ("rows", 0)] == [(name, call) for name, call, _ in seen]
    denoised = [outputs["next"] for name, _, outputs in seen if name == "denoise"]
    np.testing.assert_array_equal(result["history"], np.stack(denoised))


# --- closing ------------------------------------------------------------------------------------


def test_a_closed_pipeline_refuses_calls(bundle: Path) -> None:
    with load(bundle, host_ops=[count_positive]) as pipe:
        pipe(image=IMAGE)
    pipe.close()

    assert "closed" in repr(pipe)
    with pytest.raises(UsageError, match=r"hand-made .* is closed"):
        pipe(image=IMAGE)


def test_closing_waits_for_running_calls(bundle: Path) -> None:
    pipe = load(bundle, host_ops=[count_positive])
    inside, go_on = threading.Event(), threading.Event()

    def callback(event: StepEvent) -> None:
        inside.set()
        assert go_on.wait(10)

    with ThreadPoolExecutor(2) as threads:
        call = threads.submit(pipe, image=IMAGE, seed=1, callback=callback)
        assert inside.wait(10)
        closing = threads.submit(pipe.close)
        while not pipe._gate.closed:
            pass
        with pytest.raises(UsageError, match="closed"):
            pipe(image=IMAGE)
        assert not closing.done()
        go_on.set()
        closing.result(10)

    assert (4, 8) == call.result(0)["latent"].shape


def test_closing_from_within_a_call_is_refused(bundle: Path) -> None:
    pipe = load(bundle, host_ops=[count_positive])
    with pytest.raises(UsageError, match="within a call"):
        pipe(image=IMAGE, callback=lambda event: pipe.close())

    assert "latent" in pipe(image=IMAGE)
