"""How verbs end: errors, interruptions and closed pipes as messages and exit codes."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import click

from partitioner.cli.printing import json_text
from partitioner.errors import PartitionerError

__all__ = ["CLOSED_PIPE", "INTERRUPTED", "Failing", "error_document"]

#: 128 + SIGINT and 128 + SIGPIPE, as shells have them.
INTERRUPTED = 130
CLOSED_PIPE = 141


class _InterruptedError(Exception):
    """Ctrl-C or SIGTERM. Of KeyboardInterrupt itself click makes an empty line first."""


class _KeptError(Exception):
    """What click would end the process for by itself, without a message: its cause."""


class Failing(click.Command):
    """Turns errors into messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # A terminated build cleans up as an interrupted one does.
        signal.signal(signal.SIGTERM, _interrupt)
        given = args[0] if args else kwargs.get("args")
        as_json = _wants_json(sys.argv[1:] if given is None else given)
        kwargs["standalone_mode"] = False
        try:
            sys.exit(self._code(as_json, *args, **kwargs))
        except BrokenPipeError:
            # Of what was said about an error.
            _drop_output()
            sys.exit(CLOSED_PIPE)

    def _code(self, as_json: bool, *args: Any, **kwargs: Any) -> int:
        try:
            return super().main(*args, **kwargs) or 0
        except click.exceptions.Exit as error:
            return error.exit_code
        except click.ClickException as error:
            return _misused(error, as_json)
        except PartitionerError as error:
            return _failed(error, as_json)
        except (KeyboardInterrupt, _InterruptedError, click.Abort):
            return _say("Interrupted", "interrupted", None, None, INTERRUPTED, as_json)
        except _KeptError as error:
            cause = error.__cause__ or error
            if isinstance(cause, BrokenPipeError) and _output_is_closed():
                return CLOSED_PIPE
            return _unexpected(cause, as_json)
        except Exception as error:  # noqa: BLE001 - the last resort of a command line
            return _unexpected(error, as_json)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _kept_from_click():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _kept_from_click():
            return super().invoke(ctx)


def error_document(error: PartitionerError) -> dict[str, Any]:
    """An error as ``--json`` prints it: what, where, advice, exit code, notes."""
    return _document(
        type(error).__name__,
        error.what,
        error.where,
        error.advice,
        error.exit_code,
        [*getattr(error, "__notes__", ())],
    )


@contextmanager
def _kept_from_click() -> Generator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise _InterruptedError from error
    except (EOFError, BrokenPipeError) as error:
        # For click they are Ctrl-D at a prompt and a closed output; ours may be of a damaged file
        # and of a store.
        raise _KeptError from error


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _wants_json(arguments: Any) -> bool:
    """Whether ``--json`` is given; after ``--`` it would be the name of something."""
    own = list(arguments)
    return "--json" in (own[: own.index("--")] if "--" in own else own)


# --- what is said -------------------------------------------------------------------------------


def _document(
    kind: str, what: str, where: str | None, advice: str | None, code: int, notes: list[str]
) -> dict[str, Any]:
    own = {"kind": kind, "what": what, "where": where, "advice": advice, "exit_code": code}
    return {"error": {**own, "notes": notes}}


def _failed(error: PartitionerError, as_json: bool) -> int:
    if as_json:
        click.echo(json_text(error_document(error)))
    else:
        notes = [f"  note: {note}" for note in getattr(error, "__notes__", ())]
        click.echo("\n".join([f"error: {error}", *notes]), err=True)
    return error.exit_code


def _misused(error: click.ClickException, as_json: bool) -> int:
    if not as_json:
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    verb = "partition" if context is None else context.command_path
    advice = f"{verb} --help says what it takes"
    return _say("UsageError", error.format_message(), verb, advice, error.exit_code, True)


def _unexpected(error: BaseException, as_json: bool) -> int:
    if os.environ.get("PARTITION_DEBUG"):
        traceback.print_exception(error)
    return _say(
        type(error).__name__,
        f"unexpected {type(error).__name__}: {error}",
        None,
        "this is a defect; set PARTITION_DEBUG=1 for the traceback and report it",
        1,
        as_json,
    )


def _say(
    kind: str, what: str, where: str | None, advice: str | None, code: int, as_json: bool
) -> int:
    if as_json:
        click.echo(json_text(_document(kind, what, where, advice, code, [])))
        return code
    lines = [what if code == INTERRUPTED else f"error: {what}"]
    lines += [f"  to do: {advice}"] if advice else []
    click.echo("\n".join(lines), err=True)
    return code


# --- closed pipes -------------------------------------------------------------------------------


def _output_is_closed() -> bool:
    """Whether the reader of what is printed has gone (``| head``); if so nothing more is written.

    Another pipe may be the one that broke: that to a store, or to a compiler's process.
    """
    try:
        descriptor = sys.__stdout__.fileno() if sys.__stdout__ is not None else -1
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False
    if closed:
        _drop_output()
    return closed


def _drop_output() -> None:
    """Let what is still to be written at the end of the process go nowhere, without a message."""
    if sys.__stdout__ is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
