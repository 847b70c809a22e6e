"""Run Neuron segments on NeuronCores.

What a bundle asks for is checked before anything of Neuron is imported: the artifact's record
against the NEFF's header, and both against this host. An artifact is a TorchScript archive, which
is code that loading it runs: bundles with Neuron segments are to be trusted, or signed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from partitioner.backends.execution import (
    ArtifactFiles,
    DeviceOptions,
    Mode,
    OfSegment,
    call_once,
    place_of,
)
from partitioner.backends.neuron.archive import find_neff
from partitioner.backends.neuron.cores import Copies, Placer
from partitioner.backends.neuron.devices import find_devices, visible_cores
from partitioner.backends.neuron.failures import RUNNING, explain
from partitioner.backends.neuron.fitting import check_neff
from partitioner.backends.neuron.loaders import Loader, Model, Source, find_loader
from partitioner.backends.neuron.record import Argument, Record, read_record
from partitioner.errors import BackendError, BundleError, PartitionerError
from partitioner.plan import SegmentInfo

__all__ = ["NeuronBoundCall", "NeuronExecutable", "NeuronExecutor"]

Array = np.ndarray[Any, Any]

#: Core contexts are not thread-safe, and a process has one runtime. Segments are loaded by several
#: threads.
_loading = threading.Lock()


class NeuronExecutor:
    """Loads the Neuron artifacts of one pipeline. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loader: Loader | None = None
        self._placer: Placer | None = None
        self._devices = find_devices()

    def load(self, artifact: ArtifactFiles, device: DeviceOptions) -> NeuronExecutable:
        """Check the artifact, bring it to its cores, and run it there once.

        Artifact options: those of :class:`partitioner.backends.neuron.record.Record`.

        Raises:
            BundleError: the artifact holds no NEFF, or another one than it says.
            IncompatibleBundleError: it is for another target, format or kind of logical core than
                this host has; or it has an option that is not in the list.
            BackendError: the Neuron libraries refuse it.
            MissingDependencyError: they are not here.
        """
        info = artifact.info
        where = place_of(info)
        if artifact.graph is None:
            raise BundleError("a Neuron artifact without a graph", where=where)
        record = read_record(artifact.options, len(info.inputs), len(info.outputs), where)
        neff = find_neff(artifact.graph)
        check_neff(neff.header, record, self._devices, os.environ, where)
        loader, cores = self._place(record.lnc, device.mode, artifact.turn)
        source = Source(artifact.graph, record, neff, _traced_outputs(record, info))
        models: list[Model] = []
        try:
            for core in cores:
                models.append(_load(loader, source, core, info))
            executable = NeuronExecutable(models, record, info)
            executable.warm_up()
        except BaseException:
            for model in models:
                model.close()
            raise
        return executable

    def _place(self, lnc: int, mode: Mode, turn: int | None) -> tuple[Loader, tuple[int, ...]]:
        """The pipeline's loader, and the cores of a segment of it."""
        with self._lock:
            if self._placer is None:
                self._placer = Placer(visible_cores(os.environ, self._devices, lnc), mode)
            if self._loader is None:
                self._loader = find_loader()
            return self._loader, self._placer.cores_of(turn)


def _load(loader: Loader, source: Source, core: int, info: SegmentInfo) -> Model:
    try:
        with _loading:
            return loader.load(source, core)
    except PartitionerError:
        raise
    except Exception as error:  # The libraries raise RuntimeError and types of their own.
        raise _failure("could not be loaded", error, info, source.record) from error


