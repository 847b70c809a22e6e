"""Weights in blobs: each constant once, one blob a stage, in an order that does not change.

A stage's weights are a blob of their own, so a change to one stage changes one blob. Tensors are
written one at a time; none but the one being written is ever copied.

Members of one bundle share what they have in common, tensor by tensor: a stage that has two small
constants of its own for a batch of 4 does not bring its weights a second time.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partitioner.artifacts.manifest import Blob, ConstantRef
from partitioner.artifacts.writer import BundleWriter

__all__ = ["WEIGHTS_TYPE", "Known", "Layout", "MappedBlobs", "lay_out", "tensor_bytes"]

WEIGHTS_TYPE = "application/vnd.partitioner.weights.v1"

#: constant name -> where it lies.
Layout = Mapping[str, ConstantRef]

#: A cache line: kernels load from weights with wide instructions.
_ALIGNMENT = 64

#: Large tensors start at a page, so that mapping one touches no page of another.
_PAGE = 4096
_LARGE_BYTES = 2**20


class Known:
    """Constants that lie in blobs of a bundle already, by name."""

    def __init__(self) -> None:
        self._places: dict[str, list[tuple[Blob, ConstantRef, torch.Tensor]]] = {}

    def add(self, name: str, blob: Blob, ref: ConstantRef, tensor: torch.Tensor) -> None:
        """Remember a constant; ``tensor`` is best one of :class:`MappedBlobs`."""
        self._places.setdefault(name, []).append((blob, ref, tensor))

    def find(self, name: str, tensor: torch.Tensor) -> tuple[Blob, ConstantRef] | None:
        """Where a constant of this name, dtype, shape and content lies."""
        for blob, ref, other in self._places.get(name, ()):
            same = other.dtype == tensor.dtype and other.shape == tensor.shape
            if same and np.array_equal(_raw(other), _raw(tensor)):
                return blob, ref
        return None


def lay_out(
    constants: Mapping[str, torch.Tensor],
    used: Iterable[str],
    writer: BundleWriter,
    known: Known | None = None,
) -> dict[str, ConstantRef]:
    """Write the constants in ``used`` into blobs.

    Args:
        known: of earlier members of the bundle; what is among them is not written again.

    Raises:
        OutputError: they cannot be written.
    """
    layout: dict[str, ConstantRef] = {}
    groups: dict[str, list[str]] = {}
    for name in sorted(set(used)):
        found = known.find(name, constants[name]) if known is not None else None
        if found is None:
            groups.setdefault(_group(name), []).append(name)
        else:
            writer.blobs.setdefault(found[0].digest, found[0])
            layout[name] = found[1]
    for _, names in sorted(groups.items()):
        places = dict(_places(names, constants))
        blob = writer.add_chunks(_chunks(places, constants), WEIGHTS_TYPE)
        for name, offset in places.items():
            layout[name] = ConstantRef(blob.digest, offset, constants[name].nbytes)
    return layout


class MappedBlobs:
    """Tensors that lie in blobs, read from their files as they are needed.

    Args:
        path_of: gives a blob's file by digest.
    """

    def __init__(self, path_of: Callable[[str], Path]) -> None:
        self._path_of = path_of
        self._maps: dict[str, mmap.mmap] = {}

    def tensor(self, ref: ConstantRef, like: torch.Tensor) -> torch.Tensor:
        """The tensor at ``ref``, with the dtype and shape of ``like``."""
        if ref.nbytes == 0:
            return like
        if ref.blob not in self._maps:
            with self._path_of(ref.blob).open("rb") as file:
                # Copy on write: torch wants memory it may write to; nothing ever does.
                self._maps[ref.blob] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        raw = np.frombuffer(self._maps[ref.blob], np.uint8, ref.nbytes, ref.offset)
        return torch.from_numpy(raw).view(like.dtype).reshape(like.shape)

    def release(self) -> None:
        """Give back the memory of what was read; it is read again when it is used."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """Raw data of a tensor in C order; a copy only if it does not lie like that already."""
    return memoryview(_raw(tensor))


def _raw(tensor: torch.Tensor) -> Any:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()


def _group(name: str) -> str:
    stage, dot, _ = name.partition(".")
    return stage if dot else "constants"


def _places(
    names: Iterable[str], constants: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, int]]:
    offset = 0
    for name in names:
        size = constants[name].nbytes
        alignment = _PAGE if size >= _LARGE_BYTES else _ALIGNMENT
        offset = -(-offset // alignment) * alignment
        yield name, offset
        offset += size


def _chunks(places: Mapping[str, int], constants: Mapping[str, torch.Tensor]) -> Iterator[Any]:
    written = 0
    for name, offset in places.items():
        if offset > written:
            yield bytes(offset - written)
        yield tensor_bytes(constants[name])
        written = offset + constants[name].nbytes
