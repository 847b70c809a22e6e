"""The process: TLS, tokens, and an end that loses nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import requests
import trustme

from partitioner.runtime import Pipeline
from tests.cli.verbs import partition
from tests.runtime.test_imports import HEAVY, loaded
from tests.serve.servers import process_server
from tests.serve.test_limits import INFER, steps_request

HOST_OP = ("--host-op", "tests.serve.models:pause")


def test_tls_and_tokens(steps_bundle: Path, tmp_path: Path) -> None:
    authority, tokens = trustme.CA(), tmp_path / "tokens"
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    tokens.write_text("first-token\nsecond-token\n")
    arguments = [str(steps_bundle), *HOST_OP, "--token-file", str(tokens)]
    arguments += ["--ssl-certfile", str(tmp_path / "cert.pem")]
    arguments += ["--ssl-keyfile", str(tmp_path / "key.pem")]
    with process_server(tmp_path, *arguments) as server, requests.Session() as session:
        session.trust_env = False  # a bundle of certificates that it names would go first
        session.verify = str(tmp_path / "authority.pem")
        assert server.url.startswith("https://")
        assert 200 == session.get(f"{server.url}/v2/health/ready").status_code
        for path in ("/v2", "/metrics", "/openapi.json"):
            assert 401 == session.get(server.url + path).status_code
        for given in ("Bearer", "Bearer first-toke", "Basic first-token", "Bearer tökén"):
            headers = {"authorization": given.encode()}
            assert 401 == session.get(f"{server.url}/v2", headers=headers).status_code
        for token in ("first-token", "second-token"):
            headers = {"authorization": f"Bearer {token}"}
            assert 200 == session.get(f"{server.url}/v2", headers=headers).status_code
        assert "token" not in json.dumps(server.lines())
        assert 0 == server.end()


class Client(threading.Thread):
    """Sends request after request on connections that it keeps, until it is asked to go."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__()
        self._url = url
        self._number = number
        self.served: list[list[float]] = []
        self.failures: list[object] = []

    def run(self) -> None:
        body = steps_request(0.01, seed=self._number)
        body["inputs"][0]["data"] = [self._number] * 4
        try:
            with requests.Session() as session:
                while not self.failures:
                    done = session.post(self._url + INFER, json=body, timeout=60)
                    if done.status_code != 200:
                        self.failures.append(done.text)
                        return
                    self.served.append(done.json()["outputs"][0]["data"])
                    if done.headers.get("connection") == "close":
                        return
        except requests.RequestException as error:
            self.failures.append(error)


def test_an_end_under_load_loses_no_request(
    steps_bundle: Path, steps: Pipeline, tmp_path: Path
) -> None:
    arguments = (str(steps_bundle), *HOST_OP, "--name", "steps", "--drain-delay", "0.6")
    with process_server(tmp_path, *arguments, PARTITIONER_TOKEN="") as server:
        clients = [Client(server.url, number) for number in range(8)]
        for client in clients:
            client.start()
        while not all(client.served for client in clients):
            assert not any(client.failures for client in clients)
        server.process.terminate()
        while requests.get(f"{server.url}/v2/health/ready", timeout=30).status_code == 200:
            pass
        for client in clients:
            client.join()
        assert 0 == server.process.wait(60)
    for number, client in enumerate(clients):
        assert [] == client.failures
        x = np.full((1, 4), number, np.float32)
        expected = steps(x=x, seconds=np.zeros(1, np.float32), seed=number)["y"].ravel().tolist()
        np.testing.assert_allclose(client.served, [expected] * len(client.served), rtol=1e-6)
    assert "ending: accepted requests are served" in [line["message"] for line in server.lines()]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--max-body", "0"), 2),
        (("--timeout", "-1"), 2),
        (("--token-file", "absent"), 2),
        (("--ssl-keyfile", "absent"), 2),
        (("--ssl-certfile", "absent"), 2),
        (("--host", "192.0.2.1"), 2),
        (("--drain-limit", "0"), 2),
        (("--queue", "0"), 2),
        (("--host-op", "absent:op"), 11),
    ],
)
def test_options_that_cannot_be_meant(
    arguments: tuple[str, ...], code: int, steps_bundle: Path
) -> None:
    given = ("serve", str(steps_bundle), *HOST_OP, *arguments)
    assert code == partition(*given).returncode


def test_serving_imports_nothing_heavy() -> None:
    modules = loaded("import partitioner.serve.app, partitioner.serve.service")
    assert set() == modules & set(HEAVY)
