"""What a backend must offer at run time: an executor that loads artifacts into executables.

Torch-free. The runtime knows backends only through these types; build time has its own in
:mod:`partitioner.backends.base`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

from partitioner.backends.verdicts import Judge
from partitioner.errors import (
    BackendError,
    IncompatibleBundleError,
    MissingDependencyError,
    UsageError,
)

if TYPE_CHECKING:
    import numpy as np

    from partitioner.artifacts.manifest import Requirement
    from partitioner.hostops import HostOp
    from partitioner.plan import SegmentInfo
    from partitioner.specs import TensorSpec

    Array = np.ndarray[Any, Any]

__all__ = [
    "ArtifactFiles",
    "BackendInfo",
    "BoundCall",
    "DeviceOptions",
    "Executable",
    "Executor",
    "Memory",
    "Mode",
    "OfSegment",
    "Resizable",
    "call_once",
    "place_of",
]

#: ``fast`` lets a backend keep a second, repacked copy of the weights; ``shared`` lets it keep that
#: in files of the host's cache, mapped by all processes (ONNX Runtime; others as ``fast``); ``low``
#: does without.
Memory = Literal["fast", "shared", "low"]

#: ``latency``: one call at a time, as fast as can be; ``throughput``: calls from many threads, of
#: which each may take longer.
Mode = Literal["latency", "throughput"]


@dataclass(frozen=True)
class ArtifactFiles:
    """What the bundle holds of one segment, as files whose digests have been checked.

    Args:
        graph: the backend's own program (an ONNX protobuf, ...); None where there is none.
        blobs_dir: the folder that the names in a graph are relative to.
        weights: the blobs that the graph may read, all of them inside ``blobs_dir``.
        options: what the compiler left for the executor. Data from elsewhere: an executor takes
            the options it knows and refuses others.
        info: the segment: its tensors in the order of the call, and where it comes from.
        turn: which of its backend's segments it is, in the order of the pipeline; None where it is
            loaded by itself. Whatever the order in which segments happen to be loaded, what a
            backend shares out among them goes by this.
    """

    graph: Path | None
    blobs_dir: Path
    weights: tuple[Path, ...]
    options: Mapping[str, Any]
    info: SegmentInfo
    turn: int | None = None


@dataclass(frozen=True)
class DeviceOptions:
    """How the host is to be used.

    Args:
        threads: worker threads for one call; None for what the process may use.
        memory: see :data:`Memory`.
        host_ops: host ops given by the caller, looked at before those installed.
        mode: see :data:`Mode`; for backends that can tell them apart.
        pinning: tie worker threads to CPUs. Good where the process has its CPUs for itself, bad
            where several share them.
        cache: whether a backend may keep what it compiles on this host, for the next load.
        mixed: whether segments of several backends take turns: the threads of one must not keep
            CPUs busy while another computes.
    """

    threads: int | None = None
    memory: Memory = "fast"
    host_ops: tuple[HostOp, ...] = ()
    mode: Mode = "latency"
    pinning: bool = False
    cache: bool = True
    mixed: bool = False


def place_of(info: SegmentInfo) -> str:
    """Where a segment comes from, for messages: its name and the user's source lines."""
    sources = f" ({'; '.join(info.sources)})" if info.sources else ""
    return f"segment {info.name!r}{sources}"


class BoundCall(Protocol):
    """A call of an executable whose tensors stay bound from run to run.

    Belongs to one thread at a time; any number of them may run at once on one executable.
    """

    def set_input(self, index: int, array: Array) -> None:
        """Read input ``index`` from ``array`` (C-contiguous) until another one is set.

        The array is neither copied nor written to; what it holds when ``run`` is called counts.
        """
        ...

    def set_output(self, index: int, array: Array | None) -> None:
        """Write output ``index`` to ``array`` until another one is set; None: into a new array.

        A backend that cannot compute straight into the array copies its result there. The array
        never shares memory with an input that is set; what it holds before ``run`` means nothing.

        Raises:
            BackendError: at ``run``, where the output has another shape or dtype than the array.
        """
        ...

    def run(self) -> tuple[Array, ...]:
        """Compute. Gives the outputs in order: the arrays set, and new ones where none is set.

        Raises:
            BackendError: the backend failed; names the segment and its source lines.
        """
        ...


