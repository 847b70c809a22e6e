"""A stand-in for the Neuron SDK, which is not to be had without its own package index and hardware.

``site/`` has modules of the SDK's names, with the signatures, behaviours and failures that its
documentation tells of; they compile by TorchScript. :func:`install` makes an environment with them
look as one of the releases that carry the name torch-neuronx.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from partitioner.backends.worker import stop_worker
from partitioner.runtime import host

SITE = Path(__file__).parent / "site"

XLA, NATIVE, STUB = "2.9.0.2.15.32035", "2.13.3.0", "1.0"
OLD, BEFORE_STABLE = "1.13.1.1.12.0", "2.7.0.2.8.6734"

_MODULES = ("torch_neuronx", "neuronxcc", "nrtpy")


@contextmanager
def install(folder: Path, version: str = XLA, compiler: str = "2.27.5334.0") -> Generator[Path]:
    """Let this process and those it starts find the stand-in.

    This host then has a device, too.

    Args:
        folder: an empty one, which becomes the first place that modules are looked for in.
        version: of torch-neuronx; what its module has depends on it.
        compiler: of neuronx-cc.
    """
    for name, number in (("torch-neuronx", version), ("neuronx-cc", compiler)):
        info = folder / f"{name.replace('-', '_')}-{number}.dist-info"
        info.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
        (info / "METADATA").write_text(text)
    for name in _MODULES:
        (folder / name).symlink_to(SITE / name)
    # A file that is there stands for the driver's.
    device, host._DEVICES["neuron"] = host._DEVICES["neuron"], "dev/null"
    host.this_host.cache_clear()
    before = {name: os.environ.get(name) for name in _VARIABLES}
    own = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{own}" if own else str(folder)
    sys.path.insert(0, str(folder))
    _forget()
    stop_worker()
    try:
        yield folder
    finally:
        host._DEVICES["neuron"] = device
        host.this_host.cache_clear()
        sys.path.remove(str(folder))
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _forget()
        stop_worker()


def behave(folder: Path, **settings: str) -> None:
    """Let what is installed in a folder behave in a way; without settings as it should."""
    for name in ("fail", "load", "cores", "slow", "count"):
        (folder / name).unlink(missing_ok=True)
    for name, text in settings.items():
        (folder / name).write_text(text)


_VARIABLES = ("PYTHONPATH", "NEURON_PLATFORM_TARGET_OVERRIDE")


def _forget() -> None:
    module = sys.modules.get("torch_neuronx")
    if module is not None and hasattr(module, "uninstall"):
        module.uninstall()
    for name in [n for n in sys.modules if n.partition(".")[0] in _MODULES]:
        del sys.modules[name]
    importlib.invalidate_caches()


def two_cores(folder: Path) -> Generator[Path]:
    """The body of a fixture: the stand-in on a host with two cores, and no worker that knows it."""
    with install(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURON_RT_VISIBLE_CORES", "0-1")
        yield folder
    stop_worker()
