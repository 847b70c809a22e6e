"""What the user decides: stages and ops on a backend, and decisions that cannot hold."""

from __future__ import annotations

import pytest

from partitioner.errors import PlacementError, UsageError
from partitioner.planning.overrides import Overrides, bind, parse_overrides
from partitioner.planning.placement import place
from partitioner.planning.plan import make_plan
from partitioner.program import Program

from .sketch import TWO, Judge, Sketch, aten


def staged() -> Program:
    """``encoder.block`` and ``decoder``, two ops each, and glue between them."""
    sketch = Sketch()
    x = sketch.input("x")
    sketch.stage, sketch.source = "encoder.block", "m.py:1"
    x = sketch.op(aten.neg.default, sketch.sin(x))
    sketch.stage, sketch.source = "", "m.py:2"
    x = sketch.add(x, x)
    sketch.stage, sketch.source = "decoder", "m.py:3"
    return sketch.done(y=sketch.op(aten.tanh.default, sketch.sin(x)))


def backends(places: list[str], ops: list[str] | None = None) -> list[str]:
    program = staged()
    judges = {"first": Judge(), "second": Judge()}
    bound = bind(parse_overrides(places, ops or []), program, TWO, judges)
    return list(place(program, TWO, bound).backends.values())


def message(places: list[str], ops: list[str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        backends(places, ops)
    return str(caught.value)


def test_a_stage_goes_where_it_is_put():
    assert ["first"] * 3 + ["second"] * 2 == backends(["decoder=second"])
    assert ["second"] * 2 + ["first"] * 3 == backends(["encoder=second"])
    assert ["second"] * 2 + ["first"] * 3 == backends(["encoder.block=second"])


def test_the_longest_path_counts():
    assert ["first"] * 5 == backends(["encoder=second", "encoder.block=first"])


def test_an_op_counts_more_than_its_stage():
    assert ["second", "first", "first", "second", "first"] == (
        backends(["decoder=first"], ["sin=second"])
    )
    assert ["first", "first", "second", "first", "first"] == backends(
        [], ["aten.add.Tensor=second"]
    )


def test_without_overrides_the_judges_are_what_they_were():
    judges = {"first": Judge()}
    assert judges is bind(Overrides(), staged(), TWO, judges)


def test_a_stage_that_needs_itself_through_another_backend_is_cut_in_two():
    """Nothing that is asked for can make a circle of segments."""
    sketch = Sketch()
    x = sketch.input("x")
    sketch.stage = "a"
    first = sketch.sin(x)
    sketch.stage = "b"
    between = sketch.op(aten.neg.default, first)
    sketch.stage = "a"
    program = sketch.done(y=sketch.add(first, between))
    judges = {"first": Judge(), "second": Judge()}
    overrides = parse_overrides(["a=first", "b=second"], [])
    planned = make_plan(program, TWO, bind(overrides, program, TWO, judges))
    assert ["first", "second", "first"] == [s.backend for s in planned.plan.segments.values()]


def test_an_override_that_cannot_hold_names_the_node_and_both_reasons():
    program = staged()
    judges = {"first": Judge(), "second": Judge(lambda n: n.meta["source"] == "m.py:3")}
    bound = bind(parse_overrides(["decoder=second"], []), program, TWO, judges)
    with pytest.raises(PlacementError) as caught:
        place(program, TWO, bound)
    assert "first: policy: --place decoder=second" in caught.value.what
    assert "second: op-unsupported: no aten.sin.default" in caught.value.what
    assert "m.py:3" == caught.value.where


@pytest.mark.parametrize(
    ("places", "ops", "expected"),
    [
        (["decoder"], [], "--place takes STAGE=BACKEND, not 'decoder'"),
        ([], ["sin="], "--place-op takes OP=BACKEND, not 'sin='"),
        (["=first"], [], "--place takes STAGE=BACKEND, not '=first'"),
        (["decoder=first", "decoder=second"], [], "puts 'decoder' on 'first' and on 'second'"),
        ([], ["sin=first", "aten.sin=second"], "puts 'sin' on 'first' and on 'second'"),
        (["decodr=first"], [], "there is no stage 'decodr'\n  to do: did you mean 'decoder'?"),
        (["decoder=frist"], [], "'frist'\n  to do: did you mean 'first'?"),
        (["decoder=neuron"], [], "no backend of target 'two' 'neuron'"),
        (["decoder=host"], [], "no backend of target 'two' 'host'"),
        ([], ["softmax=first"], "there is no op 'softmax'"),
    ],
)
def test_what_cannot_be_meant_is_refused(places: list[str], ops: list[str], expected: str):
    assert expected in message(places, ops)


def test_the_same_thing_twice_is_no_contradiction():
    assert ["second"] * 2 == backends(["decoder=second", "decoder=second"])[3:]
