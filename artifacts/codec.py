"""Dataclasses to JSON values and back, strictly. A dataclass's annotations are its schema."""

from __future__ import annotations

from typing import Any, cast

from partitioner.artifacts.faults import damaged
from partitioner.artifacts.kinds import Age, MismatchError, codec_of
from partitioner.errors import BundleError

__all__ = ["decode", "encode"]


def encode(value: Any) -> Any:
    """A dataclass as JSON values.

    Raises:
        BundleError: a field holds what its annotation does not allow, or what JSON cannot hold;
            names the JSON path.
    """
    try:
        return codec_of(cast("type[object]", type(value))).write(value)
    except MismatchError as fault:
        raise BundleError(
            f"cannot be written to a bundle: {fault.what}",
            where=fault.path,
            advice="give values of the declared types; free-form fields hold JSON values only",
        ) from fault


def decode(kind: type, value: Any, *, age: Age = "same") -> Any:
    """Build the dataclass ``kind`` of a JSON value.

    Args:
        age: of the document's schema.

    Raises:
        BundleError: names the JSON path.
    """
    try:
        return codec_of(kind).read(value, age)
    except MismatchError as fault:
        raise damaged(f"malformed manifest: {fault.what}", fault.path) from fault
