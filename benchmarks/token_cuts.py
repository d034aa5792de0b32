"""Ways to go on with a language model's answer that was cut, and which of them are exact.

Greedy answers of 200 tokens are cut at random places. Each way brings a fresh context to where the
answer was cut, whose bits and whose tokens from there on are compared with those of the undisturbed
answer of the same way. Times are the processor's, so that other work disturbs them little.
`python -m benchmarks.token_cuts` prints the table that docs/how-to/token-streams.md has; it needs
`make .venv/.tokens`, and ten minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from servestream_client.demo.tokens.engine import MICRO_BATCH, Context, Logits, Model
from servestream_client.demo.tokens.prompts import chat

TOKENS = 200
EVERY = 32
"""How many tokens there are between two checkpoints."""
FOLLOWED = 5
"""Of the cuts after which all bits are the same, one in so many is followed to the answer's end."""
LARGE_BATCH = 512
"""The engine's default."""
TOKEN_BYTES = 4
F16, Q8 = 1, 8
"""The engine's numbers of types."""

PROMPTS = (
    "Tell me a story about a lighthouse keeper.",
    "Explain how a bicycle works.",
    "Write a short poem about rain.",
    "Give me a recipe for tomato soup.",
    "What is a prime number, and why do people care about them?",
)
TORN = {
    "English": PROMPTS,
    "emoji": (
        "Repeat this line again and again: 🚀🌍🎉🐱🌈🍕",
        "Write only emoji: 🦊🐻🐼🦁🐸🦉 and so on, fifty of them.",
        "Translate into emoji: the cat eats pizza in the rain. 🐱🍕🌧️",
    ),
    "Chinese": ("请用中文介绍一下北京。", "请用中文写一首关于雨的诗。", "用中文告诉我什么是质数。"),
    "Japanese": ("日本について日本語で説明してください。", "雨についての短い詩を日本語で書いて。"),
}

Steps = Iterator[tuple[int, Logits]]


def best(scores: Logits) -> int:
    return int(scores.argmax())


