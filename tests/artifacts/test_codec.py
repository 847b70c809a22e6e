"""Dataclasses to JSON values and back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from partitioner.artifacts.codec import decode, encode
from partitioner.artifacts.kinds import codec_of, ordered
from partitioner.errors import BundleError


@dataclass(frozen=True)
class Leaf:
    number: float
    count: int = 0


@dataclass(frozen=True)
class Branch:
    side: Literal["left", "right"]
    inside: tuple[Node, ...]


Node = Leaf | Branch


@dataclass(frozen=True)
class Tree:
    root: Node
    only: Leaf | None
    dims: tuple[int | str | None, ...] = ()
    pair: tuple[str, bool] = ("a", True)
    named: dict[str, Leaf] = field(default_factory=dict[str, Leaf])
    sorted: dict[str, int] = field(default_factory=dict[str, int])
    free: Any = None


ordered(Tree, "sorted")

TREE = Tree(
    root=Branch("left", (Leaf(1.5, 2), Branch("right", ()))),
    only=Leaf(0.0),
    dims=(1, "n", None),
    named={"x": Leaf(2.0)},
    sorted={"z": 1, "a": 2},
    free={"deep": [1, {"k": None}]},
)
JSON: dict[str, Any] = {
    "root": {
        "kind": "Branch",
        "side": "left",
        "inside": [
            {"kind": "Leaf", "number": 1.5, "count": 2},
            {"kind": "Branch", "side": "right", "inside": []},
        ],
    },
    "only": {"number": 0.0, "count": 0},
    "dims": [1, "n", None],
    "pair": ["a", True],
    "named": {"x": {"number": 2.0, "count": 0}},
    "sorted": [["z", 1], ["a", 2]],
    "free": {"deep": [1, {"k": None}]},
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**JSON, **changes}


def test_both_ways() -> None:
    assert JSON == encode(TREE)
    assert TREE == decode(Tree, JSON)
    assert ["z", "a"] == list(decode(Tree, JSON).sorted)


def test_an_int_where_a_float_is_meant_becomes_one() -> None:
    written = encode(dataclasses.replace(TREE, only=Leaf(3)))
    assert "3.0" == repr(written["only"]["number"])
    assert "3.0" == repr(decode(Tree, changed(only={"number": 3, "count": 0})).only.number)


@pytest.mark.parametrize(
    ("document", "where", "message"),
    [
        ([], "$", "expected an object, found a list"),
        (changed(pair=["a"]), "$.pair", "a list of 2, found one of 1"),
        (changed(pair=["a", 1]), "$.pair[1]", "expected bool, found 1"),
        (changed(dims=[1, True]), "$.dims[1]", "expected int or str or null, found true"),
        (changed(dims={}), "$.dims", "expected a list, found an object"),
        (changed(only=7), "$.only", "expected Leaf or null, found 7"),
        (changed(only={"number": "1", "count": 0}), "$.only.number", "expected float, found '1'"),
        (changed(only={"number": 1.0, "count": 1.0}), "$.only.count", "expected int, found 1.0"),
        (changed(only={"number": 1.0}), "$.only", "keys missing: count"),
        (changed(root={"number": 1.0, "count": 0}), "$.root.kind", "one of .*'Leaf'.*found null"),
        (changed(root={"kind": ["Leaf"]}), "$.root.kind", "found a list"),
        (changed(root={"kind": "Tree"}), "$.root.kind", "found 'Tree'"),
        (changed(named=[]), "$.named", "expected an object"),
        (changed(named={"a b": 1}), "$.named['a b']", "expected an object, found 1"),
        (changed(sorted={}), "$.sorted", "expected a list"),
        (changed(sorted=[["a", 1], ["a", 2]]), "$.sorted", "a key occurs twice"),
        (changed(sorted=[["a", None]]), "$.sorted[0][1]", "expected int"),
        (changed(extra=1), "$", "unknown keys: 'extra'"),
        (
            changed(root={**JSON["root"], "inside": [{"kind": "Branch", "side": "up"}]}),
            "$.root.inside[0]",
            "keys missing: inside",
        ),
        (
            changed(root={"kind": "Branch", "inside": [], "side": "up"}),
            "$.root.side",
            r"one of \['left', 'right'\], found 'up'",
        ),
    ],
)
def test_the_reader_names_the_path(document: Any, where: str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        decode(Tree, document)
    assert where == caught.value.where


def test_reading_a_newer_schema_passes_over_unknown_keys_only() -> None:
    newer = changed(only={"number": 1.0, "count": 0, "unit": "m"}, extra=[])
    assert Leaf(1.0) == decode(Tree, newer, age="newer").only
    with pytest.raises(BundleError, match="keys missing"):
        decode(Tree, changed(only={"number": 1.0}), age="newer")
    with pytest.raises(BundleError, match="expected int"):
        decode(Tree, changed(dims=[1.5]), age="newer")


def test_messages_are_short_and_printable() -> None:
    with pytest.raises(BundleError) as caught:
        decode(Tree, changed(named={"\x1b[2J" * 999: "\x1b" * 9999}))
    assert str(caught.value).replace("\n", "").isprintable()
    assert 600 > len(str(caught.value))


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"dims": [1]}, "$.dims", "expected a tuple, found a list"),
        ({"only": Branch("left", ())}, "$.only", "expected Leaf or null"),
        ({"only": Leaf(float("nan"))}, "$.only.number", "nan is not a number"),
        ({"only": Leaf(1.0, 2**63)}, "$.only.count", "beyond 64 bits"),
        ({"only": Leaf(np.float64(1))}, "$.only.number", "expected float"),
        ({"free": {"a": np.int64(1)}}, "$.free.a", "a int64 is not a JSON value"),
        ({"free": [float("inf")]}, "$.free[0]", "inf is not a number"),
        ({"free": [{1: 2}]}, "$.free[0]", "the key 1 is not a string"),
        ({"free": "\udc80"}, "$.free", "not Unicode text"),
        ({"free": {"\udc80": 1}}, "$.free", "not Unicode text"),
        ({"free": {1, 2}}, "$.free", "a set is not a JSON value"),
        ({"named": {"a": None}}, "$.named.a", "expected Leaf, found NoneType"),
    ],
)
def test_the_writer_refuses_what_could_not_be_read(
    changes: dict[str, Any], where: str, message: str
) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        encode(dataclasses.replace(TREE, **changes))
    assert where == caught.value.where
    assert caught.value.advice is not None


def test_a_tuple_in_free_form_is_written_as_a_list() -> None:
    assert [1, [2]] == encode(dataclasses.replace(TREE, free=(1, (2,))))["free"]


def test_annotations_without_meaning_are_refused() -> None:
    with pytest.raises(TypeError, match="no codec for"):
        codec_of(bytes)


def test_reading_an_older_schema_fills_in_defaults() -> None:
    older = changed(only={"number": 1.0})
    del older["free"]
    assert (Leaf(1.0, 0), None) == (
        decode(Tree, older, age="older").only,
        decode(Tree, older, age="older").free,
    )
    del older["root"]
    with pytest.raises(BundleError, match="keys missing: root"):
        decode(Tree, older, age="older")
    with pytest.raises(BundleError, match="unknown keys"):
        decode(Tree, changed(extra=1), age="older")
