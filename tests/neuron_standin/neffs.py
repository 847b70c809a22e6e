"""NEFF files by the documented layout: a header of 1,024 bytes and a tarball."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from typing import Any

LAYOUT = "<5Q128sI32s16s256sI64sQI"

FIELDS: dict[str, Any] = {
    "package": 2,
    "header_size": 1024,
    "data_size": None,
    "major": 2,
    "minor": 0,
    "build": b"2.27.5334.0+b2a3b0ce",
    "cores": 1,
    "hash": None,
    "uuid": bytes(range(16)),
    "name": b"model",
    "requested_cores": 1,
    "cores_per_node": b"\x01",
    "features": 0,
    "lnc": 1,
}


def tarball(content: bytes = b"instructions") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("sg00/def.json")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def neff(body: bytes | None = None, **changes: Any) -> bytes:
    body = tarball() if body is None else body
    fields = {**FIELDS, "data_size": len(body), "hash": hashlib.sha256(body).digest(), **changes}
    header = struct.pack(LAYOUT, *fields.values())
    return header.ljust(1024, b"\0") + body