class Way:
    """One way: how an answer is made, and how it goes on.

    Attributes:
        name: for the table.
        context: its parameters.
        anchored: whether the last tokens are computed anew, as one batch, at each checkpoint.
        same_place: whether the keys and values lie where they would have lain.
    """

    same_place = True

    def __init__(self, name: str, *, anchored: bool = False, **context: int | bool) -> None:
        self.name = name
        self.anchored = anchored
        self.context = context

    def open(self, model: Model) -> Context:
        return Context(model, **{"micro_batch": LARGE_BATCH, **self.context})

    def begin(self, context: Context) -> None:
        """Its undisturbed answer begins."""

    def generate(self, context: Context, tokens: list[int], made: int, scores: Logits) -> Steps:
        """Tokens behind those that are there, of which `made` are of the answer."""
        start = len(tokens) - made
        while True:
            token = best(scores)
            tokens.append(token)
            yield token, scores
            scores = context.feed([token])
            made = len(tokens) - start
            if self.anchored and made % EVERY == 0:
                context.truncate(len(tokens) - EVERY)
                scores = context.feed(tokens[-EVERY:])

    def resume(self, context: Context, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        """Bring a fresh context to the end of what was delivered."""
        raise NotImplementedError

    def carried(self, prompt: Sequence[int], answer: Sequence[int]) -> int:
        """Bytes that the client must have kept."""
        return TOKEN_BYTES * len(answer)


class OneBatch(Way):
    """All at once."""

    def resume(self, context: Context, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        return context.feed([*prompt, *answer])


class OneByOne(Way):
    """As at first."""

    def resume(self, context: Context, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        scores = context.feed(prompt)
        for token in answer:
            scores = context.feed([token])
        return scores


class Anchored(Way):
    """Whole stretches as batches, as they were computed at last, and the rest one by one."""

    def resume(self, context: Context, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        scores = context.feed(prompt)
        whole = len(answer) // EVERY * EVERY
        for first in range(0, whole, EVERY):
            scores = context.feed(answer[first : first + EVERY])
        for token in answer[whole:]:
            scores = context.feed([token])
        return scores


class Snapshots(Way):
    """The state at the last checkpoint, and the tokens since then one by one."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.states: dict[int, tuple[bytes, int]] = {}
        self.seconds: list[float] = []

    def begin(self, context: Context) -> None:
        self.states[0] = context.snapshot(), context.length

    def generate(self, context: Context, tokens: list[int], made: int, scores: Logits) -> Steps:
        start = len(tokens) - made
        for token, found in super().generate(context, tokens, made, scores):
            made = context.length - start
            if made % EVERY == 0 and made not in self.states:
                begin = time.process_time()
                self.states[made] = context.snapshot(), context.length
                self.seconds.append(time.process_time() - begin)
            yield token, found

    def resume(self, context: Context, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        # The last token is computed anew in any case: a state has no scores.
        at = (len(answer) - 1) // EVERY * EVERY
        state, length = self.states[at]
        context.restore(state, length)
        for token in answer[at:]:
            scores = context.feed([token])
        return scores

    def carried(self, prompt: Sequence[int], answer: Sequence[int]) -> int:
        at = (len(answer) - 1) // EVERY * EVERY
        return len(self.states[at][0]) + TOKEN_BYTES * (len(answer) - at)


class BesideOthers(OneBatch):
    """The context has another sequence besides, as with continuous batching."""

    same_place = False

    def resume(self, context: Context, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        context.feed(chat(context.model, "Why is the sky blue?"), sequence=1, at=0)
        return context.feed([*prompt, *answer], at=0)


def ways() -> list[Way]:
    return [
        OneBatch("prompt and delivered tokens as one batch"),
        OneByOne("prompt as one batch, then the delivered tokens one by one"),
        Snapshots(f"state of the context every {EVERY} tokens, then the tokens since, one by one"),
        Anchored(
            f"every {EVERY} tokens computed anew as a batch while generating; then such batches,"
            " and the rest one by one",
            anchored=True,
        ),
        OneBatch(f"batches of {MICRO_BATCH}, for everything", micro_batch=MICRO_BATCH),
        OneBatch(
            f"batches of {MICRO_BATCH}; keys and values in 8 bits",
            micro_batch=MICRO_BATCH,
            type_k=Q8,
            type_v=Q8,
        ),
        BesideOthers(
            f"batches of {MICRO_BATCH}; after the cut beside another sequence in the same context",
            micro_batch=MICRO_BATCH,
            n_seq_max=2,
            flash_attn=False,  # with it, the engine ends the process
        ),
    ]


@dataclass
class Found:
    """What came of one way.

    Attributes:
        cuts: how many were tried.
        equal: after how many the rest was the undisturbed one, token for token.
        bits: after how many the state and the scores were the undisturbed ones, bit for bit.
        seconds: from a fresh context to the scores of the next token.
        carried: bytes, with each cut.
        per_token: seconds for a token of the undisturbed answers.
    """

    cuts: int = 0
    equal: int = 0
    bits: int = 0
    seconds: list[float] = field(default_factory=list)
    carried: list[int] = field(default_factory=list)
    per_token: list[float] = field(default_factory=list)


@dataclass
class Undisturbed:
    """An answer of one way, and what its context held at the cuts to come."""

    prompt: list[int]
    answer: list[int]
    states: dict[int, bytes]


def undisturbed(
    way: Way, model: Model, prompt: list[int], cuts: Sequence[int], found: Found
) -> Undisturbed:
    answer: list[int] = []
    states: dict[int, bytes] = {}
    with way.open(model) as context:
        begin = time.process_time()
        looking = 0.0
        scores = context.feed(prompt)
        way.begin(context)
        for token, after in itertools.islice(
            way.generate(context, list(prompt), 0, scores), TOKENS
        ):
            if len(answer) in cuts:
                now = time.process_time()
                states[len(answer)] = _state(context, after)
                looking += time.process_time() - now
            answer.append(token)
        found.per_token.append((time.process_time() - begin - looking) / TOKENS)
    return Undisturbed(prompt, answer, states)


def _state(context: Context, scores: Logits) -> bytes:
    return hashlib.blake2b(context.snapshot() + scores.tobytes()).digest()


def cut(way: Way, model: Model, whole: Undisturbed, at: int, found: Found) -> None:
    """Go on in a fresh context after so many tokens, and compare."""
    prompt, delivered, rest = whole.prompt, whole.answer[:at], whole.answer[at:]
    with way.open(model) as context:
        begin = time.process_time()
        scores = way.resume(context, prompt, delivered)
        found.seconds.append(time.process_time() - begin)
        found.carried.append(way.carried(prompt, delivered))
        same = _state(context, scores) == whole.states[at]
        # The same bits go on with the same bits, so of these only some are followed to the end.
        if same and way.same_place and found.cuts % FOLLOWED:
            equal = True
        else:
            steps = way.generate(context, [*prompt, *delivered], at, scores)
            equal = all(token == next(steps)[0] for token in rest)
        found.cuts += 1
        found.bits += same
        found.equal += equal


def measure(model: Model, cuts: int, seed: int) -> None:
    """All ways at the same cuts, one after the other at each, so that what else the machine does is
    the same to all. After each prompt it prints the table so far.
    """
    rng = random.Random(seed)  # noqa: S311
    results = {way.name: Found() for way in ways()}
    for text in PROMPTS:
        prompt = chat(model, text)
        places = rng.sample(range(1, TOKENS - 1), cuts // len(PROMPTS))
        tried = ways()
        wholes = [undisturbed(way, model, prompt, places, results[way.name]) for way in tried]
        for at in places:
            for way, whole in zip(tried, wholes, strict=True):
                cut(way, model, whole, at, results[way.name])
        snapshots = next(way for way in tried if isinstance(way, Snapshots))
        largest = max(len(state) for state, _ in snapshots.states.values())
        print(
            f"snapshots of up to {largest:,} bytes take"
            f" {1000 * statistics.median(snapshots.seconds):.1f} ms"
        )
        show(results)


def show(results: dict[str, Found]) -> None:
    one_by_one = statistics.median(results[ways()[1].name].seconds)
    alone = statistics.median(results[ways()[0].name].per_token)
    print("| way | same tokens | same bits | time to the next | bytes carried | time per token |")
    print("|---|---|---|---|---|---|")
    for name, found in results.items():
        print(
            f"| {name} | {found.equal} of {found.cuts} | {found.bits}"
            f" | {statistics.median(found.seconds) / one_by_one:.2f}"
            f" | {statistics.median(found.carried):,.0f}"
            f" | {statistics.median(found.per_token) / alone:.2f} |"
        )
    print(f"one by one: {one_by_one:.2f} s; a token: {1000 * alone:.1f} ms")


def torn(model: Model, prompts: Sequence[str]) -> tuple[int, int]:
    """How many places between two tokens of the answers lie within a character, of how many."""
    inside = places = 0
    for text in prompts:
        with Context(model) as context:
            scores, answer = context.feed(chat(model, text)), b""
            for _ in range(TOKENS):
                token = best(scores)
                answer += model.piece(token)
                inside += not _whole(answer)
                places += 1
                if model.is_end(token):
                    break
                scores = context.feed([token])
    return inside, places


def _whole(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data"
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=50, help="of each way, over all prompts")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = Model()
    print(model.fingerprint)
    measure(model, arguments.cuts, arguments.seed)
    for name, prompts in TORN.items():
        inside, places = torn(model, prompts)
        print(f"{name}: {inside} of {places} places within a character")


if __name__ == "__main__":
    main()
