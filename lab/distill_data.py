"""What a full-size distillation learns from: clips as latents and captions as embeddings, made once, then read from the cache.

Both pass through a network that is not needed afterwards (autoencoder, text encoder) and is then let go (:func:`released`). A clip's latent
is kept in fp16; an embedding in the type of its encoder and without the zeros that pad it: UMT5's 512 x 4096 of a caption of 60 words take
0.6 MiB instead of 4.

Shapes: N clips, latents ``[N, C, T, H, W]``; B clips of a batch, text ``[B, L, D]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidistill.codec import Codec, encode_store
from vidistill.data import Item, prepare_clips
from vidistill.distill.methods import Batch, Data
from vidistill.errors import InputError
from vidistill.files import cache_home, digest, load_tensors, save_tensors
from vidistill.sample import Flow
from vidistill.types import Progress, Protocol, silent

SHARD, ROOM = 64, 2**29
"""Clips and captions of a file at most, and the bytes of decoded clips that are held at once."""


@dataclass(frozen=True)
class Bank:
    """Real clips in the model's latent space.

    Attributes:
        latents: float16 ``[N, C, T, H, W]``.
        names: of the clips.
        skipped: those that could not be read, ``{"name", "reason"}``.
        key: digest of everything that they depend on.
    """

    latents: Tensor
    names: tuple[str, ...]
    skipped: list[dict[str, str]]
    key: str


def clips_at_once(protocol: Protocol) -> int:
    """Return how many decoded clips are held at once, and make a file."""
    return max(1, min(SHARD, ROOM // (3 * protocol.frames * protocol.height_width[0] * protocol.height_width[1])))


def encode_clips(codec: Codec, items: Sequence[Item], protocol: Protocol, *, seed: int = 0, progress: Progress = silent) -> Bank:
    """Decode and encode clips, or find them in the cache; what cannot be read is left out and named.

    Args:
        codec: the model's autoencoder.
        items: the clips.
        protocol: frames and size.
        seed: of each clip's first frame.
        progress: called while they are decoded, then after each shard.

    Raises:
        InputError: no clip can be read.
    """
    shard = clips_at_once(protocol)
    store = prepare_clips(items, ("clips",), protocol, "train", seed=seed, shard=shard, progress=progress)
    z = encode_store(codec, store, shard=shard, progress=progress).z
    return Bank(z.half(), store.names, store.skipped, digest([store.key, codec.fingerprint]))


class Words:
    """Embeddings of captions by caption; looked up, never made again.

    Args:
        rows: caption -> ``[l, D]``, without the zeros at its end.
        length: L, that of a padded one.
    """

    def __init__(self, rows: dict[str, Tensor], length: int) -> None:
        self.rows, self.length = rows, length

    def __call__(self, captions: Sequence[Any]) -> Tensor:
        """Return the embeddings of captions ``[B, L, D]``, on the CPU."""
        some = [self.rows[str(caption)] for caption in captions]
        found = some[0].new_zeros((len(some), self.length, some[0].shape[1]))
        for row, text in zip(found, some, strict=True):
            row[: len(text)] = text
        return found

    @property
    def bytes(self) -> int:
        """What they take in memory and on disk."""
        return sum(row.numel() * row.element_size() for row in self.rows.values())


@torch.no_grad()
def encode_words(model: Flow, captions: Sequence[str], *, progress: Progress = silent) -> Words:
    """Return the embeddings of captions and of the empty one, each encoded by itself; from the cache where they are.

    Args:
        model: has the text encoder.
        captions: repeats are made once.
        progress: called after each file of 64.
    """
    texts = sorted({"", *captions})
    folder = cache_home() / "texts" / digest([model.fingerprint, str(model.dtype)])
    rows: dict[str, Tensor] = {}
    for start in range(0, len(texts), SHARD):
        some = texts[start : start + SHARD]
        path = folder / f"{digest(some, 32)}.safetensors"
        if not path.exists():
            made = [trimmed(model.encode([text])[0].cpu()) for text in some]
            save_tensors(path, {f"{i:02d}": row for i, row in enumerate(made)})
        found, _ = load_tensors(path)
        rows |= {text: found[f"{i:02d}"] for i, text in enumerate(some)}
        progress("encode captions", len(rows), len(texts))
    return Words(rows, model.tokenizer.model_max_length)


def trimmed(text: Tensor) -> Tensor:
    """Return an embedding ``[L, D]`` without the zeros at its end, one row at least."""
    last = (text != 0).any(1).nonzero()
    return text[: max(1, int(last[-1]) + 1 if len(last) else 1)].contiguous()


class Released(Flow):
    """A flow whose text encoder is gone: its captions are looked up."""

    words: Words

    def encode(self, prompts: Sequence[str]) -> Tensor:
        if unknown := [prompt for prompt in prompts if prompt not in self.words.rows]:
            raise InputError(f"no embedding of the prompt {unknown[0]!r}: its text encoder has been let go")
        return self.words(prompts).to(self.device, self.dtype)


def released(model: Flow, words: Words) -> Released:
    """Return the model without text encoder and autoencoder, whose memory is free again; it can still be sampled in latents."""
    model.codec.module.to("meta")  # the shapes stay, the weights do not
    model.parts = {"transformer": model.parts["transformer"]}
    slim = Released.__new__(Released)
    slim.__dict__ |= vars(model) | {"words": words}
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return slim


def real(bank: Bank, captions: Sequence[str], batch: int, words: Callable[[Sequence[Any]], Tensor]) -> Data:
    """Return a source that draws clips with their captions, with replacement.

    Args:
        bank: the clips.
        captions: of each.
        batch: B, over all processes.
        words: captions -> embeddings.
    """

    def draw(generator: torch.Generator) -> Batch:
        rows = torch.randint(len(captions), (batch,), generator=generator)
        return Batch(bank.latents[rows].float(), words([captions[i] for i in rows.tolist()]))

    return draw
