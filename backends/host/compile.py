"""The backend ``host`` at build time: a host op is kept by name, so there is little to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from partitioner.backends.base import Compiled, Verdict
from partitioner.backends.host.support import verdict

__all__ = ["HostCompiler"]


class HostCompiler:
    """Keeps host ops by name and options."""

    name = "host"

    def verdict(self, node: fx.Node, target: Any) -> Verdict:
        """See :func:`partitioner.backends.host.support.verdict`."""
        return verdict(node, target)

    def compile_host(self, op: str, options: Mapping[str, Any]) -> Compiled:
        """The artifact of a host op."""
        return Compiled(None, (), {"op": op, "options": dict(options)})
