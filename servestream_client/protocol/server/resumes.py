"""What a client says of an input that was cut: whether it can be so (docs/protocol.md, section 18).

Invariant: what passes has a digest, and for a handler that is given outputs exactly those from
`outputs_from` up to the start index. Whether the digest is theirs is for whoever may take the time.
"""

from __future__ import annotations

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.continuation import DIGEST_BYTES
from servestream_client.protocol.frames import InputRun, Replay

__all__ = ["check_resume"]


def check_resume(run: InputRun, replay: Replay, checkpoint_bytes: int) -> None:
    """
    Args:
        run: what came.
        replay: how this server's handler goes on.
        checkpoint_bytes: the largest checkpoint that this server accepts.

    Raises:
        RemoteProtocolError: it says what cannot be.
    """
    number, resume, start_index = run.first_number, run.first_resume, run.first_start_index
    if resume is None:
        if start_index:
            raise RemoteProtocolError(
                f"input {number} starts at index {start_index}, and lacks its resume"
            )
        return
    if not start_index:
        raise RemoteProtocolError(f"input {number} has a resume, and starts at index 0")
    if len(resume.digest) != DIGEST_BYTES:
        raise RemoteProtocolError(
            f"the resume of input {number} has a digest of {len(resume.digest)} bytes, not"
            f" {DIGEST_BYTES}"
        )
    if replay is not Replay.CONTINUE:
        return
    if resume.outputs_from + len(resume.outputs) != start_index:
        raise RemoteProtocolError(
            f"the resume of input {number} has {len(resume.outputs)} outputs from index"
            f" {resume.outputs_from} on, and it starts at index {start_index}"
        )
    if resume.checkpoint is None:
        if resume.outputs_from:
            raise RemoteProtocolError(
                f"the resume of input {number} begins at index {resume.outputs_from}, without a"
                " checkpoint"
            )
    elif len(resume.checkpoint) > checkpoint_bytes:
        raise RemoteProtocolError(
            f"the resume of input {number} has a checkpoint of {len(resume.checkpoint)} bytes, and"
            f" at most {checkpoint_bytes} were allowed"
        )
