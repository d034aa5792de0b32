"""Calls of `predict` of which hooks are told."""

from __future__ import annotations

import asyncio

from servestream_client.session.predict_lane import Call
from servestream_client.session.predictor import Predictor
from servestream_client.session.telling import CallTeller

__all__ = ["ToldPredictor"]


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

    async def _turn_comes(self, timeout: float | None) -> float:
        now = asyncio.get_running_loop().time
        began = now()
        try:
            return await super()._turn_comes(timeout)
        except BaseException as error:
            self.teller.ended("", now() - began, 0, error)
            raise


def _carried_by(call: Call) -> str:
    return call.lane.driver.stream_id if call.lane is not None else ""
