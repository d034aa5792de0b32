"""What the model is asked, and in which words it wants to be asked."""

from __future__ import annotations

from typing import Protocol

__all__ = ["PROMPTS", "Tokenizes", "chat"]

_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

PROMPTS = (
    "Tell me a story about a lighthouse keeper.",
    "Explain how a bicycle works.",
    "Write a short poem about rain.",
    "Give me a recipe for tomato soup.",
    "What is a prime number?",
    "Write a line of emoji, and say what they mean: 🚀🌍🎉🐱",
    "请用中文介绍一下北京。",
    "日本について日本語で説明してください。",
)
"""Some in scripts of which a token is often but a part of a character."""


class Tokenizes(Protocol):
    """Has a vocabulary."""

    def tokens(self, text: str, /) -> list[int]:
        """A text's tokens; the names of control tokens in it are these tokens."""
        ...


def chat(model: Tokenizes, text: str) -> list[int]:
    """The tokens of a conversation (ChatML) that ends where the answer begins."""
    return model.tokens(
        f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n"
        f"<|im_start|>user\n{text}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
