"""Read the factors of Motion World back from pixels: analysis by synthesis, with the drawing code of ``world`` as the model.

Order of work: the background is the colour line that explains most pixels; what no line explains is the object; its colour is a vote;
shape and angle are the best of the drawn templates; the motion is the family of tracks with the smallest squared residual; the
camera is the one affine flow that explains the background's change (Lucas and Kanade, IJCAI 1981). Each step also answers frame by
frame, so that a generated clip whose object changes its identity is seen.

Shapes: B clips, T frames, P = H * W pixels, M templates, N dictionary tracks. Lengths in half widths of the frame, as in ``world``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vidistill.data.world import BACKGROUNDS, COLOURS, FACTORS, INK, MOTIONS, PAN, SHAPES, TAU, ZOOM, Factors, coverage, paths
from vidistill.errors import InputError

HIDDEN = -1
"""Index of a shape or colour that cannot be seen in a frame."""

GRID, ANGLES, REACH = 20, 72, 1.8
"""Shape templates: side in samples, orientations, half side in units of sqrt(area / pi)."""


@dataclass(frozen=True)
class Parsed:
    """What :func:`parse` saw. Indices count the names in ``world.FACTORS``; ``HIDDEN`` (-1) where nothing can be seen.

    Attributes:
        motion, shape, colour, background, camera: int64 ``[B]``, one answer a clip.
        frame_shape, frame_colour, frame_background: int64 ``[B, T]``, each frame on its own.
        x, y, radius, angle, opacity: float32 ``[B, T]``, the object's track; meaningful where ``frame_colour`` is not hidden.
        travel: float32 ``[B, 3]``, the camera's travel (x, y, log zoom) over the clip.
    """

    motion: Tensor
    shape: Tensor
    colour: Tensor
    background: Tensor
    camera: Tensor
    frame_shape: Tensor
    frame_colour: Tensor
    frame_background: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    opacity: Tensor
    travel: Tensor

    def __len__(self) -> int:
        return len(self.motion)

    def records(self) -> list[dict[str, str]]:
        """Return the names, one dict a clip; ``"hidden"`` where nothing was seen."""
        columns = {name: [(*names, "hidden")[i] for i in getattr(self, name).tolist()] for name, names in FACTORS.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def agreement(self, clips: Sequence[Factors]) -> dict[str, float]:
        """Return for each named factor the share of clips whose parsed value is the true one, in [0, 1]."""
        rows = self.records()
        return {name: sum(row[name] == getattr(clip, name) for row, clip in zip(rows, clips, strict=True)) / len(rows) for name in FACTORS}


# ------------------------------------------------------------------------------------------------------- background, object


def _distance(pixels: Tensor, dark: Tensor, span: Tensor) -> tuple[Tensor, Tensor]:
    """Project colours on background lines ``dark + m span``, m in [0, 1].

    Args:
        pixels: float32 ``[..., 3, P]``. dark, span: ``[..., 3]``, broadcast against the leading axes.

    Returns:
        m before it is held to [0, 1], and the distance to the line, float32 ``[..., P]``.
    """
    above = pixels - dark[..., None]
    m = (above * (span / span.square().sum(-1, True))[..., None]).sum(-2)
    return m, above.sub_(m.clamp(0, 1)[..., None, :] * span[..., None]).square_().sum(-2).sqrt_()


def _vote(pixels: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Let every pixel off the background vote for the colours it is near: votes ``[B, T, K]`` and the frame's winner ``[B, T]``.

    Args:
        pixels: the N pixels of each frame that are farthest from its background, ``[B, T, 3, N]``. distance: theirs, ``[B, T, N]``.
    """
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    apart = (pixels[:, :, None] - palette[:, :, None]).square().sum(3).sqrt()  # [B, T, K, N]
    votes = ((1 - apart / 70).clamp(min=0) * (distance > 40)[:, :, None]).sum(-1)
    best, winner = votes.max(-1)
    return votes, winner.masked_fill(best < pixels.shape[-1] / 64, HIDDEN)


