"""``partition cache`` and ``partition build`` with the compile cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partitioner.caching.cache import CompileCache, open_disk
from partitioner.caching.options import CacheOptions
from tests.caching.stored import key_of
from tests.cli.test_storing import partition

MODEL = """
import torch

example_inputs = {{"x": torch.ones(4)}}

def pipeline(x):
    return torch.{op}(x)
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PARTITIONER_COMPILE_CACHE", raising=False)
    return tmp_path


def fill(root: Path, options: CacheOptions = CacheOptions()) -> None:  # noqa: B008 - frozen
    cache = CompileCache.open(options, "pipe")
    assert cache is not None
    (root / "file").write_bytes(b"x" * 2048)
    for name in ("a", "b"):
        assert cache.find("segment", name, key_of(name), root / "out") is None
        cache.keep("segment", name, key_of(name), {"graph": root / "file"}, {})
    cache.finish()


def test_list_size_and_prune(root: Path) -> None:
    fill(root)
    done = partition("cache", "ls", "--compile", "--json")
    rows = json.loads(done.stdout)["entries"]
    assert {("segment", "pipe", "a"), ("segment", "pipe", "b")} == {
        (row["kind"], row["pipeline"], row["name"]) for row in rows
    }
    assert "pipe/a" in partition("cache", "ls", "--compile").stdout
    sizes = json.loads(partition("cache", "size", "--json").stdout)
    assert sizes["parts"]["compile"] > 2048
    assert "compile" in partition("cache", "size").stdout
    assert "removed 0 entries" in partition("cache", "prune", "--compile", "--max-age", "1").stdout
    assert "removed 2 entries" in partition("cache", "prune", "--compile").stdout
    assert [] == open_disk().objects()
    assert 2 == partition("cache", "prune", "--max-age", "1").returncode


def test_a_cache_in_a_store(root: Path) -> None:
    uri = (root / "shared").as_uri()
    fill(root, CacheOptions(remote=uri))
    partition("cache", "prune", "--compile")
    rows = json.loads(partition("cache", "ls", "--compile-cache", uri, "--json").stdout)["entries"]
    assert 2 == len(rows)
    assert 0 == partition("cache", "prune", "--compile-cache", uri, "--max-size", "0").returncode
    rows = json.loads(partition("cache", "ls", "--compile-cache", uri, "--json").stdout)["entries"]
    assert [] == rows


def test_nothing_to_explain() -> None:
    done = partition("cache", "explain", "--json")
    assert (2, "no build is known") == (done.returncode, json.loads(done.stdout)["error"]["what"])


def test_builds_say_what_they_found_and_why_not(root: Path) -> None:
    path = root / "model.py"
    output = str(root / "model.bundle")

    def build(op: str, *options: str) -> str:
        path.write_text(MODEL.format(op=op))
        done = partition("build", str(path), "-o", output, "--overwrite", *options)
        assert 0 == done.returncode
        return done.stdout

    assert "compile cache" not in build("sin")
    assert "compile cache: 2 of 2 found" in build("sin")
    said = build("cos")
    assert "made anew; other than in model/glue are graph (aten." in said
    explained = partition("cache", "explain", "model").stdout
    assert explained.startswith("model: 0 of 2 found (--cache use)\n  segment ")
    record = json.loads(build("cos", "--cache", "read", "--json"))["cache"]
    assert ["disk", "disk"] == [row["where"] for row in record["lookups"]]
    assert {} == json.loads(build("cos", "--cache", "off", "--json"))["cache"]
