"""The real tokenizers, offline: their vocabularies ship in the package."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

VOCABULARIES = ("o200k_base", "cl100k_base")


@cache
def _encoding(vocabulary: str) -> Any:
    with warnings.catch_warnings():
        # It reads its data through a function that Python 3.11 calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        import bpe_openai

        return bpe_openai.get_encoding(vocabulary)


def encode(vocabulary: str, text: str) -> list[int]:
    """The tokens of a text; what looks like a special token is ordinary text."""
    tokens: list[int] = _encoding(vocabulary).encode(text, disallowed_special=())
    return tokens


def real_tokens(text: str) -> int:
    """How many tokens a text is, in the vocabulary that needs more."""
    return max(len(encode(vocabulary, text)) for vocabulary in VOCABULARIES)
