"""Bundles whose files are links, pipes, devices or folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.bundle import Bundle, Verify
from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.signatures import write_signatures
from tests.artifacts.damage import blob_file, refused
from tests.artifacts.samples import WEIGHTS, manifest, write_bundle


def make_link(file: Path) -> None:
    target = file.with_name("target")
    file.rename(target)
    file.symlink_to(target)


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def make_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def make_device_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


KINDS = [make_link, make_pipe, make_directory, make_device_link]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_odd_files_in_place_of_the_index(path: Path, make: Any, name: str) -> None:
    make(path / name)
    error = refused(lambda: Bundle.open(path))
    assert "is not a plain file" in error.what
    assert str(path / name) == error.where


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("verify", ["always", "once", "never"])
def test_odd_files_in_place_of_a_blob(path: Path, make: Any, verify: Any) -> None:
    bundle = Bundle.open(path, verify)
    make(blob_file(path))
    for action in (bundle.blob_path, bundle.read):
        error = refused(lambda action=action: action(digest_bytes(WEIGHTS)))
        assert "is not a plain file" in error.what
        assert str(blob_file(path)) == error.where


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files")
def test_device_files(path: Path) -> None:
    bundle = Bundle.open(path)
    blob_file(path).unlink()
    os.mknod(blob_file(path), 0o600 | 0o020000, os.makedev(1, 5))
    assert "is not a plain file" in refused(bundle.check).what


def test_a_pipe_that_comes_between_look_and_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(path)
    plain, calls = Path.lstat, list[Path]()

    def lstat(self: Path) -> os.stat_result:
        info = plain(self)
        if self == blob_file(path) and not calls:
            calls.append(self)
            make_pipe(self)
        return info

    monkeypatch.setattr(Path, "lstat", lstat)
    assert "is not a plain file" in refused(lambda: bundle.read(digest_bytes(WEIGHTS))).what


def test_a_hard_link_to_another_file_is_read_as_what_it_is(path: Path, tmp_path: Path) -> None:
    """It has the size of the blob, and is a plain file; its content tells."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * len(WEIGHTS))
    blob_file(path).unlink()
    blob_file(path).hardlink_to(secret)
    modes: tuple[Verify, ...] = ("always", "once")
    for verify in modes:
        bundle = Bundle.open(path, verify)
        assert "its content was changed" in refused(bundle.check).what
        refused(lambda bundle=bundle: bundle.read(digest_bytes(WEIGHTS)))


def test_nothing_is_written_through_a_hard_link(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (path / "signatures.json").hardlink_to(secret)
    blob_file(path).unlink()
    blob_file(path).hardlink_to(secret)
    mode = secret.stat().st_mode
    write_signatures(path, b'{"signatures":[]}')
    write_bundle(path, manifest(), overwrite=True)
    assert (b"secret", mode) == (secret.read_bytes(), secret.stat().st_mode)
    Bundle.open(path).check()
