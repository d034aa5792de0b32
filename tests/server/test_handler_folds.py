"""What a step makes, and of whom it is."""

from types import SimpleNamespace

import pytest

from servestream_client.codecs import BytesCodec
from servestream_client.protocol.server.fold import FoldOutbox
from servestream_client.server.handlers.folds import _Stretch, pair


@pytest.mark.parametrize("dead", [False, True])
def test_what_is_made_too_late_is_nobodys(dead):
    outbox = FoldOutbox()
    outbox._output_bytes = 100
    attempt = SimpleNamespace(session=SimpleNamespace(fold=outbox))
    stretch = _Stretch(attempt, 1, BytesCodec(), many=False)
    stretch.next(b"in")
    stretch.dead = dead
    assert stretch.made((b"state", b"out")) == (b"" if dead else b"out")
    assert bool(outbox._prepared) is not dead


async def test_a_coroutine_is_no_pair_and_is_closed():
    async def step():
        """Never awaited."""

    with pytest.raises(TypeError, match="no `async def` gave a coroutine"):
        pair(step())
