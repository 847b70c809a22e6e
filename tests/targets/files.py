"""Files of targets that tests write."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitioner.errors import UsageError
from partitioner.targets import find_target

#: A target that says everything itself.
WHOLE = """
source = "measured on the bench"

[prices]
date = "2026-11-01"
source = "https://example.com/prices"

[targets.board]
note = "a board with an accelerator"
backends = ["onnx", "host"]
dtypes = ["bool", "int32", "float32"]
copies = 2
price = 0.25
parity = { relative = 1e-3, absolute = 1e-5 }

[targets.board.devices.cpu]
backends = ["host"]
cores = 4
memory_gib = 2
bandwidth_per_core = 1e9
flops_per_core = { float32 = 1e10 }
vector_flops_per_core = 5e9
call_s = { host = 1e-5 }

[targets.board.devices.chip]
backends = ["onnx"]
cores = 1
memory_gib = 0.5
bandwidth_per_core = { value = 2e9, source = "its data sheet" }
flops_per_core = { float32 = 1e12 }
vector_flops_per_core = 1e11
call_s = { onnx = 1e-4 }
transfer_bandwidth = 1e9
transfer_s = 1e-6
efficiency = 0.5

[targets.board.limits.onnx]
memory_gib = 0.25
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, target: str = "mine") -> UsageError:
    """The error that a file of this text gets."""
    path = write(folder, text)
    with pytest.raises(UsageError) as caught:
        find_target(target, [path])
    assert str(path) in (caught.value.where or "")
    return caught.value
