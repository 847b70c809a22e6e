"""Which files an ONNX graph reads, honest and hostile."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import helper

from partitioner.backends.onnx.external import ExternalTensor, check_external, external_tensors
from partitioner.errors import BundleError
from tests.bundles import external, model, node, tensor

BLOB = "a" * 64
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def plain(*initializers: Any, nodes: Any = (), functions: Any = ()) -> bytes:
    return model({}, {"y": "float32[2, 3]"}, list(nodes), initializers, functions)


def branch(proto: Any) -> Any:
    """A graph with one external initializer, for attributes."""
    value = helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, [2, 3])
    return helper.make_graph(
        [node("Identity", [proto.name], ["o"])], "branch", [], [value], [proto]
    )


def if_node(proto: Any) -> Any:
    return node(
        "If", ["c"], ["y"], then_branch=branch(proto), else_branch=branch(tensor(ARRAY, "z"))
    )


def function_with(proto: Any) -> Any:
    return helper.make_function(
        "local",
        "F",
        [],
        ["y"],
        [node("Constant", [], ["y"], value=proto)],
        [helper.make_opsetid("", 18)],
    )


def sparse(proto: Any) -> Any:
    indices = tensor(np.arange(6, dtype=np.int64), "indices")
    return helper.make_sparse_tensor(proto, indices, [2, 3])


PLACES: dict[str, Any] = {
    "initializer": lambda t: plain(t),
    "constant": lambda t: plain(nodes=[node("Constant", [], ["y"], value=t)]),
    "branch": lambda t: plain(nodes=[if_node(t)]),
    "nested branch": lambda t: plain(
        nodes=[
            node(
                "If",
                ["c"],
                ["y"],
                then_branch=helper.make_graph([if_node(t)], "outer", [], []),
            )
        ]
    ),
    "tensors": lambda t: plain(nodes=[node("X", [], ["y"], values=[t])]),
    "graphs": lambda t: plain(nodes=[node("X", [], ["y"], bodies=[branch(t)])]),
    "sparse": lambda t: plain(nodes=[node("Constant", [], ["y"], sparse_value=sparse(t))]),
    "function": lambda t: plain(functions=[function_with(t)]),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_visited(place: str) -> None:
    data = PLACES[place](external("w", ARRAY, BLOB, 8))

    assert [ExternalTensor("w", BLOB, 8, 24)] == list(external_tensors(data))
    check_external(data, {BLOB: 32}, "here")
    with pytest.raises(BundleError, match="reads bytes 8 to 32 of a blob of 31"):
        check_external(data, {BLOB: 31}, "here")
    with pytest.raises(BundleError, match="not one of the artifact's blobs"):
        check_external(data, {"b" * 64: 100}, "here")


def test_other_places_of_a_model() -> None:
    proto = onnx.load_from_string(plain())
    proto.graph.sparse_initializer.append(sparse(external("s", ARRAY, BLOB, 0)))
    training = proto.training_info.add()
    training.initialization.initializer.append(external("i", ARRAY, BLOB, 0))
    training.algorithm.initializer.append(external("a", ARRAY, BLOB, 0))
    function = function_with(tensor(ARRAY, "k"))
    function.attribute_proto.append(helper.make_attribute("d", external("d", ARRAY, BLOB, 0)))
    proto.functions.append(function)

    found = {t.name for t in external_tensors(proto.SerializeToString())}
    assert {"s", "i", "a", "d"} == found


def test_internal_tensors_are_no_concern() -> None:
    assert [] == list(external_tensors(plain(tensor(ARRAY, "w"))))
    check_external(plain(tensor(ARRAY, "w")), {}, "here")


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret", "*/_ORT_MEM_ADDR_/*", "", BLOB + "\0", BLOB.upper()]
)
def test_locations_that_are_no_blob(location: str) -> None:
    with pytest.raises(BundleError) as caught:
        check_external(plain(external("w", ARRAY, location, 0)), {BLOB: 100}, "segment 'x'")
    assert "segment 'x'" == caught.value.where
    assert caught.value.advice


def changed(**entries: str | None) -> bytes:
    """An external tensor with entries changed, added, or (None) left out."""
    proto = external("w", ARRAY, BLOB, 0)
    pairs: dict[str, str | None] = {"location": BLOB, "offset": "0", "length": "24", **entries}
    del proto.external_data[:]
    for key, value in pairs.items():
        if value is not None:
            proto.external_data.add(key=key, value=value)
    return plain(proto)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": None},
        {"offset": None},
        {"length": None},
        {"offset": "-1"},
        {"offset": "0x8"},
        {"offset": "٣"},
        {"offset": "1" * 20},
        {"length": "23"},
        {"length": "25"},
        {"basepath": "/"},
        {"prepacked_0": "k|0;8;x"},
    ],
)
def test_entries_that_are_odd(entries: dict[str, str | None]) -> None:
    check_external(changed(checksum="abc"), {BLOB: 100}, "here")
    with pytest.raises(BundleError):
        check_external(changed(**entries), {BLOB: 100}, "here")


def test_a_tensor_that_is_half_external() -> None:
    proto = external("w", ARRAY, BLOB, 0)
    proto.data_location = onnx.TensorProto.DEFAULT
    with pytest.raises(BundleError, match="half internal"):
        check_external(plain(proto), {BLOB: 100}, "here")

    proto = tensor(ARRAY, "w")
    proto.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(BundleError, match="names no file"):
        check_external(plain(proto), {BLOB: 100}, "here")


def test_shapes_and_dtypes_count() -> None:
    proto = external("w", ARRAY, BLOB, 0)
    proto.data_type = onnx.TensorProto.DOUBLE
    with pytest.raises(BundleError, match="not as long as its shape says"):
        check_external(plain(proto), {BLOB: 100}, "here")
    proto.data_type = onnx.TensorProto.STRING
    with pytest.raises(BundleError, match="data type 8"):
        check_external(plain(proto), {BLOB: 100}, "here")
    proto = external("w", ARRAY, BLOB, 0)
    proto.dims[0] = -2
    with pytest.raises(BundleError, match="negative dimension"):
        check_external(plain(proto), {BLOB: 100}, "here")


def test_four_bit_tensors() -> None:
    proto = external("w", ARRAY, BLOB, 0)
    proto.data_type = onnx.TensorProto.INT4
    del proto.dims[:]
    proto.dims.append(5)
    proto.external_data[2].value = "3"

    assert [ExternalTensor("w", BLOB, 0, 3)] == list(external_tensors(plain(proto)))


def length_delimited(number: int, data: bytes) -> bytes:
    size = len(data)
    assert size < 1 << 14
    return bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7]) + data


def test_a_message_in_several_pieces_is_refused() -> None:
    # Readers merge pieces of a message: the location of one, the flag of another.
    graph = onnx.load_from_string(plain()).graph.SerializeToString()
    with pytest.raises(BundleError, match="several pieces"):
        check_external(plain() + length_delimited(7, graph), {}, "here")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x3a", "in the middle of a number"),
        (b"\x3a\x05ab", "beyond the end"),
        (b"\x3b\x3c", "wire type 3"),
        (b"\x3f", "wire type 7"),
        (b"\x02\x00", "no valid number"),
        (b"\x08" + b"\xff" * 11, "longer than ten bytes"),
        (b"\x38\x01", "wire type of a number"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "beyond the end"),
    ],
)
def test_bytes_that_are_no_protobuf(data: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check_external(data, {}, "here")


def test_graphs_nested_without_end() -> None:
    # Attribute (5) of a node (1) of a graph (6) of an attribute, a hundred times.
    data = b""
    for _ in range(100):
        data = length_delimited(1, length_delimited(5, length_delimited(6, data)))
    with pytest.raises(BundleError, match="deep"):
        check_external(length_delimited(7, data), {}, "here")


def test_random_damage_never_surprises() -> None:
    rng = random.Random(0)
    good = PLACES["nested branch"](external("w", ARRAY, BLOB, 8))
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            found = list(external_tensors(bytes(data[: rng.randint(0, len(data))])))
        except ValueError:
            continue
        assert all(isinstance(found_tensor.nbytes, int) for found_tensor in found)


def test_what_the_scan_passes_reads_only_what_it_found() -> None:
    """Wherever damage leaves a model that protobuf reads, the scan saw all its locations."""
    rng = random.Random(1)
    good = PLACES["branch"](external("w", ARRAY, BLOB, 8))
    compared = 0
    for _ in range(3000):
        data = bytearray(good)
        data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            seen = {t.location for t in external_tensors(bytes(data))}
        except ValueError:
            continue
        try:
            proto = onnx.load_from_string(bytes(data))
        except DecodeError:
            continue
        compared += 1
        assert locations(proto.graph) <= seen
    assert compared > 100


def locations(graph: Any) -> set[str]:
    found = {
        entry.value
        for proto in graph.initializer
        for entry in proto.external_data
        if proto.data_location == onnx.TensorProto.EXTERNAL and entry.key == "location"
    }
    for inner in graph.node:
        for attribute in inner.attribute:
            found |= locations(attribute.g)
    return found
