"""What a plan takes on its target, by the figures of the target: seconds, memory, price.

Nothing is measured. Seconds of ops are those of the roofline (:mod:`partitioner.planning.cost`), so
they are what the hardware allows at its best; a plan that was tuned has measured factors in them.
The time of host ops themselves is not known, nor is what depends on sizes that only data decide;
:attr:`PlanEstimate.unknown` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from partitioner.passes.costs import operations
from partitioner.planning.cost import bounds, instructions, work_of
from partitioner.planning.flow import Crossing, Flow, follow
from partitioner.planning.memory import MemoryNeed, memory_of, weights_of
from partitioner.planning.planned import Planned
from partitioner.planning.posing import rates_of
from partitioner.planning.scale import Scale
from partitioner.planning.segments import Segment
from partitioner.planning.tables import HostCall
from partitioner.program import Program, is_getitem
from partitioner.specs import fixed_nbytes
from partitioner.targets import Device, Target

__all__ = [
    "DeviceEstimate",
    "PlanEstimate",
    "PriceEstimate",
    "SegmentEstimate",
    "TransferEstimate",
    "estimate_plan",
    "host_of",
]


@dataclass(frozen=True)
class SegmentEstimate:
    """One segment.

    Attributes:
        device: name of the device it runs on.
        calls: a request.
        operations: of one call.
        weight_bytes: of the constants it reads.
        instructions: of its compiled form, as :func:`~partitioner.planning.cost.instructions` has
            them.
        compute_s: of one call, of nodes that arithmetic takes longer than memory.
        memory_s: of one call, of the other nodes, and reading what other segments made.
        call_s: of one call, beyond its nodes.
    """

    name: str
    backend: str
    device: str
    calls: int
    operations: int
    weight_bytes: int
    instructions: int
    compute_s: float
    memory_s: float
    call_s: float

    @property
    def seconds(self) -> float:
        """Of one call."""
        return self.compute_s + self.memory_s + self.call_s


@dataclass(frozen=True)
class TransferEstimate:
    """A value that goes from device to device; ``seconds`` of all its times in a request."""

    crossing: Crossing
    seconds: float


@dataclass(frozen=True)
class DeviceEstimate:
    """One device, as one copy of the pipeline has it.

    Attributes:
        copies: of the pipeline, that it runs at the same time.
        busy_s: a request, in segments and in transfers of its own link.
        memory: what one copy needs.
        memory_bytes: what there is for one copy.
    """

    name: str
    backends: tuple[str, ...]
    copies: int
    busy_s: float
    memory: MemoryNeed
    memory_bytes: int

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.memory_bytes


@dataclass(frozen=True)
class PriceEstimate:
    """``per_million`` requests in ``currency``, from a price of an instance for an hour."""

    per_million: float
    per_hour: float
    currency: str
    date: str
    source: str
    terms: str


@dataclass(frozen=True)
class PlanEstimate:
    """A plan on its target.

    Attributes:
        instance: whose figures these are; empty where the target names none.
        seconds: of one request by itself.
        bottleneck: the device that is busy for the longest.
        requests_s: that all copies of the bottleneck do in a second, while others wait for it.
        price: None where it is not known.
        no_price: why there is none; empty where there is.
        unknown: what is not in the seconds, for people.
        flow: the values and calls that it was made from.
    """

    target: str
    instance: str
    segments: tuple[SegmentEstimate, ...]
    transfers: tuple[TransferEstimate, ...]
    devices: tuple[DeviceEstimate, ...]
    seconds: float
    bottleneck: str
    requests_s: float
    price: PriceEstimate | None
    no_price: str
    unknown: tuple[str, ...]
    flow: Flow


def estimate_plan(
    planned: Planned, program: Program, target: Target, scale: Scale | None = None
) -> PlanEstimate | None:
    """Estimate a plan; None on a target without figures.

    Args:
        program: that was planned.
        scale: factors on the estimates, if the plan was made with some.
    """
    if not target.devices:
        return None
    devices = devices_of(planned, target)
    flow = follow(planned.plan, {n: d.name for n, d in devices.items()}, host_of(target).name)
    graphs = {graph: name for name, graph in program.all_graphs()}
    homes = {segment: graphs.get(node.graph, "") for node, segment in planned.origins.items()}
    segments = tuple(
        _segment(name, planned, program, devices[name], flow, _Factors(scale, homes.get(name, "")))
        for name in planned.segments
    )
    transfers = _transfers(flow, target)
    needs = memory_of(planned, program, {n: d.name for n, d in devices.items()}, flow.places)
    own = _devices(target, segments, transfers, needs)
    slowest = max(own, key=lambda d: d.busy_s / d.copies)
    rate = slowest.copies / slowest.busy_s if slowest.busy_s else 0.0
    price, no_price = _price(target, rate)
    return PlanEstimate(
        target=target.name,
        instance=target.instance,
        segments=segments,
        transfers=transfers,
        devices=own,
        seconds=sum(s.calls * s.seconds for s in segments) + sum(t.seconds for t in transfers),
        bottleneck=slowest.name,
        requests_s=rate,
        price=price,
        no_price=no_price,
        unknown=tuple(_unknown(planned)),
        flow=flow,
    )


def host_of(target: Target) -> Device:
    """The device whose memory requests come from: the one that nothing has to be brought to."""
    return next(d for d in target.devices if d.transfer_bandwidth is None)


def devices_of(planned: Planned, target: Target) -> dict[str, Device]:
    """Segment -> its device."""
    return {name: target.device_of(info.backend) for name, info in planned.plan.segments.items()}


# --- segments -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Factors:
    """Factors for the nodes of one graph, measured where they were."""

    scale: Scale | None
    graph: str

    def of(self, node: fx.Node, backend: str, device: Device) -> float:
        found = self.scale.of(self.graph, node.name, backend) if self.scale else None
        return device.time_factor.get(backend, 1.0) if found is None else found


def _segment(
    name: str,
    planned: Planned,
    program: Program,
    device: Device,
    flow: Flow,
    factors: _Factors,
) -> SegmentEstimate:
    segment, info = planned.segments[name], planned.plan.segments[name]
    nodes = [] if isinstance(segment, HostCall) else _ops(segment)
    # What comes over a border is read from memory, and what a host op makes is written to it.
    border = [*info.inputs, *(info.outputs if isinstance(segment, HostCall) else ())]
    nbytes = sum(fixed_nbytes(spec) or 0 for _, spec in border)
    compute, memory = 0.0, nbytes / (device.bandwidth * device.efficiency)
    for node in nodes:
        arithmetic, traffic = bounds(work_of(node), device)
        factor = factors.of(node, info.backend, device)
        if arithmetic > traffic:
            compute += arithmetic * factor
        else:
            memory += traffic * factor
    return SegmentEstimate(
        name=name,
        backend=info.backend,
        device=device.name,
        calls=flow.calls.get(name, 0),
        operations=sum(map(operations, nodes)),
        weight_bytes=sum(program.constants[w].nbytes for w in weights_of(segment)),
        instructions=sum(map(instructions, nodes)),
        compute_s=compute,
        memory_s=memory,
        call_s=device.call_s.get(info.backend, 0.0),
    )


def _ops(segment: Segment) -> list[fx.Node]:
    """The aten ops of a segment's graph, in order."""
    return [
        node for node in segment.graph.nodes if node.op == "call_function" and not is_getitem(node)
    ]


