"""``partition inspect``: what is in a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partitioner.cli.models import member_option
from partitioner.cli.printing import emit, json_option
from partitioner.cli.tables import passes_table, size_text
from partitioner.plan import Call, Loop, Step, rescheduled

if TYPE_CHECKING:
    from partitioner.artifacts.bundle import Bundle
    from partitioner.artifacts.index import BundleIndex
    from partitioner.artifacts.manifest import Batch, Manifest
    from partitioner.artifacts.oci import Member
    from partitioner.buffers import MemoryUse

__all__ = ["command"]


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Hash every blob.")
@click.option("--show-passes", is_flag=True, help="Print what each pass did in the build.")
@click.option("--sbom", "kind", flag_value="sbom", help="Print its bill of materials instead.")
@click.option("--provenance", "kind", flag_value="provenance", help="Print how it was built.")
@member_option
@json_option
def command(
    bundle: Path,
    check: bool,
    show_passes: bool,
    kind: Any,
    wanted: dict[str, str] | None,
    as_json: bool,
) -> None:
    """Show what BUNDLE holds: inputs, outputs, the plan, sizes, versions, what it requires.

    Of a bundle for several targets: its members and whether they can be run here; one of them in
    full, or its documents, with --variant.

    \b
      partition inspect my.bundle
      partition inspect my.bundle --variant target=xeon
      partition inspect my.bundle --check --json
      partition inspect my.bundle --sbom          # CycloneDX
      partition inspect my.bundle --provenance    # in-toto, SLSA
    """
    from partitioner.artifacts.attestations import read_attestation
    from partitioner.artifacts.index import BundleIndex

    index = BundleIndex.open(bundle, "never")
    members = index.matching(wanted)
    if check:
        index.check()
    if kind is not None:
        emit(True, read_attestation(index.only(wanted), kind), str)
        return
    head = {"digest": index.digest, "checked": check}
    if len(members) > 1:
        rows = [_member(index, member) for member in members]
        emit(as_json, {**head, "members": rows}, lambda: "\n".join(_index_lines(index, rows)))
        return
    opened = index.only(wanted)
    passes = opened.manifest.report.get("passes", []) if show_passes else []
    document = {**head, "labels": opened.labels, **_document(opened)}
    emit(as_json, document, lambda: "\n".join([*_lines(opened), *passes_table(passes)]))


def _document(bundle: Bundle) -> dict[str, Any]:
    from partitioner.artifacts.codec import encode
    from partitioner.buffers import measure
    from partitioner.runtime.code import code_segments

    manifest = bundle.manifest
    # Made anew: the figures of old bundles, and of those made by other rules, are not those of
    # this runtime.
    return {
        **encode(manifest),
        "memory": encode(measure(manifest.plan)),
        "executable": code_segments(manifest),
        "missing": [name for name, one in manifest.artifacts.items() if one.is_deferred],
    }


def _member(index: BundleIndex, member: Member) -> dict[str, Any]:
    from partitioner.runtime.choosing import judge

    opened = index.bundle(member)
    return {
        "labels": member.labels,
        "image": member.image.digest,
        "size": sum(blob.size for blob in opened.closure),
        "lacking": [one.error.what for one in judge(index, member)],
        **_document(opened),
    }


def _index_lines(index: BundleIndex, rows: list[dict[str, Any]]) -> Iterator[str]:
    from partitioner.artifacts.oci import label_text

    total = sum(blob.size for blob in index.closure(index.here))
    each = sum(row["size"] for row in rows)
    yield f"{rows[0]['name']} {rows[0]['version']}  {len(rows)} members  {size_text(total)}"
    yield f"digest   {index.digest}"
    yield f"shared   {size_text(each)} if each member were a bundle of its own"
    for row in rows:
        text = label_text(row["labels"])
        lacking = "; ".join(row["lacking"]) or "can be run here"
        size = size_text(row["size"])
        yield f"variant  {text}  {size}  {len(row['artifacts'])} segments  {lacking}"
        yield from _code(row["executable"])
    yield f"to do    --variant {label_text(rows[0]['labels'])} shows one in full"


def _lines(bundle: Bundle) -> Iterator[str]:
    from partitioner.buffers import measure
    from partitioner.runtime.code import code_segments

    manifest = bundle.manifest
    total = sum(blob.size for blob in manifest.blobs)
    yield f"{manifest.name} {manifest.version}  for {manifest.target}  {size_text(total)}"
    yield f"digest   {bundle.digest}"
    yield f"schema   {manifest.schema_version}"
    for spec in manifest.inputs:
        how = "" if spec.how is None else f"  {spec.how}"
        yield f"input    {spec.name}: {spec.tensor}{how}{'' if spec.used else '  (unused)'}"
    for name, spec in manifest.outputs.items():
        yield f"output   {name}: {spec}"
    if manifest.batch is not None:
        yield f"batch    {_batch(manifest.batch)}"
    draws = sum(group.repeat * len(group.draws) for group in manifest.plan.draws)
    if draws:
        yield f"random   {draws} draws from the request's seed"
    use = measure(manifest.plan)
    yield from _memory(use)
    yield from _code(code_segments(manifest))
    yield from _unknown(manifest)
    yield "plan"
    yield from _steps(manifest, use.loops, manifest.plan.steps, 1)
    for index, variant in enumerate(manifest.variants):
        chosen = ", ".join(f"{name}={value}" for name, value in variant.options.items())
        trips = ", ".join(f"{loop} x {count}" for loop, count in variant.trips.items())
        own = f"{len(variant.constants)} own tables" if index else "taken if none is chosen"
        needs = measure(rescheduled(manifest.plan, variant.trips, variant.repeats)).peak
        yield f"variant  {chosen}: {trips}, {own}, a run takes {size_text(needs)}"
    yield "built with  " + ", ".join(f"{k} {v}" for k, v in manifest.toolchain.items())
    options = {k: v for k, v in manifest.options.items() if k != "placement"}
    yield "options  " + ", ".join(f"{k}={v}" for k, v in options.items())
    yield from _placing(manifest.options.get("placement"))
    yield from _missing(manifest)
    yield from _requirements(manifest)
    yield f"parity   {'none' if manifest.parity is None else manifest.parity.tolerance}"
    for warning in manifest.report.get("warnings", []):
        yield f"warning  {warning}"


def _code(coded: list[str]) -> Iterator[str]:
    """Which segments are programs, of which nobody can say what they do."""
    if coded:
        yield (
            f"code     {', '.join(coded)}: executable code, loaded only from a signed bundle "
            "or with --allow-executable"
        )


def _unknown(manifest: Manifest) -> Iterator[str]:
    from partitioner.backends import backend_names

    missing = sorted({a.backend for a in manifest.artifacts.values()} - set(backend_names()))
    if missing:
        yield f"code     backends that are not installed may load code: {', '.join(missing)}"


def _missing(manifest: Any) -> Iterator[str]:
    names = [name for name, artifact in manifest.artifacts.items() if artifact.is_deferred]
    if names:
        yield f"missing  {', '.join(names)}: run `partition compile` where the compiler is"


def _batch(batch: Batch) -> str:
    kinds = {
        "rows in": batch.inputs,
        "rows out": batch.stacked,
        "one by one": batch.listed,
    }
    texts = [f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names]
    count = f"{batch} requests at once"
    if batch.least is not None:
        count += f", any number of them (plan and memory of {batch.rows})"
    return "; ".join([count, *texts])


def _requirements(manifest: Manifest) -> Iterator[str]:
    """What a host must have, and what this one lacks."""
    from partitioner.runtime.host import this_host
    from partitioner.runtime.requirements import requirement_text, unmet

    for one in manifest.requirements:
        yield f"requires {requirement_text(one)}{'' if one.firm else ', or named by --variant'}"
    yield from (f"lacking  {one.error.what}" for one in unmet(manifest, this_host()))


def _memory(use: MemoryUse) -> Iterator[str]:
    """What a run takes beside the backends' own memory and the weights."""
    waste = f", {use.arena / use.alive:.3f} x what is alive at a time" if use.alive else ""
    loose = f", results of host ops {size_text(use.loose)}" if use.loose else ""
    more = f", and {use.unsized} values whose size the data decide" if use.unsized else ""
    yield (
        f"memory   {size_text(use.peak)} a run: arena {size_text(use.arena)}{waste}; "
        f"outputs {size_text(use.outputs)}{loose}{more}"
    )
    yield (
        f"         before it: inputs {size_text(use.inputs)}, draws {size_text(use.draws)}, "
        f"mapped constants {size_text(use.constants)}"
    )


