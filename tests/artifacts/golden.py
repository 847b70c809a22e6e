"""Makes the golden bundles of a schema version: small ones, kept for ever in ``data/golden``.

    python tests/artifacts/golden.py FOLDER

writes ``FOLDER/VERSION``, from schema 1.3 on ``FOLDER/VERSION-members``, from 1.4 on
``FOLDER/VERSION-batches``. It uses whatever ``partitioner`` is installed, so it can be run by an
old version, too. That of a released schema is never made again: what is tested is that the files
that are out there can be read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import partitioner
from partitioner.artifacts.manifest import SCHEMA_VERSION

__all__ = ["EXAMPLE", "Pipeline", "make"]

EXAMPLE = {"x": torch.linspace(-1, 1, 4).reshape(1, 4)}


class Pipeline(nn.Module):
    """A linear layer, and a loop with a table and with noise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(4, 8)
        self.step = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, *, steps: int = 2) -> dict[str, torch.Tensor]:
        state = torch.randn(x.shape[0], 8) + self.encoder(x)
        for time in torch.linspace(1, 0.5, steps):
            state = state - time * torch.tanh(self.step(state)) + 0.1 * torch.randn_like(state)
        return {"state": state}


def make(folder: Path) -> list[Path]:
    """Build the bundles of the present schema.

    Returns:
        their directories.
    """
    version = tuple(int(part) for part in SCHEMA_VERSION.split("."))
    options: dict[str, Any] = {"name": "golden", "version": SCHEMA_VERSION}
    if version >= (1, 1):
        options["variants"] = [{"steps": 2}, {"steps": 3}]
    paths = [folder / SCHEMA_VERSION]
    partitioner.build(Pipeline(), EXAMPLE, output=paths[0], **options)
    if version >= (1, 3):
        paths.append(folder / f"{SCHEMA_VERSION}-members")
        targets = ["graviton", "cpu"]
        partitioner.build(Pipeline(), EXAMPLE, output=paths[1], target=targets, **options)
    if version >= (1, 4):
        paths.append(folder / f"{SCHEMA_VERSION}-batches")
        partitioner.build(Pipeline(), EXAMPLE, output=paths[2], batch=[1, 2], **options)
    return paths


if __name__ == "__main__":
    for path in make(Path(sys.argv[1])):
        print(path)
