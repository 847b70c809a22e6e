"""The distributions that a bundle was made by, and what they say of themselves."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packageurl import PackageURL

from partitioner.backends import find_backend

__all__ = ["Distribution", "packages_of", "used"]

#: Some give a licence's whole text for its name: its first line counts, up to so many characters.
_LONGEST = 300


@dataclass(frozen=True)
class Distribution:
    """An installed distribution, or Python itself.

    Attributes:
        licence: an SPDX expression, or a name; empty if it states none.
        runs: whether running the bundle needs it, not only building.
    """

    name: str
    version: str
    licence: str = ""
    runs: bool = False

    @property
    def purl(self) -> PackageURL:
        """Its package URL (github.com/package-url/purl-spec): what vulnerabilities are filed by."""
        kind = "generic" if self.name == "python" else "pypi"
        return PackageURL(kind, None, self.name, self.version)


def used(
    toolchain: Mapping[str, str], backends: Iterable[str], packages: Iterable[str]
) -> list[Distribution]:
    """The distributions of a build, sorted by name.

    Args:
        toolchain: name -> version, as in the manifest.
        backends: whose artifacts are in the bundle.
        packages: others, those of the pipeline's code.
    """
    needed = {"partitioner", "python", "numpy"} | _distributions_of(_required_by(backends))
    versions = {name: _version(name) for name in {*packages, *needed} - {"python"}}
    versions |= toolchain
    return [
        Distribution(name, version, _licence(name), name in needed)
        for name, version in sorted(versions.items())
        if version is not None
    ]


def packages_of(kinds: Iterable[type]) -> set[str]:
    """The distributions in which classes are defined."""
    return {
        name
        for module in {kind.__module__ for kind in kinds}
        for name in _distributions_of([module])
        if _holds(name, module)
    }


def _holds(name: str, module: str) -> bool:
    """Whether a module was loaded from where a distribution is. Names like ``tests`` tell little:
    one's own folder hides that of any package that has installed one."""
    file = getattr(sys.modules.get(module), "__file__", None)
    folder = str(importlib.metadata.distribution(name).locate_file(""))
    return file is not None and file.startswith(folder)


def _required_by(backends: Iterable[str]) -> set[str]:
    return {module for name in backends for module in find_backend(name).requires}


def _distributions_of(modules: Iterable[str]) -> set[str]:
    known = _by_module()
    return {name for module in modules for name in known.get(module.partition(".")[0], [])}


@functools.cache
def _by_module() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _licence(name: str) -> str:
    """In the order of trust: an expression, a classifier, a free text's beginning."""
    try:
        stated = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return "PSF-2.0" if name == "python" else ""
    expressions = stated.get_all("License-Expression") or []
    classifiers = stated.get_all("Classifier") or []
    named = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")]
    texts = [text.strip().partition("\n")[0] for text in stated.get_all("License") or []]
    return next(iter([*expressions, *named, *texts]), "")[:_LONGEST]
