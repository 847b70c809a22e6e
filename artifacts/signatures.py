"""Signatures of a bundle: a document beside it, by the OpenSSF model-signing library.

What is signed is the root (see ``oci.py``), as the one file ``blobs/sha256/<hex>`` of a model; the
digests in it cover everything else, all members included. Each signature is a Sigstore bundle with
an in-toto statement, as the library writes it, so that its own tools read it (``docs/store.md``).
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from partitioner.artifacts.bundle import Trust
from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.files import read_plain
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.oci import BLOBS
from partitioner.errors import BundleError, MissingDependencyError, OutputError, SignatureError

__all__ = [
    "SIGNATURES_FILE",
    "Requirements",
    "Signature",
    "merge_signatures",
    "parse_signatures",
    "read_signatures",
    "required",
    "sign_manifest",
    "verify_manifest",
    "write_signatures",
]

#: Beside ``index.json``; not a blob, since it is about the bundle and not of it.
SIGNATURES_FILE = "signatures.json"

_LIMIT = 2**20
_MOST = 32

Signature = dict[str, Any]

#: Sets of public keys' files; of each set, one must have signed. None are met by any bundle.
Requirements = Sequence[Sequence[Path]]


def read_signatures(bundle: Path) -> list[Signature]:
    """The signatures beside a bundle; none if there are none. Nothing is verified.

    Raises:
        BundleError: malformed.
    """
    path = bundle / SIGNATURES_FILE
    if not os.path.lexists(path):
        return []
    return parse_signatures(read_plain(path, _LIMIT))


def parse_signatures(data: bytes) -> list[Signature]:
    """The signatures of a document. Nothing is verified.

    Raises:
        BundleError: malformed, or too many.
    """
    document = loads(data, SIGNATURES_FILE)
    rows = cast("dict[str, Any]", document).get("signatures") if isinstance(document, dict) else 0
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in cast("list[Any]", rows)):
        raise BundleError("no list of signatures", where=SIGNATURES_FILE)
    found = cast("list[Signature]", rows)
    if len(found) > _MOST:
        raise BundleError(f"{len(found)} signatures, at most {_MOST}", where=SIGNATURES_FILE)
    return found


def merge_signatures(own: Sequence[Signature], others: bytes | None) -> bytes:
    """A document with our signatures and those of another, each once.

    Raises:
        BundleError: the other is malformed.
    """
    rows = parse_signatures(others) if others is not None else []
    rows += [signature for signature in own if signature not in rows]
    return dumps({"signatures": rows})


def write_signatures(bundle: Path, document: bytes) -> None:
    """Put a document beside a bundle, in place of one that is there.

    Raises:
        OutputError: it cannot be written.
    """
    partial = bundle / f".{SIGNATURES_FILE}.{uuid.uuid4().hex[:12]}.partial"
    try:
        try:
            partial.write_bytes(document)
            partial.replace(bundle / SIGNATURES_FILE)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"the signature cannot be written: {error.strerror or error}",
            where=str(bundle / SIGNATURES_FILE),
            advice="sign where the bundle can be written",
        ) from error


def sign_manifest(digest: str, content: bytes, key: Path, password: str | None = None) -> Signature:
    """Sign the root of a bundle.

    Args:
        key: file of a private key, PEM, on the curve P-256, P-384 or P-521.

    Raises:
        SignatureError: the key cannot be used.
        MissingDependencyError: model-signing is not installed.
    """
    model_signing = _library()
    with _as_model(digest, content) as (model, path):
        try:
            signer = model_signing.signing.Config().use_elliptic_key_signer(
                private_key=key, password=None if password is None else password.encode()
            )
            signer.set_hashing_config(_hashing(model_signing)).sign(model, path)
        except (OSError, ValueError, TypeError) as error:
            raise SignatureError(
                f"the key cannot be used: {error}",
                where=str(key),
                advice="openssl ecparam -name prime256v1 -genkey -noout makes a private key",
            ) from error
        return json.loads(path.read_bytes())


def verify_manifest(
    digest: str, content: bytes, signatures: Sequence[Signature], keys: Sequence[Path]
) -> Path:
    """Find a signature of a bundle's root by one of some keys.

    Args:
        content: of the root; its digest is known to be ``digest``.
        keys: files of public keys, PEM. From the deployment, never from the bundle.

    Returns:
        the key.

    Raises:
        SignatureError: there is none, or a key cannot be read.
        MissingDependencyError: model-signing is not installed.
    """
    if not keys:
        raise SignatureError("a signature is required, but no key is trusted")
    model_signing = _library()
    reasons: list[str] = []
    with _as_model(digest, content) as (model, path):
        for key in keys:
            verifier = _verifier(model_signing, key)
            for signature in signatures:
                path.write_text(json.dumps(signature))
                try:
                    verifier.verify(model, path)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is no signature
                    reasons.append(f"{key.name}: {str(error).strip() or type(error).__name__}")
                else:
                    return key
    detail = f" ({'; '.join(reasons[:3])[:300]})" if reasons else ""
    what = "none of its signatures is by a trusted key" if signatures else "it has no signature"
    raise SignatureError(
        f"the bundle is not to be trusted: {what}{detail}",
        where=digest,
        advice="partition sign BUNDLE --key KEY, where you trust it; or give the right public key",
    )


def required(requirements: Requirements, signatures: Sequence[Signature]) -> Trust | None:
    """What ``Bundle.open`` takes to trust bundles that meet all requirements only."""
    if not requirements:
        return None

    def trust(digest: str, content: bytes) -> None:
        for keys in requirements:
            verify_manifest(digest, content, signatures, keys)

    return trust


def _verifier(model_signing: Any, key: Path) -> Any:
    try:
        config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, ValueError, TypeError) as error:
        raise SignatureError(
            f"the public key cannot be used: {error}",
            where=str(key),
            advice="openssl ec -in KEY -pubout makes it from a private key",
        ) from error
    return config.set_hashing_config(_hashing(model_signing))


def _hashing(model_signing: Any) -> Any:
    return model_signing.hashing.Config().use_file_serialization(hashing_algorithm="sha256")


@contextmanager
def _as_model(digest: str, content: bytes) -> Generator[tuple[Path, Path]]:
    """A directory with the root alone, as in the bundle, and a path for its signature."""
    with tempfile.TemporaryDirectory(prefix="partitioner-") as folder:
        model = Path(folder) / "bundle"
        (model / BLOBS).mkdir(parents=True)
        (model / BLOBS / hex_of(digest)).write_bytes(content)
        yield model, Path(folder) / "signature"


def _library() -> Any:
    try:
        for name in ("hashing", "signing", "verifying"):
            importlib.import_module(f"model_signing.{name}")
        return importlib.import_module("model_signing")
    except ImportError as error:
        raise MissingDependencyError(
            f"model-signing is not installed, which signatures need: {error}",
            advice="pip install 'partitioner[sign]'",
        ) from error
