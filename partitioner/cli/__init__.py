"""The command line ``partition``. One file a verb; a verb is imported when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

import partitioner
from partitioner.cli.failing import Failing

__all__ = ["main"]

#: verb -> one line of help; the verb's file has its name, with underscores for dashes.
_VERBS = {
    "plan": "Show what a build would make of a pipeline, without compiling.",
    "build": "Compile a pipeline into a bundle.",
    "compile": "Finish a bundle that was built without its compiler.",
    "run": "Run a bundle on inputs.",
    "serve": "Serve a bundle over HTTP.",
    "verify": "Check a bundle's numbers on this machine.",
    "bench": "Measure a bundle on this host.",
    "trace": "Trace real requests of a bundle, for Perfetto.",
    "inspect": "Show what is in a bundle.",
    "diff": "Tell what differs between two plans or bundles.",
    "bisect": "Find the node that a bundle computes wrongly.",
    "targets": "List what can be built for.",
    "doctor": "Tell what is installed and what works here.",
    "push": "Copy a bundle to a store: S3 or a directory.",
    "pull": "Copy a bundle from a store.",
    "ls": "List versions and tags in a store.",
    "rm": "Remove a tag or version from a store.",
    "gc": "Remove blobs that nothing in a store needs.",
    "presign": "Let others read one bundle of a store for a while.",
    "cache": "The local cache of blobs from stores.",
    "sign": "Sign a bundle.",
    "verify-signature": "Tell whether a bundle is signed by a key.",
}


class _Lazy(Failing, click.Group):
    """A group that lists its verbs without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module: Any = importlib.import_module(f"partitioner.cli.{cmd_name.replace('-', '_')}")
        return module.command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(partitioner.__version__, prog_name="partition")
def main() -> None:
    """Compile whole generative pipelines ahead of time, and run them without torch.

    A pipeline written in ordinary Python, its loop included, becomes one bundle: compiled
    segments, weights, and a plan. Serving code runs the bundle with NumPy and the backend's
    library alone.

    \b
      partition doctor                                     what works here
      partition plan model.py                              what a build would make of it
      partition build model.py --target cpu -o my.bundle   build
      partition inspect my.bundle                          look inside
      partition run my.bundle --input image=in.png -o out.glb --seed 7
      partition verify my.bundle                           on the machine that serves
      partition push my.bundle s3://models/prod --tag v3   where others get it

    model.py names `pipeline` (an nn.Module, a function over modules, a diffusers pipeline) and
    `example_inputs` (a dict of tensors). Every verb takes --json and --help.

    \b
    Exit codes: 0 done, 2 usage, 3 model file, 4 capture, 5 pass or program, 6 placement,
    7 compiler or backend, 8 parity, 9 damaged bundle, 10 incompatible bundle, 11 input,
    12 output, 13 missing library, 16 slower than allowed, 20 store, 21 not in the store,
    22 another writer was first, 23 signature, 130 interrupted, 141 output closed,
    1 anything else.
    """
