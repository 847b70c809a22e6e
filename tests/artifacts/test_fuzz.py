"""Whatever a bundle's documents say: a bundle error at most, and no file outside is opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partitioner.errors import BundleError
from tests.artifacts.samples import manifest
from tests.artifacts.test_manifest_fuzz import JSON, mutated
from tests.artifacts.watching import DOCUMENTS, lay, read_all, watched

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def folder() -> Any:
    """A place for bundles; what reading one imports is imported before anybody watches."""
    with tempfile.TemporaryDirectory() as name:
        with lay(Path(name) / "bundle", "config", manifest().to_json()):
            read_all(Path(name) / "bundle")
        yield Path(name)


def read(path: Path, which: str, data: bytes) -> None:
    with lay(path, which, data), watched(path):
        try:
            read_all(path)
        except BundleError:
            return


def test_the_sample_is_read_whole(folder: Path) -> None:
    path = folder / "bundle"
    with lay(path, "config", manifest().to_json()) as documents, watched(path):
        read_all(path)
    with lay(path, "members", documents["members"]), watched(path):
        read_all(path)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=mutated())
def test_changed_manifests(folder: Path, document: Any) -> None:
    read(folder / "bundle", "config", json.dumps(document).encode())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.sampled_from(DOCUMENTS), data=JSON.map(json.dumps).map(str.encode) | st.binary())
def test_any_documents(folder: Path, which: str, data: bytes) -> None:
    read(folder / "bundle", which, data)


NAMES = ["../../../etc/passwd", "/etc/passwd", "sha256:../../x", "sha256:" + "f" * 64, "", 7, None]


@pytest.mark.parametrize("name", NAMES)
def test_digests_that_lead_elsewhere(folder: Path, name: Any) -> None:
    with lay(folder / "bundle", "config", manifest().to_json()) as documents:
        pass
    index, members, image, config = (json.loads(documents[key]) for key in DOCUMENTS[1:])
    index["manifests"][0]["digest"] = name
    members["manifests"][0]["digest"] = name
    image["config"]["digest"] = name
    for key, document in (("index", index), ("members", members), ("image", image)):
        read(folder / "bundle", key, json.dumps(document).encode())
    for row in (config["blobs"][0], config["constants"]["table"], config["artifacts"]["encode"]):
        for key in ("digest", "blob", "graph"):
            if key in row:
                row[key] = name
        read(folder / "bundle", "config", json.dumps(config).encode())


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "file").touch()
    (tmp_path / "file").touch()
    with watched(tmp_path / "inside"):
        (tmp_path / "inside" / "file").read_bytes()
    for act in (
        (tmp_path / "file").read_bytes,
        lambda: list(tmp_path.iterdir()),
        lambda: os.close(os.open("/dev/null", os.O_RDONLY)),
        (tmp_path / "inside" / ".." / "file").read_bytes,
    ):
        with pytest.raises(AssertionError), watched(tmp_path / "inside"):
            act()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "runs"), [("manifest", 40_000), ("bundle", 15_000)])
def test_with_a_fuzzer(what: str, runs: int, tmp_path: Path) -> None:
    # Guided by what is covered; so many runs, or so many seconds where the machine is slow.
    options = [f"-runs={runs}", "-max_total_time=240", "-rss_limit_mb=1024", "-timeout=20"]
    command = [sys.executable, "-m", "tests.artifacts.fuzzing", what, str(tmp_path), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr[-4000:]
    assert "DONE" in done.stderr
