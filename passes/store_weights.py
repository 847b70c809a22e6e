"""Store weights in fewer bytes, and compute in float32.

For hardware without arithmetic in bfloat16 or float16 that is what there is to gain: half of the
bundle. Weights of matrix products, convolutions and embeddings are rounded and cast up again where
they are read. Biases, norms and tables stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from partitioner.passes.base import Pass
from partitioner.passes.notes import note
from partitioner.passes.ops import op_name
from partitioner.passes.retyping import cast_constant, cast_node
from partitioner.passes.stage_dtypes import dtypes_by_stage
from partitioner.program import Program, TensorType, add_node, node_type

__all__ = ["StoreWeights"]

_READERS = frozenset(
    [
        *("matmul", "mm", "bmm", "linear", "embedding"),
        *(f"{kind}{dims}d" for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)),
    ]
)

#: Smaller constants are not worth a cast.
_SMALLEST_BYTES = 4 * 2**10


@dataclass(frozen=True)
class StoreWeights(Pass):
    """Round weights to a smaller dtype.

    Args:
        dtype: ``bfloat16`` or ``float16``; ``float32`` for none.
        stages: other dtypes for some stages; see :mod:`partitioner.passes.stage_dtypes`.
    """

    dtype: str = "bfloat16"
    stages: str = ""

    name: ClassVar[str] = "store-weights"
    # bfloat16 has 8 bits of mantissa; products of many rounded weights are right to two digits.
    tolerance: ClassVar[float] = 5e-2
    keeps_values: ClassVar[bool] = False

    def apply(self, program: Program) -> bool:
        dtype_at = dtypes_by_stage(self.dtype, self.stages, self.name)
        saved = 0
        for _, graph in program.all_graphs():
            for weight in [n for n in graph.nodes if n.op == "get_attr"]:
                type_ = node_type(weight)
                readers = [u for u in weight.users if op_name(u) in _READERS]
                big = type_.dtype == torch.float32 and type_.nbytes >= _SMALLEST_BYTES
                dtypes = {dtype_at(reader) for reader in readers}
                if not big or len(readers) != len(weight.users) or len(dtypes) != 1:
                    continue
                (dtype,) = dtypes
                if dtype == torch.float32:
                    continue
                source = str(weight.meta.get("source", ""))
                name = cast_constant(program, cast(str, weight.target), dtype, source)
                with graph.inserting_after(weight):
                    small = add_node(
                        graph,
                        "get_attr",
                        name,
                        type=TensorType(type_.shape, dtype),
                        like=weight,
                    )
                with graph.inserting_after(small):
                    wide = cast_node(graph, small, type_.dtype, weight)
                weight.replace_all_uses_with(wide)
                graph.erase_node(weight)
                saved += type_.nbytes - program.constants[name].nbytes
        _drop_unread(program)
        if saved:
            note(f"weights take {saved / 2**20:.1f} MiB less, and are cast up where they are read")
        return bool(saved)


def _drop_unread(program: Program) -> None:
    read = {n.target for _, g in program.all_graphs() for n in g.nodes if n.op == "get_attr"}
    for name in [name for name in program.constants if name not in read]:
        del program.constants[name]
