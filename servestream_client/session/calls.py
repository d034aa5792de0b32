"""Tells hooks of calls of `predict` and `generate`, beside the streams that carry them.

Only clients that have hooks have these classes; to the others a call costs nothing more. What is
told of a call is told in its caller's context.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence

from servestream_client.events import CallEnded, Event, Hooks, OutputsArrived, StreamKind
from servestream_client.session.announcer import tell
from servestream_client.session.generator import Generator
from servestream_client.session.predict_lane import Call
from servestream_client.session.predictor import Predictor
from servestream_client.session.request import Request

__all__ = ["CallTeller", "ToldGenerator", "ToldPredictor"]


class CallTeller:
    """Whom to tell of calls of one kind, and what is the same for all of them."""

    def __init__(
        self, hooks: Sequence[Hooks], target: str, application: str, kind: StreamKind
    ) -> None:
        self.hooks: Sequence[Hooks] = hooks
        self.target: str = target
        self.application: str = application
        self.kind: StreamKind = kind

    def tell(self, event: Event) -> None:
        tell(self.hooks, event)

    def ended(
        self, stream_id: str, seconds: float, outputs: int, error: BaseException | None
    ) -> None:
        self.tell(
            CallEnded(
                stream_id=stream_id,
                target=self.target,
                application=self.application,
                kind=self.kind,
                seconds=seconds,
                outputs=outputs,
                error=error,
            )
        )


class ToldPredictor(Predictor):
    """Tells of each call. It must be given its teller before the first one."""

    teller: CallTeller

    async def answer(
        self,
        item: object,
        payload: bytes,
        timeout: float | None,
        *,
        waited: float = 0.0,
        call: Call | None = None,
    ) -> bytes:
        now = asyncio.get_running_loop().time
        call, began = call or Call(item, payload), now() - waited
        try:
            answer = await super().answer(item, payload, timeout, waited=waited, call=call)
        except BaseException as error:
            self.teller.ended(_carried_by(call), now() - began, 0, error)
            raise
        self.teller.ended(_carried_by(call), now() - began, 1, None)
        return answer


def _carried_by(call: Call) -> str:
    return call.lane.driver.stream_id if call.lane is not None else ""


class Watch:
    """Tells of one call of `generate`, in the context in which it began.

    Invariant: its end is told once, after all its outputs.
    """

    __slots__ = ("_began", "_context", "_last", "_outputs", "_request", "_teller")

    def __init__(self, teller: CallTeller, request: Request) -> None:
        self._teller = teller
        self._request = request
        self._began = self._last = request.made
        self._outputs = 0
        self._context = contextvars.copy_context()

    def came(self, count: int) -> None:
        """So many outputs came."""
        if not count:
            return
        now = asyncio.get_running_loop().time()
        event = OutputsArrived(
            stream_id=self._stream_id,
            target=self._teller.target,
            application=self._teller.application,
            first_index=self._outputs,
            count=count,
            seconds=now - self._last,
        )
        self._last = now
        self._outputs += count
        self._tell(event)

    def ended(self, error: BaseException | None) -> None:
        seconds = asyncio.get_running_loop().time() - self._began
        # A copy: an output's reader may be in it, further down the stack.
        self._context.copy().run(self._teller.ended, self._stream_id, seconds, self._outputs, error)

    @property
    def _stream_id(self) -> str:
        lane = self._request.lane
        return lane.driver.stream_id if lane is not None else ""

    def _tell(self, event: Event) -> None:
        self._context.copy().run(self._teller.tell, event)


class ToldGenerator(Generator):
    """Tells of each call. It must be given its teller before the first one."""

    teller: CallTeller

    def submit(self, request: Request) -> None:
        request.watch = Watch(self.teller, request)
        super().submit(request)
