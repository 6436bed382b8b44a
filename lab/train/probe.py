"""Recipe of lab-probe, the clip classifier of the zoo: motion, shape, colour and background of a Motion World clip.

    L = sum_f CE(l_f, y_f) + FRAMES sum_f mean_t CE(l_ft, q_ft) + PLACE mean_t o_t |where_t - track_t|
    q_ft = o_t y_f + (1 - o_t) / K_f,    o_t = 1 for the background

l_f: logits of a clip, l_ft of its frame t, o_t: the object's opacity. A frame whose object is hidden says nothing about shape and colour,
and the frame heads learn to say so. Of the maps that the network looks through, the first is held to the object's centre and radius and the
second to its ink spot (smooth absolute error): the motion is then read from a track, which takes far fewer clips to learn.

Half of each batch is rendered on the fly and never seen again; the other half is a fixed set of training clips as lab-vae gives them back,
decoded once and kept in the cache, so that the codec's blur is no surprise. All are mirrored at random, and their brightness, contrast and
grain change a little. Batch k depends on (seed, k) alone. Clips: uint8 ``[B, 3, T, S, S]``, T = 16, S = 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidistill.codec import Codec, load_codec
from vidistill.data.world import FACTORS, SHAPES, Factors, column, factors, render, trajectory
from vidistill.files import write_atomic
from vidistill.lab.train.latents import FRAMES as LENGTH
from vidistill.lab.train.latents import SIZE, TRAIN_SEED, Order, shards, train_factors, world_latents
from vidistill.lab.train.loop import Batch, Task, fit, pick
from vidistill.measure.probe import HEADS, PER_FRAME, Probe, new_network
from vidistill.rng import stream, stream_seed
from vidistill.types import Progress, silent
from vidistill.weights import write_network

NAME = "lab-probe"
SIZES = {"cpu": {"batch": 32, "clips": 3_072}, "cuda": {"batch": 256, "clips": 8_192}}
"""Rows of a batch, and clips that are seen through the codec."""

FRAMES, PLACE, SMOOTHING = 0.3, 4.0, 0.02
"""Weights of the frame heads and of the track in the loss; share of each label that is spread over all classes."""

SHARD = 256


def seen_through(records: Sequence[Factors], codec: Codec, *, progress: Progress = silent) -> list[Tensor]:
    """Encode and decode clips, or read them from the cache: uint8 ``[<= 256, 3, T, S, S]`` each, in order.

    Args:
        records: what to render.
        codec: a frame codec (lab-vae).
        progress: called after each shard of 256 clips.
    """
    latents = cache(lambda: world_latents(records, codec))  # not asked for when every shard is there
    return shards(
        "world-decoded", "video", records, codec, SHARD, lambda rows: codec.decode(latents()[rows].float(), LENGTH), "decode", progress
    )


class Clips:
    """Batch k of training clips, a function of (seed, k) alone.

    Args:
        seed: of the run.
        batch: rows; half of them come through the codec.
        clips: size of the set that does.
        progress: called while that set is decoded.
    """

    def __init__(self, seed: int, batch: int, clips: int, *, progress: Progress = silent) -> None:
        self.seed, self.batch, self.records = seed, batch, train_factors(seed, clips)
        self.parts = seen_through(self.records, load_codec("lab-vae"), progress=progress)
        self.order = Order(clips, seed, NAME, "order")

    def __call__(self, k: int) -> Batch:
        old = self.batch // 2
        fresh = [factors(TRAIN_SEED + self.seed, i) for i in range(k * (self.batch - old), (k + 1) * (self.batch - old))]
        rows = [i for _, i in self.order.rows(k, old)]
        video = torch.cat([render(fresh, LENGTH, SIZE), torch.stack([self.parts[i // SHARD][i % SHARD] for i in rows])])
        records = [*fresh, *(self.records[i] for i in rows)]
        return label(video, records, stream(self.seed, NAME, "augment", k))


def label(video: Tensor, records: Sequence[Factors], draw: torch.Generator) -> Batch:
    """Return clips, changed a little, with labels ``[B, 4]``, opacity ``[B, T]`` and track ``[B, T, 5]``: x, y, radius / 2, spot x, y."""
    labels = torch.tensor([[FACTORS[name].index(getattr(record, name)) for name in HEADS] for record in records])
    track = trajectory(records, LENGTH)
    radius = track.scale * column(records, "size")
    reach = radius * torch.tensor([[SHAPES[record.shape][1]] for record in records])
    places = [track.x, track.y, radius / 2, track.x + reach * track.angle.sin(), track.y - reach * track.angle.cos()]
    where = torch.stack(places, 2).float()
    flip = torch.rand(len(video), generator=draw) < 0.5
    where[flip] *= torch.tensor([-1.0, 1, 1, -1, 1])
    return {"video": disturb(video, flip, draw), "labels": labels, "opacity": track.opacity.float(), "track": where}


def disturb(video: Tensor, flip: Tensor, draw: torch.Generator) -> Tensor:
    """Mirror the clips of ``flip`` left to right; change contrast and brightness by up to 8 percent, and put grain on every fourth clip."""
    gain, offset, grain = (torch.rand(3, len(video), generator=draw) * 2 - 1).unbind()
    out = torch.empty_like(video)
    for b, clip in enumerate(video):
        x = clip.float().mul_(1 + 0.08 * float(gain[b])).add_(20 * float(offset[b]))
        if b % 4 == 0:
            x.add_(torch.randn(x.shape, generator=draw), alpha=5 * (1 + float(grain[b])))
        x = x.round_().clamp_(0, 255).to(torch.uint8)
        out[b] = x.flip(-1) if flip[b] else x
    return out


class Classifier(nn.Module):
    """The network with its loss; ``forward`` takes a batch of :class:`Clips`."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, NAME, "init"))
            self.network = new_network()

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        out = self.network(batch["video"])
        loss, figures = torch.zeros((), device=batch["video"].device), {}
        for place, name in enumerate(HEADS):
            logits, label = out.logits[name].float(), batch["labels"][:, place]
            loss = loss + F.cross_entropy(logits, label, label_smoothing=SMOOTHING)
            figures[name] = (logits.argmax(1) == label).float().mean()
            if name in PER_FRAME:
                logits = out.frame_logits[name].float()
                seen = torch.ones_like(batch["opacity"]) if name == "background" else batch["opacity"]
                target = seen[..., None] * F.one_hot(label, logits.shape[-1])[:, None] + (1 - seen[..., None]) / logits.shape[-1]
                loss = loss - FRAMES * (target * logits.log_softmax(-1)).sum(-1).mean()
        x, y, across, down = (out.where[:, :, i, :2].float() for i in range(4))
        found = torch.stack([x[..., 0], y[..., 0], (across + down)[..., 0] / 2, x[..., 1], y[..., 1]], 2)
        miss = F.smooth_l1_loss(found, batch["track"], beta=0.05, reduction="none").sum(2)
        figures["place"] = (miss * batch["opacity"]).mean()
        return loss + PLACE * figures["place"], figures | {"place": figures["place"].detach()}


