"""Readers of manifests and bundles under a coverage-guided fuzzer; a script, see test_fuzz.py.

    python -m tests.artifacts.fuzzing manifest|bundle FOLDER [options of libFuzzer]

A finding ends the process with another exit code than 0: an exception that is no error of ours, a
file opened outside of the bundle, or more memory than the limit.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["partitioner.artifacts", "partitioner.buffers"]):
    from partitioner.artifacts.manifest import Manifest
    from tests.artifacts.watching import DOCUMENTS, lay, read_all, watched

from partitioner.errors import BundleError
from tests.artifacts.edits import places
from tests.artifacts.samples import manifest

#: Bytes of address space: what Python, NumPy and the fuzzer take, and room for hostile input.
LIMIT = 3 * 2**30

#: What a fuzzer does not come upon by itself.
WORDS = [
    "sha256:" + "0" * 64,
    "../../etc/passwd",
    "1e400",
    "9" * 30,
    "\\u0000",
    "\\ud800",
    "[" * 70,
]

#: Put in place of others.
VALUES = [
    None,
    True,
    -1,
    0,
    2**31,
    2**53,
    2**63,
    10**30,
    0.5,
    1e308,
    "",
    "x",
    "../..",
    [],
    {},
    [[]],
]


def seed(folder: Path, documents: list[bytes]) -> None:
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(documents):
        (corpus / str(number)).write_bytes(data)
    words = {*WORDS, *json.loads(manifest().to_json())}
    lines = ["".join(f"\\x{byte:02x}" for byte in word.encode()) for word in sorted(words)]
    (folder / "words").write_text("".join(f'"{line}"\n' for line in lines))


def fuzz_manifest(data: bytes) -> None:
    try:
        found = Manifest.from_json(data)
    except BundleError:
        return
    assert found == Manifest.from_json(found.to_json())


def fuzz_bundle(folder: Path, data: bytes) -> None:
    if not data:
        return
    which = DOCUMENTS[data[0] % len(DOCUMENTS)]
    path = folder / "bundle"
    with lay(path, which, data[1:]), watched(path):
        try:
            read_all(path)
        except BundleError:
            return


def mutate(data: bytes, most: int, number: int) -> bytes:
    """Half of the time bytes are changed, else a place of the document, which stays JSON.

    The first byte of a bundle's input, which chooses the document, is kept.
    """
    chance = random.Random(number)
    head = data[:1] if data[:1] < b"\x20" else b""
    try:
        document = json.loads(data[len(head) :])
        paths = places(document)
    except (ValueError, RecursionError):
        paths = []
    if chance.random() < 0.5 or not paths:
        return atheris.Mutate(data, most)
    for _ in range(chance.randint(1, 3)):
        path = chance.choice(paths)
        value = chance.choice([*VALUES, _at(document, chance.choice(paths))])
        try:
            _at(document, path[:-1])[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # An earlier change has removed the place.
    try:
        return (head + json.dumps(document).encode())[:most]
    except (ValueError, RecursionError):  # It was put into itself.
        return data


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    config = manifest().to_json()
    if what == "manifest":
        act: Any = fuzz_manifest
        seed(folder, [config])
    else:
        act = lambda data: fuzz_bundle(folder, data)  # noqa: E731 - one of two
        with lay(folder / "bundle", "config", config) as documents:
            rows = [bytes([DOCUMENTS.index(name)]) + data for name, data in documents.items()]
        seed(folder, rows)
        for row in rows:  # What is imported on the way is imported before anybody watches.
            act(row)
    os.chdir(folder)
    options = [sys.argv[0], *sys.argv[3:], "-dict=words", "corpus"]
    atheris.Setup(options, act, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