# ---------------------------------------------------------------------------------------------------------- shape and angle


def _axis(steps: int, reach: float) -> Tensor:
    """Return ``steps`` sample centres that tile [-reach, reach]."""
    return ((torch.arange(steps) + 0.5) * (2 / steps) - 1) * reach


@cache
def _templates() -> tuple[Tensor, Tensor]:
    """Return unit-norm signed templates ``[shapes * ANGLES, GRID * GRID]`` (+1 body, -1 ink) and each shape's area for r = 1."""
    fine = _axis(256, 1.3)
    areas = torch.stack([coverage(shape, fine[None], fine[:, None], torch.tensor(100.0))[0].mean() * 2.6**2 for shape in SHAPES])
    angle = torch.arange(ANGLES)[:, None, None] * (TAU / ANGLES)
    drawn = []
    for shape, area in zip(SHAPES, areas, strict=True):
        axis = _axis(GRID, REACH) * (area / math.pi).sqrt()
        x, y = angle.cos() * axis + angle.sin() * axis[:, None], angle.cos() * axis[:, None] - angle.sin() * axis
        body, spot = coverage(shape, x, y, torch.tensor(8.0))
        drawn.append((body * (1 - 2 * spot)).flatten(1))
    return F.normalize(torch.cat(drawn), dim=1), areas


def _match(signed: Tensor, x: Tensor, y: Tensor, area: Tensor) -> Tensor:
    """Return the correlation of each frame's object with each template.

    Args:
        signed: float32 ``[F, S, S]``, +1 body, -1 ink, 0 background.
        x, y: centroid ``[F]``. area: object's area ``[F]`` in squared half widths.

    Returns:
        float32 ``[F, shapes, ANGLES]`` in [-1, 1].
    """
    axis = _axis(GRID, REACH) * (area / math.pi).sqrt()[:, None]  # [F, G]
    grid = torch.stack(torch.broadcast_tensors((x[:, None] + axis)[:, None], (y[:, None] + axis)[:, :, None]), -1)
    patch = F.grid_sample(signed[:, None], grid, align_corners=False).flatten(1)
    return (F.normalize(patch, dim=1) @ _templates()[0].T).view(len(patch), len(SHAPES), ANGLES)


# ------------------------------------------------------------------------------------------------------------------ motion


@cache
def _dictionary(frames: int) -> dict[str, Tensor]:
    """Return the tracks of every motion over a grid of speed, phase and turn: five float32 ``[N, T]``, motions in order."""
    speed = torch.linspace(0.8, 1.2, 13, dtype=torch.float64)
    phase = torch.arange(24, dtype=torch.float64) * (TAU / 24)
    grid = torch.cartesian_prod(speed, phase, torch.tensor([1.0, -1.0], dtype=torch.float64))
    u = torch.linspace(0, 1, frames, dtype=torch.float64)
    tracks = [paths(motion, u, *(part[:, None] for part in grid.unbind(1))) for motion in MOTIONS]
    names = [field.name for field in fields(tracks[0])]
    return {name: torch.cat([getattr(track, name) for track in tracks]).float() for name in names}


def _spread(seen: Tensor, model: Tensor, weight: Tensor) -> Tensor:
    """Return ``min_c sum_t w_t (seen_t - model_t - c)^2`` for all pairs ``[B, N]``; c is where the path lies."""
    total = weight.sum(1, True).clamp(min=1e-6)
    seen = seen - (weight * seen).sum(1, True) / total  # keeps the expansion below well conditioned
    square = (weight * seen.square()).sum(1, True) - 2 * (weight * seen) @ model.T + weight @ model.square().T
    mean = (weight * seen).sum(1, True) - weight @ model.T
    return (square - mean.square() / total).clamp(min=0)


