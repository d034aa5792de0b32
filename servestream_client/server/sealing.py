"""States that travel by way of the client: nobody else can make one, or use it elsewhere.

A sealed state is the format's byte, 4 bytes that name the key, 16 random bytes, and then the box: a
head (when it was sealed, and the version of the state) and the state. It is bound to the service's
fingerprint, the stream, its parameters, and the input behind which it stands, none of which is in
it. Format 1 is encrypted with AES-256-GCM, where `cryptography` is installed; in format 2 the box
is readable, and has a keyed BLAKE2b behind it. Each has a key of its own, made of the ring's and of
the random bytes, so that no two ever share one.

Keys are 32 bytes in URL-safe base64 behind ``ssk_``. The first of a ring seals, and all open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib.util
import os
import secrets
import struct
from collections.abc import Sequence
from typing import NamedTuple

from servestream_client.errors import ConfigurationError

__all__ = ["KEYS_VARIABLE", "Opened", "Sealer", "UnsealError", "new_key", "sealer_of"]

KEYS_VARIABLE = "SERVESTREAM_STATE_KEYS"

_PREFIX = "ssk_"
_KEY_BYTES = 32
_ID_BYTES = 4
_SALT_BYTES = 16
_MAC_BYTES = 32
_AHEAD_SECONDS = 300.0
"""By how much the clocks of two servers may differ."""

_ENCRYPTED, _SIGNED = b"\x01", b"\x02"

_head = struct.Struct("<dI")


class UnsealError(Exception):
    """A state cannot be used, for this reason, which is for the server's log alone."""


class Opened(NamedTuple):
    """What was sealed.

    Attributes:
        version: of the state.
        state: the state.
    """

    version: int
    state: bytes


def new_key() -> str:
    """A key, as the ring has it."""
    return _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode().rstrip("=")


def _parsed(key: str) -> bytes:
    text = key.strip().removeprefix(_PREFIX)
    try:
        if not key.strip().startswith(_PREFIX):
            raise ValueError
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != _KEY_BYTES or key.strip() != _PREFIX + base64.urlsafe_b64encode(
        raw
    ).decode().rstrip("="):
        raise ConfigurationError(
            "a state key is not as `servestream key` makes them: ssk_ and 43 characters"
        )
    return raw


class _Key(NamedTuple):
    id: bytes
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> _Key:
        name = hashlib.blake2b(b"", key=raw, digest_size=_ID_BYTES, person=b"ss-state-id").digest()
        return cls(name, raw)

    def once(self, salt: bytes, purpose: bytes) -> bytes:
        """The key of a single box."""
        return hashlib.blake2b(salt, key=self.raw, digest_size=32, person=purpose).digest()


class Sealer:
    """Seals and opens the states of one service.

    Args:
        keys: the ring.
        fingerprint: of the service.
        version: of its states.
        lifetime: seconds for which one may be used.
        encrypts: whether what it seals cannot be read; None: if that can be done here.
    """

    def __init__(
        self,
        keys: Sequence[str],
        *,
        fingerprint: str,
        version: int,
        lifetime: float,
        encrypts: bool | None = None,
    ) -> None:
        self._keys = [_Key.of(_parsed(key)) for key in keys]
        if not self._keys:
            raise ConfigurationError("there are no state keys")
        self._fingerprint = fingerprint.encode()
        self._version = version
        self._lifetime = lifetime
        can = importlib.util.find_spec("cryptography") is not None
        self.encrypts: bool = can if encrypts is None else encrypts
        if self.encrypts:
            _aead(self._keys[0], bytes(_SALT_BYTES))  # imports it, which no stream should wait for

    def seal(self, state: bytes, *, stream: bytes, number: int, now: float) -> bytes:
        """
        Args:
            state: what is to travel.
            stream: what the stream is: its id and its parameters.
            number: of the input behind which it stands.
            now: seconds since 1970.
        """
        key, salt = self._keys[0], os.urandom(_SALT_BYTES)
        front = (_ENCRYPTED if self.encrypts else _SIGNED) + key.id + salt
        box = _head.pack(now, self._version) + state
        bound = self._bound(front, stream, number)
        if self.encrypts:
            sealed: bytes = _aead(key, salt).encrypt(bytes(12), box, bound)
            return front + sealed
        return front + box + _mac(key, salt, bound, box)

    def open(self, token: bytes, *, stream: bytes, number: int, now: float) -> Opened:
        """
        Raises:
            UnsealError: it was not sealed for this, or is too old, or there is no such key.
        """
        at = 1 + _ID_BYTES + _SALT_BYTES
        front, rest = token[:at], token[at:]
        form, name, salt = front[:1], front[1 : 1 + _ID_BYTES], front[1 + _ID_BYTES :]
        if len(front) < at or form not in (_ENCRYPTED, _SIGNED):
            raise UnsealError("it is no state token of this format")
        keys = [key for key in self._keys if key.id == name]
        if not keys:
            raise UnsealError("it was sealed with a key that is not in the ring")
        bound = self._bound(front, stream, number)
        for key in keys:
            box = _unboxed(key, salt, form, bound, rest)
            if box is not None:
                return self._checked(box, now)
        raise UnsealError(
            "it was changed, or is of another stream, service, input or of other parameters"
        )

    def _checked(self, box: bytes, now: float) -> Opened:
        if len(box) < _head.size:
            raise UnsealError("it has no head")
        sealed, version = _head.unpack_from(box)
        if not -_AHEAD_SECONDS <= now - sealed <= self._lifetime:
            raise UnsealError(f"it is {now - sealed:.0f} s old, and may be {self._lifetime:g} s")
        return Opened(version, box[_head.size :])

    def _bound(self, front: bytes, stream: bytes, number: int) -> bytes:
        parts = (front, self._fingerprint, stream, number.to_bytes(8, "little"))
        return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _aead(key: _Key, salt: bytes) -> AESGCM:  # type: ignore[name-defined]  # noqa: F821
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 — an extra

    return AESGCM(key.once(salt, b"ss-state-aead"))


def _mac(key: _Key, salt: bytes, bound: bytes, box: bytes) -> bytes:
    once = key.once(salt, b"ss-state-mac")
    return hashlib.blake2b(bound + box, key=once, digest_size=_MAC_BYTES).digest()


def _unboxed(key: _Key, salt: bytes, form: bytes, bound: bytes, rest: bytes) -> bytes | None:
    if form == _SIGNED:
        box, mac = rest[:-_MAC_BYTES], rest[-_MAC_BYTES:]
        return box if hmac.compare_digest(mac, _mac(key, salt, bound, box)) else None
    try:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 — an extra
    except ImportError:
        raise UnsealError("it is encrypted, and cryptography is not installed here") from None
    try:
        opened: bytes = _aead(key, salt).decrypt(bytes(12), rest, bound)
    except (InvalidTag, ValueError):
        return None
    return opened


def sealer_of(
    keys: Sequence[str] | None, *, fingerprint: str, version: int, lifetime: float
) -> Sealer:
    """That of a service.

    Args:
        keys: its own; None: those of the environment.
        fingerprint: see `Sealer`.
        version: likewise.
        lifetime: likewise.

    Raises:
        ConfigurationError: there are none, or one is no key.
    """
    if keys is None:
        keys = [key for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    if not keys:
        raise ConfigurationError(
            "a stateful service needs keys, with which states are sealed that travel by way of the"
            f" client: set {KEYS_VARIABLE} to the same value on all replicas; `servestream key`"
            " makes one"
        )
    return Sealer(keys, fingerprint=fingerprint, version=version, lifetime=lifetime)
