"""The deployment's policy: which bundles must be signed, and by whose keys.

A TOML file, named by ``PARTITIONER_POLICY``, else ``partitioner/policy.toml`` in
``XDG_CONFIG_HOME`` or ``~/.config``:

    [[require]]
    match = "s3://models/*"            # the address, or the absolute path, of a bundle
    keys = ["keys/release.pub"]        # one of these; paths from the policy's directory
"""

from __future__ import annotations

import fnmatch
import os
import tomllib
from pathlib import Path
from typing import Any, cast

from partitioner.errors import UsageError

__all__ = ["policy_path", "requirements_for"]


def policy_path() -> Path | None:
    """The policy's file; None if there is none."""
    chosen = os.environ.get("PARTITIONER_POLICY")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CONFIG_HOME")
    path = (Path(base) if base else Path.home() / ".config") / "partitioner" / "policy.toml"
    return path if path.is_file() else None


def requirements_for(address: str, keys: tuple[Path, ...] = ()) -> list[tuple[Path, ...]]:
    """The signatures that a bundle must have: by one key of each set.

    Args:
        address: of a bundle in a store, or the absolute path of one.
        keys: one of which must have signed in any case; none if empty.

    Raises:
        UsageError: the policy cannot be read. A policy that was named and is missing is no
            policy that allows everything.
    """
    requirements = [keys] if keys else []
    path = policy_path()
    if path is None:
        return requirements
    for rule in _rules(path):
        if fnmatch.fnmatchcase(address, rule["match"]):
            requirements.append(tuple(path.parent / key for key in rule["keys"]))
    return requirements


def _rules(path: Path) -> list[dict[str, Any]]:
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _wrong(str(error), path) from error
    rules = document.pop("require", [])
    if document or not isinstance(rules, list):
        raise _wrong("it has something else than [[require]] tables", path)
    for rule in cast("list[Any]", rules):
        if not isinstance(rule, dict) or cast("dict[str, Any]", rule).keys() != {"match", "keys"}:
            raise _wrong("a [[require]] has other keys than match and keys", path)
        names = cast("dict[str, Any]", rule)["keys"]
        texts = isinstance(rule["match"], str) and isinstance(names, list)
        if not texts or not all(isinstance(name, str) for name in cast("list[Any]", names)):
            raise _wrong("match is a string, keys a list of strings", path)
    return cast("list[dict[str, Any]]", rules)


def _wrong(what: str, path: Path) -> UsageError:
    return UsageError(
        f"the policy cannot be used: {what}",
        where=str(path),
        advice="see docs/store.md; without a policy file nothing is required",
    )
