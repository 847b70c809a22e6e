"""Numbers for people."""

from __future__ import annotations

from typing import Any

import pytest

from partitioner.cli.inspect import _placing
from partitioner.cli.tables import count_text, passes_table, size_text


@pytest.mark.parametrize(
    ("count", "size", "number"),
    [
        (0, "0 B", "0"),
        (999, "999 B", "999"),
        (1536, "1.5 KiB", "1.536 k"),
        (5 * 2**30, "5 GiB", "5.369 G"),
        (3 * 10**12, "2794 GiB", "3 T"),
    ],
)
def test_sizes_and_counts(count: int, size: str, number: str) -> None:
    assert size == size_text(count)
    assert number == count_text(count)


def test_the_table_shows_changes_and_notes() -> None:
    row: dict[str, Any] = {
        "name": "hoist",
        "seconds": 0.25,
        "nodes_before": 10,
        "nodes_after": 8,
        "constants_before": 3,
        "constants_after": 3,
        "notes": ["moved 2 nodes"],
    }
    header, line, note = passes_table([row])
    assert "pass" == header.split()[0]
    assert ["hoist", "10", "->", "8", "3", "0.25"] == line.split()
    assert "    moved 2 nodes" == note


@pytest.mark.parametrize("records", [[], None, "passes", [1, 2], {"a": 1}])
def test_a_report_of_something_else_is_no_table(records: Any) -> None:
    assert [] == list(passes_table(records))


def test_a_record_of_something_else_is_a_line_without_numbers() -> None:
    _, line = passes_table([{"name": 3, "nodes_before": "x", "notes": 7, "seconds": "long"}])
    assert "3" == line


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (None, []),
        (3, []),
        ({}, []),
        ({"backends": "onnx", "stages": ["a"], "measured": 3}, []),
        (
            {"backends": ["a", "b"], "stages": {"decoder": "b"}, "ops": {}, "measured": [{}, {}]},
            ["placed   backends a, b; decoder on b; by measurements of 2 pieces"],
        ),
    ],
)
def test_how_backends_were_chosen_is_said_whatever_a_bundle_holds(
    recipe: object, expected: list[str]
):
    assert expected == list(_placing(recipe))
