"""A temporary directory beside an output, which takes its name at the end: all or nothing.

1. A directory ``.NAME.HEX.partial`` is made beside the output and locked (``flock``). The kernel
   drops the lock when the process ends, however it ends.
2. The content is written into it.
3. ``publish`` renames it to the output. An output that is to be replaced changes places with it
   in one step; where the file system cannot do that, it is first renamed to
   ``.NAME.HEX.replaced``.
4. Who comes next to the same output removes such directories that nobody holds a lock on, or puts
   back a ``.replaced`` one where the output is missing. On file systems without locks they are
   left alone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Staging", "sync_directory"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

#: What file systems answer that do not know a call.
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Staging:
    """The temporary directory of one output, made at once.

    Attributes:
        path: the directory.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        self.path, self._lock = _make_locked(target)

    def discard(self) -> None:
        """Remove the directory, if it has not become the output; to be called in any case."""
        if self._lock is None:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        self._unlock()

    def publish(self, *, replace: bool = False) -> None:
        """Give the directory the output's name.

        Args:
            replace: put it in place of what is there; without it that is an error.

        Raises:
            OSError: it cannot be renamed; what was there is there still.
        """
        replaced: Path | None = None
        if not os.path.lexists(self.target):
            self.path.rename(self.target)
        elif not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.target))
        elif _exchange(self.path, self.target):
            replaced = self.path
        else:
            replaced = self._move_aside()
        self._unlock()
        # The output is whole and has its name; that this outlasts a power cut is only hoped for.
        with suppress(OSError):
            sync_directory(self.target.parent)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)

    def _move_aside(self) -> Path:
        aside = self.path.with_suffix(".replaced")
        with _locked(self.target):
            self.target.rename(aside)
            try:
                self.path.rename(self.target)
            except BaseException:
                aside.rename(self.target)
                raise
        return aside

    def _unlock(self) -> None:
        handle, self._lock = self._lock, None
        if handle is not None:
            os.close(handle)


def sync_directory(path: Path) -> None:
    """Make the names in a directory outlast a power cut, where the file system can.

    Raises:
        OSError: the disk failed.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


# --- locks --------------------------------------------------------------------------------------


def _make_locked(target: Path) -> tuple[Path, int | None]:
    while True:
        path = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
        path.mkdir()
        try:
            path.chmod(0o755)
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # Swept before it was locked.
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        _try_lock(handle, wait=True)
        if os.path.lexists(path):
            return path, handle
        os.close(handle)


def _try_lock(handle: int, *, wait: bool = False) -> bool:
    """Whether the lock was had; not where another has it, nor where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Generator[bool]:
    """Hold the lock on a directory. Gives whether it was free."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield _try_lock(handle)
    finally:
        os.close(handle)


def _sweep(target: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}\.(partial|replaced)\Z")
    for other in list(target.parent.iterdir()):
        match = pattern.match(other.name)
        if match is None:
            continue
        try:
            with _locked(other) as free:
                if free:
                    _tidy(other, target, match[1])
        except OSError:
            # Gone already, or somebody else's.
            continue


def _tidy(other: Path, target: Path, kind: str) -> None:
    if kind == "replaced" and not os.path.lexists(target):
        other.rename(target)
    else:
        shutil.rmtree(other, ignore_errors=True)


# --- renaming -----------------------------------------------------------------------------------


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step. False where kernel or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (*_CANNOT, errno.EXDEV):
        return False
    raise OSError(code, os.strerror(code), str(other))
