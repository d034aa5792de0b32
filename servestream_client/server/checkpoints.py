"""Checkpoints as they travel: bound to the outputs before them.

Invariant: what `unwrap` takes was made by `wrap`, or is too short to be; a digest that does not
belong to the outputs shows when those behind it are counted in.
"""

from __future__ import annotations

from servestream_client.protocol.continuation import DIGEST_BYTES

__all__ = ["unwrap", "wrap"]


def wrap(digest: bytes, checkpoint: bytes) -> bytes:
    """A checkpoint for the client.

    Args:
        digest: of all outputs before it.
        checkpoint: the service's own.
    """
    return digest + checkpoint


def unwrap(wrapped: bytes) -> tuple[bytes, bytes]:
    """The digest and the checkpoint.

    Raises:
        ValueError: it is none of ours.
    """
    if len(wrapped) < DIGEST_BYTES:
        raise ValueError(f"a checkpoint of {len(wrapped)} bytes is none of this kit's")
    return wrapped[:DIGEST_BYTES], wrapped[DIGEST_BYTES:]
