"""What verbs share: errors and exit codes, JSON, progress."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click

from partitioner.errors import PartitionerError

__all__ = ["Failing", "emit", "json_option", "progress_bar"]

#: 128 + SIGINT, as shells have it.
INTERRUPTED = 130


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``: the result, or the error, as one JSON document on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def emit(as_json: bool, document: Any, text: Callable[[], str]) -> None:
    """Print a result for a program or for a person."""
    click.echo(json.dumps(document, indent=2) if as_json else text())


class Failing(click.Command):
    """Turns errors into messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # A terminated build cleans up as an interrupted one does.
        signal.signal(signal.SIGTERM, _interrupt)
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.Exit as error:
            code = error.exit_code
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except PartitionerError as error:
            code = _say(error)
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted; nothing was left behind", err=True)
            code = INTERRUPTED
        except BrokenPipeError:
            # The reader of our output has gone (`| head`); nothing to say to anybody.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except Exception as error:  # noqa: BLE001 - the last resort of a command line
            code = _unexpected(error)
        sys.exit(code or 0)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _wants_json() -> bool:
    return "--json" in sys.argv


def _say(error: PartitionerError) -> int:
    if _wants_json():
        document = {
            "error": {
                "kind": type(error).__name__,
                "what": error.what,
                "where": error.where,
                "advice": error.advice,
                "exit_code": error.exit_code,
            }
        }
        click.echo(json.dumps(document, indent=2))
    else:
        notes = [f"  note: {note}" for note in getattr(error, "__notes__", ())]
        click.echo("\n".join([f"error: {error}", *notes]), err=True)
    return error.exit_code


def _unexpected(error: Exception) -> int:
    if os.environ.get("PARTITION_DEBUG"):
        traceback.print_exc()
    else:
        click.echo(
            f"error: unexpected {type(error).__name__}: {error}\n"
            "  to do: this is a defect; set PARTITION_DEBUG=1 for the traceback and report it",
            err=True,
        )
    return 1


@contextmanager
def progress_bar(quiet: bool) -> Generator[Callable[[str, int, int], None], None, None]:
    """A callback (label, done, total) that draws a bar on a terminal and else does nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda label, done, total: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda label, done, total: click.echo(
            f"\r{label} {done}/{total} ", err=True, nl=False
        )
        click.echo(err=True)
        return
    columns = (TextColumn("{task.description:>10}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield show
