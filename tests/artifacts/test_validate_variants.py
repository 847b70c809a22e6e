"""Variants are schedules of the bundle's plan, and can be told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from partitioner.artifacts.manifest import Manifest
from partitioner.errors import BundleError
from tests.artifacts.edits import edited
from tests.artifacts.samples import manifest

SECOND = "variants/1"


def refused(*edits: tuple[str, Any]) -> str:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(edited(*edits))
    return str(caught.value)


def _code(constants: dict[str, Any]) -> dict[str, Any]:
    return {"code": constants["ids"]}


def _memory(nothing: None) -> Any:
    return json.loads(manifest().to_json())["memory"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ((f"{SECOND}/options", {"steps": 6}), "is there twice"),
        ((f"{SECOND}/options", {"steps": 6.0}), "is there twice"),
        ((f"{SECOND}/options", {"stops": 3}), "does not have the options of the others"),
        (("variants/0/options", {}), "does not have the options of the others"),
        ((f"{SECOND}/options/steps", [3]), "none of true, false, number or text"),
        ((f"{SECOND}/trips", {"outer": 3}), "has trips of ['outer'], the plan of"),
        ((f"{SECOND}/trips/inner", 3), "not 3 rows of"),
        ((f"{SECOND}/trips/inner", 0), "makes 0 trips"),
        ((f"{SECOND}/trips/outer", 2), "'path' is float32[3, 1, 4], not float32[2, 1, 4]"),
        ((f"{SECOND}/repeats", [3]), "repeats 1 groups of draws"),
        ((f"{SECOND}/repeats/0", 4), "does not have 4 rows"),
        ((f"{SECOND}/constants", _code), "which is no constant of the plan"),
        ((f"{SECOND}/constants/ids/offset", 10**6), "takes 24 bytes from 1000000"),
        ((f"{SECOND}/parity/seed", -1), "negative seed"),
        ((f"{SECOND}/memory/peak", 1), "is said to take 1 bytes a run"),
        (("variants/0/memory", _memory), "the first variant is not the bundle's own plan"),
        (("variants/0/trips/inner", 1), "the first variant is not the bundle's own plan"),
        (("variants/0/repeats/0", 2), "the first variant is not the bundle's own plan"),
    ],
)
def test_what_is_no_variant_is_refused(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


def test_an_option_with_the_name_of_an_input_is_refused() -> None:
    edits = [(f"variants/{i}/options", {"image": i}) for i in range(2)]
    assert "has an option with the name of the input 'image'" in refused(*edits)
