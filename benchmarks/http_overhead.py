"""What the HTTP server adds to a request: its time over a kept connection less the pipeline's own.

Run: python benchmarks/http_overhead.py [--bundle tiny-bernini.bundle] [--rounds 300] [--json FILE]

Without a bundle the Bernini example is built in its tiny size. Each round calls the pipeline in
this process and asks the server, a process of its own, for the same in each form; medians of the
differences of each round are shown, so that what else the machine does disturbs both alike.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from partitioner.runtime import load
from tests.serve.servers import process_server

SIDE = 224
HEADER = "inference-header-content-length"


def build(folder: Path) -> Path:
    """The Bernini example in its tiny size."""
    bundle = folder / "bernini.bundle"
    model = ROOT / "examples/bernini/model.py"
    command = [sys.executable, "-c", "from partitioner.cli import main; main()", "build"]
    subprocess.run([*command, str(model), "--target", "cpu", "-o", str(bundle)], check=True)
    return bundle


def forms(pixels: Any, tensor: Any) -> dict[str, tuple[Any, bytes, dict[str, str]]]:
    """name -> what the pipeline is called with, the body of the request, its headers."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    png = file.getvalue()
    encoded = {"content_type": "base64"}
    text = [base64.b64encode(png).decode()]
    length = len(png).to_bytes(4, "little") + png
    picture = Image.open(io.BytesIO(png))
    return {
        "binary: tensor": (tensor, *binary("FP32", tensor.shape, tensor.tobytes())),
        "binary: pixels": (pixels, *binary("UINT8", pixels.shape, pixels.tobytes())),
        "binary: a picture's file": (picture, *binary("BYTES", (1,), length)),
        "JSON: a picture's file": (
            picture,
            document("BYTES", (1,), data=text, parameters=encoded),
            {},
        ),
        "JSON: tensor": (tensor, document("FP32", tensor.shape, data=tensor.ravel()), {}),
    }


def document(datatype: str, shape: Any, binary: bool = False, **others: Any) -> bytes:
    given = {"name": "image", "datatype": datatype, "shape": list(shape), **others}
    parameters = {"seed": 1, "binary_data_output": binary}
    return orjson.dumps(
        {"parameters": parameters, "inputs": [given]}, option=orjson.OPT_SERIALIZE_NUMPY
    )


def binary(datatype: str, shape: Any, data: bytes) -> tuple[bytes, dict[str, str]]:
    head = document(datatype, shape, binary=True, parameters={"binary_data_size": len(data)})
    return head + data, {HEADER: str(len(head))}


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(pipe: Any, connection: Any, path: str, form: Any, rounds: int) -> dict[str, float]:
    """Medians in milliseconds: of the pipeline, of the request, of the rounds' differences."""
    value, body, headers = form

    def ask() -> None:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content

    own, asked = list[float](), list[float]()
    for _ in range(rounds):
        own.append(seconds(lambda: pipe(image=value, seed=1)))
        asked.append(seconds(ask))
    warm = slice(rounds // 10, None)
    differences = [after - before for before, after in zip(own[warm], asked[warm], strict=True)]
    figures = {"pipeline": own[warm], "request": asked[warm], "overhead": differences}
    return {name: statistics.median(values) * 1e3 for name, values in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    tensor = (pixels / np.float32(127.5) - 1).transpose(2, 0, 1)[None].copy()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or build(Path(folder))
        arguments = (str(bundle.resolve()), "--name", "bernini")
        with load(bundle) as pipe, process_server(Path(folder), *arguments) as server:
            address = urlsplit(server.url)
            connection = http.client.HTTPConnection(address.hostname or "", address.port)
            for name, form in forms(pixels, tensor).items():
                found[name] = measure(
                    pipe, connection, "/v2/models/bernini/infer", form, options.rounds
                )
                figures = ", ".join(f"{key} {value:.2f} ms" for key, value in found[name].items())
                print(f"{name}: {figures}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
