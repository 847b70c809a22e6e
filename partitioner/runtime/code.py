"""Bundles that hold executable code, and when they may be loaded.

Most backends load data: graphs of known ops over weights. Some load programs (TorchScript is one),
with which whoever made a bundle can do whatever the process may. Such a bundle is loaded only if
a key of the deployment vouches for it, or if the caller says so.
"""

from __future__ import annotations

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.manifest import Manifest
from partitioner.backends import backend_names, find_backend
from partitioner.errors import SignatureError

__all__ = ["code_segments", "refuse_code"]


def code_segments(manifest: Manifest) -> list[str]:
    """The segments whose artifacts are executable code, as their backends declare.

    Of a backend that is not installed nothing is known, and nothing can be loaded.
    """
    artifacts = manifest.artifacts
    backends = {artifact.backend for artifact in artifacts.values()} & set(backend_names())
    coded = {name for name in backends if find_backend(name).runs_code}
    return [name for name, artifact in artifacts.items() if artifact.backend in coded]


def refuse_code(bundle: Bundle, *, allowed: bool) -> None:
    """Let a bundle pass that holds no code, or is trusted to.

    Args:
        allowed: whether the caller trusts it without a signature.

    Raises:
        SignatureError: it holds code, and nobody vouches for it.
    """
    if allowed or bundle.trusted:
        return
    segments = code_segments(bundle.manifest)
    if not segments:
        return
    backends = sorted({bundle.manifest.artifacts[name].backend for name in segments})
    raise SignatureError(
        f"the bundle holds executable code, and no signature of it was verified: segment "
        f"{segments[0]!r}{f' and {len(segments) - 1} more' if segments[1:] else ''}, "
        f"for {', '.join(backends)}",
        where=str(bundle.path),
        advice="require a signature by a key that you trust (--require-signature KEY); or, if you "
        "know where the bundle is from, pass --allow-executable (allow_executable=True)",
    )
