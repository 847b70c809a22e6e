"""Writes ``table.json``: what ``torch.onnx`` translates and ONNX Runtime's CPU kernels lack.

    python -m partitioner.backends.onnx.table

asks the installed versions. An op is in the table if the exporter's registry has a translation of
it; what the exporter takes apart, the evaluator takes apart by the same decompositions.

Dtypes are looked up in ONNX Runtime's registry of kernels, for translations that are nothing but
one ONNX op on the first operand: of others it cannot be told which kernel a dtype reaches.
"""

from __future__ import annotations

import ast
import datetime as dt
import importlib
import importlib.metadata
import inspect
import json
import logging
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from partitioner.compression.ops import OVERLOAD

__all__ = ["make_table", "write_table"]

#: The opset of artifacts; see :data:`partitioner.backends.onnx.compile.OPSET`.
_OPSET = 20

#: NumPy name -> ONNX Runtime's. What its kernels compute in; bfloat16 has no arithmetic there.
_DTYPES = {
    "bool": "tensor(bool)",
    "uint8": "tensor(uint8)",
    "int8": "tensor(int8)",
    "int16": "tensor(int16)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "float16": "tensor(float16)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
}

#: What the exporter's optimiser replaces by other ops, so that its kernels do not count.
_REPLACED = frozenset(["Einsum", "SplitToSequence"])


def make_table() -> dict[str, Any]:
    """The table of the installed versions, as ``table.json`` holds it."""
    versions = {name: _version(name) for name in ("torch", "onnxscript", "onnxruntime")}
    rows: dict[str, Any] = {str(OVERLOAD): {"evidence": ["contrib"]}}
    for name, translations in _registry().functions.items():
        real = [t for t in translations if not t.is_complex]
        if isinstance(name, str) and real:
            rows[_overload(name)] = {"evidence": ["exporter"], **_refused(real)}
    return {
        "label": "ONNX Runtime",
        "version": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "closed": True,
        "dtypes": list(_DTYPES),
        "refused_dtypes": {
            "bfloat16": {
                "message": "ONNX Runtime's CPU kernels do not compute in bfloat16",
                "advice": "compute in float32; weights may be stored in bfloat16",
            }
        },
        "evidence": {
            "exporter": {
                "source": f"translations of torch.onnx, torch {versions['torch']} with "
                f"onnxscript {versions['onnxscript']}; CPU kernels of "
                f"ONNX Runtime {versions['onnxruntime']}",
                "grade": "registry",
            },
            "contrib": {
                "source": "com.microsoft.MatMulNBits of ONNX Runtime",
                "grade": "documented",
            },
        },
        "rows": dict(sorted(rows.items())),
    }


def write_table(path: Path) -> None:
    """Write the table of the installed versions; a row a line, so that changes can be read."""
    document = make_table()
    rows = [f"    {json.dumps(op)}: {json.dumps(row)}" for op, row in document.pop("rows").items()]
    head = json.dumps(document, indent=2).removesuffix("\n}")
    text = f'{head},\n  "rows": {{\n' + ",\n".join(rows) + "\n  }\n}\n"
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.rename(path)


def _version(name: str) -> str:
    return importlib.metadata.version(name).partition("+")[0]


def _registry() -> Any:
    """The exporter's translations."""
    from torch.onnx._internal.exporter import _registration

    # It says for each op of torchvision that torchvision is not there.
    log = logging.getLogger(_registration.__name__)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return cast(Any, _registration.ONNXRegistry).from_torchlib()
    finally:
        log.setLevel(level)


def _overload(name: str) -> str:
    """``aten.abs.default`` of ``aten::abs``."""
    text = name.replace("::", ".")
    return text if text.count(".") > 1 else f"{text}.default"


# --- dtypes -------------------------------------------------------------------------------------


def _refused(translations: list[Any]) -> dict[str, Any]:
    """Dtypes of the first operand that the translation takes and the kernel does not."""
    if len(translations) != 1:
        return {}
    op = _only_op(translations[0].onnx_function)
    kernels = None if op is None else _kernel_types(op)
    if kernels is None:
        return {}
    allowed = {str(t) for t in translations[0].signature.params[0].type_constraint.allowed_types}
    refused = [
        name
        for name, kernel in _DTYPES.items()
        if _onnx_name(name) in allowed and kernel not in kernels
    ]
    # ONNX Runtime casts float16 to float32 and back around a kernel that lacks it.
    if "tensor(float)" in kernels:
        refused = [name for name in refused if name != "float16"]
    return {"refuses": refused} if refused else {}


def _onnx_name(name: str) -> str:
    return {"float32": "FLOAT", "float64": "DOUBLE"}.get(name, name.upper())


def _only_op(translation: Any) -> str | None:
    """``Sin`` of a function that is ``return op.Sin(self)``, whatever else the call is given."""
    function = getattr(translation, "func", translation)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    body = [s for s in tree.body if not _is_text(s)]
    match body:
        case [
            ast.Return(
                ast.Call(
                    func=ast.Attribute(value=ast.Name(id="op"), attr=name),
                    args=[ast.Name(id=first), *_],
                )
            )
        ] if tree.args.args and first == tree.args.args[0].arg:
            return name
        case _:
            return None


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _kernel_types(op: str) -> set[str] | None:
    """What the CPU kernels of an ONNX op take as first input; None where they do not decide."""
    import onnx
    from onnx.defs import SchemaError

    try:
        schema = cast(Any, onnx).defs.get_schema(op, _OPSET)
    except SchemaError:
        return None
    # Such an op is expanded where it has no kernel.
    expands = schema.has_function or schema.has_context_dependent_function
    if expands or op in _REPLACED:
        return None
    found: set[str] = set()
    for constraints in _cpu_kernels(op):
        if schema.inputs[0].type_str not in constraints:
            return None
        found |= set(constraints[schema.inputs[0].type_str])
    return found or None


def _cpu_kernels(op: str) -> Iterator[dict[str, list[str]]]:
    native = cast(Any, importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state"))
    for kernel in native.get_all_opkernel_def():
        first, last = kernel.version_range
        here = kernel.provider == "CPUExecutionProvider" and kernel.domain == ""
        if here and kernel.op_name == op and first <= _OPSET <= last:
            yield kernel.type_constraints


if __name__ == "__main__":
    write_table(Path(__file__).with_name("table.json"))
