"""Whether a row of a batch is what it is alone: checked on the eager pipeline, at build time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from partitioner.artifacts.manifest import Batch, Tolerance
from partitioner.errors import ParityError
from partitioner.parity import expected_of
from partitioner.program import DrawSequence
from partitioner.runtime.compare import Gist, compare_gists

__all__ = ["check_row", "last_row", "rows_of"]

Array = npt.NDArray[Any]


def last_row(drawn: Mapping[str, Array], draws: Sequence[DrawSequence]) -> dict[str, Array]:
    """What the last row of a batch draws, as one row.

    Args:
        drawn: by placeholder.
    """
    rows = {draw.placeholder: draw.row for sequence in draws for draw in sequence.draws}
    return {name: a[:, -1:] if rows[name] else a[-1:] for name, a in drawn.items()}


def rows_of(batch: Batch | None, together: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Outputs of a batch, as those of each request: what is listed has its name without a number.

    Args:
        batch: None: the outputs are those of one request as they are.
        together: outputs of the batch, by name; of one row, what is listed may have no number.
    """
    if batch is None:
        return [dict(together)]
    if batch.rows == 1:
        alone = {f"{name}.0": name for name in batch.listed}
        return [{alone.get(name, name): array for name, array in together.items()}]
    rows: list[dict[str, Array]] = []
    for row in range(batch.rows):
        stacked = {name: together[name][row : row + 1] for name in batch.stacked}
        listed = {name: together[f"{name}.{row}"] for name in batch.listed}
        # What depends on no input is the same for all requests.
        same = {name: a for name, a in together.items() if _is_constant(batch, name)}
        rows.append({**same, **stacked, **listed})
    return rows


def _is_constant(batch: Batch, name: str) -> bool:
    head, _, tail = name.rpartition(".")
    return name not in batch.stacked and not (tail.isdigit() and head in batch.listed)


def check_row(
    batch: Batch, together: Mapping[str, Array], alone: Mapping[str, Array], tolerance: Tolerance
) -> None:
    """Compare the last row of a batch with the same request by itself.

    Args:
        together, alone: outputs of the eager pipeline, by name.

    Raises:
        ParityError: they differ: the pipeline mixes its rows.
    """
    for name, row, other, exact in _pairs(batch, together, alone):
        gists = [_gist(array) for array in (other, row)]
        difference = compare_gists(gists[0], gists[1], tolerance, exact=exact)
        if difference.ok:
            continue
        what = difference.fault or f"differs by {difference.relative:.3g} relative"
        raise ParityError(
            f"row {batch.rows - 1} of the output {name!r} is not what the eager pipeline gives for "
            f"that request alone: it {what}",
            where=name,
            advice="the pipeline mixes the rows of a batch (a norm over the batch, a sum of rows); "
            "serve requests one by one with --batch 1",
        )


def _pairs(
    batch: Batch, together: Mapping[str, Array], alone: Mapping[str, Array]
) -> Iterator[tuple[str, Array, Array, bool]]:
    """Name, the row in the batch, the same alone, and whether they have the same size."""
    for name in batch.stacked:
        yield name, together[name][-1:], alone[name], True
    for name in batch.listed:
        row = together[f"{name}.{batch.rows - 1}"]
        other = alone[name] if name in alone else alone[f"{name}.0"]
        # What host ops make of a field that differs in its last digit may have a row more.
        yield name, row, other, row.shape == other.shape


def _gist(array: Array) -> Gist:
    found = expected_of(array, exact=True)
    return Gist(found.spec, found.norm, found.values)
