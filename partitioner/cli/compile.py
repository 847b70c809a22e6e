"""``partition compile``: finish a bundle that was built with ``--defer-compile``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from partitioner.cli.limits import limit_options, limits_of
from partitioner.cli.models import needs_torch
from partitioner.cli.printing import emit, json_option
from partitioner.cli.progress import progress_bar

__all__ = ["command"]


@click.command("compile")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The finished bundle's directory; without it BUNDLE is replaced.",
)
@limit_options(timeout_s=7200.0)
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is at the output.")
@json_option
def command(bundle: Path, output: Path | None, as_json: bool, **given: Any) -> None:
    """Compile the segments of BUNDLE that are not compiled yet, on a machine that can.

    Neither the model nor its weights' file is needed. What has been compiled is kept beside the
    output until all is: run it again after a failure. The finished bundle is another one, with a
    digest of its own; sign it anew.

    \b
      partition build model.py --target inf2 --defer-compile -o my.bundle
      partition compile my.bundle
      partition compile my.bundle -o my.inf2.bundle --log compile.log
    """
    try:
        from partitioner.finishing import finish_bundle
    except ImportError as error:
        raise needs_torch(error, "compiling") from error
    with progress_bar(as_json) as progress:
        found = finish_bundle(
            bundle,
            output=output,
            **limits_of(given),
            overwrite=given["overwrite"],
            progress=lambda done, total: progress("compile", done, total),
        )
    document = {
        "path": str(found.path),
        "digest": found.digest,
        "compiled": list(found.compiled),
        "resumed": list(found.resumed),
        "warnings": {name: list(texts) for name, texts in found.warnings.items()},
    }
    emit(as_json, document, lambda: "\n".join(_lines(document)))


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for name, texts in document["warnings"].items():
        for text in texts:
            yield f"warning: {name}: {text}"
    if document["compiled"]:
        yield f"compiled {', '.join(document['compiled'])}"
    if document["resumed"]:
        yield f"compiled by an earlier run: {', '.join(document['resumed'])}"
    if not document["compiled"] and not document["resumed"]:
        yield "nothing was missing"
    yield f"{document['path']}  {document['digest']}"
