"""The host's cache: what is left of writers that were killed."""

from __future__ import annotations

import os
from pathlib import Path

from partitioner.artifacts.cachedir import PARTIAL, drop_abandoned


def test_what_was_abandoned_long_ago_goes(tmp_path: Path) -> None:
    for name in ("old", "young"):
        (tmp_path / f"{PARTIAL}{name}").mkdir()
        (tmp_path / f"{PARTIAL}{name}" / "weights.bin").write_bytes(b"half")
        (tmp_path / f"{PARTIAL}{name}-file").write_bytes(b"half")
    (tmp_path / "entry").mkdir()
    for path in (tmp_path / f"{PARTIAL}old", tmp_path / f"{PARTIAL}old-file", tmp_path / "entry"):
        os.utime(path, (0, 0))
    drop_abandoned(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert ["entry", f"{PARTIAL}young", f"{PARTIAL}young-file"] == left
