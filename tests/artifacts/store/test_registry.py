"""Bundles in an OCI registry, by clients that know nothing of bundles: the digest stays."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import oras.client
import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.oci import BLOBS, IMAGE_TYPE, write_index, write_layout
from partitioner.artifacts.signatures import SIGNATURES_FILE
from tests.artifacts.samples import write_bundle
from tests.artifacts.store.servers import registry_server
from tests.artifacts.test_signatures import new_keys, open_required, sign

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry_server(tmp_path_factory.mktemp("registry")) as address:
        yield address


def copied(registry: str, bundle: Path, to: Path) -> None:
    """To the registry and back."""
    remote = f"docker://{registry}/models/sample:v3"
    copy = ["skopeo", "copy", "--preserve-digests"]
    there = [*copy, "--dest-tls-verify=false", f"oci:{bundle}", remote]
    back = [*copy, "--src-tls-verify=false", remote, f"oci:{to}:v3"]
    for command in (there, back):
        subprocess.run(command, check=True, capture_output=True)


def test_skopeo(registry: str, tmp_path: Path) -> None:
    digest = write_bundle(tmp_path / "there")
    copied(registry, tmp_path / "there", tmp_path / "back")
    assert digest == Bundle.open(tmp_path / "back").digest
    Bundle.open(tmp_path / "back").check()


def test_a_signature_holds_for_the_copy(registry: str, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    write_bundle(tmp_path / "there")
    sign(tmp_path / "there", private)
    copied(registry, tmp_path / "there", tmp_path / "back")
    shutil.copy(tmp_path / "there" / SIGNATURES_FILE, tmp_path / "back")
    open_required(tmp_path / "back", public).check()


def test_oras(registry: str, tmp_path: Path) -> None:
    write_bundle(tmp_path / "there")
    bundle = Bundle.open(tmp_path / "there")
    root = BundleIndex.open(tmp_path / "there").read_root()
    client = oras.client.OrasClient(hostname=registry, insecure=True)
    container = client.get_container(f"{registry}/models/by-oras:v3")
    image = json.loads(root)
    for row in (*image["layers"], image["config"]):
        path = bundle.blobs_dir / hex_of(row["digest"])
        assert client.upload_blob(str(path), container, row).ok
    # The client's own way to send a manifest writes it anew, which gives another digest.
    url = f"{client.prefix}://{container.manifest_url()}"
    headers = {"Content-Type": IMAGE_TYPE}
    assert client.do_request(url, "PUT", data=root, headers=headers).ok
    back = tmp_path / "back"
    answer = client.do_request(url, "GET", headers={"Accept": IMAGE_TYPE})
    (back / BLOBS).mkdir(parents=True)
    (back / BLOBS / hex_of(bundle.digest)).write_bytes(answer.content)
    for row in (*answer.json()["layers"], answer.json()["config"]):
        client.download_blob(container, row["digest"], str(back / BLOBS / hex_of(row["digest"])))
    (back / "oci-layout").write_bytes(write_layout())
    (back / "index.json").write_bytes(write_index(bundle.image))
    assert bundle.digest == Bundle.open(back).digest
    Bundle.open(back).check()