def hidden(name: str, p: Tensor) -> bool:
    """Return whether a parameter is a hidden matrix: all of them but the first convolution's and the heads'."""
    return p.ndim >= 2 and ".stem." not in name and "heads." not in name


def confusion(model: Classifier, path: Path, clips: int = 128) -> None:
    """Write a PNG of the motion head's confusions on clips past the training set: a row per motion, a column per answer, white is all."""
    from PIL import Image

    probe, names = Probe(model.network), FACTORS["motion"]
    records = [factors(TRAIN_SEED - 1, i) for i in range(clips)]
    truth = torch.tensor([names.index(record.motion) for record in records])
    answers = probe.predict(render(records, LENGTH, SIZE))["motion"]
    counts = torch.zeros(len(names), len(names)).index_put_((truth, answers), torch.ones(clips), True)
    shade = (255 * counts / counts.sum(1, True).clamp(min=1)).byte()
    image = Image.fromarray(shade.repeat_interleave(16, 0).repeat_interleave(16, 1).numpy())
    write_atomic(path, lambda temporary: image.save(temporary, format="PNG"))


def train(
    out: str | Path,
    *,
    minutes: float = 20.0,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train lab-probe in ``out``; see :func:`vidistill.lab.train.loop.fit`."""
    size = SIZES[pick(device).type]
    task = Task(
        NAME,
        Classifier(seed),
        Clips(seed, size["batch"], size["clips"], progress=progress),
        hidden,
        lambda model, folder: write_network(model.network, folder),
        confusion,
        {"seed": seed, **size},
        {"data": "Motion World, half of the clips as lab-vae gives them back"},
    )
    return fit(out, task, minutes=minutes, steps=steps, device=device, progress=progress)
