"""What the HTTP server adds to a request: its time over a kept connection less the pipeline's own.

Run: python benchmarks/http_overhead.py [--bundle tiny-bernini.bundle] [--rounds 300] [--json FILE]
     [--before CHECKOUT]

Without a bundle, which has an input ``image`` as the Bernini example has, one is made by hand that
computes next to nothing: what is left is the server's. Each round calls the pipeline in
this process and asks the server, a process of its own, for the same in each form; medians of the
differences of each round are shown, so that what else the machine does disturbs both alike.
With ``--before`` the server of another checkout is asked in each round, too, for what it takes.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
import PIL.Image
import psutil

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from partitioner.plan import Call
from partitioner.runtime import load
from partitioner.specs import Image, InputSpec
from tests.bundles import Maker, node, spec
from tests.serve.servers import process_server

SIDE = 224
HEADER = "inference-header-content-length"
INFER, GENERATE = "/v2/models/model/infer", "/v2/models/model/generate"


def shrinking(path: Path) -> Path:
    """A picture in, its blocks' means out: 9,408 numbers."""
    maker, tensor, small = Maker(path), f"float32[1, 3, {SIDE}, {SIDE}]", "float32[1, 3, 56, 56]"
    pool = node("AveragePool", ["image"], ["y"], kernel_shape=[4, 4], strides=[4, 4])
    maker.onnx("shrink", {"image": tensor}, {"y": small}, [pool])
    inputs = [InputSpec("image", spec(tensor), Image((SIDE, SIDE)))]
    return maker.write(inputs, [Call("shrink", ("image",), ("y",))], {"y": "y"})


def forms(pixels: Any, tensor: Any) -> dict[str, tuple[Any, str, bytes, dict[str, str]]]:
    """name -> makes what the pipeline is called with; the address, the request's body, headers."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    png = file.getvalue()
    encoded = {"content_type": "base64"}
    text = [base64.b64encode(png).decode()]
    length = len(png).to_bytes(4, "little") + png

    def picture() -> Any:
        return PIL.Image.open(io.BytesIO(png))  # to be decoded, as the server has to

    fields = {"seed": b"1", "format": b"npz", 'image"; filename="a.png': png}
    parts = [
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'.encode() + value
        for name, value in fields.items()
    ]
    form = b"\r\n".join([*parts, b"--b--\r\n"])
    multipart, alone = {"content-type": "multipart/form-data; boundary=b"}, f"{GENERATE}?seed=1"
    return {
        "binary: tensor": (
            lambda: tensor,
            INFER,
            *binary("FP32", tensor.shape, tensor.tobytes()),
        ),
        "binary: pixels": (lambda: pixels, INFER, *binary("UINT8", pixels.shape, pixels.tobytes())),
        "binary: a picture's file": (picture, INFER, *binary("BYTES", (1,), length)),
        "JSON: a picture's file": (
            picture,
            INFER,
            document("BYTES", (1,), data=text, parameters=encoded),
            {},
        ),
        "JSON: tensor": (
            lambda: tensor,
            INFER,
            document("FP32", tensor.shape, data=tensor.ravel()),
            {},
        ),
        "/generate: a form with a picture's file": (picture, GENERATE, form, multipart),
        "/generate: a picture's file alone": (
            picture,
            f"{alone}&format=npz",
            png,
            {"content-type": "image/png"},
        ),
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


def processor(process: Any) -> float:
    """Seconds of processor time so far."""
    times = process.cpu_times()
    return times.user + times.system


def post(connection: Any, form: Any) -> int:
    """The status of an answer."""
    _, path, body, headers = form
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def measure(
    pipe: Any, server: Any, connection: Any, form: Any, rounds: int, before: Any
) -> dict[str, float]:
    """Milliseconds: medians of the pipeline, of the request, of the rounds' differences, of a look
    at the server's health, which is the least that this machine takes for HTTP at present; the
    smallest request less the smallest run, for machines that are never quiet; and the
    processor time of the server for a request and a look, the pipeline's own included."""
    make = form[0]

    def ask() -> None:
        assert post(connection, form) == 200

    earlier = before is not None and post(before, form) == 200

    def look() -> None:
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()

    own, asked, looks, old = list[float](), list[float](), list[float](), list[float]()
    spent = processor(server)
    for _ in range(rounds):
        own.append(seconds(lambda: pipe(image=make(), seed=1)))
        asked.append(seconds(ask))
        looks.append(seconds(look))
        if earlier:
            old.append(seconds(lambda: post(before, form)))
    warm = slice(rounds // 10, None)
    differences = [after - alone for alone, after in zip(own[warm], asked[warm], strict=True)]
    figures = {
        "pipeline": own[warm],
        "request": asked[warm],
        "overhead": differences,
        "health": looks[warm],
    }
    if earlier:
        pairs = zip(own[warm], old[warm], strict=True)
        figures["overhead before"] = [after - alone for alone, after in pairs]
    medians = {name: statistics.median(values) * 1e3 for name, values in figures.items()}
    medians["least overhead"] = (min(asked) - min(own)) * 1e3
    if earlier:
        medians["least overhead before"] = (min(old) - min(own)) * 1e3
    return {**medians, "processor": (processor(server) - spent) / rounds * 1e3}


def connect(server: Any) -> http.client.HTTPConnection:
    """A connection that is kept."""
    address = urlsplit(server.url)
    return http.client.HTTPConnection(address.hostname or "", address.port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--before", type=Path, help="checkout with a .venv")
    options = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    tensor = (pixels / np.float32(127.5) - 1).transpose(2, 0, 1)[None].copy()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or shrinking(Path(folder) / "shrinking.bundle")
        arguments = (str(bundle.resolve()), "--name", "model")
        with contextlib.ExitStack() as stack:
            pipe = stack.enter_context(load(bundle))
            server = stack.enter_context(process_server(Path(folder), *arguments))
            connection, before = connect(server), None
            if options.before:
                other = Path(folder) / "before"
                other.mkdir()
                checkout = options.before.resolve()
                earlier = process_server(
                    other,
                    *arguments,
                    python=str(checkout / ".venv/bin/python"),
                    PYTHONPATH=str(checkout),
                )
                before = connect(stack.enter_context(earlier))
            process = psutil.Process(server.process.pid)
            for name, form in forms(pixels, tensor).items():
                found[name] = measure(pipe, process, connection, form, options.rounds, before)
                figures = ", ".join(f"{key} {value:.2f} ms" for key, value in found[name].items())
                print(f"{name}: {figures}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
