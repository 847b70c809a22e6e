"""Stands for torch_neuronx; see tests/neuron_standin/__init__.py.

What it does, and in which words, is documented in api-torch-neuronx-trace, core-placement and
async-lazy-load of AWS Neuron SDK 2.32.0, or known from source and reports.

Files beside it say how it is to behave: ``fail`` names a way in which compiling fails, ``load``
what loading says, ``cores`` how many cores there are (0: no device), ``slow`` which models take
long (``inline`` or ``separate``, by where their weights are).
"""

import ctypes
import importlib.metadata
import io
import itertools
import json
import os
import signal
import sys
import tarfile
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from neffs import neff, tarball

sys.path.pop(0)

__version__ = importlib.metadata.version("torch-neuronx")
_RELEASE = tuple(int(n) for n in __version__.split(".")[:2])

#: The platform that was named before the import; changes after it are not seen.
_platform = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE")

#: (first core, how many) of each model that was loaded, in order.
placements = []

#: Cores that weights were moved to.
moved = []

#: Called with a model within each call of it, if it is set: a test may wait there for another.
during = None

_context = None
_turn = 0


def _setting(name, default=""):
    file = Path(__file__).parent.parent / name
    return file.read_text() if file.exists() else default


class EncodeError(Exception):
    """As google.protobuf has it."""


def trace(
    func,
    example_inputs,
    *_,
    input_output_aliases={},  # noqa: B006 - the documented signature
    compiler_workdir=None,
    compiler_args=None,
    partitioner_config=None,
    inline_weights_to_neff=True,
    cpu_backend=False,
    **kwargs,
):
    for name in kwargs:
        warnings.warn(f"trace got an unknown keyword argument {name!r}", UserWarning, stacklevel=1)
    args = compiler_args.split() if isinstance(compiler_args, str) else list(compiler_args or ())
    options = dict(itertools.pairwise(args))
    _check_target(cpu_backend, options.get("--target"))
    example_inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    _warn_duplicates(example_inputs)
    workdir = Path(compiler_workdir or "neuron-workdir")
    (workdir / "model").mkdir(parents=True)
    (workdir / "command.txt").write_text(
        f"neuronx-cc compile {workdir}/model --framework XLA --target trn1 "
        f"--output {workdir}/graph.neff {' '.join(args)}"
    )
    _fail(_setting("fail"), workdir)
    lnc = _lnc(options)
    build = importlib.metadata.version("neuronx-cc").encode()
    program = _program(func, example_inputs, args, inline_weights_to_neff)
    made = neff(tarball(program), build=build, lnc=lnc)
    (workdir / "graph.neff").write_bytes(made)
    module = _Compiled(func, made)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example_inputs, check_trace=False)
    _warn_unused(traced, example_inputs)
    return traced


