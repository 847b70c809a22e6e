"""Whatever is done to a manifest, reading it gives a manifest or a bundle error, nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from partitioner.artifacts.manifest import Manifest
from partitioner.errors import BundleError
from tests.artifacts.edits import places
from tests.artifacts.samples import manifest

DATA = manifest().to_json()
DOCUMENT = json.loads(DATA)
PLACES = places(DOCUMENT)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63, -(2**63), 10**30, 1e308, 1.5, float("nan")])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["Call", "Loop", "x", "step", "../..", "\x00", "1.0", "9.0", "\ud800"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def read(data: bytes) -> None:
    try:
        found = Manifest.from_json(data)
    except BundleError:
        return
    assert found == Manifest.from_json(found.to_json())
    assert found.to_json() == Manifest.from_json(found.to_json()).to_json()


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The sample with some places replaced, removed, doubled, or swapped with others."""
    document = copy.deepcopy(DOCUMENT)
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        action = draw(st.sampled_from(["replace", "remove", "move", "double"]))
        try:
            _act(draw, document, path, action)
        except (KeyError, IndexError, TypeError):
            continue  # An earlier change has removed the place.
    return document


def _act(draw: st.DrawFn, document: Any, path: tuple[str | int, ...], action: str) -> None:
    holder = _at(document, path[:-1])
    old = holder[path[-1]]
    if action == "remove":
        del holder[path[-1]]
    elif action == "double" and isinstance(holder, list):
        holder.append(old)
    elif action == "move":
        holder[path[-1]] = copy.deepcopy(_at(document, draw(st.sampled_from(PLACES))))
    else:
        holder[path[-1]] = draw(JSON)


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_changed_documents(document: Any) -> None:
    read(json.dumps(document).encode())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(DATA)), st.integers(0, 40), st.binary(max_size=40))
@example(0, len(DATA), b"")
def test_changed_bytes(start: int, length: int, replacement: bytes) -> None:
    read(DATA[:start] + replacement + DATA[start + length :])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    read(data)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json(document: Any) -> None:
    read(json.dumps({"schema_version": "1.0", "x": document}).encode())


def test_each_place_replaced_by_each_kind_of_value() -> None:
    for path in PLACES:
        for value in (None, -1, 0.5, "\ud800", [[]], {"kind": "Loop"}, 2**62):
            document = copy.deepcopy(DOCUMENT)
            _at(document, path[:-1])[path[-1]] = value
            read(json.dumps(document).encode())


def test_each_place_removed() -> None:
    for path in PLACES:
        document = copy.deepcopy(DOCUMENT)
        del _at(document, path[:-1])[path[-1]]
        read(json.dumps(document).encode())
