"""Static shapes against a symbolic batch: one graph for each batch size, or one for all.

Stages of the example are exported with a batch dimension that is a symbol, and with each size. Both
are run by ONNX Runtime and by OpenVINO, in turn, on the same inputs. Ratios of medians: above 1 the
graph with the symbol is slower. `filled` compares what a bundle does with three requests (the
static graph for four) with the graph with the symbol, called with three: below 1 it is worth
filling up.

What stands in docs/batches.md about the default was measured with this.

Run: python benchmarks/shapes.py [--size tiny] [--repeat 15] [--backend onnx] [--stage denoiser]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "examples"))

from partitioner.modelfile import load_model

SIZES = (1, 4)
#: Rows that fill the largest size but for one.
REST = 3

Arrays = dict[str, np.ndarray[Any, Any]]
Call = Callable[[Arrays], Any]


def stage(name: str, size: str, rows: int) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A stage of the example, and inputs for so many requests."""
    from bernini.config import IMAGE_SIDE, LATENT_CHANNELS, SIZES

    config = SIZES[size]
    model = load_model(str(ROOT / "examples" / "bernini" / "model.py"), {"size": size})
    module = getattr(model.pipeline, name)
    generator = torch.Generator().manual_seed(rows)
    if name == "encoder":
        return module, {"image": torch.randn(rows, 3, IMAGE_SIDE, IMAGE_SIDE, generator=generator)}
    grid = (LATENT_CHANNELS, *[config.latent] * 3)
    if name == "decoder":
        return module, {"latent": torch.randn(rows, *grid, generator=generator)}
    # Guidance doubles the rows.
    tokens = config.context_tokens("image")
    return module, {
        "x": torch.randn(2 * rows, *grid, generator=generator),
        "timestep": torch.full((1,), 500.0),
        "context": torch.randn(2 * rows, tokens, config.encoder_width, generator=generator),
    }


def exported(name: str, size: str, rows: int, *, symbolic: bool) -> torch.export.ExportedProgram:
    """The stage for so many requests, or for any number."""
    module, inputs = stage(name, size, rows)
    shapes = None
    if symbolic:
        dim = torch.export.Dim("rows", max=64)
        shapes = {key: {0: dim} if len(tensor) > 1 else {} for key, tensor in inputs.items()}
    return torch.export.export(module.eval(), (), inputs, dynamic_shapes=shapes, strict=False)


# --- backends -----------------------------------------------------------------------------------


def onnx_call(program: torch.export.ExportedProgram, rows: int | None, folder: Path) -> Call:
    import onnxruntime

    path = folder / f"{len(list(folder.iterdir()))}.onnx"
    torch.onnx.export(program, (), str(path), dynamo=True, external_data=True, verbose=False)
    options = onnxruntime.SessionOptions()
    # Sessions that are run in turn must not take each other's cores while they wait.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {given.name for given in session.get_inputs()}
    return lambda arrays: session.run(None, {n: a for n, a in arrays.items() if n in names})


def openvino_call(program: torch.export.ExportedProgram, rows: int | None, folder: Path) -> Call:
    import openvino

    model = openvino.convert_model(program)
    names = [next(iter(port.get_names())) for port in model.inputs]
    if rows is not None:
        shapes = input_shapes(program)
        model.reshape({name: list(shapes[name]) for name in names})
    request = openvino.Core().compile_model(model, "CPU").create_infer_request()
    return lambda arrays: request.infer({name: arrays[name] for name in names})


def input_shapes(program: torch.export.ExportedProgram) -> Mapping[str, tuple[int, ...]]:
    users = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in users]
    return {node.name: tuple(node.meta["val"].shape) for node in nodes}


BACKENDS: dict[str, Callable[..., Call]] = {"onnx": onnx_call, "openvino": openvino_call}


# --- measuring ----------------------------------------------------------------------------------


def milliseconds(calls: list[tuple[Call, Arrays]], repeat: int) -> list[float]:
    """Medians of calls that are made in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(repeat + 2):
        for (call, arrays), own in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(arrays)
            if turn >= 2:
                own.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(own) for own in times]


def measured(name: str, size: str, backend: str, repeat: int) -> dict[str, Any]:
    """Static and symbolic, at each size, and with one row too few."""

    def arrays(rows: int) -> Arrays:
        return {key: tensor.numpy() for key, tensor in stage(name, size, rows)[1].items()}

    with tempfile.TemporaryDirectory() as folder:
        make = BACKENDS[backend]
        static = {
            rows: make(exported(name, size, rows, symbolic=False), rows, Path(folder))
            for rows in SIZES
        }
        largest = max(SIZES)
        symbolic = make(exported(name, size, largest, symbolic=True), None, Path(folder))
        found: dict[str, Any] = {}
        for rows, call in static.items():
            pair = [(call, arrays(rows)), (symbolic, arrays(rows))]
            own, other = milliseconds(pair, repeat)
            found[f"{rows} rows"] = {"static, ms": own, "symbolic, ms": other, "ratio": other / own}
        pair = [(static[largest], arrays(largest)), (symbolic, arrays(REST))]
        own, other = milliseconds(pair, repeat)
        found["filled"] = {"static, ms": own, "symbolic, ms": other, "ratio": own / other}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", default=[])
    parser.add_argument("--stage", action="append", default=[])
    parser.add_argument("--backend", action="append", default=[])
    parser.add_argument("--repeat", type=int, default=15)
    given = parser.parse_args()
    for size in given.size or ["tiny", "base"]:
        for name in given.stage or ["encoder", "denoiser", "decoder"]:
            for backend in given.backend or list(BACKENDS):
                found = measured(name, size, backend, given.repeat)
                print(json.dumps({f"{size} {name} {backend}": found}), flush=True)


if __name__ == "__main__":
    main()
