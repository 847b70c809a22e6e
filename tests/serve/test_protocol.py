"""A client of the protocol that is not ours talks to a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from partitioner.runtime import Pipeline
from tests.serve.models import STEPS
from tests.serve.servers import Served

X = np.array([[1, -2, 0.5, 1e-3]], np.float32)


@pytest.fixture
def client(server: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


def inputs(x: Any = X, seconds: float = 0, binary: bool = True) -> list[Any]:
    given = {"x": np.asarray(x, np.float32), "seconds": np.array([seconds], np.float32)}
    tensors = list[Any]()
    for name, array in given.items():
        tensor = triton.InferInput(name, list(array.shape), "FP32")
        tensors.append(tensor.set_data_from_numpy(array, binary_data=binary))
    return tensors


def wanted(name: str, binary: bool) -> Any:
    return triton.InferRequestedOutput(name, binary_data=binary)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert (True, True) == (client.is_model_ready("steps"), client.is_model_ready("steps", "1"))
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("steps", "1")
    assert ("steps", ["1"]) == (metadata["name"], metadata["versions"])
    assert [{"name": "x", "datatype": "FP32", "shape": [1, 4]}] == metadata["inputs"][:1]
    assert ["y", "noise"] == [output["name"] for output in metadata["outputs"]]


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("received", [True, False])
def test_inference_is_that_of_the_pipeline(
    client: Any, steps: Pipeline, sent: bool, received: bool
) -> None:
    outputs = [wanted("noise", received), wanted("y", received)]
    result = client.infer(
        "steps", inputs(binary=sent), outputs=outputs, request_id="r1", parameters={"seed": 7}
    )
    expected = steps(x=X, seconds=np.zeros(1, np.float32), seed=7)
    response = result.get_response()
    assert ("steps", "1", "r1") == tuple(response[k] for k in ("model_name", "model_version", "id"))
    assert {"seed": 7} == response["parameters"]
    assert ["noise", "y"] == [output["name"] for output in response["outputs"]]
    for name in ("y", "noise"):
        np.testing.assert_array_equal(expected[name], result.as_numpy(name), strict=True)


def test_all_outputs_come_where_none_is_named_with_the_seed_that_was_drawn(client: Any) -> None:
    first = client.infer("steps", inputs())
    seed = first.get_response()["parameters"]["seed"]
    again = client.infer("steps", inputs(), model_version="1", parameters={"seed": seed})
    np.testing.assert_array_equal(first.as_numpy("y"), again.as_numpy("y"))
    noise = first.as_numpy("noise")
    np.testing.assert_array_equal(X * np.float32(2**STEPS) + noise, first.as_numpy("y"))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests(client: Any, coding: str) -> None:
    result = client.infer("steps", inputs(), request_compression_algorithm=coding)
    assert (1, 4) == result.as_numpy("y").shape


def test_requests_from_many_threads_get_their_own_answers(server: Served) -> None:
    def ask(number: int) -> Any:
        with triton.InferenceServerClient(server.url.removeprefix("http://")) as own:
            result = own.infer("steps", inputs(np.full((1, 4), number)))
        return result.as_numpy("y") - result.as_numpy("noise")

    with ThreadPoolExecutor(4) as threads:
        for number, answer in enumerate(threads.map(ask, range(16))):
            np.testing.assert_allclose(np.full((1, 4), number * 2**STEPS), answer, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "change", "status", "message"),
    [
        ("other", {}, "404", "there is no model 'other'"),
        ("steps", {"model_version": "2"}, "404", "no version '2'"),
        ("steps", {"inputs": inputs()[:1]}, "400", "input missing: seconds"),
        ("steps", {"inputs": inputs(np.ones((2, 4)))}, "400", r"has the shape \[2, 4\]"),
        ("steps", {"outputs": [wanted("z", True)]}, "400", "no output 'z'"),
        ("steps", {"parameters": {"step": 3}}, "400", "unknown parameter 'step'"),
        ("steps", {"parameters": {"seed": "a"}}, "400", "64-bit integer, not 'a'"),
        ("steps", {"inputs": inputs(seconds=0.1), "timeout": 50_000}, "504", "within 0.05 s"),
    ],
)
def test_errors_have_the_status_and_text_that_say_what_to_do(
    client: Any, model: str, change: dict[str, Any], status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message) as caught:
        client.infer(model, **{"inputs": inputs(), **change})
    assert status == caught.value.status()


def test_metrics_and_the_access_log_tell_of_requests(server: Served, client: Any) -> None:
    client.infer("steps", inputs())
    text = requests.get(f"{server.url}/metrics", timeout=30).text
    assert 'partitioner_requests_total{endpoint="infer",model="steps",status="200"}' in text
    assert 'partitioner_request_seconds_bucket{endpoint="infer",le="0.1",model="steps"}' in text
    assert 'partitioner_waiting_requests{model="steps"} 0.0' in text
    lines = [line for line in server.lines() if line.get("path", "").endswith("/infer")]
    assert {"method": "POST", "status": 200, "model": "steps"}.items() <= lines[-1].items()