def _motion(x: Tensor, y: Tensor, radius: Tensor, angle: Tensor, opacity: Tensor, weight: Tensor) -> Tensor:
    """Return the motion whose best track has the smallest residual: place, log radius, rotation and opacity, each in its own error."""
    model = _dictionary(x.shape[1])
    place = _spread(x, model["x"], weight) + _spread(y, model["y"], weight)
    growth = _spread(radius.clamp(min=1e-3).log(), model["scale"].log(), weight)
    real = weight * angle.cos() @ model["angle"].cos().T + weight * angle.sin() @ model["angle"].sin().T
    imaginary = weight * angle.sin() @ model["angle"].cos().T - weight * angle.cos() @ model["angle"].sin().T
    rotation = 2 * (weight.sum(1, True) - (real.square() + imaginary.square()).sqrt())
    fade = torch.cdist(opacity, model["opacity"]).square()
    residual = place / 0.04**2 + growth / 0.1**2 + rotation / 0.3**2 + fade / 0.2**2
    return residual.view(len(x), len(MOTIONS), -1).amin(2).argmin(1)


# ------------------------------------------------------------------------------------------------------------------ camera


def _travel(m: Tensor, free: Tensor) -> Tensor:
    """Return the camera's travel ``[B, 3]`` from ``dm/dt = m_x c_x + m_y c_y - (x m_x + y m_y) zeta``, one least-squares fit a clip.

    Args:
        m: background brightness, float32 ``[B, T, S, S]``.
        free: bool of the same shape, False where the object is.
    """
    size = m.shape[-1]
    m = F.avg_pool2d(F.avg_pool2d(m, 3, 1), 3, 1)
    free = (
        F.max_pool2d(F.max_pool2d((~free).float(), (7, 1), 1), (1, 7), 1) == 0
    )  # nothing of the object within reach of the blur and the gradient
    both = (m[:, 1:] + m[:, :-1]) / 2
    step = 4 / size
    mx = ((both[..., 1:-1, 2:] - both[..., 1:-1, :-2]) / step).flatten(1)
    my = ((both[..., 2:, 1:-1] - both[..., :-2, 1:-1]) / step).flatten(1)
    dm = (m[:, 1:] - m[:, :-1])[..., 1:-1, 1:-1].flatten(1)
    weight = (free[:, 1:] & free[:, :-1]).flatten(1).float()
    s = _axis(size, 1.0)[3:-3]
    shape = both[..., 1:-1, 1:-1].shape
    px, py = s.expand(shape).flatten(1), s[:, None].expand(shape).flatten(1)
    basis = torch.stack([mx, my, -(px * mx + py * my)], 1) * weight[:, None]
    normal = basis @ basis.transpose(1, 2) + 1e-3 * torch.eye(3)
    return torch.linalg.solve(normal, (basis @ dm[..., None]))[..., 0] * (m.shape[1] - 1)


def _camera(travel: Tensor) -> Tensor:
    """Return the camera's index ``[B]``: the largest of the three travels, or still when all are under 0.4 of their usual length."""
    share = travel / torch.tensor([PAN, PAN, ZOOM])
    size, axis = share.abs().max(1)
    positive = share.gather(1, axis[:, None])[:, 0] > 0
    moving = torch.tensor([[2, 1], [4, 3], [5, 6]])[axis, (~positive).long()]
    return torch.where(size < 0.4, 0, moving)


# ------------------------------------------------------------------------------------------------------------------- parse


