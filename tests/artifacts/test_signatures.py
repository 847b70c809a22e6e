"""Signatures: made, found, refused; and read by the tools of model-signing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.policy import requirements_for
from partitioner.artifacts.signatures import (
    SIGNATURES_FILE,
    merge_signatures,
    parse_signatures,
    read_signatures,
    required,
    sign_manifest,
    verify_manifest,
    write_signatures,
)
from partitioner.errors import BundleError, SignatureError, UsageError
from tests.artifacts.samples import manifest, write_bundle


def new_keys(folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> tuple[Path, Path]:
    """Files of a private and a public key."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, info))
    return private, public


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "sample.bundle")
    return tmp_path / "sample.bundle"


def sign(bundle: Path, key: Path) -> None:
    opened = BundleIndex.open(bundle)
    signature = sign_manifest(opened.digest, opened.read_root(), key)
    write_signatures(bundle, merge_signatures([*read_signatures(bundle), signature], None))


def open_required(bundle: Path, *keys: Path) -> Bundle:
    return Bundle.open(bundle, trust=required([keys], read_signatures(bundle)))


def test_signed(bundle: Path, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    other, other_public = new_keys(tmp_path, "other", ec.SECP384R1())
    with pytest.raises(SignatureError, match="no signature"):
        open_required(bundle, public)
    sign(bundle, private)
    assert Bundle.open(bundle).digest == open_required(bundle, public).digest
    open_required(bundle, other_public, public)
    with pytest.raises(SignatureError, match="none of its signatures"):
        open_required(bundle, other_public)
    sign(bundle, other)
    open_required(bundle, other_public)
    assert 2 == len(read_signatures(bundle))


def test_the_librarys_own_verifier_accepts_it(bundle: Path, tmp_path: Path) -> None:
    import model_signing.verifying

    private, public = new_keys(tmp_path, "release")
    sign(bundle, private)
    path = tmp_path / "signature"
    path.write_text(json.dumps(read_signatures(bundle)[0]))
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    config.set_ignore_unsigned_files(True).verify(bundle, path)


def test_a_manifest_swapped_after_signing(bundle: Path, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    sign(bundle, private)
    write_bundle(tmp_path / "evil", manifest().replace(version="9"))
    os.replace(bundle / SIGNATURES_FILE, tmp_path / "evil" / SIGNATURES_FILE)
    with pytest.raises(SignatureError, match="none of its signatures"):
        open_required(tmp_path / "evil", public)


def test_a_changed_signature(bundle: Path, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    sign(bundle, private)
    signature = read_signatures(bundle)[0]
    content = BundleIndex.open(bundle).read_root()
    digest = Bundle.open(bundle).digest
    assert public == verify_manifest(digest, content, [signature], [public])
    for change in (
        {"dsseEnvelope": {**signature["dsseEnvelope"], "payload": "e30="}},
        {"dsseEnvelope": {}},
        {"mediaType": "other"},
        {"verificationMaterial": {}},
    ):
        with pytest.raises(SignatureError):
            verify_manifest(digest, content, [{**signature, **change}], [public])
    with pytest.raises(SignatureError, match="no key is trusted"):
        verify_manifest(digest, content, [signature], [])
    with pytest.raises(SignatureError):
        verify_manifest("sha256:" + "0" * 64, content, [signature], [public])


def test_keys_that_are_none(bundle: Path, tmp_path: Path) -> None:
    private, public = new_keys(tmp_path, "release")
    with pytest.raises(SignatureError, match="cannot be used"):
        sign(bundle, tmp_path / "missing")
    with pytest.raises(SignatureError, match="cannot be used"):
        sign(bundle, public)
    sign(bundle, private)
    (tmp_path / "rubbish").write_text("rubbish")
    for key in (tmp_path / "missing", tmp_path / "rubbish", private):
        with pytest.raises(SignatureError, match="public key cannot be used"):
            open_required(bundle, key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"signatures":{}}',
        b'{"signatures":[1]}',
        b'{"signatures":[],"a":1,"a":2}',
        b'{"signatures":[' + b",".join([b"{}"] * 33) + b"]}",
    ],
)
def test_malformed_documents(data: bytes) -> None:
    with pytest.raises(BundleError):
        parse_signatures(data)


def test_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PARTITIONER_POLICY", raising=False)
    key = Path("/my.pub")
    assert [] == requirements_for("s3://b/p/name@v3")
    assert [(key,)] == requirements_for("s3://b/p/name@v3", (key,))
    (tmp_path / "partitioner").mkdir()
    path = tmp_path / "partitioner" / "policy.toml"
    path.write_text('[[require]]\nmatch = "s3://b/*"\nkeys = ["a.pub", "/b.pub"]\n')
    both = (path.parent / "a.pub", Path("/b.pub"))
    assert [both] == requirements_for("s3://b/p/name@v3")
    assert [(key,), both] == requirements_for("s3://b/p/name@v3", (key,))
    assert [] == requirements_for("s3://other/name@v3")
    for text in ("x = 1", "[[require]]\nmatch = 1\nkeys = []", "[[require]]\nmatch = 'a'", "["):
        path.write_text(text)
        with pytest.raises(UsageError, match="policy"):
            requirements_for("s3://b/p/name@v3")
    monkeypatch.setenv("PARTITIONER_POLICY", str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="policy"):
        requirements_for("s3://b/p/name@v3")
