"""How a call of one's own stub goes on after a break: what its replies say, and the request for it.

Invariant: a position is that of the last reply that was handed out, or is sure to be; what a server
repeats, although it was asked not to, is noticed and never handed out twice.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from servestream_client.errors import ConfigurationError, NotResumableError

__all__ = ["Resumption", "by_field", "by_skip", "by_state", "by_token", "value_of"]

Req = TypeVar("Req", bound=Message)
Rep = TypeVar("Rep", bound=Message)

MOST_HELD = 10_000
"""Replies that are held back until one with a token comes."""

_DIGEST_BYTES = 16


class Resumption(Protocol[Req, Rep]):
    """How one call is resumed. Make one for each call: it remembers where that is.

    Write the three methods; or take `by_field`, `by_token`, `by_skip` or `by_state`, which most
    services need.
    """

    def observe(self, reply: Rep) -> Sequence[Rep]:
        """A reply came. Returns what is to be handed out now: mostly that one; none, while it is
        held back; or several that were.

        Raises:
            NotResumableError: the server does not go on as it should; the call ends with that.
        """
        ...

    def request(self, first: Req) -> Req | None:
        """What to ask the next server for.

        Args:
            first: what the call was begun with; a copy, to be changed at will.

        Returns:
            The request; None: nothing is left to ask for, and the call is complete.
        """
        ...

    def complete(self) -> bool:
        """Whether a status of OK, which just came, is the end. gRPC cannot tell a stream that was
        cut by a proxy from one that is complete.
        """
        ...


Begun = Callable[[], Resumption[Req, Rep]]
"""Makes a `Resumption` for each call."""


class _ByField(Generic[Req, Rep]):
    def __init__(
        self,
        field: str,
        into: str,
        *,
        step: int,
        last: Callable[[Rep], bool] | None,
    ) -> None:
        self._field, self._into, self._step = field, into, step
        self._last = last
        self._position: Any = None
        self._ended = last is None

    def observe(self, reply: Rep) -> Sequence[Rep]:
        position = value_of(reply, self._field)
        if self._position is not None and not position > self._position:
            raise NotResumableError(
                f"a reply with {self._field} {position!r} came after one with {self._position!r}:"
                f" the server does not go on from {self._into}, or its {self._field} does not"
                " ascend"
            )
        self._position = position
        if self._last is not None:
            self._ended = self._last(reply)
        return (reply,)

    def request(self, first: Req) -> Req | None:
        if self._position is not None:
            if self._last is not None and self._ended:
                return None
            follows = self._position + self._step if self._step else self._position
            _set(first, self._into, follows)
        return first

    def complete(self) -> bool:
        return self._ended or self._position is None  # there may be none at all


def by_field(
    field: str, *, into: str, step: int = 1, last: Callable[[Rep], bool] | None = None
) -> Callable[[], Resumption[Any, Rep]]:
    """Replies have a number that ascends, and the request one to begin with.

    Args:
        field: of the reply; dots lead into messages.
        into: the field of the request that gets the number, plus `step`.
        step: 1 where the server begins at that number, 0 where it begins behind it.
        last: whether a reply is the last one. None: a status of OK is believed.
    """
    return lambda: _ByField(field, into, step=step, last=last)


class _ByToken(Generic[Req, Rep]):
    def __init__(self, field: str, into: str, most: int) -> None:
        self._field, self._into, self._most = field, into, most
        self._token: Any = None
        self._resumed = False  # and no token has come since
        self._held: list[Rep] = []

    def observe(self, reply: Rep) -> Sequence[Rep]:
        self._held.append(reply)
        token = value_of(reply, self._field)
        if not token:
            if len(self._held) > self._most:
                raise NotResumableError(
                    f"{len(self._held)} replies came without a {self._field}, and {self._most} are"
                    " held back at the most: by_token(..., most=)"
                )
            return ()
        if self._resumed and token == self._token:
            raise NotResumableError(
                f"the {self._field} that the call was resumed with came again: the server does not"
                f" go on from {self._into}"
            )
        self._token, self._resumed = token, False
        held, self._held = self._held, []
        return held

    def request(self, first: Req) -> Req | None:
        self._held = []  # which come again
        if self._token is not None:
            self._resumed = True
            _set(first, self._into, self._token)
        return first

    def complete(self) -> bool:
        return not self._held


def by_token(field: str, *, into: str, most: int = MOST_HELD) -> Callable[[], Resumption[Any, Any]]:
    """Some replies have a token from which the server goes on behind them. The others are held back
    until one comes: the call ends with a reply that has one.

    Args:
        field: of the reply; dots lead into messages.
        into: the field of the request that gets the token.
        most: replies that are held back.
    """
    return lambda: _ByToken(field, into, most)


class _BySkip(Generic[Req, Rep]):
    def __init__(self, *, check: bool, last: Callable[[Rep], bool] | None) -> None:
        self._check = check
        self._last = last
        self._ended = last is None
        self._delivered = 0
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._again = 0  # replies that came on this attempt
        self._again_digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def observe(self, reply: Rep) -> Sequence[Rep]:
        data = _weighed(reply) if self._check else b""
        self._again += 1
        if self._again > self._delivered:
            self._delivered += 1
            self._digest.update(data)
            if self._last is not None:
                self._ended = self._last(reply)
            return (reply,)
        self._again_digest.update(data)
        if self._again == self._delivered and (
            self._again_digest.digest() != self._digest.digest()
        ):
            raise NotResumableError(
                f"asked again, the server gave other replies than the {self._delivered} that were"
                " delivered: it is not deterministic, and cannot be resumed by_skip"
            )
        return ()

    def request(self, first: Req) -> Req | None:
        if self._delivered and self._last is not None and self._ended:
            return None
        self._again = 0
        self._again_digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        return first

    def complete(self) -> bool:
        return (self._ended or not self._delivered) and self._again >= self._delivered


def by_skip(
    *, check: bool = True, last: Callable[[Rep], bool] | None = None
) -> Callable[[], Resumption[Any, Rep]]:
    """The same request gives the same replies: it is asked again, and what came before is dropped.

    Args:
        check: compare what is dropped with what was delivered. Only where all of it is the same,
            the call goes on.
        last: whether a reply is the last one. None: a status of OK is believed.
    """
    return lambda: _BySkip(check=check, last=last)


class _ByState(Generic[Req, Rep]):
    def __init__(self) -> None:
        self._shown: Rep | None = None
        self._first = False

    def observe(self, reply: Rep) -> Sequence[Rep]:
        first, self._first = self._first, False
        if first and self._shown == reply:
            return ()
        self._shown = copy.deepcopy(reply)
        return (reply,)

    def request(self, first: Req) -> Req | None:
        self._first = True
        return first

    def complete(self) -> bool:
        return False


def by_state() -> Callable[[], Resumption[Any, Any]]:
    """A subscription that begins with how things stand, and tells of changes, such as `Watch` of
    gRPC's health service. It is subscribed to anew, and has no end; what it says first is passed
    over if it was the last that was known.
    """
    return _ByState


def _weighed(reply: Message) -> bytes:
    data = reply.SerializeToString(deterministic=True)
    return len(data).to_bytes(8, "big") + data


def value_of(message: Message, path: str) -> Any:  # noqa: ANN401 — whatever the field holds
    """Of a field; dots lead into messages.

    Raises:
        ConfigurationError: there is none.
    """
    value: Any = message
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise _missing(message, path) from None
    return value


def _set(message: Message, path: str, value: object) -> None:
    *names, last = path.split(".")
    holder: Any = message
    try:
        for name in names:
            holder = getattr(holder, name)
        setattr(holder, last, value)
    except AttributeError:
        raise _missing(message, path) from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{type(message).__name__}.{path} cannot be {value!r}: {error}"
        ) from None


def _missing(message: Message, path: str) -> ConfigurationError:
    fields = ", ".join(field.name for field in message.DESCRIPTOR.fields)
    return ConfigurationError(
        f"{type(message).__name__} has no field {path!r}; it has {fields or 'none'}"
    )