class NeuronExecutable(OfSegment):
    """A segment on one core or several. Any number of threads may call at once."""

    def __init__(self, models: Sequence[Model], record: Record, info: SegmentInfo) -> None:
        super().__init__(info)
        self.record = record
        self._copies = Copies(models, place_of(info))
        self._models = tuple(models)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Run once; arrays in the order of ``inputs``, new arrays in the order of ``outputs``.

        Raises:
            BackendError: the device failed, or a number does not fit in 32 bits.
        """
        return call_once(self, self.info, arrays)

    def bind(self) -> NeuronBoundCall:
        return NeuronBoundCall(self)

    def warm_up(self) -> None:
        """Run every copy once on zeros: models that load lazily load now, and faults show now.

        Raises:
            BackendError: the device failed.
        """
        zeros = [np.zeros(one.shape, one.dtype) for one in self.record.arguments]
        for model in self._models:
            self._run_on(model, zeros)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run on a copy that is free, on arrays of the traced module's own types.

        Raises:
            BackendError: the device failed, or the segment has been closed.
        """
        with self._copies.lent() as model:
            return self._run_on(model, arrays)

    def close(self) -> None:
        for model in self._copies.close():
            model.close()

    def _run_on(self, model: Model, arrays: Sequence[Array]) -> list[Array]:
        try:
            return model.run(arrays)
        except PartitionerError:
            raise
        except Exception as error:  # The libraries raise RuntimeError and types of their own.
            raise _failure("failed", error, self.info, self.record) from error


class NeuronBoundCall:
    """Arrays that stay set from run to run; each run goes to a copy that is free."""

    def __init__(self, executable: NeuronExecutable) -> None:
        self._executable = executable
        self._info = executable.info
        self._inputs: list[Array | None] = [None] * len(self._info.inputs)
        self._outputs: list[Array | None] = [None] * len(self._info.outputs)

    def set_input(self, index: int, array: Array) -> None:
        self._inputs[index] = array

    def set_output(self, index: int, array: Array | None) -> None:
        self._outputs[index] = array

    def run(self) -> tuple[Array, ...]:
        record = self._executable.record
        arrays = [_narrowed(self._given(one.input), one, self._info) for one in record.arguments]
        made = self._executable.run(arrays)
        results: list[Array] = []
        for index, result in enumerate(record.results):
            if result.output is not None:
                results.append(self._put(index, made[result.output]))
            else:
                results.append(self._put(index, self._given(cast(int, result.input))))
        return tuple(results)

    def _given(self, index: int) -> Array:
        array = self._inputs[index]
        if array is None:
            name = self._info.inputs[index][0]
            raise BackendError(f"input {name!r} has not been set", where=place_of(self._info))
        return array

    def _put(self, index: int, array: Array) -> Array:
        """The result where it is wanted, in the segment's own type."""
        name, spec = self._info.outputs[index]
        shape = cast("tuple[int, ...]", spec.shape)
        if array.size != int(np.prod(shape, dtype=np.int64)):
            raise BackendError(
                f"output {name!r} has the shape {array.shape}, the plan has {spec}",
                where=place_of(self._info),
            )
        target = self._outputs[index]
        if target is None:
            target = np.empty(shape, spec.dtype)
        np.copyto(target, array.reshape(shape), casting="same_kind")
        return target


# --- types --------------------------------------------------------------------------------------


def _narrowed(array: Array, argument: Argument, info: SegmentInfo) -> Array:
    """An input as the traced module takes it."""
    if array.dtype == argument.dtype:
        return array.reshape(argument.shape)
    narrow = array.astype(argument.dtype)
    if narrow.dtype.kind in "iu" and not np.array_equal(narrow, array):
        raise BackendError(
            f"input {info.inputs[argument.input][0]!r} holds a number that does not fit in "
            f"{argument.dtype}, which is what Neuron computes in",
            where=place_of(info),
            advice="give smaller numbers",
        )
    return narrow.reshape(argument.shape)


def _traced_outputs(record: Record, info: SegmentInfo) -> tuple[tuple[tuple[int, ...], str], ...]:
    found: dict[int, tuple[tuple[int, ...], str]] = {}
    for result, (_, spec) in zip(record.results, info.outputs, strict=True):
        if result.output is not None:
            found[result.output] = (cast("tuple[int, ...]", spec.shape), spec.dtype)
    return tuple(found[index] for index in sorted(found))


def _failure(what: str, error: Exception, info: SegmentInfo, record: Record) -> BackendError:
    text = str(error).strip() or type(error).__name__
    cause, advice = explain(text, RUNNING) or ("", "")
    made = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return BackendError(
        f"segment {info.name!r} {what} on Neuron: {f'{cause}: ' if cause else ''}{text[:500]}",
        where=place_of(info),
        advice=f"{advice or 'run `partition verify` on the bundle'}; it was compiled with {made}",
    )
