"""Asks the libraries of backends whether they really take what the tables say, and the reverse.

Each distinct combination of op, arguments and types is asked about once. All of them go to one job
of the worker, since native code may crash; where it does, the rest is asked one by one, each time
after the op that ended the job. A backend's part is a function ``attempt(graph, constants,
results)``, named by :attr:`BackendInfo.probe`: the graph holds some ops side by side, its nodes
have types, ``results`` are names of what it gives. It raises a :class:`PartitionerError` where the
library refuses the graph.
"""

from __future__ import annotations

import importlib
import json
import operator
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import fx
from torch.fx.node import map_arg

from partitioner.backends.decomposed import signature
from partitioner.backends.execution import BackendInfo
from partitioner.backends.graphs import from_json, to_json
from partitioner.backends.verdicts import Judge, Rejected, Verdict
from partitioner.backends.worker import run_job
from partitioner.errors import CompileError, PartitionerError
from partitioner.program import TensorType

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["Difference", "ProbeReport", "Results", "probe", "run"]

#: Names of what a graph gives, in order.
Results = Sequence[str]

#: How many source lines a difference names.
_SOURCES = 5


@dataclass(frozen=True)
class Difference:
    """A node on which table and library do not agree.

    Attributes:
        op: its overload.
        types: of its operands and results, for people.
        table: the verdict.
        refusal: what the library says against it; empty where it takes it.
        sources: some of the user's lines that have it.
        count: how many nodes of the program are like it.
    """

    op: str
    types: str
    table: Verdict
    refusal: str
    sources: tuple[str, ...]
    count: int

    @property
    def is_promise(self) -> bool:
        """Whether the table takes what the library refuses; else it refuses what that takes."""
        return not isinstance(self.table, Rejected)


@dataclass(frozen=True)
class ProbeReport:
    """What came of asking one backend.

    Attributes:
        backend: its name.
        asked: how many distinct nodes.
        nodes: how many nodes of the program those stand for.
        differences: in the order of the program.
        missing: modules for want of which it could not be asked.
        note: why it was not asked, if it was not; else empty.
    """

    backend: str
    asked: int = 0
    nodes: int = 0
    differences: tuple[Difference, ...] = ()
    missing: tuple[str, ...] = ()
    note: str = ""


def probe(
    info: BackendInfo,
    nodes: Iterable[fx.Node],
    target: Target,
    *,
    judge: Judge | None = None,
    timeout_s: float = 600.0,
) -> ProbeReport:
    """Ask a backend about nodes of a program.

    Args:
        nodes: aten ops. One with a size that only data decide is not asked about.
        judge: another one than the backend's own.
        timeout_s: for each job, of which there is one more for each crash.

    Raises:
        CompileError: the worker cannot be started, or its time is over.
    """
    missing = tuple(info.missing_to_build())
    if missing:
        return ProbeReport(info.name, missing=missing, note=f"not installed: {', '.join(missing)}")
    if not info.probe:
        return ProbeReport(info.name, note="this version has no probe for it")
    judge = judge or info.make_judge()
    alike: dict[str, list[fx.Node]] = {}
    for node in nodes:
        if _is_static(node):
            alike.setdefault(signature(node), []).append(node)
    cases = list(alike.values())
    refusals = _ask(info, [_graph_of(same[0]) for same in cases], timeout_s)
    found = [
        _difference(same, verdict, refusal)
        for same, refusal in zip(cases, refusals, strict=True)
        if isinstance(verdict := judge.verdict(same[0], target), Rejected) != bool(refusal)
    ]
    return ProbeReport(info.name, len(cases), sum(map(len, cases)), tuple(found))


def _difference(same: Sequence[fx.Node], verdict: Verdict, refusal: str) -> Difference:
    node = same[0]
    reads = ", ".join(_type_text(n) for n in node.all_input_nodes)
    sources = dict.fromkeys(str(n.meta.get("source", "")) for n in same)
    lines = tuple(line for line in sources if line)[:_SOURCES]
    types = f"({reads}) -> {_type_text(node)}"
    return Difference(str(node.target), types, verdict, refusal, lines, len(same))


def _type_text(node: fx.Node) -> str:
    return ", ".join(str(type_.spec) for type_ in _types(node) if type_ is not None)


def _types(node: fx.Node) -> tuple[TensorType | None, ...]:
    type_ = node.meta["type"]
    return cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))


def _is_static(node: fx.Node) -> bool:
    known = [type_ for n in (node, *node.all_input_nodes) for type_ in _types(n) if type_]
    return not any(None in type_.shape for type_ in known)