# --- the rest -----------------------------------------------------------------------------------


def _transfers(flow: Flow, target: Target) -> tuple[TransferEstimate, ...]:
    names = [device.name for device in target.devices]
    rates = rates_of(target, [b for b in target.backends if _has(target, b)])
    return tuple(
        TransferEstimate(
            crossing,
            crossing.times
            * rates.transfer(
                crossing.nbytes, names.index(crossing.start), names.index(crossing.end)
            ),
        )
        for crossing in flow.crossings
    )


def _has(target: Target, backend: str) -> bool:
    return any(backend in device.backends for device in target.devices)


def _devices(
    target: Target,
    segments: tuple[SegmentEstimate, ...],
    transfers: tuple[TransferEstimate, ...],
    needs: Mapping[str, MemoryNeed],
) -> tuple[DeviceEstimate, ...]:
    """The devices that the plan uses, and the host."""
    host = host_of(target)
    used = {s.device for s in segments} | {host.name}
    found: list[DeviceEstimate] = []
    for device in target.devices:
        if device.name not in used:
            continue
        busy = sum(s.calls * s.seconds for s in segments if s.device == device.name)
        if device is not host:
            # A link is its accelerator's own; the host's memory serves them all.
            ends = [t for t in transfers if device.name in (t.crossing.start, t.crossing.end)]
            busy += sum(t.seconds for t in ends)
        need = needs.get(device.name, MemoryNeed())
        found.append(
            DeviceEstimate(
                device.name, device.backends, device.copies, busy, need, device.memory_bytes
            )
        )
    return tuple(found)


def _price(target: Target, requests_s: float) -> tuple[PriceEstimate | None, str]:
    price = target.price
    if price is None:
        named = target.instance or target.name
        return None, f"no price of {named} is known; name an instance, or add a price to the target"
    if not requests_s:
        return None, "the plan takes no time that is known"
    per_million = price.per_hour / (requests_s * 3600) * 1e6
    return (
        PriceEstimate(
            per_million, price.per_hour, price.currency, price.date, price.source, price.terms
        ),
        "",
    )


def _unknown(planned: Planned) -> list[str]:
    ops = [s.op for s in planned.segments.values() if isinstance(s, HostCall)]
    sized = [v for v, spec in planned.plan.values.items() if fixed_nbytes(spec) is None]
    found: list[str] = []
    if ops:
        found.append(f"the time of host ops: {', '.join(dict.fromkeys(ops))}")
    if sized:
        found.append(f"values whose size only the data decide: {', '.join(sized)}")
    return found
