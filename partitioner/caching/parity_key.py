"""What the outcome of the parity check depends on.

The check is run again where any of it changes. What it cannot see, and so is trusted, stands in
``docs/compile-cache.md``.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import fx

from partitioner.artifacts.codec import encode
from partitioner.artifacts.digest import digest_bytes, digest_file
from partitioner.artifacts.jsontext import dumps
from partitioner.artifacts.manifest import Artifact, Tolerance
from partitioner.backends import find_backend
from partitioner.backends.facts import OURS, code_digest, processor, versions_of
from partitioner.backends.graphs import encode_argument, encode_type
from partitioner.batching import Bucket
from partitioner.caching.keys import Key, Part, part
from partitioner.capture.module_paths import find_modules
from partitioner.capture.sources import portable
from partitioner.capture.structure import named_leaves
from partitioner.cases import Case
from partitioner.frontend import PARITY_SEED
from partitioner.plan import Plan
from partitioner.prepared import Prepared
from partitioner.program import Program
from partitioner.runtime.cpus import usable_cpus
from partitioner.weights import tensor_bytes

__all__ = ["parity_key"]

#: Packages whose versions say all about their code.
_VERSIONED = ("builtins", "torch", "numpy")


def parity_key(
    module: Any,
    bucket: Bucket,
    prepared: Prepared,
    artifacts: Mapping[str, Artifact],
    tolerance: Tolerance,
) -> Key | None:
    """The key of checking a build.

    None where something has no text that means it: an option or input that is an object, code of
    which there is no file.

    - ``program``: every variant as captured, before any pass: ops, arguments, types, draws;
    - ``weights``: the numbers of all its constants;
    - ``examples``: example inputs and options of every variant;
    - ``code``: the source files of the pipeline, of its modules, of host ops, and of each line that
      the program names;
    - ``artifacts``: what was compiled, to the byte, and the plan that calls it;
    - ``check``: tolerance, seed, and what is a row of what;
    - ``compiler``: versions of torch, NumPy and the backends' libraries, and all of our own code
      and that of backends which others bring;
    - ``target``: the processor and how many of them may be used.
    """
    cases = prepared.cases
    examples = _examples(bucket.example_inputs, cases)
    files = _code_files(module, prepared)
    if examples is None or not all(path.is_file() for path in files):
        return None
    return Key(
        (
            part("program", [_program(c.captured.program) for c in cases], _program_facts(cases)),
            _weights_part(cases),
            part("examples", examples, {**examples["inputs"], "options": examples["options"]}),
            _code_part(files),
            _artifacts_part(artifacts, cases),
            part("check", _check(tolerance, bucket)),
            part("compiler", _versions(artifacts)),
            part("target", {"processor": processor(), "cpus": usable_cpus()}),
        )
    )


def _check(tolerance: Tolerance, bucket: Bucket) -> dict[str, Any]:
    return {
        "tolerance": encode(tolerance),
        "seed": PARITY_SEED,
        "rows": None if bucket.batch is None else encode(bucket.batch),
        "range": None if bucket.span is None else str(bucket.span),
    }


# --- the program --------------------------------------------------------------------------------


def _program(program: Program) -> Any:
    return {
        "graphs": {name: _graph(graph) for name, graph in program.all_graphs()},
        "inputs": [encode(spec) for spec in program.inputs],
        "outputs": list(program.outputs),
        "draws": [encode(sequence) for sequence in program.draws],
    }


def _graph(graph: fx.Graph) -> Any:
    return [
        [
            node.op,
            node.name,
            _target(node),
            encode_argument(node.args),
            encode_argument(dict(node.kwargs)),
            encode_type(node.meta.get("type")),
        ]
        for node in graph.nodes
    ]


def _target(node: fx.Node) -> str:
    """The op by name; the text of a Python function would hold its address."""
    return getattr(node.target, "__qualname__", str(node.target)) if node.op != "output" else ""


def _program_facts(cases: Sequence[Case]) -> dict[str, str]:
    program = cases[0].captured.program
    graphs = {name: f"{len(graph.nodes)} nodes" for name, graph in program.all_graphs()}
    return {"variants": str(len(cases)), **graphs}


def _weights_part(cases: Sequence[Case]) -> Part:
    known: dict[int, str] = {}

    def digest(tensor: torch.Tensor) -> str:
        # Variants share their modules' tensors.
        if id(tensor) not in known:
            known[id(tensor)] = digest_bytes(tensor_bytes(tensor))
        return known[id(tensor)]

    rows = [
        {name: digest(t) for name, t in sorted(case.captured.program.constants.items())}
        for case in cases
    ]
    stages: dict[str, list[str]] = {}
    for name, text in rows[0].items():
        stages.setdefault(name.partition(".")[0] if "." in name else "constants", []).append(text)
    return part("weights", rows, {name: digest_bytes(dumps(t)) for name, t in stages.items()})


def _examples(example_inputs: Mapping[str, Any], cases: Sequence[Case]) -> dict[str, Any] | None:
    """Inputs and options; None if one is an object that has no text."""
    leaves = {
        name: leaf
        for argument, value in example_inputs.items()
        for name, leaf in named_leaves(value, argument).items()
    }
    values = [*leaves.values(), *(v for case in cases for v in case.options.values())]
    if not all(_is_plain(value) for value in values):
        return None
    return {
        "inputs": {name: _text(leaf) for name, leaf in leaves.items()},
        "options": [{n: _text(v) for n, v in case.options.items()} for case in cases],
    }


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, torch.Tensor | bool | int | float | str)


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{digest_bytes(tensor_bytes(value))} {value.dtype} {list(value.shape)}"
    return repr(value)


def _artifacts_part(artifacts: Mapping[str, Artifact], cases: Sequence[Case]) -> Part:
    made = {name: encode(artifact) for name, artifact in artifacts.items()}
    plans = [encode(_without_sources(case.plan)) for case in cases]
    facts = {name: digest_bytes(dumps(one)) for name, one in made.items()}
    facts["plan"] = digest_bytes(dumps(plans))
    return part("artifacts", {"artifacts": made, "plans": plans}, facts)


def _without_sources(plan: Plan) -> Plan:
    """Lines of code count by their content, wherever it lies."""
    segments = {name: replace(info, sources=()) for name, info in plan.segments.items()}
    return replace(plan, segments=segments)


def _versions(artifacts: Mapping[str, Artifact]) -> dict[str, str]:
    libraries = {lib for a in artifacts.values() for lib in find_backend(a.backend).requires}
    versions = versions_of("torch", "numpy", *sorted(libraries))
    executors = {find_backend(a.backend).executor.partition(":")[0] for a in artifacts.values()}
    # A backend may be another package's.
    others = {module.partition(".")[0] for module in executors if module} - {OURS[0]}
    return {**versions, "code": code_digest(*OURS, *sorted(others))}


# --- the user's code ----------------------------------------------------------------------------


def _code_files(module: Any, prepared: Prepared) -> list[Path]:
    """Source files, sorted; a name that is no file where there is no source."""
    paths = set(_lines(prepared))
    paths |= {_defined_in(op.function) for op in prepared.program.host_ops.values()}
    objects = (module, *find_modules(module).values())
    packages = {_package(one) for one in objects} - set(_VERSIONED)
    paths |= {_defined_in(one) for one in objects if _package(one) in packages}
    for name, loaded in list(sys.modules.items()):
        file = getattr(loaded, "__file__", None)
        if file and name.partition(".")[0] in packages:
            paths.add(file)
    return [Path(path) for path in sorted(paths)]


def _code_part(files: Sequence[Path]) -> Part:
    """By content: neither where files lie nor what they are called counts."""
    digests = [(portable(f"{path}:").rstrip(":"), digest_file(path)) for path in files]
    return part("code", sorted(digest for _, digest in digests), dict(digests))


def _package(one: Any) -> str:
    return _maker(one).__module__.partition(".")[0]


def _maker(one: Any) -> Any:
    """The function itself, also inside of a method or partial, or the class of any other object."""
    while isinstance(one, functools.partial | MethodType):
        one = one.func if isinstance(one, functools.partial) else one.__func__
    return one if inspect.isfunction(one) else type(one)


def _defined_in(one: Any) -> str:
    """The file of its code; no file's name for what was typed in."""
    maker = _maker(one)
    if inspect.isfunction(maker):
        return maker.__code__.co_filename
    return getattr(sys.modules.get(maker.__module__), "__file__", None) or "unknown"


def _lines(prepared: Prepared) -> Iterator[str]:
    """The files of all lines that the captured programs name."""
    for case in prepared.cases:
        for _, graph in case.captured.program.all_graphs():
            for node in graph.nodes:
                source = str(node.meta.get("source", ""))
                if source:
                    yield source.rpartition(":")[0]
