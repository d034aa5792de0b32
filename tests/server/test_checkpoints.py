"""Checkpoints as they travel."""

import pytest

from servestream_client.server.checkpoints import unwrap, wrap

DIGEST = b"12345678"


@pytest.mark.parametrize("checkpoint", [b"", b"x", bytes(1000)])
def test_a_checkpoint_comes_back_with_the_digest_before_it(checkpoint):
    assert unwrap(wrap(DIGEST, checkpoint)) == (DIGEST, checkpoint)


@pytest.mark.parametrize("size", range(8))
def test_what_is_too_short_is_none(size):
    with pytest.raises(ValueError, match=f"of {size} bytes"):
        unwrap(bytes(size))
