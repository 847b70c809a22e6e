"""Post-training quantisation by NNCF: which codes weights get, and which ranges other operands.

Runs in the worker. The segment is converted as for a build, its weights put into place, and NNCF
quantises the OpenVINO model with the segment's inputs in the example runs as calibration data. What
it found is read off the model and given back by the names of weights: the program then holds it, so
that the reference of parity rounds as the kernels do, whoever compiles the segment.

Only products with constant weights are quantised. What NNCF could change besides (biases that are
corrected, operands that are smoothed) is off: those changes are no matter of a product alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch

from partitioner.backends.base import CompileOptions
from partitioner.backends.graphs import from_json, identifier, to_json
from partitioner.backends.lifting import lifted_names
from partitioner.backends.openvino.convert import ELEMENT_TYPES, converted
from partitioner.backends.openvino.ir import Constant
from partitioner.backends.openvino.library import openvino
from partitioner.backends.openvino.loading import mapped, put_constants
from partitioner.backends.worker import run_job
from partitioner.compression.rewrite import weights_of
from partitioner.compression.static import StaticProduct
from partitioner.errors import CompileError, MissingDependencyError
from partitioner.weights import tensor_bytes

if TYPE_CHECKING:
    from partitioner.planning.segments import Segment

__all__ = ["quantise", "run"]

Array = npt.NDArray[Any]

#: The friendly name of a constant that stands for a weight.
_WEIGHT = "/weight_{}"

_PRODUCTS = frozenset({"MatMul", "Convolution", "ConvolutionBackpropData"})

#: NNCF takes the mean of ranges over calls; a diffusion loop's differ by step, and one step that is
#: clipped spoils all after it. So the widest.
_WIDEST = ("MIN", "MAX")


def quantise(
    segment: Segment,
    constants: Mapping[str, torch.Tensor],
    calls: Sequence[Sequence[Array]],
    options: CompileOptions,
    *,
    half_range: bool,
) -> dict[str, StaticProduct]:
    """What NNCF makes of a segment's products, by the name of their weight.

    Args:
        calls: inputs of the segment in example runs, in the order of its inputs.
        half_range: whether weights use half of the range of 8 bits, so that sums never saturate
            (:mod:`partitioner.compression.static`).

    Raises:
        CompileError: the segment cannot be converted, run or quantised.
        MissingDependencyError: NNCF is not installed.
    """
    names = sorted(lifted_names(segment, constants))
    weights = sorted({cast(str, weight.target) for _, weight in weights_of(segment.graph)})
    job = options.workdir / f"{identifier(segment.name)}.quantise"
    job.mkdir(parents=True)
    document = {
        "graph": to_json(segment.graph, constants, set(names)),
        "weights": [names.index(name) for name in weights],
        "external": _write_weights(job / "weights.bin", [constants[name] for name in names]),
        "calls": len(calls),
        "half_range": half_range,
    }
    for index, arrays in enumerate(calls):
        _write_arrays(job / f"call_{index}.npz", arrays)
    (job / "job.json").write_text(json.dumps(document))
    run_job(
        "partitioner.backends.openvino.quantise:run",
        job,
        what=f"segment {segment.name!r}",
        where=segment.where,
        **options.limits,
    )
    return _read_products(job / "products.npz", weights)


def _write_weights(path: Path, tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Weights one after the other; (offset, bytes) of each."""
    places: list[list[int]] = []
    with path.open("wb") as file:
        # A mapping of nothing is an error.
        file.write(bytes(64))
        for tensor in tensors:
            file.write(bytes(-file.tell() % 64))
            places.append([file.tell(), tensor.nbytes])
            file.write(tensor_bytes(tensor))
    return places


def _write_arrays(path: Path, arrays: Sequence[Array]) -> None:
    named: dict[str, Any] = {str(index): array for index, array in enumerate(arrays)}
    np.savez(path, **named)


def _read_products(path: Path, weights: Sequence[str]) -> dict[str, StaticProduct]:
    found: dict[str, StaticProduct] = {}
    with np.load(path) as arrays:
        for index, name in enumerate(weights):
            if f"{index}.codes" not in arrays:
                continue
            low, high = (float(number) for number in arrays[f"{index}.range"])
            codes, scales = (
                torch.from_numpy(arrays[f"{index}.{part}"]) for part in ("codes", "scales")
            )
            found[name] = StaticProduct(codes, scales, low, high)
    return found


# --- in the worker ------------------------------------------------------------------------------


