"""All members of a bundle: which there are, and each opened when it is asked for.

A bundle of one member is an index of one; that it has no image index on disk is seen here only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock

from partitioner.artifacts.bundle import (
    MAX_INDEX_BYTES,
    Arrive,
    Bundle,
    Trust,
    Verify,
    read_blob,
)
from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.files import check_directory, read_plain
from partitioner.artifacts.manifest import MAX_MANIFEST_BYTES, Blob
from partitioner.artifacts.oci import (
    BLOBS,
    INDEX_FILE,
    LAYOUT_FILE,
    Member,
    label_text,
    read_index,
    read_layout,
    read_root,
)
from partitioner.errors import BundleError, UsageError

__all__ = ["BundleIndex"]


class BundleIndex:
    """A bundle that was opened, with all its members. Thread-safe.

    Attributes:
        path: the directory.
        root: descriptor of the image manifest of a bundle with one member, else of the image index.
        members: the preferred ones first.
        trusted: whether somebody has vouched for the root, and so for all members: a signature was
            verified.
    """

    def __init__(
        self,
        path: Path,
        root: Blob,
        members: tuple[Member, ...],
        verify: Verify,
        arrive: Arrive | None = None,
        *,
        trusted: bool = False,
    ) -> None:
        self.path = path
        self.root = root
        self.members = members
        self.verify: Verify = verify
        self.trusted = trusted
        self._arrive = arrive
        self._opened: dict[str, Bundle] = {}
        self._lock = Lock()

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], verify: Verify = "once", *, trust: Trust | None = None
    ) -> BundleIndex:
        """Open the bundle in a directory. Arguments and errors as of ``Bundle.open``."""
        folder = Path(path).absolute()
        _check_folder(folder)
        read_layout(read_plain(folder / LAYOUT_FILE, MAX_INDEX_BYTES))
        root = read_index(read_plain(folder / INDEX_FILE, MAX_INDEX_BYTES))
        return cls.at(folder, root, verify, trust=trust)

    @classmethod
    def at(
        cls,
        folder: Path,
        root: Blob,
        verify: Verify = "once",
        *,
        trust: Trust | None = None,
        arrive: Arrive | None = None,
    ) -> BundleIndex:
        """Open the bundle of one root, in a directory with the blobs of any number of bundles.

        Args:
            arrive: fetches a blob's file, where files are fetched when they are needed.

        Raises:
            as ``Bundle.open``; and what ``arrive`` raises.
        """
        content = read_blob(folder, root, MAX_MANIFEST_BYTES, arrive)
        if trust is not None:
            trust(root.digest, content)
        vouched = trust is not None
        index = cls(folder, *read_root(root, content), verify, arrive, trusted=vouched)
        only = index.members[0]
        if not only.labels:
            index.members = (replace(only, labels=index.bundle(only).labels),)
        return index

    @property
    def digest(self) -> str:
        """The bundle's identity."""
        return self.root.digest

    @property
    def here(self) -> tuple[Member, ...]:
        """The members that are not left out of this copy."""
        if self._arrive is not None:
            return self.members
        return tuple(m for m in self.members if os.path.lexists(self._file(m.image)))

    def bundle(self, member: Member) -> Bundle:
        """A member, opened.

        Raises:
            as ``Bundle.of_member``.
        """
        with self._lock:
            found = self._opened.get(member.image.digest)
            if found is None:
                found = Bundle.of_member(
                    self.path, self.root, member, self.verify, self._arrive, trusted=self.trusted
                )
                self._opened[member.image.digest] = found
            return found

    def matching(self, wanted: Mapping[str, str] | None = None) -> tuple[Member, ...]:
        """The members of this copy with these labels; one at least.

        Raises:
            UsageError: there is none.
            BundleError: the copy has no member at all.
        """
        wanted = wanted or {}
        found = tuple(member for member in self.here if member.has(wanted))
        if found:
            return found
        if not wanted:
            raise damaged("the manifests of all members are missing", self.path)
        if any(member.has(wanted) for member in self.members):
            raise UsageError(
                f"the member {label_text(wanted)} was left out of this copy",
                where=str(self.path),
                advice="pull the bundle without --variant, or with this one",
            )
        raise UsageError(
            f"the bundle has no member {label_text(wanted)}; it has {self._texts(self.members)}",
            where=str(self.path),
            advice="leave it out: a call takes the bucket that fits the rows it is given"
            if set(wanted) == {"batch"}
            else "build it with that --target, too; schedules of a member are chosen by the call "
            "(`run --set steps=20`)",
        )

    def only(self, wanted: Mapping[str, str] | None = None) -> Bundle:
        """The one member with these labels, opened.

        Raises:
            UsageError: there is none, or there are several.
            and as :meth:`bundle`.
        """
        first, *more = self.matching(wanted)
        if more:
            raise UsageError(
                f"the bundle has several members: {self._texts((first, *more))}",
                where=str(self.path),
                advice=f"choose one: --variant {first}",
            )
        return self.bundle(first)

    def smallest(self, wanted: Mapping[str, str] | None = None) -> Bundle:
        """As :meth:`only`, where several buckets of one target are the smallest of them."""
        batch = self.matching(wanted)[0].labels.get("batch")
        return self.only({**(wanted or {}), **({} if batch is None else {"batch": batch})})

    def closure(self, members: tuple[Member, ...] | None = None) -> tuple[Blob, ...]:
        """The blobs of some members, or of all, each once, in the order in which they are stored.

        Raises:
            UsageError: members are wanted that were left out of this copy.
            and as :meth:`bundle`.
        """
        chosen = self.members if members is None else members
        missing = [member for member in chosen if member not in self.here]
        if missing:
            raise UsageError(
                f"members were left out of this copy: {self._texts(tuple(missing))}",
                where=str(self.path),
                advice="pull the bundle without --variant",
            )
        bundles = [self.bundle(member) for member in chosen]
        blobs = {blob.digest: blob for bundle in bundles for blob in bundle.manifest.blobs}
        documents = [blob for bundle in bundles for blob in (bundle.config, bundle.image)]
        every = {**blobs, **{blob.digest: blob for blob in (*documents, self.root)}}
        return tuple(every.values())

    def check(self) -> None:
        """Hash every blob of this copy, whatever the mode.

        Raises:
            BundleError: at the first that is not as declared.
        """
        for member in self.matching():
            self.bundle(member).check()

    def arrive(self, blob: Blob) -> None:
        """Wait for a blob's file, where files are fetched when they are needed."""
        if self._arrive is not None:
            self._arrive(blob)

    def read_root(self) -> bytes:
        """The content of the root, hashed whatever the mode: what a signature is about.

        Raises:
            BundleError: its file was changed.
        """
        return read_blob(self.path, self.root, MAX_MANIFEST_BYTES, self._arrive)

    @property
    def blobs_dir(self) -> Path:
        """The directory in which a blob's file has its hexadecimal digits as name."""
        return self.path / BLOBS

    def _file(self, blob: Blob) -> Path:
        return self.blobs_dir / hex_of(blob.digest)

    def _texts(self, members: tuple[Member, ...]) -> str:
        return "; ".join(str(member) for member in members)


def _check_folder(folder: Path) -> None:
    try:
        # A link to a bundle is fine, and is how deployments switch between two.
        found = folder.is_dir()
    except (OSError, ValueError):
        found = False
    if not found:
        there = os.path.lexists(folder)
        raise BundleError(
            "not a directory" if there else "not a bundle: no such directory",
            where=str(folder),
            advice="give the directory that `partition build -o` made",
        )
    if not os.path.lexists(folder / LAYOUT_FILE):
        raise BundleError(
            f"not a bundle: the directory has no {LAYOUT_FILE}",
            where=str(folder),
            advice="give the directory that `partition build -o` made",
        )
    for name in (Path(BLOBS).parent, BLOBS):
        check_directory(folder / name)
