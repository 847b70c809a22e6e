"""Which files an ONNX protobuf reads, found without the onnx package.

A bundle's graph is data from elsewhere, and ONNX Runtime follows the ``external_data`` of any
tensor in it: a path, or even a raw memory address. So before a session is made, every tensor of
the protobuf is visited, in the graph, in sub-graphs and in functions, and each must lie inside one
of the declared weight blobs.

Only the protobuf wire format is read, and strictly: whatever a reader could take in two ways (a
message given in two pieces, a field of the wrong wire type, a group) is refused.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from partitioner.backends.weighing import Place
from partitioner.errors import BundleError

__all__ = ["ExternalTensor", "check_external", "external_places", "external_tensors"]

#: ONNX nests graphs in attributes; real models stay below ten levels.
_MAX_DEPTH = 64
_MAX_KEY = 1 << 32


@dataclass(frozen=True)
class ExternalTensor:
    """A tensor whose numbers lie in a file: ``nbytes`` bytes of ``location`` from ``offset`` on."""

    name: str
    location: str
    offset: int
    nbytes: int


def check_external(model: bytes, weights: Mapping[str, int], where: str) -> frozenset[Place]:
    """Check that a model reads nothing but the declared blobs.

    Args:
        model: an ONNX ``ModelProto``.
        weights: file name of each declared blob -> its size in bytes.
        where: what the message calls the model.

    Returns:
        the places of all numbers that it reads; what several tensors share is there once.

    Raises:
        BundleError: a tensor reads another file or beyond a blob's end, or the protobuf is
            malformed.
    """
    with _trusting(where):
        tensors = tuple(external_tensors(model))
        for tensor in tensors:
            _check_tensor(tensor, weights)
        return _places(tensors)


def external_places(model: bytes, where: str) -> frozenset[Place]:
    """The places of all numbers that a model reads from files, which are not looked at.

    Raises:
        BundleError: the protobuf is malformed.
    """
    with _trusting(where):
        return _places(external_tensors(model))


def _places(tensors: Iterable[ExternalTensor]) -> frozenset[Place]:
    return frozenset((tensor.location, tensor.offset, tensor.nbytes) for tensor in tensors)


@contextmanager
def _trusting(where: str) -> Generator[None]:
    try:
        yield
    except _MalformedError as error:
        raise BundleError(
            f"the ONNX graph cannot be trusted: {error}",
            where=where,
            advice="get the bundle again from where it was built",
        ) from None


def external_tensors(model: bytes) -> Iterator[ExternalTensor]:
    """All tensors of a model that keep their numbers in files.

    Raises:
        ValueError: the protobuf is malformed.
    """
    yield from _walk(_MODEL, memoryview(model), 0)


def _check_tensor(tensor: ExternalTensor, weights: Mapping[str, int]) -> None:
    size = weights.get(tensor.location)
    if size is None:
        raise _MalformedError(
            f"tensor {tensor.name!r} reads {tensor.location[:80]!r}, which is not one of the "
            "artifact's blobs"
        )
    if tensor.offset + tensor.nbytes > size:
        raise _MalformedError(
            f"tensor {tensor.name!r} reads bytes {tensor.offset} to "
            f"{tensor.offset + tensor.nbytes} of a blob of {size}"
        )


class _MalformedError(ValueError):
    """The protobuf breaks a rule of this module."""


@dataclass(frozen=True)
class _Message:
    """The fields of a message type that lead to tensors: number -> (type, may it repeat)."""

    name: str
    fields: Mapping[int, tuple[_Message, bool]]


# The numbers are those of onnx.proto. A type that contains itself is closed below.
_TENSOR = _Message("TensorProto", {})
_SPARSE = _Message("SparseTensorProto", {1: (_TENSOR, False), 2: (_TENSOR, False)})
_GRAPH_FIELDS: dict[int, tuple[_Message, bool]] = {}
_GRAPH = _Message("GraphProto", _GRAPH_FIELDS)
_ATTRIBUTE = _Message(
    "AttributeProto",
    {
        5: (_TENSOR, False),  # t
        6: (_GRAPH, False),  # g
        10: (_TENSOR, True),  # tensors
        11: (_GRAPH, True),  # graphs
        22: (_SPARSE, False),  # sparse_tensor
        23: (_SPARSE, True),  # sparse_tensors
    },
)
_NODE = _Message("NodeProto", {5: (_ATTRIBUTE, True)})
_GRAPH_FIELDS.update({1: (_NODE, True), 5: (_TENSOR, True), 15: (_SPARSE, True)})
_FUNCTION = _Message("FunctionProto", {7: (_NODE, True), 11: (_ATTRIBUTE, True)})
_TRAINING = _Message("TrainingInfoProto", {1: (_GRAPH, False), 2: (_GRAPH, False)})
_MODEL = _Message("ModelProto", {7: (_GRAPH, False), 20: (_TRAINING, True), 25: (_FUNCTION, True)})


def _walk(message: _Message, data: memoryview, depth: int) -> Iterator[ExternalTensor]:
    if depth > _MAX_DEPTH:
        raise _MalformedError(f"messages are nested more than {_MAX_DEPTH} deep")
    if message is _TENSOR:
        tensor = _read_tensor(data)
        if tensor is not None:
            yield tensor
        return
    seen: set[int] = set()
    for number, value in _fields(data):
        inner = message.fields.get(number)
        if inner is None:
            continue
        kind, repeats = inner
        if number in seen and not repeats:
            raise _MalformedError(f"a {message.name} has its {kind.name} in several pieces")
        seen.add(number)
        yield from _walk(kind, _bytes(value, kind.name), depth + 1)


# --- tensors ------------------------------------------------------------------------------------

_DIMS, _DATA_TYPE, _NAME, _EXTERNAL, _LOCATION = 1, 2, 8, 13, 14

#: TensorProto.DataType -> bits an element. Strings cannot be external.
_BITS = {
    1: 32,  # float
    2: 8,  # uint8
    3: 8,  # int8
    4: 16,  # uint16
    5: 16,  # int16
    6: 32,  # int32
    7: 64,  # int64
    9: 8,  # bool
    10: 16,  # float16
    11: 64,  # double
    12: 32,  # uint32
    13: 64,  # uint64
    16: 16,  # bfloat16
    17: 8,  # float8e4m3fn
    18: 8,  # float8e4m3fnuz
    19: 8,  # float8e5m2
    20: 8,  # float8e5m2fnuz
    21: 4,  # uint4
    22: 4,  # int4
    23: 4,  # float4e2m1
    24: 8,  # float8e8m0
}

_KEYS = ("location", "offset", "length", "checksum")


def _read_tensor(data: memoryview) -> ExternalTensor | None:
    dims: list[int] = []
    entries: dict[str, str] = {}
    name, data_type, location = "", 0, 0
    for number, value in _fields(data):
        if number == _DIMS:
            dims.extend(_numbers(value))
        elif number == _DATA_TYPE:
            data_type = _int(value)
        elif number == _NAME:
            name = bytes(_bytes(value, "name")).decode("utf-8", "replace")
        elif number == _LOCATION:
            location = _int(value)
        elif number == _EXTERNAL:
            key, text = _entry(_bytes(value, "external_data"))
            if key in entries or key not in _KEYS:
                raise _MalformedError(
                    f"tensor {name!r} has an odd entry {key[:40]!r} of external data"
                )
            entries[key] = text
    if location == 0 and not entries:
        return None
    if location != 1:
        raise _MalformedError(f"tensor {name!r} is half internal and half external")
    return _external(name, dims, data_type, entries)


def _external(
    name: str, dims: list[int], data_type: int, entries: dict[str, str]
) -> ExternalTensor:
    if "location" not in entries:
        raise _MalformedError(f"tensor {name!r} is external, but names no file")
    bits = _BITS.get(data_type)
    if bits is None:
        raise _MalformedError(f"tensor {name!r} is external and of the data type {data_type}")
    count = 1
    for dim in dims:
        if dim >= 1 << 63:
            raise _MalformedError(f"tensor {name!r} has a negative dimension")
        count *= dim
    nbytes = (count * bits + 7) // 8
    if _decimal(name, entries, "length") != nbytes:
        raise _MalformedError(f"tensor {name!r} is not as long as its shape says")
    return ExternalTensor(name, entries["location"], _decimal(name, entries, "offset"), nbytes)


def _decimal(name: str, entries: dict[str, str], key: str) -> int:
    text = entries.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise _MalformedError(f"tensor {name!r} has the {key} {text[:40]!r}")
    return int(text)


def _entry(data: memoryview) -> tuple[str, str]:
    """A StringStringEntryProto."""
    parts: dict[int, str] = {}
    for number, value in _fields(data):
        if number in parts:
            raise _MalformedError("an entry of external data has two keys or two values")
        if number in (1, 2):
            try:
                parts[number] = bytes(_bytes(value, "entry")).decode()
            except UnicodeDecodeError:
                raise _MalformedError("an entry of external data is not text") from None
    return parts.get(1, ""), parts.get(2, "")


# --- the wire format ----------------------------------------------------------------------------

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: varints as ints, everything else as bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0 or key >= _MAX_KEY:
            raise _MalformedError("a field has no valid number")
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _LENGTH:
            length, at = _varint(data, at)
        elif wire == _FIXED64:
            length = 8
        elif wire == _FIXED32:
            length = 4
        else:
            raise _MalformedError(f"a field has the wire type {wire}")
        if length > end - at:
            raise _MalformedError("a field reaches beyond the end of its message")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    try:
        byte = data[at]
        if byte < 0x80:
            return byte, at + 1
        value, shift = byte & 0x7F, 7
        while True:
            at += 1
            byte = data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise _MalformedError("a number is longer than ten bytes")
    except IndexError:
        raise _MalformedError("the data end in the middle of a number") from None
    return value & 0xFFFF_FFFF_FFFF_FFFF, at + 1


def _numbers(value: int | memoryview) -> list[int]:
    """A repeated varint field, packed or not."""
    if isinstance(value, int):
        return [value]
    numbers: list[int] = []
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(number)
    return numbers


def _int(value: int | memoryview) -> int:
    if isinstance(value, int):
        return value
    raise _MalformedError("a number has the wire type of a message")


def _bytes(value: int | memoryview, name: str) -> memoryview:
    if isinstance(value, int):
        raise _MalformedError(f"a {name} has the wire type of a number")
    return value