def run(directory: Path) -> None:
    """The job: ``job.json``, ``weights.bin`` and ``call_*.npz`` in, ``products.npz`` out.

    Raises:
        CompileError: NNCF or OpenVINO fails.
        MissingDependencyError: NNCF is not installed.
    """
    job = json.loads((directory / "job.json").read_text())
    graph, constants, lifted = from_json(job["graph"])
    model = converted(graph, constants, dict(lifted))
    kinds = [ELEMENT_TYPES[type_.dtype] for type_ in lifted.values()]
    shapes = [cast("tuple[int, ...]", type_.shape) for type_ in lifted.values()]
    places = [
        Constant(_WEIGHT.format(i), kind, shape, 0, offset, nbytes)
        for i, (kind, shape, (offset, nbytes)) in enumerate(
            zip(kinds, shapes, job["external"], strict=True)
        )
    ]
    parameters = list(model.get_parameters())
    for parameter, place in zip(parameters[len(parameters) - len(places) :], places, strict=True):
        parameter.set_friendly_name(place.name)
    # The model's constants stand on it: it must be there until the end.
    weights = mapped(directory / "weights.bin")
    put_constants(model, places, {0: weights})
    order = {_WEIGHT.format(place): index for index, place in enumerate(job["weights"])}
    products = dict(_products(model, order))
    calls = [directory / f"call_{index}.npz" for index in range(job["calls"])]
    found: dict[str, Any] = {}
    if products and calls:
        quantised = _quantised(model, set(products), calls, half_range=job["half_range"])
        for operation in quantised.get_ops():
            index = products.get(operation.get_friendly_name())
            parts = None if index is None else _parts(operation)
            if index is not None and parts is not None:
                found |= _widened(found, index, parts)
    np.savez(directory / "products.npz", **found)


def _products(model: Any, weights: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Friendly names of the products that read a weight as it is, and which one that is."""
    for operation in model.get_ops():
        if operation.get_type_name() in _PRODUCTS:
            source = operation.input_value(1).get_node().get_friendly_name()
            if source in weights:
                yield operation.get_friendly_name(), weights[source]


def _quantised(model: Any, products: set[str], calls: Sequence[Path], *, half_range: bool) -> Any:
    # First, since NNCF would report its usage over the network as well.
    openvino()
    try:
        import nncf
        from nncf.quantization import advanced_parameters as advanced
        from nncf.quantization import range_estimator as ranges
    except ImportError as error:
        raise MissingDependencyError(
            f"quantising needs {error.name}, which is not installed",
            advice="pip install 'partitioner[compress]'",
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    rest = {op.get_friendly_name() for op in model.get_ops()} - products
    lowest, highest = (
        ranges.StatisticsCollectorParameters(
            statistics_type=getattr(ranges.StatisticsType, kind),
            aggregator_type=getattr(ranges.AggregatorType, kind),
        )
        for kind in _WIDEST
    )
    fix = advanced.OverflowFix.ENABLE if half_range else advanced.OverflowFix.DISABLE
    try:
        return nncf.quantize(
            model,
            nncf.Dataset(calls, _arrays),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calls),
            ignored_scope=nncf.IgnoredScope(names=sorted(rest), validate=False),
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                overflow_fix=fix,
                disable_bias_correction=True,
                activations_range_estimator_params=ranges.RangeEstimatorParameters(lowest, highest),
                smooth_quant_alphas=advanced.AdvancedSmoothQuantParameters(-1, -1),
            ),
        )
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise CompileError(f"NNCF cannot quantise the segment: {text.splitlines()[0]}") from error


def _arrays(path: Path) -> list[Array]:
    with np.load(path) as arrays:
        return [arrays[str(index)] for index in range(len(arrays.files))]


def _parts(product: Any) -> tuple[Array, Array, Array] | None:
    """Codes, scales and the other operand's range; None where NNCF has left the product alone."""
    rounding = product.input_value(0).get_node()
    whole = product.input_value(1).get_node()
    if rounding.get_type_name() != "FakeQuantize" or whole.get_type_name() != "Multiply":
        return None
    wide, scales = (whole.input_value(port).get_node() for port in (0, 1))
    codes = wide.input_value(0).get_node() if wide.get_type_name() == "Convert" else wide
    bounds = [rounding.input_value(port).get_node() for port in (1, 2)]
    constants = (codes, scales, *bounds)
    if any(one.get_type_name() != "Constant" for one in constants):
        return None
    numbers = [np.array(one.data) for one in constants]
    # One range for each channel is no range of the operand.
    if numbers[0].dtype != np.int8 or any(one.size != 1 for one in numbers[2:]):
        return None
    if not all(np.isfinite(one).all() for one in numbers):
        return None
    low, high = (float(one.reshape(-1)[0]) for one in numbers[2:])
    return numbers[0], numbers[1].astype(np.float32), np.array([min(low, 0.0), max(high, 0.0)])


def _widened(
    found: Mapping[str, Array], index: int, parts: tuple[Array, Array, Array]
) -> dict[str, Array]:
    """What is known of a weight, with the range of one more product that reads it."""
    codes, scales, span = parts
    known = found.get(f"{index}.range", span)
    both = np.array([min(known[0], span[0]), max(known[1], span[1])])
    return {f"{index}.codes": codes, f"{index}.scales": scales, f"{index}.range": both}
