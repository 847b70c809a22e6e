"""Repeat the parity check of a build, from the bundle alone, on the machine that serves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import Expected, Manifest, ParitySample
from partitioner.artifacts.oci import Member
from partitioner.backends.execution import DeviceOptions
from partitioner.errors import ParityError
from partitioner.runtime.bundles import check_options, load_bucket
from partitioner.runtime.choosing import choose, judge
from partitioner.runtime.code import refuse_code
from partitioner.runtime.compare import Difference, compare
from partitioner.runtime.opening import Keys, open_directory
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.seeds import parity_seeds
from partitioner.specs import TensorSpec

if TYPE_CHECKING:
    from partitioner.backends.execution import Memory
    from partitioner.hostops import HostOp

__all__ = ["Report", "Row", "sample_inputs", "verify_bundle"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """One compared tensor. ``name`` is ``segment[call].output`` or ``output NAME``."""

    name: str
    error: float
    tolerance: float
    ok: bool
    fault: str = ""


@dataclass(frozen=True)
class Report:
    """What was compared, in the order in which it was computed.

    Attributes:
        rows: of all members that were run.
        members: their labels, as text.
        skipped: labels of the other members -> why this host cannot run them.
    """

    rows: tuple[Row, ...]
    members: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def first_fault(self) -> Row | None:
        return next((row for row in self.rows if not row.ok), None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "rows": [asdict(row) for row in self.rows],
            "members": list(self.members),
            "skipped": self.skipped,
        }


def sample_inputs(bundle: Bundle, sample: ParitySample) -> dict[str, Array]:
    """The example inputs of a parity sample."""
    return {
        name: np.array(bundle.constant(given.data, given.spec))
        for name, given in sample.inputs.items()
    }


def verify_bundle(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    memory: Memory = "fast",
    host_ops: Iterable[HostOp] = (),
    require_signature: Keys = None,
    allow_executable: bool = False,
    variant: Mapping[str, str] | None = None,
) -> Report:
    """Run the bundle on its parity sample and compare segments and outputs.

    Every blob is hashed first. Of a bundle with several members all are run that this host can run.

    Args:
        variant: labels of the members that are looked at; all by default.
        require_signature, allow_executable: as of :func:`partitioner.runtime.bundles.load`.

    Raises:
        ParityError: a member has no sample, or a tensor differs; names the first one.
        BundleError: the bundle is damaged.
        SignatureError: as ``load``.
        IncompatibleBundleError: this host can run none of the members.
        UsageError: there is no such member.
    """
    device = DeviceOptions(threads, memory, tuple(host_ops))
    check_options(device, "once")
    index = open_directory(path, keys=require_signature)
    members = index.matching(variant)
    index.check()
    skipped = _unrunnable(index, members, named="target" in (variant or {}))
    if len(skipped) == len(members):
        choose(index, variant)  # Says why none can be run.
    rows: list[Row] = []
    runnable = [member for member in members if str(member) not in skipped]
    for member in runnable:
        prefix = f"{member}: " if len(members) > 1 else ""
        bundle = index.bundle(member)
        refuse_code(bundle, allowed=allow_executable)
        with load_bucket(bundle, device) as pipe:
            rows += _run(bundle, pipe, prefix)
    return Report(tuple(rows), tuple(map(str, runnable)), skipped)


def _unrunnable(index: BundleIndex, members: Sequence[Member], *, named: bool) -> dict[str, str]:
    """Labels of members that this host cannot run -> why."""
    skipped: dict[str, str] = {}
    for member in members:
        lacking = judge(index, member, named=named)
        if lacking:
            skipped[str(member)] = lacking[0].error.what
    return skipped


def _run(bundle: Bundle, pipe: Pipeline, prefix: str) -> list[Row]:
    """Compare one member.

    Args:
        prefix: stands before the names of rows.
    """
    sample = bundle.manifest.parity
    if sample is None:
        raise ParityError(
            f"{prefix}the bundle has no parity sample",
            where=str(bundle.path),
            advice="build it without --no-parity",
        )
    rows: list[Row] = []
    for label, options, one in _samples(bundle.manifest, sample):
        checker = _Checker(bundle, one)
        given = {**sample_inputs(bundle, one), **options}
        batch = bundle.manifest.batch
        seed = one.seed if batch is None else parity_seeds(one.seed, batch.rows)
        outputs = pipe(given, seed=seed, observe=checker.observe)
        for name, expected in one.outputs.items():
            checker.check(f"{label}output {name}", expected, outputs[name])
        checker.check_complete()
        rows += checker.rows
    report = Report(tuple(rows))
    if not report.ok:
        raise _diverged(report, bundle.manifest)
    return [replace(row, name=f"{prefix}{row.name}") for row in rows]


def _samples(
    manifest: Manifest, own: ParitySample
) -> Iterator[tuple[str, dict[str, Any], ParitySample]]:
    """The bundle's own sample, and those of its other variants: a label, options, the sample."""
    yield "", {}, own
    for variant in manifest.variants:
        if variant.parity is not None:
            label = ",".join(f"{name}={value}" for name, value in variant.options.items())
            yield f"{label} ", variant.options, variant.parity


class _Checker:
    """Compares what segments give with the sample, while the bundle runs."""

    def __init__(self, bundle: Bundle, sample: ParitySample) -> None:
        self.bundle = bundle
        self.tolerance = sample.tolerance
        self.expected = {(s.segment, s.call): s.outputs for s in sample.segments}
        self.rows: list[Row] = []
        self.seen: set[tuple[str, int]] = set()

    def observe(self, segment: str, call: int, outputs: Mapping[str, Array]) -> None:
        wanted = self.expected.get((segment, call))
        if wanted is None:
            return
        self.seen.add((segment, call))
        for name, expected in wanted.items():
            self.check(f"{segment}[{call}].{name}", expected, outputs[name])

    def check(self, name: str, expected: Expected, array: Array) -> None:
        values = self._values(expected)
        difference: Difference = compare(expected, values, array, self.tolerance)
        self.rows.append(
            Row(name, difference.relative, self.tolerance.relative, difference.ok, difference.fault)
        )

    def check_complete(self) -> None:
        """A sample whose segments did not all run compares nothing for those."""
        for segment, call in sorted(set(self.expected) - self.seen):
            self.rows.append(
                Row(
                    f"{segment}[{call}]",
                    float("inf"),
                    self.tolerance.relative,
                    ok=False,
                    fault="was not called",
                )
            )

    def _values(self, expected: Expected) -> npt.NDArray[np.float64]:
        spec = TensorSpec("float64", (expected.count,))
        return np.array(self.bundle.constant(expected.values, spec))


def _diverged(report: Report, manifest: Manifest) -> ParityError:
    row = report.first_fault
    assert row is not None
    segment = row.name.split("[")[0]
    info = manifest.plan.segments.get(segment)
    sources = "; ".join(info.sources) if info is not None else ""
    what = row.fault or f"differs by {row.error:.3g} relative, allowed are {row.tolerance:.3g}"
    return ParityError(
        f"the bundle does not give the eager pipeline's numbers here: {row.name} {what}",
        where=sources or row.name,
        advice="compare the versions of the backend's library with those in `partition inspect`; "
        "rebuild on this machine if they differ",
    )
