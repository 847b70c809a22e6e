"""A small Ray cluster of this machine, and what builds are compared with."""

from __future__ import annotations

from tests.rayclusters import cluster

__all__ = ["cluster"]
