"""What neuronx-cc refuses of an instruction whose opcode it has, a rule each.

Codes are neuronx-cc's, from the error codes of the documentation of AWS Neuron SDK 2.32.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from partitioner.backends.neuron.instructions import Array, Instruction
from partitioner.backends.neuron.opcodes import refused_dtype
from partitioner.backends.neuron.support import table
from partitioner.backends.support_table import Refusal

__all__ = ["EVERYWHERE", "OF_OPCODE", "Rule"]

#: None where there is nothing against an instruction.
Rule = Callable[[Instruction], Refusal | None]

_WIDE = ("int32", "int64", "uint32", "uint64")


def _more_than_one(numbers: Sequence[int]) -> bool:
    return any(n > 1 for n in numbers)


def _arrays(one: Instruction) -> tuple[Array, ...]:
    return (*one.operands, *one.results)


# --- whatever the opcode ------------------------------------------------------------------------


def static_shape(one: Instruction) -> Refusal | None:
    """All sizes are known."""
    if all(None not in array.shape for array in _arrays(one)):
        return None
    advice = "pad to a fixed size, or make the step a part of the host op before it"
    return Refusal(
        "Neuron takes no sizes that only data decide", "dynamic-shape", advice, "EMOD025"
    )


def known_dtype(one: Instruction) -> Refusal | None:
    """All dtypes are Neuron's. What compilers compute beforehand may have others."""
    if one.constant:
        return None
    found = (refused_dtype(array.dtype) for array in _arrays(one))
    return next((refusal for refusal in found if refusal is not None), None)


# --- by opcode ----------------------------------------------------------------------------------


def integers_fit(one: Instruction) -> Refusal | None:
    """Constants of 64 bits fit in 32."""
    low, high = one.attributes.get("integers", (0, 0))
    limit = 2**32 if one.results[0].dtype.startswith("uint") else 2**31
    if -limit <= low and high < limit:
        return None
    wide = high if high >= limit else low
    message = f"Neuron's integers have 32 bits, which {wide} does not fit in"
    return Refusal(message, "configuration", "use smaller numbers, or float32", "ESFH002")


def convolution_dilation(one: Instruction) -> Refusal | None:
    """The input is not dilated beside a dilated kernel or a stride."""
    if not _more_than_one(one.numbers("lhs_dilation")):
        return None
    if _more_than_one(one.numbers("rhs_dilation")):
        message = "Neuron has no convolution whose input and kernel are both dilated"
        advice = "use a stride or a dilation of 1, or insert the zeros into the kernel's weights"
        return Refusal(message, "configuration", advice, "EVRF010")
    if _more_than_one(one.numbers("window_strides")):
        message = "Neuron has no convolution with a stride whose input is dilated"
        return Refusal(message, "configuration", "use a stride of 1", "EVRF011")
    return None


def window(one: Instruction) -> Refusal | None:
    """One operand, nothing dilated."""
    if _more_than_one(one.numbers("base_dilations")):
        message = "Neuron has no pools over a dilated input"
        return Refusal(message, "configuration", "use a dilation of 1", "EVRF017")
    if _more_than_one(one.numbers("window_dilations")):
        message = "Neuron has no pools with dilated windows"
        return Refusal(message, "configuration", "use a dilation of 1", "EVRF018")
    if len(one.operands) != 2:
        message = "Neuron has no pools that give indices"
        advice = "compute the indices otherwise, or make the step a host op (@partitioner.host_op)"
        return Refusal(message, "configuration", advice, "EVRF019")
    return None


def scatter_of_floats(one: Instruction) -> Refusal | None:
    """Integers and booleans are neither reduced nor, beyond 2**24, kept."""
    dtype = one.operands[0].dtype
    if "float" in dtype:
        return None
    if one.attributes.get("computations"):
        message = "Neuron has no reducing scatter of integers or booleans"
        return Refusal(message, "dtype", "scatter in float32", "EVRF016")
    if dtype not in _WIDE:
        return None
    message = "Neuron scatters integers in float32, so numbers beyond 2**24 would change"
    return Refusal(message, "dtype", "scatter in float32, if the numbers are small", "EVRF060")


