from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from servestream_client.codecs import Codec
from servestream_client.demo.tokens.codec import Prompt, Token, TokenCodec

CODEC: Codec[Prompt, Token] = TokenCodec()


@given(
    st.builds(
        Prompt,
        text=st.text(),
        max_tokens=st.integers(0, 2**32 - 1),
        temperature=st.floats(0, 10),
        seed=st.integers(0, 2**64 - 1),
    )
)
def test_prompts_travel(prompt):
    assert CODEC.decode_input(CODEC.encode_input(prompt)) == prompt


@given(st.builds(Token, st.integers(0, 2**32 - 1), st.binary(max_size=20), st.booleans()))
def test_tokens_travel(token):
    assert CODEC.decode_output(CODEC.encode_output(token)) == token


def test_half_a_character_is_no_text_and_travels_all_the_same():
    half = Token(1, "🚀".encode()[:2], finished=False)
    assert CODEC.decode_output(CODEC.encode_output(half)) == half
