"""Where a generator begins: what its input says of outputs that were delivered.

Invariant: outputs of two generators become one answer only where the later one was given what the
digest of the first ones belongs to, or has to give them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from servestream_client.codecs import Codec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol import frames
from servestream_client.protocol.continuation import NO_OUTPUTS, digest
from servestream_client.protocol.frames import StreamErrorKind
from servestream_client.server.calls import Part
from servestream_client.server.checkpoints import unwrap
from servestream_client.server.handlers.answers import Failure, decoded, failure_of
from servestream_client.server.handlers.emission import Emission
from servestream_client.server.outputs import Replay, Resume
from servestream_client.turns import Turn

__all__ = ["Beginning", "Source", "beginning"]


class Source(NamedTuple):
    """A service's code for inputs with many outputs.

    Attributes:
        generate: makes a generator of an item and a `Resume`.
        is_finished: whether the outputs that it would go on after are all.
        codec: of its items.
        replay: how it goes on with an input that was cut.
        between: gives what is to take a generator's place, of an input and from an index on.
    """

    generate: Callable[[Any, Resume[Any]], Any]
    is_finished: Callable[[Any, Resume[Any]], object]
    codec: Codec[Any, Any]
    replay: Replay
    between: Callable[[Part, int, Any], Any] | None = None

    def of(self, part: Part) -> Source:
        """The same for one input."""
        generate, between = self.generate, self.between
        if between is None:
            return self

        def generate_between(item: Any, resume: Resume[Any]) -> Any:  # noqa: ANN401
            return between(part, resume.index, generate(item, resume))

        return self._replace(generate=generate_between)


class Beginning(NamedTuple):
    """What `generate` is called with."""

    item: Any
    resume: Resume[Any]


async def beginning(part: Part, emission: Emission, source: Source, turn: Turn) -> Beginning | None:
    """What an input's generator is given; None: it has none, and is answered.

    Args:
        part: the input.
        emission: its outputs.
        source: the service.
        turn: in which codecs are called, as often as it takes.
    """
    if not turn.enter():
        await turn.wait()
    item = decoded(source.codec, part.run.payloads[0])
    turn.leave()
    if type(item) is Failure:
        emission.fail(item)
        return None
    resume = await _resume(part, emission, source, turn)
    return None if resume is None else Beginning(item, resume)


async def _resume(part: Part, emission: Emission, source: Source, turn: Turn) -> Resume[Any] | None:
    replay = source.replay
    start_index, given = part.run.start_index, part.run.resume
    if not start_index:
        return Resume()
    if replay is Replay.SEEK:
        return Resume(start_index, outputs_from=start_index)
    if replay is Replay.NEVER:
        emission.interrupt("and this service cannot go on with an input that was cut")
    elif given is None:
        emission.interrupt("and the client does not say what they were")
    elif replay is Replay.RESTART:
        emission.skip(given.digest)
        return Resume()
    else:
        return await _continuation(part, given, emission, source.codec, turn)
    return None


async def _continuation(
    part: Part, given: frames.Resume, emission: Emission, codec: Codec[Any, Any], turn: Turn
) -> Resume[Any] | None:
    computed, checkpoint = NO_OUTPUTS, None
    if given.checkpoint is not None:
        try:
            computed, checkpoint = unwrap(given.checkpoint)
        except ValueError as error:
            emission.interrupt(f"and its checkpoint cannot be used: {error}")
            return None
    outputs: list[object] = []
    until = turn.enter() or await turn.wait()
    for payload in given.outputs:
        computed = digest(computed, (payload,))
        try:
            outputs.append(codec.decode_output(payload))
        except BaseException as error:
            turn.leave()
            text = failure_of(ItemErrorKind.DECODE, error).text
            emission.interrupt(f"and of those that came back one cannot be decoded: {text}")
            return None
        if turn.clock() >= until:
            until = turn.enter() or await turn.wait()
    turn.leave()
    if computed != given.digest:
        if given.checkpoint is None:  # a client that has all of them
            text = f"the resume of input {part.run.first} has outputs with another digest"
            part.attempt.give_up(StreamErrorKind.PROTOCOL, text)
        else:
            emission.interrupt("and those that came back do not follow upon the checkpoint")
        return None
    emission.follow(given.digest)
    start_index = part.run.start_index
    return Resume(start_index, tuple(outputs), start_index - len(outputs), checkpoint)
