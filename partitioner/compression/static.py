"""Products in 8 bits on both sides: what post-training quantisation finds for each weight.

Weights have a scale for each channel; the other operand has one step and one zero for all of it,
found from the values that it takes in example runs. So kernels multiply 8-bit numbers by 8-bit
numbers, and nothing is measured while serving.

Sums of such products saturate on x86 CPUs without VNNI: their instruction adds two products in 16
bits. Weights in half of the range never do (1.2 % relative error on one product of 1024, held down
to such a CPU; none in half of the range).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["StaticProduct", "merged"]

#: The largest code of an operand in 8 bits without a sign.
LARGEST = 255

#: Steps whose reciprocal float32 does not hold, and then some.
_SMALLEST = 1e-30


@dataclass(frozen=True)
class StaticProduct:
    """How a product with a constant weight is computed in 8 bits.

    Attributes:
        codes: int8, in the weight's shape.
        scales: float32, 1 in all dimensions but the channel's; a weight is ``codes * scales``.
        low, high: the range of the other operand; 0 lies in it.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    low: float
    high: float

    @property
    def step(self) -> float:
        """Between two codes of the other operand."""
        step = (self.high - self.low) / LARGEST
        # An operand that is always 0; kernels divide by the step.
        return step if step > _SMALLEST else 1.0

    @property
    def zero(self) -> int:
        """The code of 0."""
        return min(LARGEST, max(0, round(-self.low / self.step)))


def merged(found: Iterable[Mapping[str, StaticProduct]]) -> dict[str, StaticProduct]:
    """What was found for each weight in one segment or more; its ranges widened to hold all."""
    result: dict[str, StaticProduct] = {}
    for one in found:
        for name, product in one.items():
            known = result.get(name, product)
            low, high = min(known.low, product.low), max(known.high, product.high)
            result[name] = StaticProduct(known.codes, known.scales, low, high)
    return result
