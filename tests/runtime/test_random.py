"""The numbers of torch's CPU generator, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.runtime.random import TorchGenerator

SHAPES = st.sampled_from([(1,), (3,), (15,), (16,), (17,), (31,), (40,), (2, 3, 7), (1000,), (0,)])
#: Elsewhere torch takes its C library's logarithm; the last bit may differ.
EXACT = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")

KINDS = st.sampled_from(["normal", "scaled", "uniform", "range", "integers", "wide"])


def drawn(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    if kind == "normal":
        return torch.randn(shape)
    if kind == "scaled":
        return torch.empty(shape).normal_(1.3, 0.7)
    if kind == "uniform":
        return torch.rand(shape)
    if kind == "range":
        return torch.empty(shape).uniform_(-3.3, 7.1)
    if kind == "integers":
        return torch.randint(3, 1000, shape)
    return torch.randint(0, 2**40, shape)


def ours(generator: TorchGenerator, kind: str, shape: tuple[int, ...]) -> Any:
    if kind == "normal":
        return generator.normal(shape)
    if kind == "scaled":
        return generator.normal(shape, mean=1.3, std=0.7)
    if kind == "uniform":
        return generator.uniform(shape)
    if kind == "range":
        return generator.uniform(shape, low=-3.3, high=7.1)
    if kind == "integers":
        return generator.integers(3, 1000, shape)
    return generator.integers(0, 2**40, shape)


@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    sequence=st.lists(st.tuples(KINDS, SHAPES), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_draws_is_torchs_bit_for_bit(seed: int, sequence: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = [drawn(kind, shape).numpy() for kind, shape in sequence]
    generator = TorchGenerator(seed)
    for want, (kind, shape) in zip(expected, sequence, strict=True):
        actual = ours(generator, kind, shape)
        assert want.dtype == actual.dtype
        if EXACT:
            assert want.tobytes() == actual.tobytes()
        else:
            np.testing.assert_allclose(actual, want, rtol=0, atol=2e-6)


def test_the_stream_does_not_depend_on_the_host() -> None:
    generator = TorchGenerator(0)
    first = generator.normal((4,))
    assert ["1.5409961", "-0.2934289", "-2.1787894", "0.56843126"] == [str(v) for v in first]
    block = TorchGenerator(0).normal((16,))
    assert ["-1.1258398", "-1.1523602", "-0.25057858"] == [str(v) for v in block[:3]]
    assert [44, 239, 933] == TorchGenerator(0).integers(0, 1000, (3,)).tolist()


@pytest.mark.parametrize("shape", [(5,), (16,), (100003,)])
def test_double_precision_agrees_to_the_last_bits(shape: tuple[int, ...]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        uniform = torch.rand(shape, dtype=torch.float64).numpy()
        normal = torch.randn(shape, dtype=torch.float64).numpy()
    generator = TorchGenerator(3)
    assert uniform.tobytes() == generator.uniform(shape, "float64").tobytes()
    np.testing.assert_allclose(generator.normal(shape, "float64"), normal, rtol=0, atol=1e-15)


def test_half_precision_is_single_precision_rounded() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        uniform = torch.rand(33, dtype=torch.float16).numpy()
        normal = torch.randn(32, dtype=torch.float16).numpy()
    generator = TorchGenerator(3)
    assert uniform.tobytes() == generator.uniform((33,), "float16").tobytes()
    assert normal.tobytes() == generator.normal((32,), "float16").tobytes()


@pytest.mark.parametrize(
    "call",
    [
        lambda: TorchGenerator(2**64),
        lambda: TorchGenerator(-(2**63) - 1),
        lambda: TorchGenerator(0).normal((2,), "int32"),
        lambda: TorchGenerator(0).normal((2,), std=-1.0),
        lambda: TorchGenerator(0).uniform((2,), "bool"),
        lambda: TorchGenerator(0).integers(3, 3, (2,)),
    ],
)
def test_arguments_that_cannot_be_meant(call: Any) -> None:
    with pytest.raises(ValueError, match=r"seed|float|negative|drawn"):
        call()
