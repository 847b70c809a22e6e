"""Ways to load and call what was made by hand, torch only where the way needs it.

Each is what a careful user writes: static shapes, float32, all usable CPUs, settings for latency,
tensors shared with NumPy and bound once, nothing copied that need not be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handmade.drivers import Array, Calls
from partitioner.runtime.cpus import usable_cpus

__all__ = ["WAYS", "compiled"]


# --- OpenVINO -----------------------------------------------------------------------------------


def compiled(xml: str, off: bool, cache: Path | None) -> Any:
    """A compiled model; ``off``: without snippets."""
    import openvino as ov

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": usable_cpus(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if off:
        settings["SNIPPETS_MODE"] = "DISABLE"
    core = ov.Core()
    if cache is not None:
        core.set_property({"CACHE_DIR": str(cache)})
    return core.compile_model(xml, "CPU", settings)


def _openvino_call(compiled: Any) -> Callable[..., Array]:
    import openvino as ov

    request = compiled.create_infer_request()
    bound: list[Array | None] = [None] * len(compiled.inputs)
    output = request.get_output_tensor(0).data

    def call(*arrays: Array) -> Array:
        for index, array in enumerate(arrays):
            if bound[index] is not array:
                request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
                bound[index] = array
        request.infer()
        return output

    return call


def _load_openvino(folder: Path, cache: Path | None) -> Calls:
    calls: dict[str, Callable[..., Array]] = {}
    for path in sorted(folder.glob("*.xml")):
        off = path.with_suffix(".snippets").read_text() == "off"
        calls[path.stem] = _openvino_call(compiled(str(path), off, cache))
    return calls


# --- ONNX Runtime -------------------------------------------------------------------------------


def _load_onnx(_: str, folder: Path) -> Calls:
    import onnxruntime as ort

    # One pool for all sessions: pools that spin side by side take several times as long.
    ort.set_global_thread_pool_sizes(usable_cpus(), 1)
    calls: dict[str, Callable[..., Array]] = {}
    for path in sorted(folder.glob("*.onnx")):
        options = ort.SessionOptions()
        options.use_per_session_threads = False
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        calls[path.stem] = _onnx_call(session, ort)
    return calls


def _onnx_call(session: Any, ort: Any) -> Callable[..., Array]:
    binding = session.io_binding()
    names = [value.name for value in session.get_inputs()]
    (result,) = session.get_outputs()
    output = np.empty(result.shape, np.float32)
    binding.bind_ortvalue_output(result.name, ort.OrtValue.ortvalue_from_numpy(output))
    bound: list[Array | None] = [None] * len(names)

    def call(*arrays: Array) -> Array:
        for index, array in enumerate(arrays):
            if bound[index] is not array:
                binding.bind_cpu_input(names[index], array)
                bound[index] = array
        session.run_with_iobinding(binding)
        return output

    return call


# --- torch --------------------------------------------------------------------------------------


def _torch_calls(modules: dict[str, Any]) -> Calls:
    import torch

    torch.set_num_threads(usable_cpus())

    def called(module: Any) -> Callable[..., Array]:
        def call(*arrays: Array) -> Array:
            with torch.no_grad():
                return module(*(torch.from_numpy(array) for array in arrays)).numpy()

        return call

    return {name: called(module) for name, module in modules.items()}


def _load_eager(case: str, _: Path) -> Calls:
    from handmade.cases import make_case

    return _torch_calls(dict(make_case(case).modules))


def _load_compile(case: str, _: Path) -> Calls:
    import torch
    import torch._inductor.config as inductor

    from handmade.cases import make_case

    # Weights are packed for the kernels once; without it products are slower.
    inductor.freezing = True
    modules = make_case(case).modules
    return _torch_calls({name: torch.compile(module) for name, module in modules.items()})


def _load_aoti(_: str, folder: Path) -> Calls:
    import torch

    load: Any = torch._inductor.aoti_load_package
    return _torch_calls({path.stem: load(str(path)) for path in sorted(folder.glob("*.pt2"))})


#: Way -> (kind of files that it loads or none, (case, folder of these files) -> calls).
WAYS: dict[str, tuple[str | None, Callable[[str, Path], Calls]]] = {
    "openvino": ("openvino", lambda _, folder: _load_openvino(folder, None)),
    "openvino, cache": ("openvino", lambda _, folder: _load_openvino(folder, folder / "cache")),
    "onnx": ("onnx", _load_onnx),
    "eager": (None, _load_eager),
    "torch.compile": (None, _load_compile),
    "aoti": ("aoti", _load_aoti),
}
