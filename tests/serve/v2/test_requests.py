"""Requests by strangers: each is parsed or refused, and none is anything else."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from partitioner.serve.failures import NotAcceptableError, ProtocolError
from partitioner.serve.jsontext import dumps, loads
from partitioner.serve.v2.requests import InferRequest, header_length, parse_request
from partitioner.serve.v2.responses import check_outputs, render
from tests.serve.v2.test_tensors import NAMES, SHAPES, VALUES


def tensor(**others: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "INT8", "shape": [2], **others}


def binary(size: Any) -> dict[str, Any]:
    return tensor(parameters={"binary_data_size": size})


def parsed(document: Any, rest: bytes | None = None) -> InferRequest:
    text = dumps(document)
    return parse_request(text + (rest or b""), None if rest is None else len(text))


def test_tensors_follow_the_json_in_the_order_of_the_inputs() -> None:
    second = {**binary(8), "name": "y", "datatype": "FP32"}
    third = tensor(name="z", data=[1, 2])
    request = parsed({"inputs": [binary(2), second, third]}, b"\x01\xff" + b"\0\0\x80\x3f" * 2)
    assert {"x": [1, -1], "y": [1.0, 1.0], "z": [1, 2]} == {
        name: array.tolist() for name, array in request.inputs.items()
    }


def test_ids_parameters_and_outputs() -> None:
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    parameters = {"binary_data_output": True, "seed": 3}
    request = parsed({"id": "i", "inputs": [], "outputs": outputs, "parameters": parameters})
    assert ("i", {"a": True, "b": False}, {"seed": 3}) == (
        request.id,
        request.outputs,
        request.parameters,
    )
    with pytest.raises(ProtocolError, match="no output 'a'"):
        check_outputs(request, {"b": None})


def test_bytes_in_json_are_text_or_base64() -> None:
    coded = base64.b64encode(b"\x00\xff").decode()
    for parameters, text in (({}, "é"), ({"content_type": "base64"}, coded)):
        given = tensor(datatype="BYTES", shape=[1], data=[text], parameters=parameters)
        expected = b"\x00\xff" if parameters else "é".encode()
        assert [expected] == parsed({"inputs": [given]}).inputs["x"].tolist()


@pytest.mark.parametrize(
    ("document", "rest", "message"),
    [
        ([], None, "must be an object"),
        ({}, None, "inputs must be a list"),
        ({"inputs": [1]}, None, "an input must be an object"),
        ({"inputs": [{"name": 1}]}, None, "needs a name"),
        ({"inputs": [tensor()]}, None, "needs data"),
        ({"inputs": [tensor(data=[1, 2])] * 2}, None, "given twice"),
        ({"inputs": [binary(-1)]}, b"ab", "number of bytes"),
        ({"inputs": [binary(True)]}, b"ab", "number of bytes"),
        ({"inputs": [binary(2.0)]}, b"ab", "number of bytes"),
        ({"inputs": [binary(2**63)]}, b"ab", "2 bytes are left"),
        ({"inputs": [binary(2)]}, None, "0 bytes are left"),
        ({"inputs": [binary(1)]}, b"a", "has 1 bytes, but INT8"),
        ({"inputs": [binary(2)]}, b"abc", "1 bytes are left after"),
        ({"inputs": [{**binary(2), "data": [1, 2]}]}, b"ab", "data and binary_data_size"),
        ({"inputs": [{**binary(2), "datatype": "FP32"}]}, b"ab", "FP32"),
        ({"inputs": [{**binary(2), "shape": [2**40, 2**40]}]}, b"ab", "too large"),
        ({"inputs": [], "id": 3}, None, "id must be"),
        ({"inputs": [], "parameters": []}, None, "parameters must be"),
        ({"inputs": [], "parameters": {"binary_data_output": 1}}, None, "true or false"),
        ({"inputs": [], "outputs": {}}, None, "outputs must be a list"),
        ({"inputs": [], "outputs": [{"name": "y"}] * 2}, None, "asked for twice"),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            None,
            "classification",
        ),
        (
            {
                "inputs": [
                    tensor(
                        datatype="BYTES",
                        shape=[1],
                        data=["é"],
                        parameters={"content_type": "base64"},
                    )
                ]
            },
            None,
            "not base64",
        ),
    ],
)
def test_requests_that_are_refused(document: Any, rest: bytes | None, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        parsed(document, rest)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "+1", "٣", "1 ", "9" * 30])
def test_header_lengths_that_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        header_length(text)


def test_a_header_longer_than_the_body_and_deep_json() -> None:
    with pytest.raises(ProtocolError, match="the body has 2 bytes"):
        parse_request(b"{}", 3)
    for depth in (2_000, 1_000_000):
        with pytest.raises(ProtocolError, match="not JSON"):
            parse_request(b'{"inputs":' + b"[" * depth, None)
    nested = b"[" * 900 + b"]" * 900
    with pytest.raises(ProtocolError):
        parse_request(b'{"inputs":[' + dumps(tensor())[:-1] + b',"data":' + nested + b"}]}", None)


PARAMETERS = st.fixed_dictionaries(
    {}, optional={"binary_data_size": st.integers(-1, 70) | VALUES, "content_type": VALUES}
)
TENSORS = st.fixed_dictionaries(
    {"name": st.text(max_size=2) | VALUES, "datatype": NAMES | VALUES, "shape": SHAPES | VALUES},
    optional={"data": VALUES, "parameters": PARAMETERS | VALUES},
)
DOCUMENTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=3) | VALUES},
    optional={"id": VALUES, "parameters": VALUES, "outputs": VALUES},
)


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


@settings(max_examples=60)
@given(
    DOCUMENTS.map(as_json) | VALUES.map(as_json) | st.binary(max_size=99),
    st.binary(max_size=70),
    st.integers(-3, 3),
    st.booleans(),
)
@example(b'{"inputs": [], "id": "\xed\xa0\x80"}', b"", 0, False)
def test_no_body_is_anything_but_parsed_or_refused(
    text: bytes, rest: bytes, off: int, plain: bool
) -> None:
    header = None if plain else max(0, len(text) + off)
    try:
        request = parse_request(text + rest, header)
    except ProtocolError:
        return
    assert all(isinstance(array, np.ndarray) for array in request.inputs.values())


def test_responses_say_where_the_tensors_are() -> None:
    request = parsed({"inputs": [], "outputs": [{"name": "a"}], "id": "i"})
    rows = {"a": [np.ones((1, 2), np.float16), np.zeros((0,), bool)], "b": np.ones(3)}
    written = render({"id": "i"}, rows, request)
    assert None is written.header
    assert [
        {"name": "a.0", "datatype": "FP16", "shape": [1, 2], "data": [1.0, 1.0]},
        {"name": "a.1", "datatype": "BOOL", "shape": [0], "data": []},
    ] == loads(written.body)["outputs"]
    request = parsed({"inputs": [], "parameters": {"binary_data_output": True}})
    written = render({}, {"b": np.arange(2, dtype=np.int16)[::-1]}, request)
    assert b"\x01\x00\x00\x00" == written.body[written.header :]


def test_numbers_that_json_cannot_hold_are_for_binary_data() -> None:
    outputs = {"y": np.array([1, np.nan], np.float32)}
    with pytest.raises(NotAcceptableError, match="ask for binary data"):
        render({}, outputs, parsed({"inputs": []}))
    asked = parsed({"inputs": [], "parameters": {"binary_data_output": True}})
    assert render({}, outputs, asked).body.endswith(outputs["y"].tobytes())
