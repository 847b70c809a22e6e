"""``/generate`` over HTTP: forms and JSON in, meshes, pictures, arrays and progress out."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests
import trimesh
from PIL import Image

from partitioner.runtime import Pipeline
from tests.serve.models import STEPS
from tests.serve.test_limits import metrics

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 4, 3), np.uint8)
CORNERS = RNG.random((4, 3)).astype(np.float32)
SIDES = np.array([[0, 1, 2], [1, 3, 2]])
TENSOR = (PIXELS / np.float32(255)).transpose(2, 0, 1)[None]
STEPS_URL = "/v2/models/steps/generate"


def png(pixels: Any = PIXELS) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def npy(array: Any, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def fields(**others: Any) -> dict[str, Any]:
    encoded = base64.b64encode(png()).decode()
    return {"image": encoded, "corners": CORNERS.tolist(), "sides": SIDES.tolist(), **others}


def post(url: str, document: Any, **headers: str) -> requests.Response:
    return requests.post(f"{url}/generate", json=document, headers=headers, timeout=30)


def test_a_mesh_comes_as_glb_and_the_seed_in_a_header(url: str) -> None:
    done = post(url, fields(seed=7))
    assert ("model/gltf-binary", "7") == (
        done.headers["content-type"],
        done.headers["partition-seed"],
    )
    mesh: Any = trimesh.load(io.BytesIO(done.content), file_type="glb", force="mesh")
    assert (4, 3) == mesh.vertices.shape
    assert (2, 3) == mesh.faces.shape


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_form_with_files(url: str, version: tuple[int, int]) -> None:
    files = {
        "image": png(),
        "corners": npy(np.asfortranarray(CORNERS), version),
        "sides": npy(SIDES),
    }
    data = {"seed": "3", "format": "npz"}
    done = requests.post(f"{url}/generate", data=data, files=files, timeout=30)
    with np.load(io.BytesIO(done.content)) as arrays:
        assert {"picture", "vertices", "faces"} == set(arrays)
        np.testing.assert_array_equal(CORNERS * 2, arrays["vertices"])
        np.testing.assert_array_equal(SIDES, arrays["faces"])
        np.testing.assert_allclose(TENSOR, arrays["picture"], atol=1e-6)


@pytest.mark.parametrize(("asked", "accepted"), [({"format": "png"}, "*/*"), ({}, "image/png")])
def test_a_picture_by_name_or_by_what_the_client_accepts(
    url: str, asked: dict[str, Any], accepted: str
) -> None:
    done = post(url, fields(**asked), accept=accepted)
    np.testing.assert_array_equal(PIXELS, np.asarray(Image.open(io.BytesIO(done.content))))


def test_pictures_as_numbers_and_data_urls(url: str) -> None:
    encoded = "data:image/png;base64," + base64.b64encode(png()).decode()
    for image in (encoded, TENSOR.tolist()):
        done = post(url, fields(image=image, format="json"))
        assert ["picture", "vertices", "faces"] == list(done.json())
        np.testing.assert_allclose(TENSOR, done.json()["picture"], atol=1e-6)


def test_one_output_comes_as_its_bytes(url: str) -> None:
    done = post(url, fields(output="vertices"))
    assert ("FP32", "4,3") == tuple(
        done.headers[f"partition-{name}"] for name in ("datatype", "shape")
    )
    assert (CORNERS * 2).tobytes() == done.content


def test_progress_comes_before_the_result(url: str, steps: Pipeline) -> None:
    document = {"x": [[1, 2, 3, 4]], "seconds": [0.01], "seed": 5, "stream": True}
    done = requests.post(url + STEPS_URL, json=document, timeout=30)
    assert done.headers["content-type"].startswith("text/event-stream")
    events = [event.split("\n") for event in done.text.strip().split("\n\n")]
    assert ["event: step"] * STEPS + ["event: result"] == [event[0] for event in events]
    told = [json.loads(event[1].removeprefix("data: ")) for event in events]
    assert [0.2, 0.4, 0.6, 0.8, 1.0] == [event["done"] for event in told[:-1]]
    x = np.array([[1, 2, 3, 4]], np.float32)
    expected = steps(x=x, seconds=np.zeros(1, np.float32), seed=5)
    result = json.loads(base64.b64decode(told[-1]["base64"]))
    assert 5 == told[-1]["seed"]
    np.testing.assert_array_equal(expected["y"], np.float32(result["y"]))


def test_failures_with_progress_before_and_after_the_first_step(url: str) -> None:
    bad = {"x": [[1, 2, 3]], "seconds": [0.0], "stream": True}
    assert 400 == requests.post(url + STEPS_URL, json=bad, timeout=30).status_code
    late = {"x": [[1, 2, 3, 4]], "seconds": [0.2], "timeout": 0.3, "stream": True}
    done = requests.post(url + STEPS_URL, json=late, timeout=30)
    assert 200 == done.status_code
    last = done.text.strip().split("\n\n")[-1].split("\n")
    assert "event: error" == last[0]
    assert 504 == json.loads(last[1].removeprefix("data: "))["status"]
    assert "partitioner_active_requests 0.0" in metrics(url)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"image": "/etc/passwd"}, 400, "no base64"),
        ({"image": base64.b64encode(b"GIF89a").decode()}, 400, "is no picture"),
        ({"image": base64.b64encode(png(np.zeros((40, 40), np.uint8))).decode()}, 400, "pixels"),
        ({"image": []}, 400, "image input 'image'"),
        ({"corners": "4"}, 400, "no float32"),
        ({"corners": [[1, 2, 3], [1]]}, 400, "not nested"),
        ({"sides": [[0.5, 1, 2], [1, 3, 2]]}, 400, "no int64"),
        ({"sides": [[0, 1, 9], [1, 3, 2]]}, 422, "no mesh: faces name vertices"),
        ({"output": ["picture"]}, 400, "no output"),
        ({"format": {}}, 400, "no format"),
        ({"format": "bin"}, 400, "of one output"),
        ({"stream": "yes"}, 400, "true or false"),
        ({"timeout": True}, 400, "must be a number"),
        ({"timeout": -1}, 400, "more than 0"),
        ({"seed": "x" * 5000}, 400, "64-bit integer"),
        ({"seed": -(2**63) - 1}, 400, "64-bit integer"),
        ({"stepz": 3}, 400, "unknown parameter 'stepz'"),
        ({"sides": None}, 400, "no int64"),
    ],
)
def test_fields_that_cannot_be_meant(
    url: str, change: dict[str, Any], status: int, message: str
) -> None:
    done = post(url, fields(**change))
    assert (status, True) == (done.status_code, message in done.json()["error"])
    assert len(done.json()["error"]) <= 2000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        npy(CORNERS)[:-1],
        npy(CORNERS) + b"x",
        npy(CORNERS).replace(b"(4, 3)", b"(9, 9)"),
        npy(CORNERS).replace(b"'<f4'", b"'|O' "),
        b"\x93NUMPY\x03\x00" + npy(CORNERS)[8:],
        b"\x93NUMPY\x01\x00\xff\xff{",
    ],
)
def test_npy_files_that_lie(url: str, content: bytes) -> None:
    files = {"image": png(), "corners": content, "sides": npy(SIDES)}
    done = requests.post(f"{url}/generate", files=files, timeout=30)
    assert (400, True) == (done.status_code, "no .npy file" in done.json()["error"])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\nbad\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\ncontent-disposition: form-data\r\n\r\n\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="seed"\r\n\r\n1\r\n--',
        ),
        ("application/x-www-form-urlencoded", b"seed=1&seed=2"),
        ("application/x-www-form-urlencoded", b"&".join(b"%d=" % n for n in range(101))),
    ],
)
def test_bodies_that_are_malformed(url: str, kind: str, body: bytes) -> None:
    done = requests.post(f"{url}/generate", data=body, headers={"content-type": kind}, timeout=30)
    assert 400 == done.status_code
    assert isinstance(done.json()["error"], str)


def test_a_form_may_have_100_parts_and_no_more(url: str) -> None:
    for count in (100, 101):
        files = {f"f{number}": b"" for number in range(count)}
        done = requests.post(f"{url}/generate", files=files, timeout=30)
        assert 400 == done.status_code
        assert ("100 parts" in done.json()["error"]) == (count > 100)


def test_a_form_in_an_address_is_decoded(url: str, steps: Pipeline) -> None:
    data = {"x": "[[1, 2, 3, 4]]", "seconds": "[0.0]", "seed": "5", "format": "json"}
    done = requests.post(url + STEPS_URL, data=data, timeout=30)
    x = np.array([[1, 2, 3, 4]], np.float32)
    expected = steps(x=x, seconds=np.zeros(1, np.float32), seed=5)
    np.testing.assert_array_equal(expected["y"], np.float32(done.json()["y"]))


def test_a_picture_alone_with_the_rest_in_the_address(url: str) -> None:
    # The query is decoded as a form is.
    query = {"corners": json.dumps(CORNERS.tolist()), "sides": json.dumps(SIDES.tolist())}
    query |= {"format": "png", "seed": "7"}
    headers = {"content-type": "image/png"}
    done = requests.post(f"{url}/generate", png(), params=query, headers=headers, timeout=30)
    assert "7" == done.headers["partition-seed"]
    np.testing.assert_array_equal(PIXELS, np.asarray(Image.open(io.BytesIO(done.content))))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (STEPS_URL, "this one takes 0"),
        ("/generate?image=1", "'image' is given twice"),
        ("/generate?stepz=1", "unknown parameter 'stepz'"),
    ],
)
def test_a_picture_alone_that_cannot_be_meant(url: str, path: str, message: str) -> None:
    headers = {"content-type": "image/png"}
    done = requests.post(url + path, png(), headers=headers, timeout=30)
    assert (400, True) == (done.status_code, message in done.json()["error"])


class Held(logging.Handler):
    """Holds whoever logs until it is told to let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.over = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        assert self.over.wait(60)


def test_others_are_served_while_a_form_is_read(url: str) -> None:
    # The parser logs an encoding that it does not know, and is held there, amidst the form.
    part = b'--b\r\ncontent-disposition: form-data; name="f"; filename="f"\r\n'
    body = part + b"content-transfer-encoding: unknown\r\n\r\nx\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    parser, held = logging.getLogger("python_multipart.multipart"), Held()
    parser.addHandler(held)
    try:
        with ThreadPoolExecutor(1) as thread:
            sent = thread.submit(
                requests.post, f"{url}/generate", body, headers=headers, timeout=90
            )
            assert held.reached.wait(60)
            assert 200 == requests.get(f"{url}/v2/health/live", timeout=30).status_code
            assert 200 == post(url, fields(seed=7)).status_code
            assert not sent.done()
            held.over.set()
            assert "unknown parameter 'f'" in sent.result().json()["error"]
    finally:
        held.over.set()
        parser.removeHandler(held)
