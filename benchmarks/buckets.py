"""Memory that each bucket of a bundle with batch sizes takes.

Buckets share the mapped weights; what a backend makes of these, each has for itself.

The bundle is built unless it is given; a process of its own imports, loads and serves one request
(which loads the smallest bucket), then as many as the largest bucket holds. Memory is the share of
what the process maps with others and all that is its own (PSS), beyond imports.

Run: python benchmarks/buckets.py [--size tiny] [--batch 1,4] [--backends openvino,host]
     [--bundle PATH]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "examples" / "bernini" / "model.py"
PARTITION = [sys.executable, "-c", "from partitioner.cli import main; main()"]

RUN = """
import importlib, json, sys
import numpy as np, psutil, skimage.measure, partitioner.runtime
for name in sys.argv[2].split(","):
    importlib.import_module(name)
def memory():
    return psutil.Process().memory_full_info().pss / 1e6
found = {"imports": memory()}
pipe = partitioner.runtime.load(sys.argv[1])
spec = pipe.inputs["image"]
image = np.zeros([n if isinstance(n, int) else 1 for n in spec.shape], spec.dtype)
for rows in (min(pipe.batch_sizes), max(pipe.batch_sizes)):
    pipe(image=np.repeat(image, rows, 0), seed=list(range(rows)))
    found[f"after a call of {rows}"] = memory()
print(json.dumps(found))
"""

LIBRARIES = {"openvino": "openvino", "onnx": "onnxruntime"}


def build(given: argparse.Namespace, output: Path) -> Path:
    """A bundle of the Bernini example."""
    options = ["--set", f"size={given.size}", "--set", "steps=5", "--no-parity", "-o", str(output)]
    command = [*PARTITION, "build", str(MODEL), *options, "--batch", given.batch]
    command += ["--backends", given.backends]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch", default="1,4")
    parser.add_argument("--backends", default="openvino,host")
    parser.add_argument("--bundle", type=Path, help="a bundle with batch sizes, instead of a build")
    given = parser.parse_args()
    libraries = ",".join(LIBRARIES[n] for n in given.backends.split(",") if n in LIBRARIES)
    with tempfile.TemporaryDirectory() as folder:
        path = given.bundle or build(given, Path(folder) / "buckets.bundle")
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(path), libraries], check=True, stdout=subprocess.PIPE
        )
    found = {"bundle": size / 1e6, **json.loads(done.stdout)}
    print(json.dumps({name: round(megabytes, 1) for name, megabytes in found.items()}, indent=2))


if __name__ == "__main__":
    main()
