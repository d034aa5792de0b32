"""How answers compare with what the same prompts give offline, token for token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from servestream_client.demo.tokens.codec import Token

__all__ = ["Tally", "ends_well", "first_difference", "tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How answers compare with the offline ones.

    Attributes:
        lost: tokens of an offline answer that did not come.
        duplicated: tokens that came again, or that the offline answer does not have there.
        differing: tokens that came in place of others.
        unended: answers whose last token does not say that it is the last, or another one does.
    """

    lost: int = 0
    duplicated: int = 0
    differing: int = 0
    unended: int = 0

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return any((self.lost, self.duplicated, self.differing, self.unended))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            lost=self.lost + other.lost,
            duplicated=self.duplicated + other.duplicated,
            differing=self.differing + other.differing,
            unended=self.unended + other.unended,
        )


def tally(offline: Sequence[Token], came: Sequence[Token]) -> Tally:
    """Compare one answer.

    Args:
        offline: what the prompt gives undisturbed.
        came: what was received.
    """
    unended = 0 if ends_well(came) else 1
    if list(offline) == list(came):
        return Tally(unended=unended)
    lost = duplicated = differing = 0
    # What both have at the beginning is the same place, however often an answer repeats itself.
    same = first_difference(offline, came)
    matcher = SequenceMatcher(None, offline[same:], came[same:], autojunk=False)
    for _, a, b, c, d in (code for code in matcher.get_opcodes() if code[0] != "equal"):
        differing += min(b - a, d - c)
        lost += max(0, (b - a) - (d - c))
        duplicated += max(0, (d - c) - (b - a))
    return Tally(lost=lost, duplicated=duplicated, differing=differing, unended=unended)


def first_difference(offline: Sequence[Token], came: Sequence[Token]) -> int:
    """The first place where they are not the same; the length of both if there is none."""
    for place, (one, other) in enumerate(zip(offline, came, strict=False)):
        if one != other:
            return place
    return min(len(offline), len(came))


def ends_well(came: Sequence[Token]) -> bool:
    """Whether the last token, and no other, says that it is the last."""
    return [token.finished for token in came[-1:]] == [True] and not any(
        token.finished for token in came[:-1]
    )
