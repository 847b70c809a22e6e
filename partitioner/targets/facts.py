"""What a target is: facts about hardware, from which plans are estimated.

A request runs on one *copy* of the pipeline: all cores of a CPU, or one core of an accelerator
beside the host. Figures of a device are those of one copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Device", "Limits", "Price", "Target"]


@dataclass(frozen=True)
class Device:
    """What backends run on.

    Attributes:
        name: ``cpu`` (the host, with its memory) or that of an accelerator, such as ``neuron``.
        backends: those that run on it.
        cores: of one copy.
        copies: how many copies of the pipeline it runs at the same time.
        memory_bytes: that one copy may use.
        bandwidth: bytes a second between its memory and its cores.
        flops: dtype by NumPy name (``bfloat16`` too) -> operations a second in products, where a
            multiplication or an addition is one. Nothing is computed in a dtype that is missing.
        vector_flops: operations a second, in float32, of all that is no product.
        call_s: backend -> seconds that one call of a segment takes beyond its nodes.
        transfer_bandwidth: bytes a second between its memory and the host's; None for the host.
        transfer_s: seconds that each transfer takes beyond its bytes.
        efficiency: the share of ``flops`` and ``bandwidth`` that is sustained; 1 where nothing is
            known, so that figures are peaks.
        time_factor: backend -> what a node takes on it, by what the figures say; 1 where it has
            none.
    """

    name: str
    backends: tuple[str, ...]
    cores: int
    copies: int
    memory_bytes: int
    bandwidth: float
    flops: Mapping[str, float]
    vector_flops: float
    call_s: Mapping[str, float]
    transfer_bandwidth: float | None = None
    transfer_s: float = 0.0
    efficiency: float = 1.0
    time_factor: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Limits:
    """What one segment of a backend may not exceed; None for no limit.

    Attributes:
        instructions: as estimated by :mod:`partitioner.planning.cost`.
        memory_bytes: weights, borders and the largest set of values that live at once.
        graph_bytes: of the compiled file without the weights that lie outside of it.
    """

    instructions: int | None = None
    memory_bytes: int | None = None
    graph_bytes: int | None = None


@dataclass(frozen=True)
class Price:
    """What one instance costs.

    Attributes:
        per_hour: in ``currency``.
        date: on which it was so, as ``2026-07-20``.
        source: where that stands.
        terms: region and kind, such as ``us-east-1, Linux, on demand``.
    """

    per_hour: float
    currency: str
    date: str
    source: str
    terms: str = ""


@dataclass(frozen=True)
class Target:
    """One kind of hardware.

    Attributes:
        name: what the user named: a family (``inf2``) or an instance of it (``inf2.8xlarge``).
        backends: in order of preference.
        relative, absolute: parity tolerances; see :class:`partitioner.artifacts.Tolerance`.
        machine: ``platform.machine()`` values it runs on; empty for any.
        instructions: a level of :mod:`partitioner.isa` that its figures rest on; empty for any.
        note: for people.
        aliases: other names of it.
        dtypes: what tensor ops compute in, by NumPy name.
        arithmetic: the small floats among them that products are faster in; others are only
            stored.
        static_shapes: whether every size that a tensor op sees must be known at build time.
        sources: where the facts come from.
        family: the family's name; equal to ``name`` where no instance was named.
        instance: the instance whose figures these are.
        devices: what the backends run on; each backend on one.
        limits: by backend.
        price: of the instance; None where none is known.
        figures: each figure as the table has it, by its key (``devices.cpu.bandwidth_per_core``).
        figure_sources: where each comes from: an address, a formula, or a file.
        origin: the file whose table this is.
    """

    name: str
    backends: tuple[str, ...]
    relative: float
    absolute: float
    machine: tuple[str, ...]
    note: str
    instructions: str = ""
    aliases: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    arithmetic: tuple[str, ...] = ()
    static_shapes: bool = True
    sources: tuple[str, ...] = ()
    family: str = ""
    instance: str = ""
    devices: tuple[Device, ...] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    price: Price | None = None
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    figure_sources: Mapping[str, str] = field(default_factory=dict[str, str])
    origin: str = ""

    def device_of(self, backend: str) -> Device:
        """The device that a backend runs on.

        Raises:
            KeyError: no device of the target has the backend.
        """
        for device in self.devices:
            if backend in device.backends:
                return device
        raise KeyError(backend)
