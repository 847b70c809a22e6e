"""What is made once by hand and kept on disk: modules compiled or exported one by one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import partitioner
from handmade.bundles import BUNDLES
from handmade.cases import Case, make_case

__all__ = ["prepare"]


def _exported(module: nn.Module, example: tuple[Any, ...]) -> Any:
    with torch.no_grad():
        return torch.export.export(module, example, strict=False)


def _make_openvino(case: Case, folder: Path) -> None:
    import openvino as ov

    for name, module in case.modules.items():
        example = case.examples[name]
        # Without shapes the converter makes the inputs dynamic, and kernels slower.
        shapes = [(list(t.shape), ov.Type(t.numpy().dtype)) for t in example]
        model = ov.convert_model(_exported(module, example), input=shapes)
        ov.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
        (folder / f"{name}.snippets").write_text(_snippets(folder / f"{name}.xml"))


#: Compile and run once; some models end the process.
_TRIAL = """
import sys
sys.path[:0] = sys.argv[3:]
from handmade.loading import compiled
compiled(sys.argv[1], sys.argv[2] == "off", None).create_infer_request().infer()
"""


def _snippets(xml: Path) -> str:
    """``off`` where the compiler crashes with them."""
    paths = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]
    for snippets in ("on", "off"):
        command = [sys.executable, "-c", _TRIAL, str(xml), snippets, *paths]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return snippets
    raise SystemExit(f"OpenVINO compiles {xml} in neither way")


def _make_onnx(case: Case, folder: Path) -> None:
    for name, module in case.modules.items():
        program: Any = torch.onnx.export(
            _exported(module, case.examples[name]), dynamo=True, optimize=True, verbose=False
        )
        program.save(str(folder / f"{name}.onnx"), external_data=True)


def _make_aoti(case: Case, folder: Path) -> None:
    for name, module in case.modules.items():
        torch._inductor.aoti_compile_and_package(
            _exported(module, case.examples[name]), package_path=str(folder / f"{name}.pt2")
        )


_MAKERS: dict[str, Callable[[Case, Path], None]] = {
    "openvino": _make_openvino,
    "onnx": _make_onnx,
    "aoti": _make_aoti,
}


def prepare(name: str, kind: str, folder: Path) -> None:
    """Make a case's files of one kind, or a bundle, or the driver's data; what is there is kept."""
    done = folder / f"{kind}.done"
    if done.exists():
        return
    case = make_case(name)
    if kind == "data":
        np.savez(folder / "data.npz", **case.data)
        np.savez(folder / "request.npz", **case.request)
    elif kind in BUNDLES:
        settings = {**case.build, **BUNDLES[kind]}
        partitioner.build(**settings, output=folder / kind, overwrite=True)
    else:
        (folder / kind).mkdir(exist_ok=True)
        _MAKERS[kind](case, folder / kind)
    done.touch()
