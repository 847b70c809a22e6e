"""Which file a pipeline is from, and which revision."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest
from torch import nn

from partitioner.artifacts.digest import digest_bytes
from partitioner.provenance.source import Source, find_source, source_file

HERE = Path(__file__)


class Module(nn.Module):
    pass


def function() -> None:
    pass


@pytest.mark.parametrize(
    "pipeline",
    [Module(), function, functools.partial(functools.partial(function, 1), 2), Module().forward],
)
def test_the_file_of_a_pipeline(pipeline: object) -> None:
    file = source_file(pipeline)
    assert file is not None
    assert {HERE.name: HERE, "module.py": file}[file.name] == file


@pytest.mark.parametrize("pipeline", [len, 3, eval("lambda: 1")])
def test_what_is_in_no_file(pipeline: object) -> None:
    assert source_file(pipeline) is None


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit, with ``models/größe.py``."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "größe.py").write_bytes(b"x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def test_a_revision_and_whether_it_was_changed(repository: Path) -> None:
    file = repository / "models" / "größe.py"
    revision = git(repository, "rev-parse", "HEAD")
    clean = Source("models/größe.py", digest_bytes(b"x = 1\n"), revision, dirty=False)
    assert clean == find_source(file)
    (repository / "rubbish").touch()
    assert clean == find_source(file)
    file.write_bytes(b"x = 2\n")
    assert Source(clean.name, digest_bytes(b"x = 2\n"), revision, dirty=True) == find_source(file)


def test_a_file_that_git_does_not_follow(repository: Path) -> None:
    other = repository / "models" / "other.py"
    other.write_bytes(b"")
    assert Source("models/other.py", digest_bytes(b"")) == find_source(other)


def test_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    file = repository / "models" / "größe.py"
    assert Source("models/größe.py", digest_bytes(b"x = 1\n")) == find_source(file)


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").touch()
    git(tmp_path, "add", ".")
    assert Source(f"{tmp_path.name}/a.py", digest_bytes(b"")) == find_source(tmp_path / "a.py")


def test_a_file_that_has_gone(tmp_path: Path) -> None:
    assert find_source(tmp_path / "gone.py") is None


def test_nothing_of_the_repository_is_run(repository: Path) -> None:
    hook = repository / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {repository}/ran\n")
    hook.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(hook))
    find_source(repository / "models" / "größe.py")
    assert not (repository / "ran").exists()
