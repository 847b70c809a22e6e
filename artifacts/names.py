"""Which names and tensors a manifest may hold. The runtime and its tools rely on it."""

from __future__ import annotations

import re

from partitioner.artifacts.faults import damaged, shown
from partitioner.specs import DTYPES, TensorSpec, fixed_nbytes, itemsize

__all__ = ["MAX_DIMS", "MAX_NAME", "MAX_NBYTES", "MAX_TRIPS", "check_id", "check_label"]
__all__ += ["check_spec", "check_text", "nbytes_of"]

#: Characters of a name.
MAX_NAME = 200

#: Dimensions of a tensor; NumPy 1 knows 32.
MAX_DIMS = 16

#: Bytes of a tensor: above what any host has, below where 64-bit arithmetic wraps.
MAX_NBYTES = 2**48

#: Trips of a loop, and repetitions of a group of draws.
MAX_TRIPS = 10**6

#: Ids of values, segments and loops.
_ID = re.compile(r"[\w.:\[\]<>-]{1,200}\Z")


def check_id(text: str, what: str) -> None:
    """Refuse what is no id: word characters and ``.:[]<>-``.

    Raises:
        BundleError: it is not.
    """
    if _ID.match(text) is None:
        raise damaged(f"{what} has the malformed id {shown(text)}")


def check_label(text: str, what: str) -> None:
    """Refuse what is unsafe to print or to make a file name of.

    Inputs and outputs are named by people, so any printable text is taken; but output names
    become names of files.

    Raises:
        BundleError: empty, too long, not printable, with a slash, or starting with a dot.
    """
    check_text(text, what)
    if not text or text.startswith(".") or "/" in text or "\\" in text:
        raise damaged(f"{what} has the malformed name {shown(text)}")


def check_text(text: str, what: str, limit: int = MAX_NAME) -> None:
    """Refuse text that would do more to a terminal than appear on it.

    Raises:
        BundleError: too long, or not printable.
    """
    if len(text) > limit or not text.isprintable():
        raise damaged(
            f"{what} is not a line of at most {limit} printable characters: {shown(text)}"
        )


def check_spec(spec: TensorSpec, what: str) -> None:
    """Refuse tensors that cannot be.

    Raises:
        BundleError: unknown dtype, a negative or enormous dimension, too many of them.
    """
    if spec.dtype not in DTYPES:
        raise damaged(f"{what} has the unknown dtype {shown(spec.dtype)}")
    if len(spec.shape) > MAX_DIMS:
        raise damaged(f"{what} has {len(spec.shape)} dimensions; at most {MAX_DIMS} are allowed")
    size = itemsize(spec.dtype)
    for dim in spec.shape:
        if isinstance(dim, str):
            check_id(dim, f"a dimension of {what}")
        elif dim is not None and dim < 0:
            raise damaged(f"{what} has a dimension of {dim}")
        elif dim is not None:
            size *= max(dim, 1)
    if size > MAX_NBYTES:
        raise damaged(f"{what} takes more than {MAX_NBYTES} bytes")


def nbytes_of(spec: TensorSpec) -> int:
    """Bytes of a tensor whose dimensions are all known.

    Raises:
        BundleError: one is not.
    """
    size = fixed_nbytes(spec)
    if size is None:
        raise damaged(f"{spec} has a dimension that is not a number")
    return size
