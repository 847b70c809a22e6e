"""What weights take: as backends say, or as the segment's blobs have it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from partitioner.backends.execution import DeviceOptions, Executable, Executor
from partitioner.backends.onnx.external import external_places
from partitioner.backends.openvino.ir import constant_bytes
from partitioner.backends.weighing import (
    Place,
    WeightUse,
    bytes_of,
    expected_weights,
    held_weights,
)
from partitioner.errors import BundleError
from tests.bundles import external, model, node


class Plain:
    """An executor and an executable that know nothing of weights."""


class Knowing:
    weights = WeightUse(frozenset({("a", 0, 3)}), 4)

    def weigh(self, artifact: Any, device: DeviceOptions) -> WeightUse:
        return WeightUse(frozenset({("a", 0, 1)}), 2 if device.memory == "fast" else 0)


def test_who_knows_is_asked_and_others_are_taken_to_hold_their_blobs() -> None:
    plain, knowing, device = cast(Any, Plain()), cast(Any, Knowing()), DeviceOptions()
    artifact = cast(Any, None)
    blobs = {"b": 4, "c": 5}
    whole = WeightUse(frozenset({("b", 0, 4), ("c", 0, 5)}), 0)
    assert whole == expected_weights(cast(Executor, plain), artifact, device, blobs)
    expected = WeightUse(frozenset({("a", 0, 1)}), 2)
    assert expected == expected_weights(cast(Executor, knowing), artifact, device, blobs)
    assert whole == held_weights(cast(Executable, plain), blobs)
    assert 9 == whole.total
    assert 7 == held_weights(cast(Executable, knowing), blobs).total


def test_what_is_read_in_place_twice_is_counted_once() -> None:
    places: list[Place] = [("a", 0, 3), ("a", 3, 3), ("b", 0, 3), ("a", 0, 3)]
    assert 9 == bytes_of(places)


def test_onnx_counts_what_tensors_share_once() -> None:
    array = np.zeros((4, 4), np.float32)
    tensors = [
        external(name, array, "w", offset) for name, offset in (("a", 0), ("b", 0), ("c", 64))
    ]
    data = model({"x": "float32[4]"}, {"y": "float32[4]"}, [node("Neg", ["x"], ["y"])], tensors)
    assert {("w", 0, array.nbytes), ("w", 64, array.nbytes)} == external_places(data, "here")
    with pytest.raises(BundleError, match="cannot be trusted"):
        external_places(b"\xff" + data, "here")


def test_openvino_counts_constants_once() -> None:
    layers = b"".join(
        b'<layer type="Const"><data element_type="f32" shape="4" offset="%d" size="16" /></layer>'
        % offset
        for offset in (0, 0, 4096)
    )
    assert 32 == constant_bytes(b"<net><layers>" + layers + b"</layers></net>")
