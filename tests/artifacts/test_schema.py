"""The published JSON Schema: it is that of the code, and says what the reader says."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.manifest import Manifest
from partitioner.artifacts.schema import json_schema, replace_tables, schema_text
from partitioner.errors import BundleError
from tests.artifacts.samples import manifest

DOCS = Path(__file__).parents[2] / "docs"
ANEW = "out of date: run `python -m partitioner.artifacts.schema docs`"

#: The keys of each object of the format; other objects' keys are data.
RECORDS = [set(definition["required"]) for definition in json_schema()["$defs"].values()]

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def document() -> Any:
    return json.loads(manifest().to_json())


def test_the_published_schema_is_that_of_the_code() -> None:
    assert schema_text() == (DOCS / "bundle-manifest.schema.json").read_text(), ANEW


def test_the_page_has_the_tables_of_the_code() -> None:
    page = (DOCS / "bundle-format.md").read_text()
    assert replace_tables(page) == page, ANEW


def test_it_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_a_manifest_with_everything_validates() -> None:
    assert [] == [error.message for error in VALIDATOR.iter_errors(document())]


def test_the_manifest_of_a_real_build_validates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    denoiser = torch.nn.Linear(4, 4)

    def pipeline(image: torch.Tensor) -> torch.Tensor:
        for step in torch.linspace(1, 0, 4):
            image = image - step * denoiser(image) + torch.randn_like(image)
        return image

    path = tmp_path / "small.bundle"
    partitioner.build(pipeline, {"image": torch.ones(1, 4)}, output=path)
    written = json.loads(Bundle.open(path).manifest.to_json())
    assert [] == [error.message for error in VALIDATOR.iter_errors(written)]


# --- schema and reader agree --------------------------------------------------------------------


def drop_key(record: Any, key: str) -> None:
    del record[key]


def add_key(record: Any, key: str) -> None:
    record["novelty"] = record[key]


def change_type(record: Any, key: str) -> None:
    # No field takes either of them.
    record[key] = True if isinstance(record[key], list | dict) else [[[True]]]


@pytest.mark.parametrize("change", [drop_key, add_key, change_type])
def test_schema_and_reader_refuse_the_same(change: Callable[[Any, str], None]) -> None:
    places = [(path, key) for path, record in records(document()) for key in record]
    assert len(places) > 100
    for path, key in places:
        changed = document()
        change(functools.reduce(operator.getitem, path, changed), key)
        with pytest.raises(BundleError):
            Manifest.from_json(json.dumps(changed).encode())
        assert not VALIDATOR.is_valid(changed), (path, key)


def records(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The objects of the format in a document, with the way to each."""
    if isinstance(value, dict) and set(value) in RECORDS:
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from records(item, (*path, key))
