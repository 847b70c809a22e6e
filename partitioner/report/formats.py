"""Names and version of the documents, and what reading them needs. Imports nothing heavy."""

from __future__ import annotations

__all__ = ["DIFF_FORMAT", "FORMAT", "VERSION"]

#: The value of the key ``format`` of a document that holds one plan, or several.
FORMAT = "partitioner-plan"

#: Of the form; raised when a key changes its meaning or goes.
VERSION = 1

#: Of a document that says what differs between two.
DIFF_FORMAT = "partitioner-diff"
