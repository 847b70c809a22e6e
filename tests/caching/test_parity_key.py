"""Keys of the parity check: everything that it looks at counts."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from partitioner import backends
from partitioner.artifacts.digest import digest_file
from partitioner.artifacts.manifest import Artifact, Batch, Tolerance
from partitioner.backends.execution import BackendInfo
from partitioner.backends.facts import OURS
from partitioner.batching import Bucket
from partitioner.caching.keys import Key, compare_keys
from partitioner.caching.parity_key import parity_key
from partitioner.frontend import prepare
from partitioner.modelfile import load_model
from partitioner.prepared import Prepared

MODEL = """
import torch

weight = torch.arange(3.0)
example_inputs = {{"x": torch.ones(3)}}

def pipeline(x, scale={scale}):
    return {body}
"""

ARTIFACTS = {"main": Artifact("onnx", f"sha256:{'a' * 64}", (), {})}
OTHER = BackendInfo("other", f"{__name__}:Executor", "")
TOLERANCE = Tolerance(1e-4, 1e-6)


class Found:
    """A model file, captured and planned, and its key."""

    def __init__(self, folder: Path, body: str = "x * weight * scale", scale: object = 2.0) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / "model.py"
        path.write_text(MODEL.format(body=body, scale=scale))
        self.model = load_model(str(path))
        self.prepared: Prepared = prepare(self.model.pipeline, self.model.example_inputs)
        # Before another model's module takes the name of this one's.
        self.own = self.key()

    def key(self, **changed: Any) -> Key | None:
        given: dict[str, Any] = {
            "module": self.model.pipeline,
            "bucket": bucket(self.model.example_inputs),
            "prepared": self.prepared,
            "artifacts": ARTIFACTS,
            "tolerance": TOLERANCE,
        }
        return parity_key(**{**given, **changed})


def bucket(examples: Mapping[str, Any], batch: Batch | None = None) -> Bucket:
    return Bucket(dict(examples), (), batch)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return Found(tmp_path_factory.mktemp("one"))


def labels(new: Key | None, old: Key | None) -> list[str]:
    assert new is not None
    assert old is not None
    return [difference.label for difference in compare_keys(new, old)]


def test_the_same_elsewhere_has_the_same_key(found: Found, tmp_path: Path) -> None:
    assert [] == labels(Found(tmp_path / "other").own, found.own)


def test_the_program_counts(found: Found, tmp_path: Path) -> None:
    other = Found(tmp_path / "other", "x * weight + scale")
    assert ["program", "code", "artifacts"] == labels(other.own, found.own)


def test_a_line_that_leaves_no_trace_in_the_program_counts(found: Found, tmp_path: Path) -> None:
    other = Found(tmp_path / "other", "x * weight * scale  # as before")
    assert ["code"] == labels(other.own, found.own)


def test_numbers_of_constants_count(found: Found) -> None:
    (case,) = found.prepared.cases
    program = case.captured.program.copy()
    name = next(n for n, t in program.constants.items() if t.numel() == 3)
    program.constants[name] = program.constants[name] + 1
    changed = replace(case, captured=replace(case.captured, program=program))
    prepared = replace(found.prepared, cases=(changed,))
    assert ["weights"] == labels(found.key(prepared=prepared), found.key())


def test_examples_and_options_count(found: Found) -> None:
    assert ["examples"] == labels(found.key(bucket=bucket({"x": torch.zeros(3)})), found.key())
    prepared = replace(
        found.prepared, cases=(replace(found.prepared.cases[0], options={"scale": 3.0}),)
    )
    assert ["examples"] == labels(found.key(prepared=prepared), found.key())


def test_what_was_compiled_counts(found: Found) -> None:
    other = {"main": replace(ARTIFACTS["main"], graph=f"sha256:{'b' * 64}")}
    assert ["artifacts"] == labels(found.key(artifacts=other), found.key())


def test_the_tolerance_counts(found: Found) -> None:
    assert ["check"] == labels(found.key(tolerance=Tolerance(1e-3, 1e-6)), found.key())


def test_what_is_a_row_counts(found: Found) -> None:
    rows = Batch(1, ("x",), ("y",), ())
    assert ["check"] == labels(
        found.key(bucket=bucket(found.model.example_inputs, rows)), found.key()
    )


@pytest.mark.parametrize(
    ("name", "label"),
    [("processor", "target"), ("usable_cpus", "target"), ("code_digest", "compiler")],
)
def test_the_machine_and_our_code_count(
    found: Found, monkeypatch: pytest.MonkeyPatch, name: str, label: str
) -> None:
    before = found.key()
    monkeypatch.setattr(f"partitioner.caching.parity_key.{name}", lambda *given: 99)
    assert [label] == labels(found.key(), before)


def test_code_of_backends_counts_also_of_those_that_others_bring(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        "partitioner.caching.parity_key.code_digest", lambda *names: asked.append(names) or "code"
    )
    entries = [*backends._entries(), EntryPoint("other", f"{__name__}:OTHER", "group")]
    monkeypatch.setattr(backends, "_entries", lambda: entries)
    found.key()
    found.key(artifacts={"main": Artifact("other", None, (), {})})
    assert [OURS, (*OURS, "tests")] == asked
    assert "partitioner.backends" in OURS


def test_the_function_inside_of_a_method_or_partial_counts(found: Found, tmp_path: Path) -> None:
    path = tmp_path / "holder.py"
    path.write_text("class Holder:\n    def run(self, x):\n        return x\n")
    spec = importlib.util.spec_from_file_location("holder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    key = found.key(module=functools.partial(module.Holder().run))
    assert key is not None
    (code,) = (part for part in key.parts if part.label == "code")
    assert digest_file(path) in code.facts.values()


def test_what_has_no_text_has_no_key(found: Found) -> None:
    assert found.key(bucket=bucket({"x": torch.ones(3), "y": object()})) is None
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def typed_in(x):\n    return x + 1", "<input>", "exec"), scope)
    assert found.key(module=scope["typed_in"]) is None
