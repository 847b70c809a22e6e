"""Runs StableHLO on the CPU by IREE: is the lowered program still the segment?

In this process, so whoever calls it calls it from a worker. IREE is an extra
(``partitioner[stablehlo]``).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from partitioner.errors import CompileError

__all__ = ["compile_module", "run_module"]

_FLAGS = (
    "--iree-input-type=stablehlo",
    "--iree-hal-target-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
    # The program is run once or twice: code that is quick to make is worth more than quick code.
    "--iree-opt-level=O0",
)

#: Dtypes that NumPy does not have by itself.
_ML_DTYPES = {
    torch.bfloat16: (torch.int16, "bfloat16"),
    torch.float8_e4m3fn: (torch.int8, "float8_e4m3fn"),
    torch.float8_e5m2: (torch.int8, "float8_e5m2"),
}


def compile_module(text: str | bytes) -> bytes:
    """A program for this machine's CPU.

    Args:
        text: MLIR, the function ``main`` in StableHLO.

    Raises:
        CompileError: IREE does not take it.
    """
    api: Any = importlib.import_module("iree.compiler.api")
    data = text.encode() if isinstance(text, str) else text
    with api.Session() as session:
        session.set_flags(*_FLAGS)
        # IREE wants text to end with a zero.
        source = api.Source.wrap_buffer(session, data + b"\0")
        run = session.invocation()
        run.enable_console_diagnostics()
        if not run.parse_source(source) or not run.execute():
            raise CompileError(
                "IREE does not compile the segment's StableHLO",
                advice="what it said is in the log; this says nothing of Neuron",
            )
        with api.Output.open_membuffer() as output:
            run.output_vm_bytecode(output)
            return bytes(output.map_memory())


def run_module(program: bytes, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Run ``main`` once, on all cores.

    Raises:
        CompileError: it fails.
    """
    runtime: Any = importlib.import_module("iree.runtime")
    config = runtime.Config("local-task")
    loaded = runtime.VmModule.copy_buffer(config.vm_instance, program)
    module = runtime.load_vm_module(loaded, config)
    try:
        results = module["main"](*map(_array, arguments))
    except (RuntimeError, ValueError) as error:
        raise CompileError(
            f"IREE does not run the segment: {str(error).splitlines()[0]}",
            advice="this says nothing of Neuron",
        ) from error
    listed = results if isinstance(results, tuple | list) else [results]
    return [_tensor(one) for one in listed]


def _array(tensor: torch.Tensor) -> Any:
    tensor = tensor.detach().contiguous()
    if tensor.dtype not in _ML_DTYPES:
        return tensor.numpy()
    import ml_dtypes

    raw, name = _ML_DTYPES[tensor.dtype]
    return tensor.view(raw).numpy().view(getattr(ml_dtypes, name))


def _tensor(result: Any) -> torch.Tensor:
    array = np.array(result.to_host() if hasattr(result, "to_host") else result)
    for dtype, (raw, name) in _ML_DTYPES.items():
        if array.dtype.name == name:
            return torch.from_numpy(array.view(str(raw).removeprefix("torch."))).view(dtype)
    return torch.from_numpy(array)
