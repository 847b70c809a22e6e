"""``partition verify``: a bundle's numbers on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partitioner.cli.common import emit, json_option
from partitioner.cli.models import member_option
from partitioner.cli.storing import allow_option, require_option
from partitioner.hostops import import_host_op

__all__ = ["command"]


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--threads", type=int, help="Worker threads; all CPUs by default.")
@click.option("--memory", type=click.Choice(["fast", "low"]), default="fast", show_default=True)
@click.option(
    "--host-op",
    "host_ops",
    multiple=True,
    metavar="MODULE:NAME",
    help="A host op that is not installed as a plugin.",
)
@member_option
@require_option
@allow_option
@json_option
def command(bundle: Path, as_json: bool, **options: Any) -> None:
    """Repeat the parity check of BUNDLE here: every segment, and the outputs.

    The samples lie in the bundle, so neither the model nor torch is needed. Every blob is hashed
    first. Of a bundle for several targets all members are run that this host can run, or the one of
    --variant. Exit code 8 if a number differs, 9 if the bundle is damaged.
    """
    from partitioner.runtime.verify import verify_bundle

    ops = [import_host_op(text) for text in options["host_ops"]]
    report = verify_bundle(
        bundle,
        threads=options["threads"],
        memory=options["memory"],
        host_ops=ops,
        variant=options["wanted"],
        require_signature=options["keys"],
        allow_executable=options["allow_executable"],
    )
    emit(as_json, report.to_dict(), lambda: _text(report))


def _text(report: Any) -> str:
    width = max(len(row.name) for row in report.rows)
    lines = [f"{row.name:<{width}}  {row.error:.2e} of {row.tolerance:.0e}" for row in report.rows]
    lines += [f"skipped  {member}: {why}" for member, why in report.skipped.items()]
    return "\n".join([*lines, "ok: the numbers are those of the eager pipeline"])
