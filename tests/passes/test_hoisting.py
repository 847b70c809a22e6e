"""Loops are relieved of what need not be done in every step: what moves; and nothing changes."""

from __future__ import annotations

import operator
from collections import defaultdict

import pytest
import torch
from torch import nn

from partitioner.passes.costs import program_cost
from partitioner.passes.dependence import Depends, dependences, loop_sites
from partitioner.passes.ops import op_name
from partitioner.passes.pipeline import DEFAULT
from partitioner.program import Program, loop
from tests.passes.models import WIDTH, Guided, Plain
from tests.passes.running import after, body_of, captured, difference, names

FRONT = "inline-calls,normalise,eliminate-dead,fold-constants"
CLEAN = "eliminate-dead,normalise,fold-constants,eliminate-common,eliminate-dead"


@pytest.fixture(scope="module")
def guided() -> Program:
    return captured(Guided(), condition=torch.randn(1, 5, WIDTH))


@pytest.fixture(scope="module")
def plain() -> Program:
    return captured(Plain(), condition=torch.randn(1, 5, WIDTH))


def test_what_nodes_depend_on(plain: Program) -> None:
    program, _ = after(plain, FRONT)
    (site,) = loop_sites(program)
    found = dependences(program, site)
    kinds: dict[str, set[Depends]] = defaultdict(set)
    for node, depends in found.items():
        _, dot, part = node.meta.get("stage", "").partition(".")
        if node.op == "call_function" and dot:
            kinds[part.split(".")[0]].add(depends)
    assert {Depends.CARRY} == kinds["first"]
    assert {Depends.STEP} == kinds["time"]
    assert {Depends.REQUEST} == kinds["pooled"]
    both = Depends.STEP | Depends.REQUEST
    assert {Depends.REQUEST, both, both | Depends.CARRY} <= kinds["blocks"]


def test_what_depends_on_the_step_becomes_tables(plain: Program) -> None:
    program, (*_, record) = after(plain, f"{FRONT},tabulate-steps")
    assert 1e-6 > difference(plain, program)
    stages = {node.meta["stage"] for node in body_of(program).nodes if node.op == "call_function"}
    assert not {stage for stage in stages if stage.startswith("denoiser.time")}
    (note,) = record.notes
    assert "depend on the step only and became 1 tables of 4 rows" in note
    program, _ = after(program, CLEAN)
    assert not [name for name in program.constants if name.startswith("denoiser.time")]
    (table,) = (t for name, t in program.constants.items() if name.startswith("table.denoiser"))
    assert (4, 1, WIDTH) == tuple(table.shape)


def test_what_depends_on_the_request_is_done_once(plain: Program) -> None:
    program, (*_, record) = after(plain, f"{FRONT},hoist-invariants")
    assert 1e-6 > difference(plain, program)
    assert "depend on the request only and are done once before the loop" in record.notes[0]
    read = {n.target for n in body_of(program).nodes if n.op == "get_attr" and n.users}
    assert not {name for name in read if "key_value" in name or "pooled" in name}


def test_what_depends_on_both_is_done_in_one_batch(plain: Program) -> None:
    program, (*_, record) = after(plain, f"{FRONT},tabulate-steps,hoist-invariants,batch-steps")
    assert 1e-6 > difference(plain, program)
    assert "done for all 4 steps at once before the loop" in record.notes[0]
    read = {n.target for n in body_of(program).nodes if n.op == "get_attr" and n.users}
    assert not {name for name in read if "modulation" in name}
    sources = {n.meta["stage"] for n in program.main.nodes if n.op == "call_function"}
    assert {"0", "1"} == {s.split(".")[2] for s in sources if s.startswith("denoiser.blocks.")}


def test_only_what_needs_the_carried_values_stays(guided: Program) -> None:
    program, _ = after(guided, DEFAULT)
    assert 1e-6 > difference(guided, program)
    read = {n.target for n in body_of(program).nodes if n.op == "get_attr"}
    moved = {n for n in read for part in ("time", "pooled", "key_value", "modulation") if part in n}
    assert set() == moved
    before, now = program_cost(guided), program_cost(program)
    assert now.step_weight_bytes < 0.7 * before.step_weight_bytes
    assert now.operations < before.operations


@pytest.mark.parametrize("name", ["tabulate-steps", "hoist-invariants", "batch-steps"])
def test_a_budget_of_nothing_moves_nothing(name: str, plain: Program) -> None:
    front, _ = after(plain, f"{FRONT},tabulate-steps,hoist-invariants{{budget=0}}")
    program, (record,) = after(front if name == "batch-steps" else plain, f"{name}{{budget=0}}")
    assert not record.modified
    assert 0.0 == difference(front if name == "batch-steps" else plain, program)


def test_a_budget_keeps_what_saves_most(plain: Program) -> None:
    front, _ = after(plain, FRONT)
    free, (record,) = after(front, "hoist-invariants")
    held = _held(free) - _held(front)
    tight, (declined,) = after(front, f"hoist-invariants{{budget={held - 1}}}")
    assert 0 < _held(tight) - _held(front) < held
    assert ["more would not fit the budget" in note for note in declined.notes] == [False, True]
    assert not any("budget" in note for note in record.notes)
    assert 1e-6 > difference(plain, tight)


