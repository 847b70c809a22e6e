"""Which member of a bundle this host runs, and why.

Members stand in the order of preference. The first of which this host has all requirements is
taken. Who names the target waives those requirements that are not firm: what the member was meant
for, not what it cannot do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.oci import Member
from partitioner.errors import IncompatibleBundleError
from partitioner.runtime.host import Host, this_host
from partitioner.runtime.requirements import Unmet, unmet

__all__ = ["Choice", "choose", "judge"]


@dataclass(frozen=True)
class Choice:
    """A member that was chosen.

    Attributes:
        bundle: the member.
        reasons: a line for each member that was looked at; the last is the one that was taken.
        buckets: the members that differ from it in their batch only, itself among them, of those
            with the labels that were wanted; none where it is no bucket.
    """

    bundle: Bundle
    reasons: tuple[str, ...]
    buckets: tuple[Bundle, ...] = ()


def choose(
    index: BundleIndex, wanted: Mapping[str, str] | None = None, host: Host | None = None
) -> Choice:
    """The best member that a host can run.

    Args:
        wanted: labels that it must have.
        host: this one by default.

    Raises:
        UsageError: no member has these labels.
        IncompatibleBundleError: the host can run none of them.
        MissingDependencyError: there is one, and what it needs is not installed.
        BundleError: a member's manifest is damaged.
    """
    wanted = wanted or {}
    members = index.matching(wanted)
    reasons: list[str] = []
    for member in members:
        try:
            lacking = judge(index, member, host, named="target" in wanted)
        except IncompatibleBundleError as error:
            lacking = [Unmet(error, firm=True)]
        if not lacking:
            taken = "taken" if len(members) > 1 else "asked for" if wanted else "the only member"
            reasons.append(f"{member}: {taken}")
            buckets = _buckets(index, member, members)
            return Choice(index.bundle(member), tuple(reasons), buckets)
        if len(members) == 1:
            raise lacking[0].error
        reasons.append(f"{member}: {lacking[0].error.what}")
    raise IncompatibleBundleError(
        "this host can run no member of the bundle: " + "; ".join(reasons),
        where=str(index.path),
        advice="install what is missing, or build for 'cpu', too; --variant target=NAME takes one "
        "that is meant for another CPU all the same",
    )


def _buckets(index: BundleIndex, taken: Member, members: Sequence[Member]) -> tuple[Bundle, ...]:
    """The buckets of the member that was taken: for one target, so one host runs all or none."""
    if index.bundle(taken).manifest.batch is None:
        return ()
    own = _unbatched(taken)
    return tuple(index.bundle(member) for member in members if _unbatched(member) == own)


def _unbatched(member: Member) -> dict[str, str]:
    return {name: text for name, text in member.labels.items() if name != "batch"}


def judge(
    index: BundleIndex, member: Member, host: Host | None = None, *, named: bool = False
) -> list[Unmet]:
    """What a host lacks to run a member, the gravest first.

    Args:
        named: whether the caller has named the member's target.

    Raises:
        IncompatibleBundleError: of a schema version that cannot be read.
        BundleError: its manifest is damaged.
    """
    lacking = unmet(index.bundle(member).manifest, host or this_host())
    lacking.sort(key=lambda one: not one.firm)
    return [one for one in lacking if one.firm or not named]