def _graph_of(node: fx.Node) -> fx.Graph:
    """A graph of one op whose operands are inputs and whose results are outputs."""
    graph = fx.Graph()
    inputs: dict[fx.Node, fx.Node] = {}
    for operand in node.all_input_nodes:
        inputs[operand] = graph.placeholder(f"in_{len(inputs)}")
        inputs[operand].meta.update(type=operand.meta["type"], source="")
    args, kwargs = map_arg((node.args, node.kwargs), inputs.__getitem__)
    made = graph.create_node(
        node.op, node.target, cast(Any, args), cast(Any, kwargs), name="probed"
    )
    made.meta.update(type=node.meta["type"], source=str(node.meta.get("source", "")))
    graph.output(_results(graph, made))
    return graph


def _results(graph: fx.Graph, node: fx.Node) -> tuple[fx.Node, ...]:
    if isinstance(node.meta["type"], TensorType):
        return (node,)
    items: list[fx.Node] = []
    for index, type_ in enumerate(_types(node)):
        if type_ is not None:
            items.append(graph.call_function(operator.getitem, (node, index)))
            items[-1].meta.update(type=type_, source="")
    return tuple(items)


# --- the worker ---------------------------------------------------------------------------------


def _ask(info: BackendInfo, graphs: Sequence[fx.Graph], timeout_s: float) -> list[str]:
    """What the library says against each graph; empty for one that it takes."""
    answers: list[str] = []
    together = True
    while len(answers) < len(graphs):
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            rest = [to_json(graph, {}, set()) for graph in graphs[len(answers) :]]
            job = {"attempt": info.probe, "graphs": rest, "together": together}
            (directory / "job.json").write_text(json.dumps(job))
            try:
                _run(info, directory, timeout_s)
                answers += _answers(directory)
            except CompileError as error:
                if not (directory / "begun").exists():
                    raise
                answers += _answers(directory)
                # Asked one by one, the graph without an answer is the one that ended the job.
                if not together:
                    answers.append(f"crashed: {error.what.splitlines()[0]}")
                together = False
    return answers


def _run(info: BackendInfo, directory: Path, timeout_s: float) -> None:
    what = f"the probe of backend {info.name!r}"
    run_job(f"{__name__}:run", directory, what=what, where=None, timeout_s=timeout_s)


def _answers(directory: Path) -> list[str]:
    file = directory / "answers.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def run(directory: Path) -> int:
    """The job: ``job.json`` in, a line of ``answers.jsonl`` for each graph out, in order."""
    job = json.loads((directory / "job.json").read_text())
    module, _, name = job["attempt"].partition(":")
    attempt = getattr(importlib.import_module(module), name)
    graphs = [from_json(document)[0] for document in job["graphs"]]
    groups = [graphs] if job["together"] else [[graph] for graph in graphs]
    (directory / "begun").touch()
    with (directory / "answers.jsonl").open("w") as file:
        for group in groups:
            for refusal in _refusals(attempt, group):
                file.write(json.dumps(refusal) + "\n")
                file.flush()
    return len(graphs)


def _refusals(attempt: Any, graphs: Sequence[fx.Graph]) -> Iterator[str]:
    """Ask about all at once; halve what is refused until it is one graph.

    Most are taken, and one export of a hundred ops takes little longer than that of one.
    """
    merged = _merged(graphs)
    results = [f"out_{i}" for i in range(len(cast("tuple[Any]", merged.output_node().args[0])))]
    try:
        attempt(merged, {}, results)
    except PartitionerError as error:
        if len(graphs) == 1:
            yield error.what
            return
        half = len(graphs) // 2
        yield from _refusals(attempt, graphs[:half])
        yield from _refusals(attempt, graphs[half:])
        return
    yield from [""] * len(graphs)


def _merged(graphs: Sequence[fx.Graph]) -> fx.Graph:
    """One graph that does what all do, side by side."""
    merged = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    nodes = [node for graph in graphs for node in graph.nodes]
    for node in (n for n in nodes if n.op == "placeholder"):
        made[node] = merged.placeholder(f"in_{len(made)}")
        made[node].meta.update(node.meta)
    for node in (n for n in nodes if n.op == "call_function"):
        made[node] = merged.node_copy(node, made.__getitem__)
    outputs = [graph.output_node().args[0] for graph in graphs]
    merged.output(tuple(made[n] for given in outputs for n in cast("tuple[fx.Node]", given)))
    return merged
