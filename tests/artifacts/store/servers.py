"""Real servers for the tests: S3 over HTTP in a process of its own, and a web server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "ACCESS",
    "CREDENTIALS",
    "SECRET",
    "free_port",
    "moto_server",
    "registry_server",
    "seaweed_server",
    "web_server",
]

ACCESS, SECRET = "test", "testtest"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

_IDENTITIES = (
    '{"identities": [{"name": "test", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], '
    '"actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}'
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def moto_server(log: Path) -> Iterator[str]:
    """moto's S3. Gives its address."""
    port = free_port()
    code = "from moto.server import main; main()"
    command = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, log, [port]):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def seaweed_server(folder: Path) -> Iterator[str]:
    """SeaweedFS, which checks checksums and keeps objects on disk. Gives its address."""
    folder.mkdir(exist_ok=True)
    (folder / "s3.json").write_text(_IDENTITIES % (ACCESS, SECRET))
    # It listens for gRPC at each port plus 10,000.
    master, volume, filer, s3 = (free_port() % 20_000 + 20_000 for _ in range(4))
    command = [
        str(Path(sys.executable).parent / "weed"),
        f"-logdir={folder}",
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={master}",
        f"-volume.port={volume}",
        "-volume.max=200",
        "-master.volumeSizeLimitMB=1024",
        "-filer",
        f"-filer.port={filer}",
        "-s3",
        f"-s3.port={s3}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={folder / 's3.json'}",
    ]
    with _running(command, folder / "log", [master, volume, filer, s3]):
        yield f"http://127.0.0.1:{s3}"


_REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


@contextmanager
def registry_server(folder: Path) -> Iterator[str]:
    """The Distribution project's registry, as Debian packages it. Gives its host and port."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(_REGISTRY.format(folder=folder / "data", port=port))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with _running(command, folder / "log", [port]):
        yield f"127.0.0.1:{port}"


@contextmanager
def web_server(folder: Path, log: Path) -> Iterator[str]:
    """Python's web server over a folder; it knows no ranges. Gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with _running([*command, "--directory", str(folder)], log, [port]):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], log: Path, ports: list[int]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        for port in ports:
            _wait_for(port, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not come up: {log.read_text(errors='replace')[-2000:]}")