def _program(func, inputs, args, inline):
    """Stands for instructions: which tensors there are."""
    with torch.no_grad():
        results = func(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    shapes = [list(one.shape) for one in results]
    types = [[list(one.shape), str(one.dtype)] for one in inputs]
    document = {"args": args, "inputs": len(inputs), "types": types, "outputs": shapes}
    return json.dumps({**document, "inline": inline}).encode()


def _lnc(options):
    newer = options["--target"] in ("trn2", "trn3")
    lnc = int(options.get("--lnc", 2 if newer else 1))
    if lnc > 1 and not newer:
        raise RuntimeError("[NCC_EARG001] neuronx-cc failed with 70")
    return lnc


class _Compiled(torch.nn.Module):
    """The module, and what the compiler made of it."""

    def __init__(self, func, made):
        super().__init__()
        self.func = func
        self.register_buffer("neff", torch.frombuffer(bytearray(made), dtype=torch.uint8))

    def forward(self, *inputs):
        return self.func(*inputs)


def _check_target(cpu_backend, target):
    if not cpu_backend:
        if _cores() == 0:
            raise RuntimeError("The PyTorch Neuron Runtime could not be initialized")
        return
    if target not in ("trn1", "inf2", "trn1n", "trn2", "trn3"):
        raise RuntimeError(
            "If you want to compile on CPU, please supply compiler argument target, with one of "
            "options trn1, inf2, trn1n, or trn2"
        )
    wanted = {"inf2": "trn1", "trn1n": "trn1"}.get(target, target)
    if _platform != wanted:
        raise RuntimeError(f"the platform was {_platform} when torch_neuronx was imported")


def _warn_duplicates(inputs):
    if len({id(one) for one in inputs}) < len(inputs):
        warnings.warn("Duplicate inputs were merged", UserWarning, stacklevel=2)


def _warn_unused(traced, inputs):
    used = list(traced.inlined_graph.inputs())[1:]
    if len(used) == len(inputs) and any(not one.uses() for one in used):
        warnings.warn("Unused inputs were removed", UserWarning, stacklevel=2)


def _count():
    """How many models were compiled since behaviour was last set, this one included."""
    file = Path(__file__).parent.parent / "count"
    number = int(file.read_text()) + 1 if file.exists() else 1
    file.write_text(str(number))
    return number


def _fail(way, workdir):
    """Ways in which compiling has been seen to fail; ``way@2`` at the second model only."""
    way, _, turn = way.partition("@")
    if turn and _count() != int(turn):
        return
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "segfault":
        ctypes.string_at(0)
    if way == "hang":
        time.sleep(600)
    if way == "missing":
        raise RuntimeError("neuronx-cc is not installed. Please install it")
    if way == "encode":
        raise EncodeError("Failed to serialize proto")
    kind, _, detail = way.partition(":")
    if kind == "status":
        raise RuntimeError(f"neuronx-cc failed with {detail}")
    if kind == "code":
        (workdir / "log-neuron-cc.txt").write_text(f"ERROR [NCC_{detail}] as documented\n")
        raise RuntimeError("neuronx-cc failed with 70")
    if kind == "warn":
        warnings.warn(detail, UserWarning, stacklevel=3)
    if kind == "print":
        print(detail)
        raise RuntimeError("neuronx-cc failed with 1")
    if kind == "raise":
        raise RuntimeError(detail)


def lazy_load(trace, enable_lazy_load=True):
    trace.lazy = enable_lazy_load


def async_load(trace, enable_async_load=True):
    trace.asynchronous = enable_async_load


def move_trace_to_device(trace, device_id):
    moved.append(device_id)


def set_neuron_cores(trace, start_nc=-1, nc_count=-1):
    _check_cores(start_nc, nc_count)
    placements[-1] = (start_nc, nc_count)


@contextmanager
def _cores_context(start_nc=-1, nc_count=-1):
    global _context
    _check_cores(start_nc, nc_count)
    before, _context = _context, (start_nc, nc_count)
    try:
        yield
    finally:
        _context = before


def _cores():
    return int(_setting("cores", "2"))


def _check_cores(start, count):
    if _cores() == 0:
        raise RuntimeError("The PyTorch Neuron Runtime could not be initialized: No neuron device")
    if start < 0 or count < 1 or start + count > _cores():
        raise ValueError(f"invalid cores: start_nc={start}, nc_count={count}")


_load = torch.jit.load


def _placing_load(path, *args, **kwargs):
    """Loading places a model on a core: that of the context, or the next one in turn."""
    global _turn
    said = _setting("load")
    if said:
        raise RuntimeError(said)
    if _cores() == 0:
        raise RuntimeError("The PyTorch Neuron Runtime could not be initialized: No neuron device")
    loaded = _OnDevice(_load(path, *args, **kwargs))
    if _context is None:
        placements.append((_turn % _cores(), 1))
        _turn += 1
    else:
        placements.append(_context)
    loaded.core = placements[-1][0]
    return loaded


class _OnDevice:
    """A compiled module: shapes and dtypes are frozen, and it has one caller at a time."""

    def __init__(self, module):
        body = bytes(module.neff.numpy())[1024:]
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            program = json.load(archive.extractfile("sg00/def.json"))
        self.types = program["types"]
        own = "inline" if program["inline"] else "separate"
        self._seconds = 0.01 if _setting("slow") == own else 0
        self._module = module
        self._busy = threading.Lock()

    def __call__(self, *inputs):
        found = [[list(one.shape), str(one.dtype)] for one in inputs]
        if found != self.types:
            raise RuntimeError(f"the model was compiled for {self.types}, not for {found}")
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("two threads call one model")
        try:
            time.sleep(self._seconds)
            if during is not None:
                during(self)
            return self._module(*inputs)
        finally:
            self._busy.release()


def uninstall():
    torch.jit.load = _load


if _RELEASE >= (2, 10):
    del trace, lazy_load, async_load
elif _RELEASE < (1, 13):
    del trace
else:
    torch.jit.load = _placing_load
    if _RELEASE >= (2, 8):
        neuron_cores_context = _cores_context
    if _RELEASE < (2, 5):
        _full = trace

        def trace(func, example_inputs, *_, compiler_workdir=None, compiler_args=None, **kwargs):
            for name in kwargs:
                warnings.warn(f"unknown keyword argument {name!r}", UserWarning, stacklevel=1)
            return _full(func, example_inputs, compiler_workdir=compiler_workdir)
