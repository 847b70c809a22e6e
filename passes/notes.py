"""What a pass has to say about what it did, for reports and for people.

A pass is a value, and its program is only its program, so neither holds the lines: they go to
whoever collects them around :meth:`partitioner.passes.base.Pass.apply`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["collected_notes", "note"]

_collecting: ContextVar[list[str] | None] = ContextVar("partitioner_pass_notes", default=None)


def note(text: str) -> None:
    """Say what the running pass did: ``note("moved 12 nodes out of loop_0")``.

    Notes are part of a bundle's report, and so of its digest: no times, paths or addresses in
    them. Where nobody collects, nothing happens.
    """
    lines = _collecting.get()
    if lines is not None:
        lines.append(text)


@contextmanager
def collected_notes() -> Generator[list[str], None, None]:
    """Collect the notes made inside, in their order; a pass within a pass has its own."""
    lines: list[str] = []
    token = _collecting.set(lines)
    try:
        yield lines
    finally:
        _collecting.reset(token)
