"""Measurements that are kept: one small file each, in a cache directory of the host.

A measurement is of one piece on one backend. It is found again by what could change it: the ops,
arguments and types of the piece; the backend, its libraries and its code; the target, the precision
and the compiler's options; the processor and the threads. Weights count by their types only.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partitioner.artifacts.cachedir import cache_dir
from partitioner.artifacts.jsontext import dumps
from partitioner.backends import find_backend
from partitioner.backends.base import CompileOptions
from partitioner.backends.execution import BackendInfo
from partitioner.backends.facts import SHARED, code_digest, processor
from partitioner.errors import OutputError
from partitioner.planning.segments import Part
from partitioner.runtime.cpus import usable_cpus

__all__ = ["Records", "key_of"]


#: Our own code that runs what is measured, and measures.
_MEASURING = ("partitioner.tuning", "partitioner.runtime.cpus")


def key_of(part: Part, backend: str, options: CompileOptions) -> dict[str, str]:
    """What a measurement depends on, by label.

    Args:
        options: with which the piece is compiled.
    """
    info = find_backend(backend)
    return {
        "piece": _digest(_structure(part)),
        "backend": backend,
        "libraries": _libraries(info),
        "code": code_digest(*_packages(info), *SHARED, *_MEASURING),
        "target": options.target.name if options.target else "",
        "precision": options.precision,
        "options": dumps(dict(options.settings.get(backend, {}))).decode(),
        "processor": processor(),
        "threads": str(usable_cpus()),
    }


@dataclass(frozen=True)
class Records:
    """The measurements of a host.

    Args:
        folder: None for the host's own cache directory.
    """

    folder: Path | None = None

    @property
    def path(self) -> Path:
        return self.folder or cache_dir("measurements")

    def find(self, key: dict[str, str]) -> float | None:
        """Seconds that were measured before; None if there are none, or the file is damaged."""
        try:
            document: Any = json.loads(self._file(key).read_text())
        except (OSError, ValueError):
            return None
        fits = isinstance(document, dict) and document.get("key") == key
        seconds: Any = document.get("seconds") if fits else None
        if isinstance(seconds, float) and math.isfinite(seconds) and seconds > 0:
            return seconds
        return None

    def keep(self, key: dict[str, str], seconds: float) -> None:
        """Write a measurement, whole or not at all.

        Raises:
            OutputError: the directory cannot be written.
        """
        text = json.dumps({"key": key, "seconds": seconds}, indent=1)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(text, self._file(key))
        except OSError as error:
            raise OutputError(
                f"a measurement cannot be kept: {error.strerror or error}",
                where=str(self.path),
                advice="set PARTITIONER_CACHE to a folder that can be written and has room",
            ) from error

    def _write(self, text: str, target: Path) -> None:
        handle, name = tempfile.mkstemp(dir=self.path, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _file(self, key: dict[str, str]) -> Path:
        return self.path / f"{_digest(json.dumps(key, sort_keys=True))}.json"


def _structure(part: Part) -> str:
    """The piece without names: ops, arguments and types."""
    numbers: dict[Any, str] = {}
    lines: list[str] = []
    for node in part.inputs:
        numbers[node] = f"%{len(numbers)}"
        lines.append(f"{numbers[node]} {node.meta['type']}")
    for node in part.nodes:
        for operand in node.all_input_nodes:
            if operand not in numbers:
                numbers[operand] = f"%{len(numbers)}"
                lines.append(f"{numbers[operand]} constant {operand.meta['type']}")
        numbers[node] = f"%{len(numbers)}"
        arguments = _with_numbers((node.args, tuple(node.kwargs.items())), numbers)
        lines.append(f"{numbers[node]} {node.target} {arguments} {node.meta['type']}")
    lines.append(" ".join(numbers[node] for node in part.outputs))
    return "\n".join(lines)


def _with_numbers(value: Any, numbers: dict[Any, str]) -> str:
    if isinstance(value, tuple | list):
        return f"({','.join(_with_numbers(v, numbers) for v in value)})"
    if isinstance(value, dict):
        return _with_numbers(tuple(value.items()), numbers)
    return numbers.get(value, repr(value)) if _is_node(value) else repr(value)


def _is_node(value: Any) -> bool:
    return hasattr(value, "all_input_nodes")


def _libraries(info: BackendInfo) -> str:
    found = importlib.metadata.packages_distributions()
    modules = ("torch", *info.requires, *info.build_requires)
    names = sorted({d for module in modules for d in found.get(module, ())})
    return ",".join(f"{name}={importlib.metadata.version(name)}" for name in names)


def _packages(info: BackendInfo) -> list[str]:
    """The packages of a backend's own code."""
    modules = {place.partition(":")[0] for place in (info.executor, info.compiler) if place}
    return sorted({module.rpartition(".")[0] or module for module in modules})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
