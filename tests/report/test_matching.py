"""Which segment is which, and which nodes are elsewhere."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.report.matching import Move, match_segments, moves
from partitioner.report.sides import Piece

from .pieces import piece


def moved(before: list[Piece], after: list[Piece]) -> list[tuple[str, int, object, object]]:
    found = moves(before, after, match_segments(before, after))
    return [(move.key[0], move.count, move.start, move.end) for move in found]


def test_equal_plans_have_no_moves():
    one = [piece("a", "onnx", "mm@1", "sin@2"), piece("b", "onnx", "mm@1")]
    assert {"a": "a", "b": "b"} == match_segments(one, one)
    assert [] == moved(one, one)


def test_a_segment_is_known_by_what_it_holds_where_names_have_changed():
    before = [piece("a", "onnx", "mm@1", "sin@2", "neg@3")]
    after = [piece("b", "onnx", "mm@1", "sin@2", "neg@3"), piece("a", "onnx", "exp@9", "log@9")]
    assert {"a": "b"} == match_segments(before, after)
    assert [("exp", 1, None, ("onnx", "a")), ("log", 1, None, ("onnx", "a"))] == moved(
        before, after
    )


def test_of_several_alike_the_name_decides():
    one = [piece("a", "onnx", "mm@1", "sin@2"), piece("b", "onnx", "mm@1", "sin@2")]
    assert {"a": "a", "b": "b"} == match_segments(one, one)


def test_a_node_on_another_backend_has_moved():
    before = [piece("a", "neuron", "mm@1", "mm@1", "sin@2")]
    after = [piece("a", "neuron", "mm@1", "mm@1"), piece("b", "onnx", "sin@2")]
    assert [("sin", 1, ("neuron", "a"), ("onnx", "b"))] == moved(before, after)


def test_nodes_on_lines_that_moved_have_not_moved():
    before = [piece("a", "onnx", "mm@1", "sin@2")]
    after = [piece("a", "onnx", "mm@11", "sin@12")]
    assert {"a": "a"} == match_segments(before, after)
    assert [] == moved(before, after)


def test_files_in_another_folder_are_the_same_files():
    before = Piece("a", "onnx", 1, (), {("mm", "v1/m.py:3 in f", ""): 1}, ((), ()))
    after = Piece("a", "onnx", 1, (), {("mm", "v2/m.py:5 in f", ""): 1}, ((), ()))
    assert [] == moved([before], [after])


def test_nodes_of_one_side_only_come_from_nowhere():
    before, after = [piece("a", "onnx", "mm@1", "sin@2")], [piece("a", "onnx", "mm@1", "exp@3")]
    assert [("sin", 1, ("onnx", "a"), None), ("exp", 1, None, ("onnx", "a"))] == moved(
        before, after
    )


OPS = st.lists(st.sampled_from(["mm@1", "mm@2", "sin@3", "exp@4", "neg@5"]), min_size=1, max_size=8)
PIECES = st.lists(st.tuples(st.sampled_from(["onnx", "neuron"]), OPS), max_size=4).map(
    lambda some: [piece(f"s{i}", backend, *ops) for i, (backend, ops) in enumerate(some)]
)


@given(PIECES, PIECES)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_moves_turn_the_one_into_the_other(before: list[Piece], after: list[Piece]):
    matched = match_segments(before, after)
    assert len(set(matched.values())) == len(matched)
    found = moves(before, after, matched)
    places = _places(before, matched)
    for move in found:
        assert move.count > 0
        assert move.start != move.end
        _take(places, move)
    assert +places == _places(after, {})


def _places(pieces: list[Piece], names: dict[str, str]) -> Counter[object]:
    """By op and function: lines may have moved."""
    counts: Counter[object] = Counter()
    for one in pieces:
        for (op, _, _), count in one.holds.items():
            counts[op, (one.backend, names.get(one.name, one.name))] += count
    return counts


def _take(places: Counter[object], move: Move) -> None:
    if move.start is not None:
        places[move.key[0], move.start] -= move.count
    if move.end is not None:
        places[move.key[0], move.end] += move.count
