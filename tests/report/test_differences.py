"""Documents of differences."""

from __future__ import annotations

from typing import Any

from partitioner.report.differences import differences
from partitioner.report.sides import Side

from .pieces import piece, side


def bundle(*artifacts: dict[str, Any], ops: tuple[str, ...] = ("mm@1",), **more: Any) -> Side:
    """A bundle's side with a segment for each artifact."""
    pieces = [
        piece(f"s{i}", "onnx", *ops, artifact={"backend": "onnx", "options": {}, **artifact})
        for i, artifact in enumerate(artifacts)
    ]
    return side(*pieces, kind="bundle", **more)


def artifact(graph: str = "g", *weights: str, **options: Any) -> dict[str, Any]:
    return {"graph": graph, "weights": list(weights), "options": options}


def reasons(a: Side, b: Side) -> list[str]:
    (found,) = differences(a, b)["artifacts"]
    return found["why"]


def test_what_is_equal_is_the_same():
    one = side(piece("a", "onnx", "mm@1"), loops={"loop": 5})
    found = differences(one, one)
    assert found["same"]
    assert {} == found["segments"]


def test_settings_loops_and_types_that_differ_are_listed():
    a = side(piece("a", "onnx", "mm@1"), loops={"loop": 5})
    b = side(piece("a", "onnx", "mm@1"), loops={"loop": 7}, settings={"target": "inf2"})
    found = differences(a, b)
    assert not found["same"]
    assert [["target", "cpu", "inf2"]] == found["settings"]
    assert [["loop", 5, 7]] == found["loops"]


def test_added_removed_renamed_and_changed_segments():
    a = side(piece("a", "onnx", "mm@1", "mm@2"), piece("gone", "host", "sort@7"))
    b = side(piece("b", "neuron", "mm@1", "mm@2"), piece("new", "host", "exp@8"))
    found = differences(a, b)["segments"]
    assert ["new"] == [one["name"] for one in found["added"]]
    assert ["gone"] == [one["name"] for one in found["removed"]]
    assert [["a", "b"]] == found["renamed"]
    assert [{"name": "b", "changes": [["backend", "onnx", "neuron"]]}] == found["changed"]


def test_a_plan_and_a_bundle_are_compared_by_what_both_have():
    a = side(piece("a", "onnx", "mm@1"), settings={"target": "cpu", "instance": "any"})
    b = side(
        piece("a", "onnx", "mm@1", artifact=artifact()),
        kind="bundle",
        settings={"target": "cpu", "version of torch": "2.13"},
        digest="sha256:1",
    )
    assert differences(a, b)["same"]


def test_nodes_are_not_compared_where_a_bundle_does_not_record_them():
    old = side(piece("a"), kind="bundle")
    (own,) = old.pieces
    unknown = side(type(own)("a", "onnx", 3, ("s",), {}, own.tensors), kind="bundle")
    found = differences(unknown, side(piece("a", "onnx", "mm@1", "mm@2", "mm@3"), kind="bundle"))
    assert not found["nodes_known"]
    assert [] == found["moved"]


def test_other_nodes_explain_an_artifact():
    a, b = bundle(artifact("g")), bundle(artifact("h"), ops=("mm@1", "sin@2"))
    assert ["it holds other nodes"] == reasons(a, b)


def test_other_weights_explain_an_artifact_with_their_sizes():
    a = bundle(artifact("g", "w1", "w2"), blobs={"w1": 1024, "w2": 10})
    b = bundle(artifact("g", "w1", "w3"), blobs={"w1": 1024, "w3": 2048})
    assert ["other weights: 2 KiB new, 10 B gone, 1 blobs kept"] == reasons(a, b)


def test_other_options_are_named():
    a, b = bundle(artifact(level=1, same=2)), bundle(artifact(level=3, same=2))
    assert ["other options: level"] == reasons(a, b)


def test_other_tools_explain_what_nothing_else_does():
    a = bundle(artifact("g"), settings={"version of torch": "2.12"})
    b = bundle(artifact("h"), settings={"version of torch": "2.13"})
    assert ["the same nodes, made with another version of torch"] == reasons(a, b)
    c = bundle(artifact("i"), settings={"version of torch": "2.13"})
    assert ["the same nodes, with other arguments, types or constants compiled in"] == reasons(b, c)


def test_blobs_are_counted():
    a, b = bundle(blobs={"x": 1, "y": 2}), bundle(blobs={"y": 2, "z": 4, "u": 8})
    assert {
        "added": 2,
        "added_bytes": 12,
        "removed": 1,
        "removed_bytes": 1,
        "kept": 1,
    } == differences(a, b)["blobs"]


def test_bundles_of_other_digests_are_never_the_same():
    a = bundle(digest="sha256:1", manifest={"name": "a", "parity": None})
    b = bundle(digest="sha256:2", manifest={"name": "b", "parity": None})
    found = differences(a, b)
    assert ["name"] == found["manifest"]
    assert not found["same"]