def product_of_floats(one: Instruction) -> Refusal | None:
    """Matrix products are not of wide integers."""
    if not any(array.dtype in _WIDE for array in one.operands):
        return None
    message = "Neuron has no matrix products of 32-bit and 64-bit integers"
    return Refusal(message, "dtype", "cast the factors to float32", "EVRF035")


def narrow_power(one: Instruction) -> Refusal | None:
    """Powers are not of 64-bit integers."""
    if all(array.dtype not in ("int64", "uint64") for array in one.operands):
        return None
    message = "Neuron's powers of 64-bit integers are computed in 32 bits"
    return Refusal(message, "dtype", "cast to int32 or float32", "EVRF062")


def topk_of_floats(one: Instruction) -> Refusal | None:
    """The largest of floating point numbers only."""
    if one.operands[0].dtype not in _WIDE:
        return None
    return Refusal("Neuron has no topk of integers", "dtype", "cast to float32", "EVRF013")


def shift_of_32_bits(one: Instruction) -> Refusal | None:
    """Arithmetic shifts to the right are of 32 bits."""
    dtype = one.operands[0].dtype
    if dtype in ("int32", "uint32", "float32"):
        return None
    message = f"Neuron shifts numbers of 32 bits only to the right, not {dtype}"
    return Refusal(message, "dtype", "cast to int32", "EVRF022")


def default_random(one: Instruction) -> Refusal | None:
    """Random bits come from the default algorithm."""
    algorithm = str(one.attributes.get("algorithm", "default")).lower()
    if "default" in algorithm:
        return None
    message = f"Neuron's random bits come from the default algorithm, not {algorithm}"
    return Refusal(message, "configuration", "draw the numbers outside of the stage", "EVRF006")


def known_call(one: Instruction) -> Refusal | None:
    """Custom calls are of the documented targets."""
    target = str(one.attributes.get("target", ""))
    if target in table().evidence["call"].names:
        return None
    message = f"Neuron does not know the custom call {target!r}"
    advice = "write the step with other ops, or make it a host op (@partitioner.host_op)"
    return Refusal(message, "op-unsupported", advice, "EHCA005, EVRF015")


# --- what no error code forbids, and a list does not promise -------------------------------------


def _unproven(message: str) -> Refusal:
    return Refusal(message, "unproven", "compile the segment on a machine with the SDK to know")


#: What a reduction over pairs is made of that gives the place of the greatest (least).
_OF_PAIRS = frozenset(("compare", "select", "minimum", "maximum", "and", "or"))

_REDUCTIONS = (("minimum",), ("maximum",), ("add",), ("multiply",))


def documented_reduction(one: Instruction) -> Refusal | None:
    """Least, greatest, sum, product; and the place of the greatest, which is AwsNeuronArgMax."""
    made_of = tuple(one.attributes.get("computations", ()))
    if made_of in _REDUCTIONS:
        return None
    if len(one.results) == 2 and _OF_PAIRS.issuperset(made_of):
        return None
    return _unproven(f"no source says that Neuron reduces by {', '.join(made_of)}")


def constant_place(one: Instruction) -> Refusal | None:
    """A slice is replaced at a constant place."""
    if one.attributes.get("constant_indices", True):
        return None
    return _unproven("the documented dynamic-update-slice has a constant place")


def disjoint_gather(one: Instruction) -> Refusal | None:
    """Of an indexed dimension a gather takes one element."""
    if set(one.numbers("indexed")) <= set(one.numbers("collapsed")):
        return None
    return _unproven("the documented gather takes one element of each dimension that it indexes")


#: For all instructions, in this order.
EVERYWHERE: tuple[Rule, ...] = (static_shape, known_dtype)

#: By opcode.
OF_OPCODE: dict[str, Rule] = {
    "constant": integers_fit,
    "convolution": convolution_dilation,
    "custom-call": known_call,
    "dot": product_of_floats,
    "dynamic-update-slice": constant_place,
    "gather": disjoint_gather,
    "power": narrow_power,
    "reduce": documented_reduction,
    "reduce-window": window,
    "rng-bit-generator": default_random,
    "scatter": scatter_of_floats,
    "shift-right-arithmetic": shift_of_32_bits,
    "topk": topk_of_floats,
}