def _steps(
    manifest: Any, needs: Mapping[str, int], steps: tuple[Step, ...], depth: int
) -> Iterator[str]:
    indent, plan = "  " * depth, manifest.plan
    for step in steps:
        if isinstance(step, Call):
            info = plan.segments[step.segment]
            artifact = manifest.artifacts[step.segment]
            sizes = {blob.digest: blob.size for blob in manifest.blobs}
            weights = sum(sizes[digest] for digest in artifact.weights)
            stages = f"  stages {', '.join(info.stages)}" if info.stages else ""
            held = f"  weights {size_text(weights)}" if weights else ""
            state = "  not compiled" if artifact.is_deferred else ""
            precision = artifact.options.get("precision", "")
            backend = f"[{info.backend}{f' {precision}' if precision else ''}]"
            yield f"{indent}{step.segment}  {backend}  {info.nodes} nodes{held}{stages}{state}"
        elif isinstance(step, Loop):  # pyright: ignore[reportUnnecessaryIsInstance] a third kind may come
            carried = ", ".join(str(plan.values[c.inner]) for c in step.carries)
            most = size_text(needs[step.name])
            yield f"{indent}{step.name} x {step.trips}  carries {carried}  needs {most}"
            yield from _steps(manifest, needs, step.body, depth + 1)


def _placing(recipe: Any) -> Iterator[str]:
    """How backends were chosen; what another's build may have written there is left out."""
    if not isinstance(recipe, dict):
        return
    backends, measured = (recipe.get(key) for key in ("backends", "measured"))
    parts = [f"backends {', '.join(map(str, backends))}"] if isinstance(backends, list) else []
    for kind in ("stages", "ops"):
        table = recipe.get(kind)
        if isinstance(table, dict):
            parts += [f"{name} on {backend}" for name, backend in table.items()]
    if isinstance(measured, list) and measured:
        parts.append(f"by measurements of {len(measured)} pieces")
    if parts:
        yield "placed   " + "; ".join(parts)
