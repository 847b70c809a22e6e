"""What a manifest says of itself must agree."""

from __future__ import annotations

from typing import Any

import pytest

from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.manifest import Manifest
from partitioner.errors import BundleError
from tests.artifacts.edits import DELETE, edited
from tests.artifacts.samples import TABLES, WEIGHTS

NOWHERE = "sha256:" + "0" * 64


def refused(*edits: tuple[str, Any]) -> str:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(edited(*edits))
    assert caught.value.advice is not None
    return caught.value.what


@pytest.mark.parametrize("field", ["name", "version", "target"])
@pytest.mark.parametrize(
    "label", ["", "a/b", "..", "a\\b", "a\nb", "\x1b[31m", "\u202eabc", "x" * 201]
)
def test_labels(field: str, label: str) -> None:
    assert f"the bundle's {field}" in refused((field, label))


@pytest.mark.parametrize("edit", [{"a\n": "1"}, {"a": "\x1b"}, {"a" * 201: "1"}])
def test_toolchain(edit: dict[str, str]) -> None:
    assert "printable" in refused(("toolchain", edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("requirements/2/name", "x'; rm -rf /; '"), "malformed name"),
        (("requirements/2/name", "x'; rm '"), "no distribution's name"),
        (("requirements/2/name", ""), "malformed name"),
        (("requirements/2/at_least", "1.x"), "malformed version"),
        (("requirements/2/below", "1" * 99), "malformed version"),
        (("requirements/1/at_least", ""), "names no level"),
        (("requirements/0/kind", "../x"), "malformed name"),
        (("requirements/0/reason", "\x1b[2J"), "printable"),
        (("requirements", lambda rows: rows * 40), "120 requirements; at most 100"),
    ],
)
def test_requirements(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


# --- blobs --------------------------------------------------------------------------------------


def test_blobs_are_sorted_and_unique() -> None:
    assert "not sorted" in refused(("blobs", lambda blobs: blobs[::-1]))
    assert "declared twice" in refused(("blobs", lambda blobs: [blobs[0], *blobs]))


def test_blobs_have_digests_and_sizes() -> None:
    assert "is not a sha256 digest" in refused(("blobs/0/digest", "sha256:../../etc/passwd"))
    assert "is not a sha256 digest" in refused(("blobs/0/digest", "md5:" + "0" * 32))
    assert "negative size" in refused(("blobs/0/size", -1))
    assert "media type" in refused(("blobs/0/media_type", "a\x00"))


@pytest.mark.parametrize(
    "place",
    [
        "artifacts/encode/graph",
        "artifacts/encode/weights/0",
        "constants/table/blob",
        "parity/inputs/image/data/blob",
        "parity/outputs/again/values/blob",
        "parity/segments/1/outputs/b/values/blob",
    ],
)
def test_every_digest_is_declared(place: str) -> None:
    assert "which is not declared" in refused((place, NOWHERE))
    assert "is not a sha256 digest" in refused((place, "/etc/passwd"))


# --- data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("constants/table/offset", 64), "takes 96 bytes from 64 of a blob of 120 bytes"),
        (("constants/table/offset", -1), "takes 96 bytes from -1"),
        (("constants/table/nbytes", -96), "takes -96 bytes"),
        (("constants/table/nbytes", 92), "has 92 bytes, but float32[3, 2, 4] takes 96"),
        (("constants/ids/offset", 92), "at 92 is not aligned to int64"),
        (("constants/table/offset", 2**62), "takes 96 bytes from"),
        (("constants/table", DELETE), "a constant without data"),
        (("constants/x", {"blob": digest_bytes(TABLES), "offset": 0, "nbytes": 16}), "'x'"),
        (("plan/values/ids/shape", ["n"]), "dimension that is not a number"),
        (("parity/inputs/image/data/nbytes", 31), "31 bytes"),
        (("parity/outputs/again/values/nbytes", 8), "8 bytes"),
        (("parity/outputs/again/values/offset", 4), "not aligned to float64"),
    ],
)
def test_references_stay_inside_their_blob(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


def test_artifacts_are_those_of_the_segments() -> None:
    assert "'step'" in refused(("artifacts/step", DELETE))
    stray = {"backend": "host", "graph": None, "weights": [], "options": {}}
    assert "'other'" in refused(("artifacts/other", stray))
    assert "different backends" in refused(("artifacts/step/backend", "host"))
    both = ("artifacts/step/backend", "a b"), ("plan/segments/1/1/backend", "a b")
    assert "malformed id" in refused(*both)


# --- signature ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("inputs/1/name", "image"), "an input is declared twice"),
        (("inputs/0/name", "../image"), "an input has the malformed name"),
        (("inputs/0/used", False), "not the inputs declared as used"),
        (("inputs/3/used", True), "not the inputs declared as used"),
        (("inputs/1/tensor/shape", [1, 5]), "input 'latents' and its value disagree"),
        (("inputs/3/tensor/dtype", "complex64"), "unknown dtype 'complex64'"),
        (("inputs/1/how", {"kind": "Noise", "distribution": "normal"}), "keys missing: scale"),
        (("inputs/0/how/size", [2, 6]), "an image of the shape [1, 3, 2, 6]"),
        (("inputs/0/how/mean", [0.5]), "an image of the shape [1, 1, 2, 5]"),
        (("inputs/0/how/std", [0.5, 0.5]), "cannot be normalised"),
        (("inputs/0/how/std/1", 0.0), "cannot be normalised"),
        (("inputs/3/how", {"kind": "Noise", "distribution": "normal", "scale": 1.0}), "is noise"),
        (("outputs/0/0", "other"), "the plan's outputs are not the outputs declared"),
        (("outputs/1/1/dtype", "float64"), "output 'path' and its value disagree"),
        (("outputs", lambda outputs: outputs[::-1]), "the plan's outputs are not"),
        (("outputs/1/0", "path\\..\\x"), "the plan's outputs are not"),
    ],
)
def test_inputs_and_outputs(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


@pytest.mark.parametrize("name", ["../../evil", "a/b", "/etc/x", ".hidden", "", "a\x00b", "a\\b"])
def test_output_names_are_safe_as_file_names(name: str) -> None:
    assert "an output" in refused(("outputs/0/0", name), ("plan/outputs/0/0", name))


def test_labels_of_people_are_taken() -> None:
    name = "vertices (m), ü"
    edits = [("outputs/0/0", name), ("plan/outputs/0/0", name), ("parity", None), ("variants", [])]
    assert name in Manifest.from_json(edited(*edits)).outputs


# --- parity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("parity/seed", -1), "negative seed"),
        (("parity/tolerance/absolute", -1.0), "negative seed or tolerance"),
        (
            ("parity/inputs/other", {"spec": {"dtype": "uint8", "shape": [0]}, "data": None}),
            "malformed",
        ),
        (("parity/segments/2/call", 0), "occurs twice"),
        (("parity/segments/2/call", -1), "does not occur"),
        (("parity/segments/2/segment", "outer"), "call 1 of 'outer'"),
        (("parity/segments/2/outputs/c", None), "malformed"),
        (("parity/outputs/again/spec/shape", ["n"]), "dimension that is not a number"),
        (("parity/outputs/again/spec/shape", [2**50]), "takes more than"),
        (("parity/outputs/again/count", -1), "keeps -1 numbers"),
        (("parity/outputs/again/count", 2**21), "numbers"),
        (("parity/outputs/again/norm", -0.5), "norm -0.5"),
    ],
)
def test_parity(edit: tuple[str, Any], message: str) -> None:
    assert message in refused(edit)


def test_parity_names_what_exists() -> None:
    data = {"blob": digest_bytes(WEIGHTS), "offset": 0, "nbytes": 0}
    empty = {"spec": {"dtype": "uint8", "shape": [0]}, "data": data}
    assert "which the bundle has not" in refused(("parity/inputs/other", empty))
    assert "which has no such" in refused(
        ("parity/outputs", lambda outputs: {"other": outputs["again"]})
    )
    assert "segment 'step', which has no such" in refused(
        ("parity/segments/1/outputs", lambda outputs: {"other": outputs["b"]})
    )


def test_without_parity() -> None:
    assert Manifest.from_json(edited(("parity", None))).parity is None
