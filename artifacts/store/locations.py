"""Addresses: of stores, and of bundles in them.

    s3://bucket/prefix            file:///path            https://host/path          a store
    s3://bucket/prefix/NAME@REF   (the same of others)                               a bundle in it

REF is a tag, a version, or a digest (``sha256:`` and 64 digits); ``latest`` if there is none.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from partitioner.artifacts.digest import check_digest
from partitioner.artifacts.oci import LAYOUT_FILE
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.layout import check_name
from partitioner.artifacts.store.options import DEFAULT_OPTIONS, StoreOptions
from partitioner.errors import BundleError, UsageError

__all__ = ["LATEST", "Reference", "is_remote", "open_store", "parse_reference"]

LATEST = "latest"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")
#: Prefixes are made of what needs no quoting in an address.
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()/+=,:@ -]*\Z")
_ADVICE = "give s3://BUCKET/PREFIX, file:///DIRECTORY or https://HOST/PATH"


@dataclass(frozen=True)
class Reference:
    """A bundle in a store.

    Args:
        store: the store's address.
        name: of the bundle.
        ref: a tag, a version, or a digest.
    """

    store: str
    name: str
    ref: str

    def __str__(self) -> str:
        return f"{self.store}/{self.name}@{self.ref}"

    @property
    def is_digest(self) -> bool:
        """Whether it names the content itself."""
        return self.ref.startswith("sha256:")


def is_remote(text: str | os.PathLike[str]) -> bool:
    """Whether it is an address of a bundle in a store, and no path of a bundle.

    ``file://`` and a bundle's directory is a path.
    """
    if not isinstance(text, str) or _SCHEME.match(text) is None:
        return False
    return not (text.startswith("file://") and (local_path(text) / LAYOUT_FILE).is_file())


def local_path(text: str | os.PathLike[str]) -> Path:
    """The path that a ``file://`` address, or a path, means.

    Raises:
        UsageError: it names another host.
    """
    if not isinstance(text, str) or not text.startswith("file://"):
        return Path(text)
    parts = urllib.parse.urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError(f"{text} is on another host", advice="give file:///ABSOLUTE/PATH")
    return Path(urllib.parse.unquote(parts.path))


def parse_reference(text: str) -> Reference:
    """The parts of a bundle's address.

    Raises:
        UsageError: it is none.
    """
    store, slash, last = text.rstrip("/").rpartition("/")
    name, _, ref = last.partition("@")
    if not slash or not _SCHEME.match(store + "/"):
        raise UsageError(f"{text} names no bundle in a store", advice=f"{_ADVICE}/NAME@TAG")
    check_name(name, "the name of a bundle")
    reference = Reference(store, name, ref or LATEST)
    if not reference.is_digest:
        check_name(reference.ref, "a version or tag")
        return reference
    try:
        check_digest(ref)
    except BundleError as error:
        raise UsageError(error.what, advice="give sha256: and 64 digits") from error
    return reference


def open_store(text: str, options: StoreOptions = DEFAULT_OPTIONS) -> Store:
    """The store at an address. Nothing is read yet; the client is imported when it is needed.

    Raises:
        UsageError: no such kind of store, or a malformed address.
        MissingDependencyError: the client is not installed.
    """
    parts = urllib.parse.urlsplit(text)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(f"{text} is no address of a store", advice=_ADVICE)
    if parts.scheme == "file":
        from partitioner.artifacts.store.local import LocalStore

        return LocalStore(local_path(text))
    if parts.scheme == "s3":
        from partitioner.artifacts.store.s3 import S3Store

        prefix = parts.path.strip("/")
        hostile = any(part in ("", ".", "..") for part in prefix.split("/")) and prefix
        if not _BUCKET.match(parts.netloc) or not _PREFIX.match(prefix) or hostile:
            raise UsageError(f"{text} is no bucket and prefix", advice=_ADVICE)
        return S3Store(parts.netloc, prefix, options)
    if parts.scheme in ("https", "http") and parts.netloc:
        from partitioner.artifacts.store.web import WebStore

        return WebStore(text.rstrip("/"), options)
    raise UsageError(f"{text} is no address of a store", advice=_ADVICE)
