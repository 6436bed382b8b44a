"""Words for the zoo's text-to-video models: tokenizers over Motion World's own vocabulary, and the captions they are trained with.

Both tokenizers are built here, without a network, one token a word, and are the stock classes of transformers: ``CLIPTokenizer`` for the
ModelScope family, ``T5Tokenizer`` for the Wan family.
"""

from __future__ import annotations

import random
import re
from threading import Lock
from typing import Any

from vidistill.data.world import FACTORS, MOTIONS, Factors, phrase
from vidistill.rng import stream_seed

LENGTH = 20
"""Tokens of a prompt, padding included; the longest caption has 16."""

DROPPED = 0.12
"""Share of captions left out, for classifier-free guidance."""

CLASS_NAME = 0.04
"""Share of captions that are the class name alone, e.g. ``"orbit"``: what a dataset-distillation prompt is."""

LEFT_OUT = {"camera": 0.25, "background": 0.1, "colour": 0.06, "shape": 0.06}
"""Share of the other captions that do not mention a factor; a shape that is not named is called a shape."""

LOCK = Lock()


def words() -> list[str]:
    """Return every word of a caption in alphabetical order, punctuation last."""
    text = " ".join([*MOTIONS, *MOTIONS.values(), *FACTORS["shape"], *FACTORS["colour"], *FACTORS["background"], *FACTORS["camera"]])
    return [*sorted(set(re.findall(r"[a-z]+", text + " a an shape over background camera still"))), ",", "-"]


def caption(record: Factors, seed: int, *path: int) -> str:
    """Return a training caption of a clip, by chance with less in it; the stream ``(seed, "caption", *path)`` decides."""
    draw = random.Random(stream_seed(seed, "caption", *path))
    if draw.random() < DROPPED:
        return ""
    if draw.random() < CLASS_NAME:
        return record.motion
    named = [factor for factor, share in LEFT_OUT.items() if draw.random() >= share]
    return phrase({factor: getattr(record, factor) for factor in ("motion", *named)})


def tokens(tokenizer: Any, texts: list[str]) -> Any:
    """Return token ids and mask of captions, ``[B, LENGTH]``; threads that draw batches ahead take turns, a tokenizer is not for two."""
    with LOCK:
        return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")


def clip_tokenizer() -> Any:
    """Return a ``CLIPTokenizer`` that knows the vocabulary: byte pairs that spell each word into one token.

    Merges apply in their order, so a word that another one would break ("pan" by the ending of "an") is moved to the front.
    """
    from transformers import CLIPTokenizer

    letters, order = sorted(set("".join(words()))), words()
    for _ in order:
        pairs = [(word[:end], word[end] + "</w>" * (end == len(word) - 1)) for word in order for end in range(1, len(word))]
        merges: Any = list(dict.fromkeys(pairs))
        vocab = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
        ids = {token: i for i, token in enumerate(dict.fromkeys(vocab))}
        tokenizer = CLIPTokenizer(vocab=ids, merges=merges, model_max_length=LENGTH)
        broken = [word for word in order if len(tokenizer.tokenize(word)) > 1]
        if not broken:
            return tokenizer
        order = broken + [word for word in order if word not in broken]
    raise AssertionError(f"no order of merges keeps {broken} whole")


def t5_tokenizer() -> Any:
    """Return a ``T5Tokenizer`` that knows the vocabulary; other words are spelt in letters."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(letter, -6.0) for letter in sorted(set("".join(words())))]
    pieces += [(f"▁{word}", -2.0) for word in words() if word.isalpha()]
    pieces += [(word, -1.5) for word in words() if len(word) > 1]  # after a hyphen there is no space
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=LENGTH)