def _held(program: Program) -> int:
    """Bytes of the invariants that a loop is given."""
    (node,) = (n for n in program.main.nodes if n.target is loop)
    given = node.args[1][node.args[3] + node.args[4] :]
    return sum(n.meta["type"].nbytes for n in given)


def test_noise_is_no_table_and_no_invariant(guided: Program) -> None:
    program, _ = after(guided, DEFAULT)
    (node,) = (n for n in program.main.nodes if n.target is loop)
    drawn = {d.placeholder for s in program.draws for d in s.draws if d.row}
    assert drawn <= {n.name for n in node.args[1]}


def test_tables_of_many_steps_have_the_same_numbers_as_of_few() -> None:
    """A table's row is what eager computes at that step, however many there are."""
    for steps in (2, 7):
        program = captured(Plain(), condition=torch.randn(1, 5, WIDTH), steps=steps)
        optimised, _ = after(program, DEFAULT)
        assert 1e-6 > difference(program, optimised)


# --- the guidance batch -------------------------------------------------------------------------


def test_the_constant_half_of_a_batch_is_folded(guided: Program) -> None:
    program, _ = after(guided, f"{FRONT},split-batch,{CLEAN}")
    assert 1e-6 > difference(guided, program)
    rows = {
        node.meta["type"].shape[0]
        for node in body_of(program).nodes
        if op_name(node) == "linear" and node.meta["stage"].endswith("key_value")
    }
    assert {1} == rows


def test_equal_halves_are_computed_once(guided: Program) -> None:
    program, _ = after(guided, f"{FRONT},split-batch,{CLEAN}")
    shapes = [
        node.meta["type"].shape[0]
        for node in body_of(program).nodes
        if node.meta.get("stage") == "denoiser.first" and node.op == "call_function"
    ]
    assert 1 == min(shapes)


def test_a_batch_is_not_split_beyond_the_budget(guided: Program) -> None:
    program, (*_, record) = after(guided, f"{FRONT},split-batch{{budget=16}}")
    assert any("over the budget" in note for note in record.notes)
    assert 1e-6 > difference(guided, program)


def test_guidance_of_one_drops_the_other_half() -> None:
    condition = torch.randn(1, 5, WIDTH)
    program = captured(Guided(), condition=condition, scale=1.0)
    optimised, _ = after(program, DEFAULT)
    assert 1e-5 > difference(program, optimised)
    body = body_of(optimised)
    assert "cat" not in names(body)
    types = [n.meta["type"] for n in body.nodes if n.op == "call_function"]
    assert {1} == {t.shape[0] for t in types if not isinstance(t, tuple) and len(t.shape) == 3}
    guided = program_cost(after(captured(Guided(), condition=condition), DEFAULT)[0])
    assert program_cost(optimised).operations < 0.7 * guided.operations


def test_rows_are_followed_through_ops_with_several_results() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        query, key = torch.cat([x, x + 1]).sin().chunk(2, dim=-1)
        return (query * key)[:2]

    program = captured(pipeline, x=torch.randn(2, 4))
    narrow, _ = after(program, "normalise,narrow-batch,eliminate-dead")
    assert 0.0 == difference(program, narrow)
    assert ["sin", "split", "mul"] == names(narrow.main)
    shapes = {n.meta["type"].shape for n in narrow.main.nodes if n.target == operator.getitem}
    assert {(2, 2)} == shapes


def test_rows_that_nothing_reads_are_not_computed() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        return (torch.cat([x, x + 1, x * 2]).sin() * 3).softmax(-1)[:2]

    program = captured(pipeline, x=torch.randn(2, 4))
    narrow, _ = after(program, "normalise,narrow-batch,eliminate-dead")
    assert 0.0 == difference(program, narrow)
    assert ["sin", "mul", "_softmax"] == names(narrow.main)


class Looped(nn.Module):
    """A loop around a denoiser."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        x = torch.randn(1, 6, WIDTH)
        for time in torch.linspace(1.0, 0.0, 4):
            x = x + 0.1 * self.denoiser(x, time[None], condition)
        return x


class Unbatchable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, step: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        mixed = self.first((context * step).mean(1))
        return self.second(x) + mixed.cumsum(-1)[:, None].softmax(-1)


def test_what_torch_cannot_batch_stays_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    program = captured(Looped(Unbatchable().eval()), condition=torch.randn(1, 5, WIDTH))
    front = f"{FRONT},tabulate-steps,hoist-invariants"
    batched, (*_, record) = after(program, f"{front},batch-steps")
    assert record.modified
    assert 1e-6 > difference(program, batched)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Batching rule not implemented for aten::cumsum\nsee there")

    monkeypatch.setattr(torch, "vmap", refuse)
    left, (*_, record) = after(program, f"{front},batch-steps")
    assert not record.modified
    (note,) = record.notes
    assert "stay in the loop: torch.vmap does not take them: Batching rule not" in note
    assert 1e-6 > difference(program, left)
