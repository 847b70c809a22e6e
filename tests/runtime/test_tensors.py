"""What is accepted for a declared tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from partitioner.errors import InputError
from partitioner.runtime.tensors import to_tensor
from tests.bundles import spec


def convert(value: Any, text: str) -> np.ndarray[Any, Any]:
    return to_tensor("x", value, spec(text), {})


def test_an_array_that_fits_is_taken_as_it_is() -> None:
    array = np.zeros((2, 3), np.float32)

    assert array is convert(array, "float32[2, 3]")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "float32[]"),
        (2, "float32[]"),
        (True, "bool[]"),
        ([1, 2, 3], "float32[3]"),
        ([[1.5, 2]], "float16[1, 2]"),
        ([1, 2, 3], "int64[3]"),
        ([1, 2, 3], "uint8[3]"),
        ([True, False], "bool[2]"),
        (np.zeros((2, 3)), "float32[2, 3]"),
        (np.zeros(2, np.float16), "float64[2]"),
        (np.array([2**24, -(2**24)]), "float32[2]"),
        (np.array([0, 1, 1]), "bool[3]"),
        (np.array([False, True]), "int32[2]"),
        (np.array([-128, 127]), "int8[2]"),
        (np.array([np.nan, np.inf, -np.inf]), "float16[3]"),
        (np.arange(3, dtype=">f4"), "float32[3]"),
        (np.zeros((0, 2)), "int64[0, 2]".replace("int64", "float32")),
        (np.zeros(0, np.int64), "int8[0]"),
        (np.zeros((5, 2), np.float32), "float32[n, 2]"),
        (np.zeros((5, 2), np.float32), "float32[?, 2]"),
        (np.float64(3), "float32[]"),
    ],
)
def test_accepted(value: Any, text: str) -> None:
    array = convert(value, text)

    assert spec(text).dtype == array.dtype.name
    assert array.dtype.isnative
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(np.asarray(value), array)


@pytest.mark.parametrize(
    ("value", "text", "message"),
    [
        (1.5, "int64[]", "not rounded to an integer silently"),
        (np.zeros(2), "int64[2]", "not rounded"),
        (np.zeros(2), "bool[2]", "not rounded"),
        (np.array([256]), "uint8[1]", "no exact counterpart"),
        (np.array([-1]), "uint8[1]", "no exact counterpart"),
        (np.array([2]), "bool[1]", "no exact counterpart"),
        (np.array([2**24 + 1]), "float32[1]", "no exact counterpart"),
        (np.array([1e6]), "float16[1]", "too large"),
        ("text", "float32[]", "of dtype <U4"),
        (None, "float32[]", "of dtype object"),
        ([1, [2]], "float32[2]", "cannot be made an array"),
        (1j, "float32[]", "complex128"),
        (np.zeros((2, 3)), "float32[3, 2]", r"the shape \[2, 3\], but must be float32\[3, 2\]"),
        (np.zeros(6), "float32[3, 2]", r"the shape \[6\]"),
        (0.0, "float32[1]", r"the shape \[\]"),
    ],
)
def test_refused(value: Any, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(value, text)
    assert caught.value.advice


def test_strided_arrays_become_contiguous() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)

    np.testing.assert_array_equal(array.T, convert(array.T, "float32[4, 3]"))
    assert convert(array.T, "float32[4, 3]").flags.c_contiguous


def test_a_symbolic_size_is_the_same_everywhere() -> None:
    dims: dict[str, int] = {}
    to_tensor("a", np.zeros((3, 2)), spec("float32[n, 2]"), dims)

    assert {"n": 3} == dims
    with pytest.raises(InputError, match="'b'"):
        to_tensor("b", np.zeros((4, 2)), spec("float32[n, 2]"), dims)


def test_arrays_of_other_libraries() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.ones(2, np.float32)

    np.testing.assert_array_equal([1, 1], convert(Tensor(), "float32[2]"))


class Exchanged:
    """Shows an array by DLPack only."""

    def __init__(self, array: np.ndarray[Any, Any], fault: Exception | None = None) -> None:
        self.array, self.fault = array, fault

    def __dlpack__(self, **options: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Described:
    """Shows an array by ``__array_interface__`` only."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.__array_interface__ = array.__array_interface__
        self.array = array


@pytest.mark.parametrize("kind", [Exchanged, Described, torch.from_numpy, memoryview])
def test_what_other_libraries_give_is_not_copied(kind: Any) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    taken = convert(kind(array), "float32[2, 3]")
    assert np.shares_memory(array, taken)
    np.testing.assert_array_equal(array, taken)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Exchanged(np.zeros(2), BufferError("it is on a device")), "it is on a device"),
        (torch.zeros(2, requires_grad=True), "requires grad"),
        (torch.zeros(2, dtype=torch.bfloat16), "cannot be made an array"),
    ],
)
def test_tensors_that_numpy_cannot_see_are_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(value, "float32[2]")
    assert caught.value.advice == "give float32[2], in the memory of this host"
