"""Words that a model was never told: the lab's tokenizers know a few dozen and spell the rest, which no clip was ever described with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

CLOSED = 1000
"""Tokens below which a tokenizer is one of a small world's words; those of real text encoders have tens of thousands."""


def vocabulary(tokenizer: Any) -> set[str]:
    """Return the words that a ``CLIPTokenizer`` or ``T5Tokenizer`` keeps whole; single letters are spelling, but for "a"."""
    pieces = {token.removesuffix("</w>").removeprefix("▁") for token in tokenizer.get_vocab() if token.endswith("</w>") or token[0] == "▁"}
    return {piece for piece in pieces if piece.isalpha() and (len(piece) > 1 or piece == "a")}


def strange(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Return the words of prompts that a small world's tokenizer does not know, in their order; none for a real text encoder's."""
    if len(tokenizer) >= CLOSED:
        return []
    known = vocabulary(tokenizer)
    return list(dict.fromkeys(word for text in prompts for word in re.split(r"[\s,-]+", text.lower()) if word and word not in known))


def told_words(model: Any, prompts: Sequence[str]) -> list[str]:
    """Say in a line, or in none, which words of prompts a model was never told."""
    words = strange(model.tokenizer, prompts)
    if not words:
        return []
    some = ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")
    return [
        f"{model.id} does not know {len(words)} words of the prompts ({some}): it makes what it knows instead, take no number as a result"
    ]
