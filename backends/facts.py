"""What compilers' results depend on besides their input: versions, our own code, the processor.

Nothing here tells where something lies: equal installations give equal facts on every machine.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "OURS",
    "SHARED",
    "code_digest",
    "physical_memory",
    "processor",
    "versions_of",
]

#: All of this project's code. In a checkout the last three lie beside the first, not in it.
OURS = ("partitioner", "partitioner.artifacts", "partitioner.backends", "partitioner.passes")

#: Modules and packages of this project that compilers use beside their own package.
SHARED = (
    "partitioner.backends.base",
    "partitioner.backends.decomposed",
    "partitioner.backends.execution",
    "partitioner.backends.graphs",
    "partitioner.backends.lifting",
    "partitioner.backends.mapped",
    "partitioner.backends.symbols",
    "partitioner.backends.weighing",
    "partitioner.backends.worker",
    "partitioner.backends.workers",
    "partitioner.caching.canonical",
    "partitioner.compression.ops",
    "partitioner.planning.cuts",
    "partitioner.planning.segments",
    "partitioner.program",
    "partitioner.rowcounts",
    "partitioner.torchexport",
    "partitioner.tuning.measuring",
    "partitioner.weights",
)

_CODE = (".py", ".json", ".toml")


def versions_of(*distributions: str) -> dict[str, str]:
    """The versions of those that are installed, and Python's."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


@functools.cache
def code_digest(*names: str) -> str:
    """A digest of the source of modules, and of packages with all that is in them.

    A version number does not change with every change of code; this does.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    hasher = hashlib.sha256()
    for name in names:
        for label, path in _files(name):
            data = path.read_bytes()
            hasher.update(f"{name} {label} {len(data)}\n".encode())
            hasher.update(data)
    return f"sha256:{hasher.hexdigest()}"


def _files(name: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"no module named {name!r}", name=name)
    if spec.origin is not None and not spec.submodule_search_locations:
        yield Path(spec.origin).name, Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in _CODE and "__pycache__" not in path.parts:
                yield path.relative_to(folder).as_posix(), path


@functools.cache
def processor() -> str:
    """The processor's kind and instructions, hashed; of ``/proc/cpuinfo``: Python knows less."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part")
    facts = dict.fromkeys(line for line in lines if line.split("\t")[0].strip() in wanted)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def physical_memory() -> int:
    """The machine's memory in GiB, rounded: kernels of one machine differ in what they leave."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
