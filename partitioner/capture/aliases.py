"""Which tensors hold input-dependent content, through views and in-place writes.

Content is followed by storage, so a view, ``detach()`` or ``.data`` of a followed tensor is
followed without having been seen being made. A write to one tensor is a new value of its whole
storage; other tensors over that storage read their part of it when they are next used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from partitioner.capture.tape import Operand

__all__ = ["Aliases", "Geometry"]


class Geometry(NamedTuple):
    """How a tensor lies in its storage."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Geometry:
        # A stride over a dimension of size 1 means nothing, and torch sets it at will.
        stride = tuple(
            0 if d == 1 else s for d, s in zip(tensor.shape, tensor.stride(), strict=True)
        )
        return cls(tensor.dtype, tuple(tensor.shape), stride, int(tensor.storage_offset()))

    def positions(self) -> torch.Tensor:
        """Index into the storage of every element, int64, of this shape."""
        index = torch.full((), self.offset, dtype=torch.int64)
        for dim, stride in zip(self.shape, self.stride, strict=True):
            index = index.unsqueeze(-1) + torch.arange(dim) * stride
        return index


@dataclass
class _Root:
    """One followed storage: its whole content is ``base``, read through ``geometry``."""

    storage: StorageWeakRef
    geometry: Geometry
    base: Operand
    version: int = 0
    views: dict[Geometry, tuple[int, Operand]] = field(
        default_factory=dict[Geometry, tuple[int, Operand]]
    )


#: Emits an aten op on operands and gives its result.
Emit = Callable[..., Operand]


@dataclass
class Aliases:
    """The followed storages of one run. ``emit(op, *args)`` puts an aten op on the tape."""

    emit: Emit
    roots: dict[int, _Root] = field(default_factory=dict[int, _Root])

    def follow(self, tensor: torch.Tensor, value: Operand) -> None:
        """``tensor``, which has a storage of its own, holds ``value`` from now on."""
        geometry = Geometry.of(tensor)
        storage = StorageWeakRef(tensor.untyped_storage())
        root = _Root(storage, geometry, value)
        root.views[geometry] = (0, value)
        self.roots[storage.cdata] = root

    def is_followed(self, tensor: torch.Tensor) -> bool:
        return self._root(tensor) is not None

    def add_view(self, tensor: torch.Tensor, value: Operand) -> None:
        """``tensor`` is a view of a followed tensor, made by an op whose result is ``value``."""
        root = self._root(tensor)
        assert root is not None
        root.views.setdefault(Geometry.of(tensor), (root.version, value))

    def value(self, tensor: torch.Tensor) -> Operand | None:
        """What ``tensor`` holds now, or None if it is not followed."""
        root = self._root(tensor)
        if root is None:
            return None
        geometry = Geometry.of(tensor)
        known = root.views.get(geometry)
        if known is not None and known[0] == root.version:
            return known[1]
        value = self._read(root, geometry)
        root.views[geometry] = (root.version, value)
        return value

    def write(self, tensor: torch.Tensor, value: Operand) -> None:
        """A followed ``tensor`` was overwritten as a whole with ``value`` (same shape, dtype)."""
        root = self._root(tensor)
        assert root is not None
        geometry = Geometry.of(tensor)
        root.base = value if geometry == root.geometry else self._scatter(root, geometry, value)
        root.version += 1
        root.views[root.geometry] = (root.version, root.base)
        root.views[geometry] = (root.version, value)

    def _root(self, tensor: torch.Tensor) -> _Root | None:
        return self.roots.get(tensor.untyped_storage()._cdata)

    def _read(self, root: _Root, geometry: Geometry) -> Operand:
        if geometry.dtype != root.geometry.dtype:
            return self._reinterpret(root, geometry)
        flat = self.emit(torch.ops.aten.reshape.default, root.base, [-1])
        index = self._index(root, geometry)
        picked = self.emit(torch.ops.aten.index_select.default, flat, 0, index.reshape(-1))
        return self.emit(torch.ops.aten.view.default, picked, list(geometry.shape))

    def _reinterpret(self, root: _Root, geometry: Geometry) -> Operand:
        raise TypeError(f"a view of {root.geometry.dtype} as {geometry.dtype}")

    def _scatter(self, root: _Root, geometry: Geometry, value: Operand) -> Operand:
        if geometry.dtype != root.geometry.dtype:
            return self._reinterpret(root, geometry)
        flat = self.emit(torch.ops.aten.reshape.default, root.base, [-1])
        source = self.emit(torch.ops.aten.reshape.default, value, [-1])
        index = self._index(root, geometry).reshape(-1)
        written = self.emit(torch.ops.aten.index_put.default, flat, [index], source)
        return self.emit(torch.ops.aten.view.default, written, list(root.geometry.shape))

    def _index(self, root: _Root, geometry: Geometry) -> torch.Tensor:
        """Positions of a geometry's elements among the elements of the root's tensor."""
        places = root.geometry.positions().reshape(-1)
        size = int(places.max()) + 1 if places.numel() else 0
        order = torch.full((size,), -1, dtype=torch.int64)
        order[places] = torch.arange(places.numel())
        wanted = geometry.positions()
        if wanted.numel() and (int(wanted.max()) >= size or bool((order[wanted] < 0).any())):
            raise TypeError("a view that reaches beyond the tensor it was made from")
        return order[wanted]