class Executable(Protocol):
    """A loaded segment. Thread-safe."""

    @property
    def inputs(self) -> tuple[tuple[str, TensorSpec], ...]: ...
    @property
    def outputs(self) -> tuple[tuple[str, TensorSpec], ...]: ...

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Run once on arrays in the order of ``inputs``; gives new arrays.

        Raises:
            BackendError: the backend failed.
        """
        ...

    def bind(self) -> BoundCall: ...

    def close(self) -> None:
        """Give back memory. Called once, when no call is running."""
        ...


@runtime_checkable
class Resizable(Protocol):
    """An executable that serves several numbers of rows."""

    def at(self, info: SegmentInfo) -> Executable:
        """The same artifact with the sizes of ``info``. Belongs to it: closed with it."""
        ...


class OfSegment:
    """The part of an executable that its segment decides."""

    def __init__(self, info: SegmentInfo) -> None:
        self.info = info

    @property
    def inputs(self) -> tuple[tuple[str, TensorSpec], ...]:
        return self.info.inputs

    @property
    def outputs(self) -> tuple[tuple[str, TensorSpec], ...]:
        return self.info.outputs


def call_once(
    executable: Executable, info: SegmentInfo, arrays: Sequence[Array]
) -> tuple[Array, ...]:
    """Run an executable on arrays in the order of its inputs, by a bound call; gives new arrays.

    Raises:
        BackendError: another number of arrays, or as the bound call.
    """
    import numpy as np

    if len(arrays) != len(info.inputs):
        raise BackendError(
            f"{len(arrays)} arrays for {len(info.inputs)} inputs", where=place_of(info)
        )
    call = executable.bind()
    for index, array in enumerate(arrays):
        call.set_input(index, np.asarray(array, order="C"))
    return call.run()


class Executor(Protocol):
    """Loads artifacts of one backend."""

    def load(self, artifact: ArtifactFiles, device: DeviceOptions) -> Executable:
        """Make one segment ready to run.

        Raises:
            BundleError: the artifact is malformed, or reaches outside of the bundle.
            IncompatibleBundleError: it asks for what this version or host cannot do.
            BackendError: the backend's library refuses it.
            MissingDependencyError: the backend's library is not installed.
        """
        ...


@dataclass(frozen=True)
class BackendInfo:
    """A backend by name: where its parts are, imported only when they are needed.

    Args:
        name: what plans and manifests call it.
        executor: ``module:Class`` of its :class:`Executor`; empty where nothing can be run yet.
        compiler: ``module:Class`` of its compiler, for build time; empty where nothing can be
            compiled yet, so that one can only plan for it.
        requires: modules that the executor imports.
        extra: the extra of this package that installs them.
        install: what to do to have them, where no extra installs them.
        support: ``module:function`` that gives verdicts, see
            :class:`partitioner.backends.verdicts.Judge`; the module imports torch at most. Without
            it the compiler is asked.
        probe: ``module:function`` that asks the backend's own library whether it takes a graph of
            one op, see :mod:`partitioner.backends.probing`; empty where it cannot be asked.
        build_requires: modules that the compiler and the probe import beyond torch.
        requirements: ``module:function`` that says what artifacts need of a host (build time):
            called with their graphs' files, it gives :class:`partitioner.artifacts.manifest.\
Requirement`; empty where they need nothing but ``requires``.
        segment_check: ``module:function`` that checks segments of the backend where its compiler
            is not, as :func:`partitioner.backends.neuron.segment_check.check_segments`; empty
            where nothing can be checked.
        check_requires: modules that it imports beyond torch.
        copies_weights: whether its executor works on copies of the weights, and leaves their files
            mapped all the same.
        runs_code: whether its artifacts are programs that can do more than compute (TorchScript,
            a shared library): a bundle with one is loaded only if it is signed or the caller
            allows it, see :mod:`partitioner.runtime.code`.
        settings: ``module:function`` that checks what a caller may say of the backend's compiler
            (a mapping of name to value; raises a UsageError); empty where there is nothing.
        defers: whether the compiler can leave its last step to another machine.
        ranges: whether one artifact may serve a range of batch sizes: the compiler takes graphs
            with sizes that grow (:mod:`partitioner.backends.symbols`), and executables are
            :class:`Resizable`.
    """

    name: str
    executor: str
    compiler: str
    requires: tuple[str, ...] = ()
    extra: str | None = None
    support: str = ""
    probe: str = ""
    build_requires: tuple[str, ...] = ()
    requirements: str = ""
    segment_check: str = ""
    check_requires: tuple[str, ...] = ()
    runs_code: bool = False
    copies_weights: bool = False
    settings: str = ""
    defers: bool = False
    ranges: bool = False
    install: str = ""

    def make_executor(self) -> Executor:
        """Import and make the executor.

        Raises:
            IncompatibleBundleError: this version runs nothing of this backend.
            MissingDependencyError: a library it needs is not installed.
        """
        self.check_runnable()
        return cast("Executor", _import(self.executor)())

    def check_runnable(self) -> None:
        """Refuse a backend whose artifacts cannot be run here. Imports nothing.

        Raises:
            as :meth:`make_executor`.
        """
        if not self.executor:
            raise IncompatibleBundleError(
                f"this version does not run what is compiled for the backend {self.name!r}",
                advice="use a newer version, or a bundle for another target",
            )
        self._check_requires()

    def make_compiler(self) -> Any:
        """Import and make the compiler (build time; imports what it needs, torch for one).

        Raises:
            BackendError: this version compiles nothing for this backend.
            MissingDependencyError: a library it needs is not installed.
        """
        if not self.compiler:
            raise BackendError(
                f"this version plans for the backend {self.name!r}, but does not compile for it",
                advice="use a newer version, or build for another target",
            )
        try:
            return _import(self.compiler)()
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"the compiler of backend {self.name!r} needs {error.name}",
                advice="pip install 'partitioner[build]'",
            ) from error

    def make_judge(self) -> Judge:
        """What gives verdicts on nodes. Needs torch, but none of the backend's own libraries.

        Raises:
            MissingDependencyError: torch is not installed; or the backend names no ``support``, and
                its compiler needs what is not installed.
        """
        if not self.support:
            return Judge(self.name, self.make_compiler().verdict)
        try:
            return Judge(self.name, _import(self.support))
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"planning for backend {self.name!r} needs {error.name}",
                advice="pip install 'partitioner[build]'",
            ) from error

    def required_by(self, graphs: Sequence[Path]) -> Sequence[Requirement]:
        """What artifacts need of a host that runs them (build time).

        Args:
            graphs: the files of their graphs.
        """
        return _import(self.requirements)(graphs) if self.requirements else ()

    def check_settings(self, given: Mapping[str, Any]) -> None:
        """See whether the compiler knows what a caller says of it.

        Raises:
            UsageError: it does not.
        """
        if self.settings:
            _import(self.settings)(given)
        elif given:
            raise UsageError(
                f"the backend {self.name!r} has no options", advice=f"leave out {min(given)!r}"
            )

    def missing(self) -> Sequence[str]:
        """The modules required to run that are not installed."""
        return _absent(self.requires)

    def missing_to_build(self) -> Sequence[str]:
        """The modules required to compile and to probe, beyond torch, that are not installed."""
        return _absent(self.build_requires)

    def make_segment_check(self) -> Any:
        """Import the function that checks segments; there is one if ``segment_check`` says so."""
        return _import(self.segment_check)

    def missing_to_check(self) -> Sequence[str]:
        """The modules required to check segments, beyond torch, that are not installed."""
        return _absent(self.check_requires)

    def _check_requires(self) -> None:
        missing = self.missing()
        if not missing:
            return
        extra = f"'partitioner[{self.extra}]'" if self.extra else " ".join(missing)
        raise MissingDependencyError(
            f"backend {self.name!r} needs {', '.join(missing)}, which is not installed",
            advice=self.install or f"pip install {extra}",
        )


def _absent(names: Sequence[str]) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is None]


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
