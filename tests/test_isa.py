"""Levels of instructions are in order, each machine's for itself."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitioner.isa import LEVELS, canonical_machine, level_of, machine_of, reaches

V2 = {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}
V3 = {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
V4 = {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
GRAVITON2 = {
    "fp",
    "asimd",
    "crc32",
    "atomics",
    "fphp",
    "asimdhp",
    "asimdrdm",
    "lrcpc",
    "dcpop",
    "asimddp",
    "ssbs",
}
GRAVITON3 = GRAVITON2 | {
    "sha3",
    "jscvt",
    "fcma",
    "ilrcpc",
    "dit",
    "uscat",
    "flagm",
    "sve",
    "bf16",
    "i8mm",
}


@pytest.mark.parametrize(
    ("machine", "flags", "level"),
    [
        ("x86_64", set[str](), "x86-64"),
        ("AMD64", V2, "x86-64-v2"),
        ("x86_64", V2 | V3 | {"amx_tile"}, "x86-64-v3"),
        ("x86_64", V2 | V3 | V4, "x86-64-v4"),
        # A level needs those below it.
        ("x86_64", V3 | V4, "x86-64"),
        ("x86_64", V2 | V4, "x86-64-v2"),
        ("arm64", {"fp", "asimd"}, "armv8-a"),
        ("aarch64", GRAVITON2, "armv8.2-a"),
        ("aarch64", GRAVITON3, "armv8.4-a"),
        ("aarch64", GRAVITON3 | {"sve2"}, "armv9-a"),
        ("riscv64", V2, ""),
    ],
)
def test_levels(machine: str, flags: set[str], level: str) -> None:
    assert level == level_of(machine, flags)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(LEVELS, LEVELS)))
def test_the_order_is_one_for_each_machine(one: str, other: str) -> None:
    same = machine_of(one) == machine_of(other)
    assert same == (reaches(one, other) or reaches(other, one))
    assert (one == other) == (reaches(one, other) and reaches(other, one))


def test_what_is_unknown_reaches_nothing() -> None:
    assert not reaches("", "x86-64")
    assert not reaches("x86-64-v9", "x86-64-v9")
    assert "" == machine_of("x86-64-v9")
    assert "s390x" == canonical_machine("s390x")


@given(
    st.sets(st.sampled_from(sorted(V2 | V3 | V4))), st.sets(st.sampled_from(sorted(V2 | V3 | V4)))
)
def test_more_flags_never_are_a_lower_level(flags: set[str], more: set[str]) -> None:
    assert reaches(level_of("x86_64", flags | more), level_of("x86_64", flags))
