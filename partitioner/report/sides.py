"""What ``partition diff`` compares: a plan's document or a bundle, read into one form.

Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from partitioner.artifacts.codec import encode
from partitioner.artifacts.index import BundleIndex
from partitioner.errors import UsageError
from partitioner.plan import Loop, Step
from partitioner.report.formats import FORMAT, VERSION

__all__ = ["Piece", "Side", "read_side"]

#: An op's name, source line and outermost stage; they stay when names of nodes change.
Key = tuple[str, str, str]

_ADVICE = "give a bundle, or a file that `partition plan --json` wrote"


@dataclass(frozen=True)
class Piece:
    """A segment.

    Attributes:
        holds: what it is made of -> how many; empty where the bundle's build did not record it.
        tensors: types of inputs and outputs.
        artifact: what a backend made of it; None in a plan.
    """

    name: str
    backend: str
    nodes: int
    stages: tuple[str, ...]
    holds: Mapping[Key, int]
    tensors: tuple[tuple[str, ...], tuple[str, ...]]
    artifact: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Side:
    """A plan or a bundle.

    Attributes:
        kind: ``plan`` or ``bundle``.
        settings: what it was made with, by name.
        inputs, outputs: types by name.
        pieces: segments in the order of the plan.
        loops: name -> trips.
        estimate: of a plan; None in a bundle, and on targets without figures.
        digest: of a bundle.
        blobs: of a bundle, digest -> bytes.
        manifest: of a bundle, by key.
    """

    path: str
    kind: str
    target: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    pieces: tuple[Piece, ...]
    loops: Mapping[str, int]
    estimate: Mapping[str, Any] | None = None
    digest: str = ""
    blobs: Mapping[str, int] = field(default_factory=dict[str, int])
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read_side(path: Path, target: str | None = None) -> Side:
    """Read a bundle's folder or a plan's file.

    Args:
        target: which plan of a file that has several.

    Raises:
        UsageError: it is neither, or has no plan for the target.
        BundleError: the bundle is damaged.
    """
    if not path.exists():
        raise UsageError("there is no such file or bundle", where=str(path), advice=_ADVICE)
    if path.is_dir():
        return _bundle(path, target)
    return _plan(path, _document(path, target))


# --- plans --------------------------------------------------------------------------------------


def _document(path: Path, target: str | None) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the file is no plan: {error}", where=str(path), advice=_ADVICE
        ) from error
    found = cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else {}
    if "error" in found:
        raise UsageError("the file holds an error, not a plan", where=str(path), advice=_ADVICE)
    if found.get("format") != FORMAT:
        raise UsageError(f"the file is no {FORMAT} document", where=str(path), advice=_ADVICE)
    if found.get("version") != VERSION:
        raise UsageError(
            f"the plan is of version {found.get('version')!r}, this program reads {VERSION}",
            where=str(path),
            advice="write the plan again with this version of partition",
        )
    plans = cast("Sequence[dict[str, Any]]", found.get("plans", [found]))
    chosen = [plan for plan in plans if target in (None, plan.get("target"))]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(str(plan.get("target")) for plan in plans)
    raise UsageError(
        f"the file has plans for {names}",
        where=str(path),
        advice="choose one with --target",
    )


def _plan(path: Path, document: Mapping[str, Any]) -> Side:
    try:
        return Side(
            path=str(path),
            kind="plan",
            target=document["target"],
            settings={
                "target": document["target"],
                "instance": document["instance"],
                "backends": document["backends"],
                "passes": document["pipeline"],
            },
            inputs=document["inputs"],
            outputs=document["outputs"],
            pieces=tuple(
                Piece(
                    name=name,
                    backend=own["backend"],
                    nodes=own["nodes"],
                    stages=tuple(own["stages"]),
                    holds=_holds(own["holds"]),
                    tensors=(_types(own["inputs"]), _types(own["outputs"])),
                )
                for name, own in document["segments"].items()
            ),
            loops=dict(_loops(document["plan"])),
            estimate=document["estimate"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"the plan lacks something or is malformed ({error!r})",
            where=str(path),
            advice="write the plan again",
        ) from error


def _holds(groups: Sequence[Mapping[str, Any]]) -> dict[Key, int]:
    return {(g["op"], g["source"], g["stage"]): int(g["count"]) for g in groups}


def _types(tensors: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(type_ for _, type_ in tensors)


def _loops(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for step in steps:
        if "loop" in step:
            found += [(step["loop"], step["trips"]), *_loops(step["steps"])]
    return found


# --- bundles ------------------------------------------------------------------------------------


def _bundle(path: Path, target: str | None) -> Side:
    wanted = None if target is None else {"target": target}
    index = BundleIndex.open(path, "never")
    # Of several buckets the smallest, whose plan all others have with more rows.
    bundle = index.smallest(wanted)
    manifest = bundle.manifest
    sizes = {blob.digest: blob.size for blob in manifest.blobs}
    held = manifest.report.get("holds")
    groups = cast("Mapping[str, Any]", held) if isinstance(held, dict) else {}
    return Side(
        path=str(path),
        kind="bundle",
        target=manifest.target,
        settings=_settings(manifest),
        inputs={spec.name: str(spec.tensor) for spec in manifest.inputs if spec.used},
        outputs={name: str(spec) for name, spec in manifest.outputs.items()},
        pieces=tuple(
            Piece(
                name=name,
                backend=info.backend,
                nodes=info.nodes,
                stages=info.stages,
                holds=_recorded(groups.get(name)),
                tensors=(
                    tuple(str(spec) for _, spec in info.inputs),
                    tuple(str(spec) for _, spec in info.outputs),
                ),
                artifact=encode(manifest.artifacts[name]),
            )
            for name, info in manifest.plan.segments.items()
        ),
        loops=dict(_plan_loops(manifest.plan.steps)),
        digest=bundle.digest,
        blobs=sizes,
        manifest=encode(manifest),
    )


def _settings(manifest: Any) -> dict[str, Any]:
    options = dict(manifest.options)
    placement = options.pop("placement", None)
    backends = placement.get("backends") if isinstance(placement, dict) else None
    return {
        "target": manifest.target,
        **({} if backends is None else {"backends": backends}),
        **({} if placement is None else {"placement": placement}),
        **options,
        **{f"version of {name}": version for name, version in manifest.toolchain.items()},
    }


def _recorded(groups: Any) -> dict[Key, int]:
    """A bundle's report is free-form: what is not as a build writes it counts as not there."""
    try:
        return _holds(groups or ())
    except (KeyError, TypeError, ValueError):
        return {}


def _plan_loops(steps: Sequence[Step]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for step in steps:
        if isinstance(step, Loop):
            found += [(step.name, step.trips), *_plan_loops(step.body)]
    return found