def _parse(video: Tensor) -> Parsed:
    clips, _, frames, size, _ = video.shape
    pixels = video.permute(0, 2, 1, 3, 4).reshape(clips, frames, 3, size * size).float()
    ends = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32)
    dark, span = ends[:, 0], ends[:, 1] - ends[:, 0]
    some = pixels[:, :, None, :, :: size // 12]  # a few hundred pixels tell the six lines apart
    frame_background = _distance(some, dark, span)[1].clamp(max=40).mean(-1).argmin(2)
    m, distance = _distance(pixels, dark[frame_background], span[frame_background])
    far, where = distance.topk(size * size // 24, -1)  # no object is smaller
    votes, frame_colour = _vote(pixels.gather(3, where[:, :, None].expand(-1, -1, 3, -1)), far)
    colour = votes.sum(1).argmax(1).masked_fill((frame_colour == HIDDEN).all(1), HIDDEN)

    used = torch.where(frame_colour == HIDDEN, colour[:, None], frame_colour).clamp(min=0)  # a fading frame borrows the clip's colour
    palette, ink = torch.tensor(list(COLOURS.values()), dtype=torch.float32), torch.tensor(INK, dtype=torch.float32)
    reach = _distance(palette.T, dark, span)[1][frame_background, used]  # of the colour from the line
    floor = 1.5 * distance[..., :: size // 12].median(-1).values  # noise
    contrast = (reach - floor).clamp(min=1)[..., None]
    alpha = ((distance - floor[..., None]) / contrast).clamp(0, 1)
    opacity = alpha.gather(-1, where[..., size * size // 200, None])[..., 0]
    visible = (opacity > 0.3) & (colour >= 0)[:, None]
    mask = ((alpha / opacity.clamp(min=0.3)[..., None] - 0.25) * 2).clamp(0, 1)
    above = palette[used] - ink
    body = torch.einsum("btcp,btc->btp", pixels - ink[:, None], above / above.square().sum(-1, True)).clamp(0, 1)

    total = mask.sum(-1).clamp(min=1e-3)
    s = _axis(size, 1.0)
    image = mask.view(clips, frames, size, size)
    x, y = image.sum(2) @ s / total, image.sum(3) @ s / total
    area = total * (4 / size**2)
    match = _match((mask * (2 * body - 1)).view(-1, size, size), x.flatten(), y.flatten(), area.flatten()).view(
        clips, frames, len(SHAPES), ANGLES
    )
    by_shape = match.amax(3)
    frame_shape = by_shape.argmax(2).masked_fill(~visible, HIDDEN)
    weight = visible.float()
    shape = (weight[..., None] * area[..., None] * by_shape).sum(1).argmax(1)
    angle = match[torch.arange(clips), :, shape].argmax(2) * (TAU / ANGLES)
    radius = (area / _templates()[1][shape][:, None]).sqrt()
    motion = _motion(x, y, radius, angle, opacity * weight, weight)
    travel = _travel(m.view(clips, frames, size, size), (alpha < 0.15).view(clips, frames, size, size))
    hidden = ~visible.any(1)
    return Parsed(
        motion=motion.masked_fill(hidden, HIDDEN),
        shape=shape.masked_fill(hidden, HIDDEN),
        colour=colour.masked_fill(hidden, HIDDEN),
        background=frame_background.mode(1).values,
        camera=_camera(travel),
        frame_shape=frame_shape,
        frame_colour=frame_colour,
        frame_background=frame_background,
        x=x,
        y=y,
        radius=radius,
        angle=angle,
        opacity=opacity * weight,
        travel=travel,
    )


@torch.inference_mode()
def parse(video: Tensor) -> Parsed:
    """Recover the factors of Motion World clips from their pixels.

    Args:
        video: uint8 RGB ``[B, 3, T, S, S]``, B >= 1, T >= 4, S >= 32.

    Returns:
        a :class:`Parsed`; row b depends on clip b alone.

    Raises:
        InputError: another dtype or shape.
    """
    if video.dtype != torch.uint8 or video.ndim != 5 or video.shape[1] != 3 or video.shape[3] != video.shape[4]:
        raise InputError(f"cannot parse {video.dtype} {tuple(video.shape)}: needs uint8 RGB clips [B, 3, T, S, S]")
    if not len(video) or video.shape[2] < 4 or video.shape[3] < 32:
        raise InputError(f"cannot parse clips of shape {tuple(video.shape)}: needs at least 1 clip, 4 frames and 32 x 32 pixels")
    chunk = max(1, 2**20 // (video.shape[2] * video.shape[3] ** 2))
    parts = [_parse(video[start : start + chunk].cpu()) for start in range(0, len(video), chunk)]
    return Parsed(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Parsed)})
