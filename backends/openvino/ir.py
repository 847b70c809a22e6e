"""OpenVINO's IR as a bundle has it: standard XML whose constants lie in several blobs.

OpenVINO knows one file of weights for a model, the ``.bin``. Here that file exists in thought only:
it is the artifact's blobs, one after another in the order of the manifest, each starting at a
multiple of :data:`ALIGNMENT` bytes; offsets in the XML are offsets in it. (Written out like that,
it makes a pair of files that any OpenVINO loads.) So weights lie in the bundle once, whatever other
segments and other backends read them.

To load, one blob is given to OpenVINO as the file of weights, and what lies in others becomes
inputs that are then replaced by constants over mapped memory.

The XML is data from elsewhere: before OpenVINO sees it, every constant must lie inside one of the
declared blobs, be as long as its shape says, and stand on the top level.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any
from xml.etree import ElementTree as ET

from partitioner.errors import BundleError

__all__ = [
    "ALIGNMENT",
    "Constant",
    "Graph",
    "Place",
    "as_constants",
    "constant_bytes",
    "read_graph",
    "starts_of",
]

#: Where the next blob may start: a page, so that all can be mapped.
ALIGNMENT = 4096

#: Element type -> bits an element. Others (strings) are not allowed.
_BITS = {
    "boolean": 8,
    "u8": 8,
    "i8": 8,
    "u16": 16,
    "i16": 16,
    "u32": 32,
    "i32": 32,
    "u64": 64,
    "i64": 64,
    "u4": 4,
    "i4": 4,
    "f16": 16,
    "bf16": 16,
    "f32": 32,
    "f64": 64,
}


#: Where a constant lies. No other layer has both attributes.
_CONSTANT = re.compile(rb' offset="([0-9]{1,19})" size="([0-9]{1,19})"')


@dataclass(frozen=True)
class Place:
    """Where a constant lies in the weights as a whole, in bytes."""

    offset: int
    nbytes: int


@dataclass(frozen=True)
class Constant:
    """A constant of a graph.

    Attributes:
        name: of its layer.
        blob: which of the artifact's blobs it lies in.
        offset: in that blob, in bytes.
    """

    name: str
    element_type: str
    shape: tuple[int, ...]
    blob: int
    offset: int
    nbytes: int


def starts_of(sizes: Iterable[int]) -> list[int]:
    """Where each blob starts in the weights as a whole."""
    starts: list[int] = []
    end = 0
    for size in sizes:
        starts.append(-(-end // ALIGNMENT) * ALIGNMENT)
        end = starts[-1] + size
    return starts


# --- writing ------------------------------------------------------------------------------------


def as_constants(xml: bytes, places: Mapping[str, Place], own_start: int) -> bytes:
    """Turn inputs that stand for weights into constants.

    Args:
        xml: as OpenVINO has written it, with constants of its own.
        places: name of the input -> where its numbers lie.
        own_start: where the constants that OpenVINO has written start.
    """
    root = ET.fromstring(xml)
    for layer in root.iter("layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            data.set("offset", str(int(data.attrib["offset"]) + own_start))
        place = places.get(layer.attrib["name"])
        if layer.get("type") == "Parameter" and place is not None and data is not None:
            _make_constant(layer, data, place)
    # Versions and settings of the converter.
    for info in root.findall("rt_info"):
        root.remove(info)
    return _text(root)


def _make_constant(layer: ET.Element, data: ET.Element, place: Place) -> None:
    layer.set("type", "Const")
    attributes = {
        "element_type": data.attrib["element_type"],
        "shape": data.attrib["shape"],
        "offset": str(place.offset),
        "size": str(place.nbytes),
    }
    data.attrib.clear()
    data.attrib.update(attributes)


def _text(root: ET.Element) -> bytes:
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


# --- reading ------------------------------------------------------------------------------------


class Graph:
    """A graph whose constants have been checked.

    Attributes:
        constants: those that are not empty, in the order of the layers.
    """

    def __init__(self, root: ET.Element, found: list[tuple[ET.Element, Constant]]) -> None:
        self._root = root
        self._found = found
        self.constants = tuple(constant for _, constant in found)

    def main_blob(self) -> int:
        """The blob that most of the weights lie in; 0 where there are none."""
        totals: dict[int, int] = {}
        for constant in self.constants:
            totals[constant.blob] = totals.get(constant.blob, 0) + constant.nbytes
        return max(totals, key=lambda blob: (totals[blob], -blob), default=0)

    def for_blob(self, blob: int) -> tuple[bytes, list[Constant]]:
        """The XML for OpenVINO with one blob as its weights, and what lies in others.

        Those stand in the XML as inputs of the same names. Can be asked for once.
        """
        outside: list[Constant] = []
        for layer, constant in self._found:
            data = layer.find("data")
            assert data is not None
            if constant.blob == blob:
                data.set("offset", str(constant.offset))
                continue
            layer.set("type", "Parameter")
            del data.attrib["offset"], data.attrib["size"]
            outside.append(constant)
        return _text(self._root), outside


def read_graph(xml: bytes, sizes: Sequence[int], where: str) -> Graph:
    """Read an IR and check that it reads nothing but the declared blobs.

    Args:
        sizes: of the artifact's blobs, in bytes, in the order of the manifest.
        where: what the message calls the graph.

    Raises:
        BundleError: it is malformed, or a constant lies elsewhere.
    """
    try:
        return _checked(xml, sizes)
    except (_MalformedError, ET.ParseError) as error:
        raise BundleError(
            f"the OpenVINO graph cannot be trusted: {error}",
            where=where,
            advice="get the bundle again from where it was built",
        ) from None


class _MalformedError(ValueError):
    """The XML breaks a rule of this module."""


def _checked(xml: bytes, sizes: Sequence[int]) -> Graph:
    # Entities could name files, and blow up.
    if b"<!" in xml:
        raise _MalformedError("it declares entities or holds comments")
    root = ET.fromstring(xml)
    top = root.findall("layers")
    layers = list(top[0]) if len(top) == 1 else []
    if root.tag != "net" or not layers or len(layers) != sum(1 for _ in root.iter("layer")):
        raise _MalformedError("it is not one flat network of layers")
    starts = starts_of(sizes)
    found: list[tuple[Any, Constant]] = []
    names: set[str] = set()
    for layer in layers:
        name = layer.get("name", "")
        if name in names:
            raise _MalformedError(f"two layers are named {name[:80]!r}")
        names.add(name)
        constant = _constant(layer, name, starts, sizes)
        if constant is not None:
            found.append((layer, constant))
    return Graph(root, found)


def constant_bytes(xml: bytes) -> int:
    """Bytes of all constants of an IR, as written by :func:`as_constants`; those that lie in one
    place are counted once. Nothing is checked."""
    return sum(int(size) for _, size in set(_CONSTANT.findall(xml)))


def _constant(
    layer: ET.Element, name: str, starts: Sequence[int], sizes: Sequence[int]
) -> Constant | None:
    data = layer.findall("data")
    if layer.get("type") != "Const":
        # What OpenVINO reads weights by; no op has both among its own attributes.
        if any("offset" in element.attrib and "size" in element.attrib for element in data):
            raise _MalformedError(f"layer {name[:80]!r} is no constant, but has an offset")
        return None
    if len(data) != 1:
        raise _MalformedError(f"constant {name[:80]!r} has {len(data)} places")
    kind = data[0].get("element_type", "")
    shape = tuple(_number(name, text) for text in data[0].get("shape", "").split(",") if text)
    offset = _number(name, data[0].get("offset", ""))
    nbytes = _number(name, data[0].get("size", ""))
    if kind not in _BITS:
        raise _MalformedError(f"constant {name[:80]!r} is of the type {kind[:40]!r}")
    if nbytes != (prod(shape) * _BITS[kind] + 7) // 8:
        raise _MalformedError(f"constant {name[:80]!r} is not as long as its shape says")
    for blob, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if start <= offset and offset + nbytes <= start + size:
            return Constant(name, kind, shape, blob, offset - start, nbytes)
    raise _MalformedError(
        f"constant {name[:80]!r} reads bytes {offset} to {offset + nbytes}, "
        "which lie in none of the artifact's blobs"
    )


def _number(name: str, text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdigit() and len(text) <= 19):
        raise _MalformedError(f"constant {name[:80]!r} has the number {text[:40]!r}")
    return int(text)
