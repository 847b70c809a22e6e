"""The Neuron SDK, behind one small adapter: everything that is uncertain about it stands here.

Three things carry the name torch-neuronx: an empty package on the public index; the release on
PyTorch/XLA (2.9.0.2.15.32035 is its last), which has ``trace``, the only documented way to compile
ahead of time; and TorchNeuron (2.13 and later, Trainium 2 and 3 only), which has none. Versions say
which, and what a module has decides. Imports no torch by itself; torch_neuronx does.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from partitioner.errors import BackendError, MissingDependencyError

__all__ = [
    "COMPILE_FIRST",
    "OVERRIDE",
    "TRACE_RELEASE",
    "Kind",
    "Sdk",
    "find_kind",
    "import_sdk",
    "namesake",
    "override_platform",
    "placed_on",
    "require_trace",
    "versions",
]

#: What ``pip`` may have installed under the name; ``none`` where there is nothing.
Kind = Literal["none", "stub", "xla", "native"]

#: Read by Neuron libraries when they are imported: the target that is compiled for without one.
OVERRIDE = "NEURON_PLATFORM_TARGET_OVERRIDE"

#: The last release that has ``trace``.
TRACE_RELEASE = "2.9.0.2.15.32035"

#: ``cpu_backend`` came later than the versions whose source is known; they would ignore it.
COMPILE_FIRST = (2, 5)

_MODULE = "torch_neuronx"
_PACKAGE = "torch-neuronx"
_PACKAGES = {
    "torch": "torch",
    "torch-neuronx": _PACKAGE,
    "neuronx-cc": "neuronx-cc",
    "libneuronxla": "libneuronxla",
}

#: Torch releases from which on the name belongs to TorchNeuron.
_NATIVE_FROM = (2, 10)

_HOW = (
    f"install torch-neuronx {TRACE_RELEASE} and neuronx-cc from the package index of AWS Neuron "
    "(docs/neuron.md), in an environment with torch 2.9"
)

#: What each of the others is, and what to do.
_OTHERS: Mapping[Kind, tuple[str, str]] = {
    "none": ("torch_neuronx is not installed", _HOW),
    "stub": (
        "the torch-neuronx that is installed is the empty package of the public index",
        f"uninstall it; {_HOW}",
    ),
    "native": (
        "the torch-neuronx that is installed is TorchNeuron, which has no torch_neuronx.trace",
        f"make an environment of its own; {_HOW}",
    ),
}


def versions() -> dict[str, str]:
    """Versions of what compiles, of what is installed."""
    found: dict[str, str] = {}
    for name, package in _PACKAGES.items():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(package)
    return found


def find_kind() -> Kind:
    """Which of the three is installed, by version alone: nothing is imported."""
    try:
        version = importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "none" if importlib.util.find_spec(_MODULE) is None else "xla"
    release = _release(version)
    if release < (1, 13):
        return "stub"
    return "native" if release >= _NATIVE_FROM else "xla"


@dataclass(frozen=True)
class Sdk:
    """The release that has ``trace``, imported.

    Attributes:
        module: ``torch_neuronx``.
        versions: of what compiles.
    """

    module: ModuleType
    versions: Mapping[str, str] = field(default_factory=dict[str, str])

    def trace(
        self,
        module: Any,
        example_inputs: tuple[Any, ...],
        *,
        compiler_args: list[str],
        workdir: Path,
        inline_weights: bool,
    ) -> Any:
        """Compile a module on this machine, which needs no device.

        Args:
            module: an ``nn.Module`` of tensors.
            example_inputs: distinct tensors, one for each argument.
            compiler_args: for neuronx-cc; ``--target`` among them.
            workdir: for the compiler's files.
            inline_weights: whether weights become part of the NEFF.

        Returns:
            the traced module (``torch.jit.ScriptModule``).

        Raises:
            BackendError: this release does not know what is asked for, and would ignore it.
        """
        wanted: dict[str, Any] = {
            "compiler_workdir": str(workdir),
            "compiler_args": compiler_args,
            "inline_weights_to_neff": inline_weights,
            "cpu_backend": True,
        }
        self._check_keywords(wanted)
        return self.module.trace(module, example_inputs, **wanted)

    def _check_keywords(self, wanted: Mapping[str, Any]) -> None:
        # An unknown keyword is only warned about.
        known = inspect.signature(self.module.trace).parameters
        missing = sorted(set(wanted) - set(known))
        release = _release(self.versions.get(_PACKAGE, "0"))
        open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
        if missing and not (open_ended and release >= COMPILE_FIRST):
            raise BackendError(
                f"torch-neuronx {self.versions.get(_PACKAGE, '?')} does not know "
                f"{', '.join(missing)} of torch_neuronx.trace, and would ignore it",
                advice=_HOW,
            )

    def prepare_load(self, traced: Any, *, lazy: bool, asynchronous: bool) -> None:
        """Say how a traced module is to be loaded; counts when it is saved after this."""
        if asynchronous:
            self.module.async_load(traced, enable_async_load=True)
        if lazy:
            self.module.lazy_load(traced, enable_lazy_load=True)

    def save(self, traced: Any, path: Path) -> None:
        """Write a traced module."""
        _torch().jit.save(traced, str(path))

    def load(self, path: Path, core: int | None) -> Any:
        """Read a traced module onto a core of those that the process sees; not thread-safe.

        Args:
            core: None leaves the choice to the library, which takes cores in turn.
        """
        context = contextlib.nullcontext() if core is None else placed_on(self.module, core)
        with context:
            return _torch().jit.load(str(path))

    def move_weights(self, loaded: Any, core: int) -> None:
        """Bring weights that are not part of the NEFF to the device, once and not at each call."""
        self.module.move_trace_to_device(loaded, core)


def require_trace() -> None:
    """See that what is installed can compile ahead of time, by version alone.

    Raises:
        MissingDependencyError: it is another of the three, or nothing; says what to do.
    """
    kind = find_kind()
    if kind in _OTHERS:
        what, advice = _OTHERS[kind]
        raise MissingDependencyError(what, advice=advice)


def namesake() -> str:
    """What is installed under the name and cannot compile ahead of time, with what to do; or ""."""
    kind = find_kind()
    if kind in ("none", "xla"):
        return ""
    what, advice = _OTHERS[kind]
    return f"{what}: {advice}"


def import_sdk() -> Sdk:
    """Import the release that has ``trace``.

    Raises:
        MissingDependencyError: it is not installed; says what is, and what to do.
    """
    require_trace()
    try:
        module = importlib.import_module(_MODULE)
    except ImportError as error:
        raise MissingDependencyError(
            f"torch_neuronx cannot be imported: {error}", advice=_HOW
        ) from error
    if not hasattr(module, "trace"):
        what, advice = _OTHERS["native"]
        raise MissingDependencyError(what, advice=advice)
    return Sdk(module, versions())


@contextmanager
def placed_on(module: ModuleType, core: int) -> Generator[None]:
    """A context in which modules are loaded onto one core.

    Core placement left ``torch_neuronx.experimental`` in SDK 2.25.
    """
    make = getattr(module, "neuron_cores_context", None)
    if make is None:
        make = importlib.import_module(f"{_MODULE}.experimental").neuron_cores_context
    with make(start_nc=core, nc_count=1):
        yield


def override_platform(value: str) -> None:
    """Tell Neuron libraries which target they compile for, where there is no device.

    Raises:
        BackendError: one of them has been imported already, and has looked at it.
    """
    if os.environ.get(OVERRIDE) == value:
        return
    early = sorted({"torch_neuronx", "libneuronxla", "neuronxcc"} & set(sys.modules))
    if early:
        raise BackendError(
            f"{early[0]} was imported before {OVERRIDE} could be set to {value}",
            advice=f"set {OVERRIDE}={value} in the environment of the process",
        )
    os.environ[OVERRIDE] = value


def _release(version: str) -> tuple[int, ...]:
    parts: list[int] = []
    for part in version.split("+", maxsplit=1)[0].split(".")[:2]:
        digits = "".join(letter for letter in part if letter.isdigit())
        parts.append(int(digits or 0))
    return tuple(parts)


def _torch() -> Any:
    return importlib.import_module("torch")
