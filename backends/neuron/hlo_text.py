"""Reads the text of XLA's HLO, as torch_xla gives it: what neuronx-cc is handed by its tracer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from partitioner.backends.neuron.instructions import HLO_DTYPES, Array, Instruction
from partitioner.errors import CompileError

__all__ = ["read_hlo"]

#: ``%name = f32[2,3]{1,0} opcode(operands), attributes``; a tuple's type is in parentheses.
_LINE = re.compile(
    r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\([^=]*?\)|\S+) (?P<opcode>[a-z][\w\-]*)\("
)
_TYPE = re.compile(r"([a-z][a-z0-9]*)\[([^\]]*)\]")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")

#: Attributes of ``window={...}``, by StableHLO's names: for a convolution, for a reduction.
_WINDOW = {"stride": "window_strides", "lhs_dilate": "lhs_dilation", "rhs_dilate": "rhs_dilation"}
_POOL = {
    "stride": "window_strides",
    "lhs_dilate": "base_dilations",
    "rhs_dilate": "window_dilations",
}


def read_hlo(text: str) -> list[Instruction]:
    """The instructions of the entry computation, in order, without its parameters.

    Raises:
        CompileError: the text has no entry computation.
    """
    computations = dict(_computations(text))
    if "ENTRY" not in computations:
        raise CompileError("the text of HLO has no entry computation")
    inner = {name: tuple(_opcodes(lines)) for name, lines in computations.items()}
    return list(_instructions(computations["ENTRY"], inner))


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name -> its lines; the entry is called ``ENTRY``."""
    name, lines = "", list[str]()
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head is not None:
            name, lines = "ENTRY" if head["entry"] else head["name"], []
        elif line.startswith("}"):
            yield name, lines
        else:
            lines.append(line)


def _opcodes(lines: list[str]) -> Iterator[str]:
    for line in lines:
        found = _LINE.match(line)
        if found is not None and found["opcode"] != "parameter":
            yield found["opcode"]


def _instructions(lines: list[str], inner: dict[str, tuple[str, ...]]) -> Iterator[Instruction]:
    types: dict[str, tuple[Array, ...]] = {}
    constants: set[str] = set()
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        name, opcode = found["name"], found["opcode"]
        types[name] = tuple(_arrays(found["type"]))
        if opcode == "parameter":
            continue
        operands, attributes = _split(line[found.end() :])
        reads = [n for n in re.findall(r"%([\w.\-]+)", operands) if n in types]
        constant = all(one in constants for one in reads)
        if constant:
            constants.add(name)
        arrays = tuple(array for one in reads for array in types[one])
        yield Instruction(
            opcode,
            arrays,
            types[name],
            _attributes(opcode, operands, attributes, arrays, inner)
            | _places(opcode, reads, constants),
            _place(attributes),
            constant,
        )


def _arrays(text: str) -> Iterator[Array]:
    for dtype, shape in _TYPE.findall(text):
        sizes = (n.strip() for n in shape.split(",")) if shape else ()
        yield Array(
            HLO_DTYPES.get(dtype, dtype), tuple(int(n) if n.isdigit() else None for n in sizes)
        )


def _split(rest: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes the operands, and behind it."""
    depth = 1
    for index, letter in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return rest[:index], rest[index + 1 :]
    return rest, ""


def _place(attributes: str) -> str | None:
    """``op_type`` of the metadata, which torch_xla writes where XLA_IR_DEBUG is set."""
    found = re.search(r'op_type="([^"]*)"', attributes)
    return found[1] if found else None


# --- attributes ---------------------------------------------------------------------------------


def _attributes(
    opcode: str,
    operands: str,
    text: str,
    arrays: tuple[Array, ...],
    inner: dict[str, tuple[str, ...]],
) -> dict[str, Any]:
    if opcode == "convolution":
        return {**_window(text, _WINDOW), "output_features": _output_features(text, arrays)}
    if opcode == "dot":
        return _dot(text, arrays)
    if opcode in ("reduce", "scatter", "reduce-window"):
        called = re.search(r"to_apply=%?([\w.\-]+)", text)
        made_of = inner.get(called[1], ()) if called else ()
        return {"computations": made_of, **_window(text, _POOL)}
    if opcode == "gather":
        return {
            "indexed": _dimensions(text, "start_index_map"),
            "collapsed": _dimensions(text, "collapsed_slice_dims"),
        }
    if opcode == "custom-call":
        target = re.search(r'custom_call_target="([^"]*)"', text)
        return {"target": target[1] if target else ""}
    if opcode == "rng-bit-generator":
        algorithm = re.search(r"algorithm=(\w+)", text)
        return {"algorithm": algorithm[1] if algorithm else "default"}
    return _integers(operands, opcode)


def _window(text: str, names: dict[str, str]) -> dict[str, tuple[int, ...]]:
    found = re.search(r"window=\{([^}]*)\}", text)
    pairs = [pair.partition("=") for pair in found[1].split()] if found else []
    return {
        names[key]: tuple(int(n) for n in value.split("x"))
        for key, _, value in pairs
        if key in names
    }


def _dimensions(text: str, name: str) -> tuple[int, ...]:
    found = re.search(rf"{name}=\{{([^}}]*)\}}", text)
    return tuple(int(n) for n in found[1].split(",") if n.strip()) if found else ()


def _dot(text: str, arrays: tuple[Array, ...]) -> dict[str, int]:
    shape = arrays[0].shape
    sizes = {"contracted": 1, "batch": 1}
    for name, key in (("lhs_contracting_dims", "contracted"), ("lhs_batch_dims", "batch")):
        for dimension in _dimensions(text, name):
            sizes[key] *= shape[dimension] or 1
    return sizes


def _output_features(text: str, arrays: tuple[Array, ...]) -> int | None:
    labels = re.search(r"dim_labels=\w+_(\w+)->", text)
    return arrays[1].shape[labels[1].index("o")] if labels and len(arrays) > 1 else None


def _integers(operands: str, opcode: str) -> dict[str, Any]:
    if opcode != "constant" or not re.fullmatch(r"[\s\d,{}\-]+", operands):
        return {}
    numbers = [int(n) for n in re.findall(r"-?\d+", operands)]
    return {"integers": (min(numbers), max(numbers))} if numbers else {}


def _places(opcode: str, reads: list[str], constants: set[str]) -> dict[str, Any]:
    if opcode != "dynamic-update-slice":
        return {}
    return {"constant_indices": all(one in constants for one in reads[2:])}
