"""A plan as a page: one file that needs no network, and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

import partitioner
from partitioner.report.comparison import compare

__all__ = ["render_page"]

#: Read in this order; each needs those before it.
_SCRIPTS = ("format.js", "scene.js", "shapes.js", "nodes.js", "panel.js", "main.js")


def render_page(title: str, plans: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The page of one pipeline.

    Args:
        title: of the page.
        plans: for each target the document (:func:`~partitioner.report.document.describe`) and the
            drawing (:func:`~partitioner.report.drawing.draw`).
    """
    data = {
        "title": title,
        "version": partitioner.__version__,
        "plans": [{"document": document, "drawing": drawing} for document, drawing in plans],
        "comparison": compare([document for document, _ in plans]),
    }
    style = _read("plan.css")
    script = "\n".join(_read(name) for name in _SCRIPTS)
    # The policy lets nothing load, and nothing run but the script whose digest stands in it.
    return Template(_read("plan.html")).substitute(
        title=html.escape(title),
        script_digest=_digest(script),
        style_digest=_digest(style),
        style=style,
        script=script,
        data=_inert(data),
    )


def _read(name: str) -> str:
    return (resources.files("partitioner.report") / "page" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _inert(data: Any) -> str:
    """JSON in which nothing ends a script element or opens a comment, whatever texts hold."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
