"""Whole bundles, loaded and called."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.backends.onnx.execute import OnnxExecutable
from partitioner.errors import (
    BackendError,
    BundleError,
    IncompatibleBundleError,
    InputError,
    MissingDependencyError,
    UsageError,
)
from partitioner.hostops import host_op
from partitioner.plan import Call, Carry, Draw, DrawGroup, Loop, Slice, Stacked
from partitioner.runtime import Pipeline, StepEvent, load
from partitioner.runtime.draws import draw_noise
from partitioner.specs import Image, InputSpec, Noise
from tests.bundles import Maker, node, spec

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((8, 8)) / 4).astype(np.float32)
ENCODE = RNG.standard_normal((8, 8)).astype(np.float32)
TIMES = np.linspace(1, 0, 5, dtype=np.float32)[:, np.newaxis]
STEPS = 5


@host_op(name="tests.count_positive", outputs={"rows": ("float32", (None, 8))})
def count_positive(latent: Array, *, above: float) -> Array:
    """The rows whose first number is large enough: as many as the data say."""
    return latent[latent[:, 0] > above]


def make_sampler(path: Path) -> Path:
    """image and noise in; five denoising steps; the latent, its history and some rows out."""
    maker = Maker(path)
    maker.onnx(
        "encode",
        {"image": "float32[1, 8]"},
        {"cond": "float32[1, 8]"},
        [node("MatMul", ["image", "w"], ["cond"])],
        weights={"w": ENCODE},
    )
    maker.onnx(
        "mix",
        {"x": "float32[4, 8]", "cond": "float32[1, 8]", "t": "float32[1]"},
        {"h": "float32[4, 8]"},
        [node("Add", ["x", "cond"], ["a"]), node("Mul", ["a", "t"], ["h"])],
    )
    maker.onnx(
        "denoise",
        {"h": "float32[4, 8]", "x": "float32[4, 8]", "jitter": "float32[4, 8]"},
        {"next": "float32[4, 8]"},
        [
            node("MatMul", ["h", "w"], ["m"]),
            node("Tanh", ["m"], ["d"]),
            node("Sub", ["x", "d"], ["s"]),
            node("Add", ["s", "jitter"], ["next"]),
        ],
        weights={"w": WEIGHT},
    )
    maker.host(
        "rows",
        "tests.count_positive",
        {"latent": "float32[4, 8]"},
        {"rows": "float32[?, 8]"},
        above=0.0,
    )
    maker.constant("times", TIMES)
    maker.value(jitters="float32[5, 4, 8]")
    body = (
        Call("mix", ("x", "cond", "t"), ("h",)),
        Call("denoise", ("h", "x", "jitter"), ("next",)),
    )
    return maker.write(
        inputs=[
            InputSpec("image", spec("float32[1, 8]")),
            InputSpec("noise", spec("float32[4, 8]"), Noise(scale=2.0)),
            InputSpec("prompt", spec("int64[77]"), used=False),
        ],
        draws=[DrawGroup(STEPS, (Draw("jitters", "normal", (0.0, 0.1), row=True),))],
        steps=[
            Call("encode", ("image",), ("cond",)),
            Loop(
                "sampler",
                STEPS,
                (Carry("noise", "x", "next", "latent"),),
                (Slice("times", "t"), Slice("jitters", "jitter")),
                (Stacked("next", "history"),),
                body,
            ),
            Call("rows", ("latent",), ("rows_out",)),
        ],
        outputs={"latent": "latent", "history": "history", "rows": "rows_out", "image": "image"},
    )


def expected_sampler(image: Array, noise: Array, jitters: Array) -> dict[str, Array]:
    cond, x, history = image @ ENCODE, noise, list[Array]()
    for time, jitter in zip(TIMES, jitters, strict=True):
        x = x - np.tanh(((x + cond) * time) @ WEIGHT) + jitter
        history.append(x)
    return {"latent": x, "history": np.stack(history), "rows": x[x[:, 0] > 0], "image": image}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sampler(tmp_path_factory.mktemp("bundles") / "sampler.bundle")


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> Pipeline:
    return load(bundle, host_ops=[count_positive])


IMAGE = RNG.standard_normal((1, 8)).astype(np.float32)


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


# --- inputs -------------------------------------------------------------------------------------


def make_identity(path: Path, **changes: Any) -> Path:
    maker = Maker(path)
    maker.onnx(
        "copy",
        {"a": "float32[2]"},
        {"b": "float32[2]"},
        [node("Identity", ["a"], ["b"])],
        **changes,
    )
    return maker.write(
        [InputSpec("x", spec("float32[2]"))], [Call("copy", ("x",), ("y",))], {"y": "y"}
    )


def test_missing_inputs(pipe: Pipeline) -> None:
    with pytest.raises(InputError) as caught:
        pipe()

    assert "input missing: image (float32[1, 8])" == caught.value.what
    assert "call it with image=..." == caught.value.advice


def test_unknown_inputs_are_met_with_the_nearest_name(pipe: Pipeline) -> None:
    with pytest.raises(InputError) as caught:
        pipe(image=IMAGE, imgae=IMAGE)
    assert "this pipeline has no input 'imgae'" == caught.value.what
    assert "did you mean 'image'?" == caught.value.advice

    with pytest.raises(InputError) as caught:
        pipe(image=IMAGE, zzz=1)
    assert "its inputs are image, noise, prompt" == caught.value.advice


def test_symbolic_sizes(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.onnx(
        "add",
        {"a": "float32[n, 2]", "b": "float32[n, 2]"},
        {"c": "float32[n, 2]"},
        [node("Add", ["a", "b"], ["c"])],
    )
    maker.write(
        [
            InputSpec("a", spec("float32[n, 2]")),
            InputSpec("b", spec("float32[n, 2]"), Noise("uniform")),
        ],
        [Call("add", ("a", "b"), ("c",))],
        {"c": "c"},
    )
    pipe = load(maker.path)
    ones = np.ones((3, 2), np.float32)

    np.testing.assert_array_equal(ones * 3, pipe(a=ones, b=ones * 2)["c"])
    drawn = pipe(a=ones, seed=0)["c"]
    assert (3, 2) == drawn.shape
    assert bool(np.all((drawn >= 1) & (drawn < 2)))
    with pytest.raises(InputError, match=r"'b' has the shape \[2, 2\]"):
        pipe(a=ones, b=ones[:2])


def test_images_are_resized_and_normalised(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.onnx(
        "copy",
        {"a": "float32[1, 3, 4, 6]"},
        {"b": "float32[1, 3, 4, 6]"},
        [node("Identity", ["a"], ["b"])],
    )
    maker.write(
        [InputSpec("image", spec("float32[1, 3, 4, 6]"), Image((4, 6)))],
        [Call("copy", ("image",), ("y",))],
        {"y": "y"},
    )
    pipe = load(maker.path)
    picture = np.full((4, 6, 3), 255, np.uint8)

    np.testing.assert_array_equal(np.ones((1, 3, 4, 6)), pipe(image=picture)["y"])
    with pytest.raises(InputError, match="an image of 4 x 6"):
        pipe()


# --- loading ------------------------------------------------------------------------------------


def test_options_that_cannot_be_meant(bundle: Path) -> None:
    wrong: list[dict[str, Any]] = [{"threads": 0}, {"memory": "huge"}, {"verify": "maybe"}]
    for options in wrong:
        with pytest.raises(UsageError):
            load(bundle, **options)


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_memory_modes_agree(bundle: Path, pipe: Pipeline, memory: Any) -> None:
    other = load(bundle, host_ops=[count_positive], memory=memory, verify="always")

    np.testing.assert_allclose(
        pipe(image=IMAGE, seed=1)["latent"],
        other(image=IMAGE, seed=1)["latent"],
        rtol=1e-4,
        atol=1e-5,
    )


def test_segments_of_the_same_graph_share_a_session(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    for name in ("first", "rest"):
        maker.onnx(
            name,
            {"a": "float32[1, 8]"},
            {"b": "float32[1, 8]"},
            [node("MatMul", ["a", "w"], ["b"])],
            weights={"w": WEIGHT},
        )
    maker.write(
        [InputSpec("x", spec("float32[1, 8]"))],
        [Call("first", ("x",), ("h",)), Call("rest", ("h",), ("y",))],
        {"y": "y"},
    )
    with load(maker.path) as pipe:
        first, rest = pipe._executables.values()
        assert first is rest
        np.testing.assert_allclose(IMAGE @ WEIGHT @ WEIGHT, pipe(x=IMAGE)["y"], atol=1e-5)


def test_a_host_op_that_is_not_here(bundle: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"tests\.count_positive"):
        load(bundle)


def test_a_backend_that_is_not_here(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.host("one", "tests.count_positive", {"a": "float32[2]"}, {"b": "float32[2]"})
    maker.segments["one"] = _replace(maker.segments["one"], backend="abacus")
    maker.artifacts["one"] = _replace(maker.artifacts["one"], backend="abacus")
    maker.write([InputSpec("a", spec("float32[2]"))], [Call("one", ("a",), ("b",))], {"b": "b"})

    with pytest.raises(IncompatibleBundleError, match="'abacus' is not installed"):
        load(maker.path)


def test_values_that_no_array_can_hold(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.host("one", "tests.count_positive", {"a": "float32[2]"}, {"b": "bfloat16[2]"})
    maker.write([InputSpec("a", spec("float32[2]"))], [Call("one", ("a",), ("b",))], {"b": "b"})

    with pytest.raises(IncompatibleBundleError, match="bfloat16"):
        load(maker.path)


def test_a_damaged_weight_is_found_before_it_is_used(tmp_path: Path) -> None:
    path = make_sampler(tmp_path / "b")
    for blob in (path / "blobs" / "sha256").iterdir():
        if blob.read_bytes() == WEIGHT.tobytes():
            blob.chmod(0o644)
            blob.write_bytes((WEIGHT + 1).tobytes())

    with pytest.raises(BundleError, match="its content was changed"):
        load(path, host_ops=[count_positive])
    assert "latent" in load(path, host_ops=[count_positive], verify="never")(image=IMAGE)


def test_a_damaged_constant_leaves_no_segment_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_sampler(tmp_path / "b")
    for blob in (path / "blobs" / "sha256").iterdir():
        if blob.read_bytes() == TIMES.tobytes():
            blob.chmod(0o644)
            blob.write_bytes((TIMES + 1).tobytes())
    closed: list[str] = []
    close = OnnxExecutable.close

    def note(self: OnnxExecutable) -> None:
        closed.append(self.info.name)
        close(self)

    monkeypatch.setattr(OnnxExecutable, "close", note)
    with pytest.raises(BundleError, match="its content was changed"):
        load(path, host_ops=[count_positive])
    assert {"encode", "mix", "denoise"} == set(closed)


def test_a_failing_segment_is_named_with_its_source_and_step(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.onnx(
        "pick",
        {"a": "float32[2]", "index": "int64[1]"},
        {"b": "float32[1]"},
        [node("Gather", ["a", "index"], ["b"])],
    )
    maker.constant("indices", np.array([[0], [1], [9]]))
    loop = Loop(
        "walk",
        3,
        (),
        (Slice("indices", "index"),),
        (Stacked("b", "all"),),
        (Call("pick", ("a", "index"), ("b",)),),
    )
    maker.write([InputSpec("a", spec("float32[2]"))], [loop], {"all": "all"})
    pipe = load(maker.path)

    with pytest.raises(BackendError) as caught:
        pipe(a=[1, 2])
    assert "segment 'pick' failed in ONNX Runtime" in caught.value.what
    assert "segment 'pick' (model.py:7 in pick), step 3 of 3 of 'walk'" == caught.value.where
    assert caught.value.advice


def _replace(value: Any, **changes: Any) -> Any:
    import dataclasses

    return dataclasses.replace(value, **changes)
