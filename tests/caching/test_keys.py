"""Keys: every part counts, and what differs is said."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.caching.keys import Key, compare_keys, part

values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)
labels = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4, unique=True)


def key(rows: dict[str, Any]) -> Key:
    return Key(tuple(part(label, value, {}) for label, value in rows.items()))


def plain(value: Any) -> str:
    """Tells True from 1, which == does not."""
    return repr(value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_change_of_any_part_changes_the_key_and_is_named(data: st.DataObject) -> None:
    names = data.draw(labels)
    rows = {name: data.draw(values) for name in names}
    name = data.draw(st.sampled_from(names))
    other = data.draw(values.filter(lambda v: plain(v) != plain(rows[name])))
    a, b = key(rows), key({**rows, name: other})
    assert a.digest == key(dict(rows)).digest
    same = sorted_text(other) == sorted_text(rows[name])
    assert same == (a.digest == b.digest)
    assert ([] if same else [name]) == [d.label for d in compare_keys(b, a)]


def sorted_text(value: Any) -> str:
    """The order of an object's keys means nothing."""
    if isinstance(value, dict):
        return f"object {sorted((k, sorted_text(v)) for k, v in value.items())}"
    return str([sorted_text(v) for v in value]) if isinstance(value, list) else plain(value)


def test_labels_and_their_order_count() -> None:
    assert key({"a": 1}).digest != key({"b": 1}).digest
    assert key({"a": 1, "b": 2}).digest != key({"b": 2, "a": 1}).digest


def test_old_and_new_values_are_said() -> None:
    old = Key((part("compiler", {"torch": "2.12", "onnx": "1"}), part("weights", None, {})))
    new = Key((part("compiler", {"torch": "2.13", "onnx": "1"}), part("weights", [1], {})))
    first, second = map(str, compare_keys(new, old))
    assert "compiler (torch 2.12 -> 2.13)" == first
    assert second.startswith("weights (sha256:")


def test_a_part_that_is_new_or_gone() -> None:
    old, new = Key((part("a", {"x": 1}),)), Key((part("b", {"y": 2}),))
    assert ["b (y none -> 2)", "a (x 1 -> none)"] == list(map(str, compare_keys(new, old)))


def test_long_lists_of_changes_are_cut() -> None:
    old, new = (Key((part("a", {str(i): i + d for i in range(9)}),)) for d in (0, 1))
    assert str(compare_keys(new, old)[0]).endswith("and 5 more)")
