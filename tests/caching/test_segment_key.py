"""Keys of segments: what they do counts, what things are called and where they lie does not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.graphs import to_json
from partitioner.caching.canonical import canonical_graph
from partitioner.caching.keys import compare_keys
from tests.caching.samples import FACTS, PLACE, WEIGHT, Sample, aten

ROOT = Path(__file__).resolve().parents[2]

OTHER_PLACES = [
    replace(PLACE, blob=f"sha256:{'b' * 64}"),
    replace(PLACE, offset=64),
]


@pytest.mark.parametrize(
    ("sample", "labels"),
    [
        (Sample(second=aten.div.Tensor), ["graph"]),
        (Sample(swapped=True), ["graph"]),
        (Sample(number=2.0), ["graph"]),
        (Sample(rows=3), ["graph", "specs"]),
        (Sample(scale=3.0), ["constants"]),
        (Sample(scale=-0.0), ["constants"]),
    ],
    ids=repr,
)
def test_what_it_does_counts(sample: Sample, labels: list[str]) -> None:
    assert labels == [d.label for d in compare_keys(sample.key(), Sample().key())]


@pytest.mark.parametrize("name", ["compiler", "options", "target"])
def test_what_the_backend_says_counts(name: str) -> None:
    facts = replace(FACTS, **{name: {"tool": "2"}})
    assert [name] == [d.label for d in compare_keys(Sample().key(facts), Sample().key())]


def test_the_backend_counts() -> None:
    sample = Sample()
    form = replace(sample.form(), segment=replace(sample.form().segment, backend="openvino"))
    from partitioner.caching.segment_key import segment_key

    (difference,) = compare_keys(segment_key(form, FACTS), sample.key())
    assert "compiler (backend onnx -> openvino)" == str(difference)


@pytest.mark.parametrize("place", OTHER_PLACES)
def test_weights_count_unless_they_are_declared_not_to(place: ConstantRef) -> None:
    sample, free = Sample(), replace(FACTS, weight_free=True)
    moved = sample.key(FACTS, place)
    assert ["weights"] == [d.label for d in compare_keys(moved, sample.key())]
    assert sample.key(free).digest == sample.key(free, place).digest
    assert (
        "free" == next(p for p in sample.key(free).parts if p.label == "weights").facts["weights"]
    )


def test_names_and_lines_do_not_count() -> None:
    free = replace(FACTS, weight_free=True)
    renamed = Sample(prefix="other", source="/elsewhere/m.py:99 in f", stage="part")
    assert Sample().key(free).digest == renamed.key(free).digest
    # An artifact that is not made for other names depends on them.
    assert ["specs"] == [d.label for d in compare_keys(renamed.key(), Sample().key())]


def test_canonical_names_follow_the_order_of_use() -> None:
    graph, constants = canonical_graph(Sample().segment().graph)
    assert {"stage.weight": "c000000", "stage.scale": "c000001"} == constants
    assert [f"x{i}" for i in range(7)] == [n.name for n in graph.nodes if n.op != "output"]
    again, _ = canonical_graph(graph)
    tensors = {"c000000": WEIGHT, "c000001": torch.ones(1)}
    assert to_json(graph, tensors, set()) == to_json(again, tensors, set())


def test_a_fresh_process_elsewhere_makes_the_same_keys(tmp_path: Path) -> None:
    script = f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from partitioner.backends.base import CompileOptions
        from partitioner.backends.onnx.compile import OnnxCompiler
        from partitioner.targets import find_target
        from tests.caching.samples import Sample
        options, segment = CompileOptions(None, None), Sample().segment()
        facts = OnnxCompiler().cache_facts(segment, find_target("cpu"), options)
        print(Sample().key().digest, Sample(source="/a/b.py:1 in f").key(facts).digest)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "17"},
    )
    from partitioner.backends.base import CompileOptions
    from partitioner.backends.onnx.compile import OnnxCompiler
    from partitioner.targets import find_target

    options, segment = CompileOptions(tmp_path, tmp_path), Sample().segment()
    facts = OnnxCompiler().cache_facts(segment, find_target("cpu"), options)
    assert [Sample().key().digest, Sample().key(facts).digest] == done.stdout.split()
