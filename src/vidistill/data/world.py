"""Motion World: procedural clips whose every factor is known.

A clip is one shape with one motion, drawn over a textured background that a camera moves over. The class is the motion; all other
factors are drawn independently of it, so a single frame says little about the class. The camera follows the object: panning and
zooming move the background only, and the object's track on the screen is the motion alone.

Shapes: B clips, T frames, H = W = ``size`` pixels, N object pixels in a window. Screen coordinates run from -1 to 1, x to the right
and y down; lengths are in half widths of the frame. Time u runs from 0 (first frame) to 1 (last frame).

Equal bits everywhere: tracks and the background field are float64; per-pixel work uses only correctly rounded operations
(+ - * / sqrt min max), so a clip depends on (seed, index) alone and not on the batch, the layout or the host.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidistill.data.clip_record import sidecar
from vidistill.errors import InputError, choose, nearest
from vidistill.files import digest, ensure_folder, load_json, save_json, write_atomic
from vidistill.rng import stream
from vidistill.types import Progress, silent

TAU = 2 * math.pi

MOTIONS: dict[str, str] = {
    "slide": "sliding",
    "bounce": "bouncing",
    "orbit": "orbiting",
    "spin": "spinning",
    "pulse": "pulsing",
    "zigzag": "zigzagging",
    "swing": "swinging",
    "fall": "falling",
    "shake": "shaking",
    "spiral": "spiralling",
    "grow": "growing",
    "blink": "blinking",
}
"""Motion -> the verb of its caption."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 57),
    "orange": (245, 140, 20),
    "yellow": (250, 226, 70),
    "green": (40, 176, 92),
    "cyan": (84, 206, 236),
    "blue": (48, 96, 228),
    "purple": (168, 86, 214),
    "white": (246, 246, 244),
}
"""Object colours as RGB: red and green, blue and purple differ in lightness too, so that they stay apart without full colour vision."""

INK = (16, 16, 22)
"""RGB of the spot that every shape carries off centre; it makes the rotation of a circle visible."""

BACKGROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "navy": ((36, 44, 78), (74, 90, 142)),
    "forest": ((40, 62, 44), (96, 124, 88)),
    "plum": ((66, 40, 66), (128, 86, 118)),
    "slate": ((62, 68, 76), (128, 138, 150)),
    "brown": ((74, 54, 40), (148, 116, 88)),
    "teal": ((28, 68, 72), (70, 134, 134)),
}
"""Background -> dark and light end; every background pixel lies on the straight line between the two."""

CAMERAS: dict[str, tuple[float, float, float]] = {
    "still": (0.0, 0.0, 0.0),
    "pan-left": (-1.0, 0.0, 0.0),
    "pan-right": (1.0, 0.0, 0.0),
    "pan-up": (0.0, -1.0, 0.0),
    "pan-down": (0.0, 1.0, 0.0),
    "zoom-in": (0.0, 0.0, 1.0),
    "zoom-out": (0.0, 0.0, -1.0),
}
"""Camera -> direction (x, y, log zoom); the background moves the other way when the camera pans."""

PAN, ZOOM = 0.6, 0.5
"""Camera travel over a clip at pace 1: half widths, and log magnification."""

WAVES = 10
"""Plane waves in a background texture."""

BOUND = 1.25
"""No shape of size r reaches farther than ``BOUND * r`` from its centre."""


@dataclass(frozen=True)
class Factors:
    """Everything that determines a clip but its resolution. Clip ``index`` of world ``seed`` has ``factors(seed, index)``.

    Attributes:
        motion, shape, colour, background, camera: names, see the tables of this module.
        speed: pace of the motion, [0.8, 1.2].
        phase: where the motion starts, [0, 2 pi) rad.
        turn: +1 or -1, direction of the motion (right or left, clockwise or not).
        size: radius of the shape, [0.24, 0.34] half widths.
        x, y: where the whole path lies within the room it has, [-1, 1].
        tilt: orientation of the shape at rest, [0, 2 pi) rad.
        pace: pace of the camera, [0.8, 1.2].
        texture: seed of the background's gradient and waves, and of the noise.
    """

    motion: str
    shape: str
    colour: str
    background: str
    camera: str
    speed: float
    phase: float
    turn: int
    size: float
    x: float
    y: float
    tilt: float
    pace: float
    texture: int

    def caption(self) -> str:
        """Return e.g. ``"a purple star orbiting over a forest background, camera pan-left"``."""
        return phrase({factor: getattr(self, factor) for factor in FACTORS})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def phrase(said: Mapping[str, str]) -> str:
    """Return the caption that says these factors, each of ``FACTORS`` or left out; a shape that is not said is called a shape."""
    subject = " ".join(filter(None, (said.get("colour"), said.get("shape", "shape"))))
    motion = f" {MOTIONS[said['motion']]}" if "motion" in said else ""
    scene = f" over a {said['background']} background" if "background" in said else ""
    camera = said.get("camera")
    view = "" if camera is None else ", still camera" if camera == "still" else f", camera {camera}"
    return f"{'an' if subject[0] in 'aeiou' else 'a'} {subject}{motion}{scene}{view}"


SAID: dict[str, tuple[str, ...]] = {
    "short": ("motion",),
    "medium": ("motion", "shape", "colour"),
    "long": ("motion", "shape", "colour", "background", "camera"),
}
"""Length of a caption -> the factors that it says."""

RARE: dict[str, tuple[str, float]] = {"colour": ("white", 0.02), "camera": ("zoom-out", 0.01)}
"""Factor -> a value and its share of the clips, in the world with rare modes."""


@dataclass(frozen=True)
class Track:
    """Where the object is, on the screen, in each frame; float64 ``[B, T]`` each.

    Attributes:
        x, y: centre. scale: radius relative to ``Factors.size``. angle: rotation in rad. opacity: 0 (hidden) to 1.
    """

    x: Tensor
    y: Tensor
    scale: Tensor
    angle: Tensor
    opacity: Tensor


# ---------------------------------------------------------------------------------------------------------------- factors


def factors(seed: int, index: int, **fixed: Any) -> Factors:
    """Return the factors of clip ``index`` of world ``seed``.

    Args:
        seed, index: any whole numbers; nothing else is random.
        fixed: factors to hold, by name; the others keep the values they have without.

    Raises:
        InputError: ``fixed`` names an unknown factor or value.
    """
    generator = stream(seed, "world", index)
    texture = int(torch.randint(2**31, (1,), generator=generator))
    u = iter(torch.rand(13, generator=generator, dtype=torch.float64).tolist())
    one_of: Callable[[Iterable[str]], str] = lambda names: (many := tuple(names))[int(next(u) * len(many))]  # noqa: E731
    drawn = Factors(
        motion=one_of(MOTIONS),
        shape=one_of(SHAPES),
        colour=one_of(COLOURS),
        background=one_of(BACKGROUNDS),
        camera=one_of(CAMERAS),
        speed=0.8 + 0.4 * next(u),
        phase=TAU * next(u),
        turn=1 if next(u) < 0.5 else -1,
        size=0.24 + 0.1 * next(u),
        x=2 * next(u) - 1,
        y=2 * next(u) - 1,
        tilt=TAU * next(u),
        pace=0.8 + 0.4 * next(u),
        texture=texture,
    )
    names = [field.name for field in fields(Factors)]
    for name, value in fixed.items():
        if name not in names:
            raise InputError(f"unknown factor {name!r} of Motion World: {nearest(name, names)}")
        if name in FACTORS:
            choose(name, value, FACTORS[name])
    return replace(drawn, **fixed)


def asked(seed: int, count: int, length: str, alike: int = 2, **fixed: Any) -> list[Factors]:
    """Return the factors of clips of a world, of which ``alike`` in a row share what a caption of this length says.

    Args:
        seed, fixed: see :func:`factors`.
        count: clips.
        length: a key of ``SAID``; all that the caption does not say is each clip's own.
    """
    said, every = SAID[choose("caption length", length, SAID)], [factors(seed, i, **fixed) for i in range(count)]
    return [replace(one, **{name: getattr(every[i - i % alike], name) for name in said}) for i, one in enumerate(every)]


def rarefied(seed: int, records: Sequence[Factors]) -> list[int]:
    """Return the places of the clips that are left when each value of ``RARE`` has its share of them.

    A clip with such a value, one of K, is kept with the chance ``s (K - 1) / (1 - s)``, which makes its share s; the stream
    ``(seed, "rare", place)`` decides.
    """
    kept = []
    for place, record in enumerate(records):
        draw = torch.rand(len(RARE), generator=stream(seed, "rare", place), dtype=torch.float64).tolist()
        chances = [s * (len(FACTORS[name]) - 1) / (1 - s) if getattr(record, name) == value else 1 for name, (value, s) in RARE.items()]
        if all(u < chance for u, chance in zip(draw, chances, strict=True)):
            kept.append(place)
    return kept


def column(clips: Sequence[Factors], name: str) -> Tensor:
    """Return one numeric factor of all clips as float64 ``[B, 1]``."""
    return torch.tensor([getattr(clip, name) for clip in clips], dtype=torch.float64)[:, None]


# ----------------------------------------------------------------------------------------------------------------- motion


def paths(motion: str, u: Tensor, speed: Tensor, phase: Tensor, turn: Tensor) -> Track:
    """Return the track of one motion about the origin, at rest orientation 0.

    Args:
        motion: a name from ``MOTIONS``.
        u: time, float64 ``[..., T]`` in [0, 1].
        speed, phase, turn: float64 ``[..., 1]``, see :class:`Factors`.
    """
    zero = torch.zeros_like(u * speed)
    x, y, angle, scale, opacity = zero, zero, zero, zero + 1, zero + 1
    if motion == "slide":  # uniform and straight, within 23 degrees of the horizontal
        heading = 0.4 * phase.sin()
        along = 0.9 * speed * (u - 0.5)
        x, y = turn * along * heading.cos(), along * heading.sin()
    elif motion == "bounce":  # 1.6 to 2.4 hops of height 0.85 off one floor
        y = -0.85 * (math.pi * 2 * speed * u + phase).sin().abs()
    elif motion == "orbit":  # circle of radius 0.4, about one turn
        theta = phase + turn * TAU * speed * u
        x, y = 0.4 * theta.cos(), 0.4 * theta.sin()
    elif motion == "spin":  # about one turn on the spot
        angle = turn * TAU * speed * u
    elif motion == "pulse":  # the radius swings by a third, about twice
        scale = 1 + 0.33 * (TAU * 2 * speed * u + phase).sin()
    elif motion == "zigzag":  # uniform across, a triangle wave along y, 2 to 3 teeth
        x, y = turn * 0.9 * speed * (u - 0.5), 0.45 * (2 / math.pi) * (TAU * 2.5 * speed * u + phase).sin().asin()
    elif motion == "swing":  # pendulum of length 0.8, pivot above, about 1.2 swings of 43 degrees
        beta = 0.75 * (TAU * 1.2 * speed * u + phase).sin()
        x, y, angle = 0.8 * beta.sin(), 0.8 * beta.cos(), -beta
    elif motion == "fall":  # from rest, uniformly accelerated
        y = 0.9 * speed * u.square()
    elif motion == "shake":  # small, fast, at two frequencies that never rest together
        x, y = 0.1 * (TAU * 4 * speed * u + phase).sin(), 0.07 * (TAU * 5.2 * speed * u + 2 * phase).sin()
    elif motion == "spiral":  # outwards from 0.06 to 0.48 in about 1.5 turns
        radius, theta = 0.06 + 0.42 * u, phase + turn * TAU * 1.5 * speed * u
        x, y = radius * theta.cos(), radius * theta.sin()
    elif motion == "grow":  # the radius grows at a constant rate, to about twice
        scale = 0.62 * (0.7 * speed * u).exp()
    elif motion == "blink":  # 2 to 3 times off and on, with short fades
        opacity = (0.5 + 2 * (TAU * 2.5 * speed * u + phase).sin()).clamp(0, 1)
    return Track(x, y, scale, angle, opacity)


def trajectory(clips: Sequence[Factors], frames: int = 16) -> Track:
    """Return the objects' tracks on the screen; the whole object stays inside the frame.

    Args:
        clips: factors of B clips.
        frames: T >= 1.

    Returns:
        a :class:`Track` of float64 ``[B, T]``.
    """
    u = torch.linspace(0, 1, frames, dtype=torch.float64)
    dense = torch.linspace(0, 1, 129, dtype=torch.float64)  # the path's extent must not depend on the number of frames
    speed, phase, turn, size = (column(clips, name) for name in ("speed", "phase", "turn", "size"))
    parts = {field.name: torch.empty(len(clips), frames, dtype=torch.float64) for field in fields(Track)}
    for motion in sorted({clip.motion for clip in clips}):
        rows = torch.tensor([i for i, clip in enumerate(clips) if clip.motion == motion])
        path = paths(motion, u, speed[rows], phase[rows], turn[rows])
        whole = paths(motion, dense, speed[rows], phase[rows], turn[rows])
        room = 0.97 - BOUND * size[rows] * whole.scale.amax(1, True)
        for name in ("x", "y"):
            extent, place = getattr(whole, name), column(clips, name)[rows]
            low, high = -room - extent.amin(1, True), room - extent.amax(1, True)
            middle, half = (low + high) / 2, ((high - low) / 2).clamp(min=0)
            parts[name][rows] = getattr(path, name) + middle + place * half
        parts["angle"][rows] = path.angle + column(clips, "tilt")[rows]
        parts["scale"][rows], parts["opacity"][rows] = path.scale, path.opacity
    return Track(**parts)


# ----------------------------------------------------------------------------------------------------------------- shapes
# Signed distances in units of the radius, negative inside; x, y are the shape's own coordinates. Sums of products and square roots only.


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt() - 0.92


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.82


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(y, math.sqrt(0.75) * x.abs() - 0.5 * y) - 0.62


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Fold the plane into one tenth (mirror at x = 0, then at 108 and 36 degrees from the tip), then one straight edge is left."""
    x, y = x.abs(), -y
    for degrees in (108, 36):
        nx, ny = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
        over = 2 * (nx * x + ny * y).clamp(min=0)
        x, y = x - nx * over, y - ny * over
    tip, (vx, vy) = 1.2, (0.58 * math.sin(math.pi / 5), 0.58 * math.cos(math.pi / 5))
    length = math.hypot(tip - vy, vx)
    return ((tip - vy) / length) * x.abs() + (vx / length) * (y - tip)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return ((x * x + y * y).sqrt() - 0.74).abs() - 0.27


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - 1.05, y - 0.36), torch.maximum(x - 0.36, y - 1.05))


SHAPES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
    "circle": (_circle, 0.5),
    "square": (_square, 0.48),
    "triangle": (_triangle, 0.45),
    "star": (_star, 0.42),
    "ring": (_ring, 0.74),
    "cross": (_cross, 0.64),
}
"""Shape -> signed distance, and how far from the centre its ink spot sits (towards its top)."""

SPOT = 0.23
"""Radius of the ink spot, in units of the shape's radius."""

FACTORS: dict[str, tuple[str, ...]] = {
    "motion": tuple(MOTIONS),
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "background": tuple(BACKGROUNDS),
    "camera": tuple(CAMERAS),
}
"""The named factors and their values, in order: the index is the class."""


def coverage(shape: str, x: Tensor, y: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how much of a pixel the shape and its ink spot cover, in [0, 1]: ``clamp(1/2 - distance in pixels)``.

    Args:
        shape: a name from ``SHAPES``.
        x, y: pixel centres in the shape's own coordinates, float32, any shape.
        pixels: radius of the shape in pixels, broadcastable.
    """
    distance, offset = SHAPES[shape]
    body = (0.5 - distance(x, y) * pixels).clamp(0, 1)
    spot = (0.5 - ((x * x + (y + offset) * (y + offset)).sqrt() - SPOT) * pixels).clamp(0, 1)
    return body, spot


# -------------------------------------------------------------------------------------------------------------- rendering


def _field(clips: Sequence[Factors], frames: int, size: int) -> Tensor:
    """Return the background's brightness field ``m`` in [0, 1], float32 ``[B, T, H, W]``: gradient + sum_k a_k cos(k.p + phi_k).

    The camera maps screen point s to world point p = s / z + c, axis by axis, so every wave is separable,
    cos(kx px + ky py + phi) = cos(kx px) cos(ky py + phi) - sin(kx px) sin(ky py + phi), and the whole field is one matrix product.
    """
    draws = torch.stack([torch.rand(2 + 3 * WAVES, generator=stream(clip.texture, "texture"), dtype=torch.float64) for clip in clips])
    heading, slope = TAU * draws[:, :1], 0.22 + 0.08 * draws[:, 1:2]
    angle, length, phase = draws[:, 2:].reshape(len(clips), 3, WAVES).unbind(1)
    k = TAU / (0.36 + 0.74 * length)
    amplitude = 0.32 * (0.36 + 0.74 * length) / math.sqrt(WAVES)  # long waves are strong, as in clouds
    kx, ky = (k * angle.mul(TAU).cos())[:, None, None], (k * angle.mul(TAU).sin())[:, None, None]

    u = torch.linspace(0, 1, frames, dtype=torch.float64) - 0.5
    direction = torch.tensor([CAMERAS[clip.camera] for clip in clips], dtype=torch.float64) * column(clips, "pace")
    cx, cy, zoom = PAN * direction[:, :1] * u, PAN * direction[:, 1:2] * u, (ZOOM * direction[:, 2:] * u).exp()
    s = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 / size) - 1
    px, py = s / zoom[..., None] + cx[..., None], s / zoom[..., None] + cy[..., None]  # [B, T, W], [B, T, H]

    ax, ay = kx * px[..., None], ky * py[..., None] + TAU * phase[:, None, None]
    gx, gy = (slope * heading.cos())[:, None] * px, (slope * heading.sin())[:, None] * py
    one = torch.ones_like(px)[..., None]
    right = torch.cat([ax.cos(), ax.sin(), gx[..., None], one], -1)  # [B, T, W, 2K + 2]
    a = amplitude[:, None, None]
    left = torch.cat([a * ay.cos(), -a * ay.sin(), one, gy[..., None] + 0.5], -1)  # [B, T, H, 2K + 2]
    return (left @ right.transpose(-1, -2)).float().clamp_(0, 1)


def _draw(clips: Sequence[Factors], frames: int, size: int, noise: float) -> Tensor:
    """Render a chunk: the background in full, the object in a window around it."""
    count, half = len(clips), size / 2
    ends = torch.tensor([BACKGROUNDS[clip.background] for clip in clips], dtype=torch.float32)
    dark, span = ends[:, 0, :, None, None], (ends[:, 1] - ends[:, 0])[:, :, None, None]
    m = _field(clips, frames, size).reshape(count, 1, frames, size * size)
    canvas = (span * m).add_(dark)

    track = trajectory(clips, frames)
    radius = track.scale * column(clips, "size")
    window = min(size, math.ceil(2 * BOUND * half * float(radius.max())) + 3)
    centre_x, centre_y = (track.x + 1) * half - 0.5, (track.y + 1) * half - 0.5
    left, top = (
        (centre - (window - 1) / 2).round().clamp(0, size - window).long()[..., None] + torch.arange(window)
        for centre in (centre_x, centre_y)
    )
    pixel = (top[..., :, None] * size + left[..., None, :]).flatten(2)  # [B, T, N]
    dx = ((left - centre_x[..., None]) / (radius * half)[..., None]).float()[..., None, :]
    dy = ((top - centre_y[..., None]) / (radius * half)[..., None]).float()[..., :, None]
    cos, sin = track.angle.cos().float()[..., None, None], track.angle.sin().float()[..., None, None]
    x, y = cos * dx + sin * dy, cos * dy - sin * dx  # into the shape's own frame
    pixels = (radius * half).float()[..., None, None]
    body, spot = torch.empty_like(x), torch.empty_like(x)
    for shape in sorted({clip.shape for clip in clips}):
        rows = torch.tensor([i for i, clip in enumerate(clips) if clip.shape == shape])
        body[rows], spot[rows] = coverage(shape, x[rows], y[rows], pixels[rows])
    opacity = track.opacity.float()[..., None]
    body, spot = (opacity * body.flatten(2))[:, None], spot.flatten(2)[:, None]

    colour = torch.tensor([COLOURS[clip.colour] for clip in clips], dtype=torch.float32)[:, :, None, None]
    ink = torch.tensor(INK, dtype=torch.float32)[None, :, None, None]
    where = pixel[:, None].expand(-1, 3, -1, -1)
    under = canvas.gather(3, where)
    canvas.scatter_(3, where, under + body * (colour + spot * (ink - colour) - under))
    if noise:
        grain = torch.stack([torch.randn(canvas.shape[1:], generator=stream(clip.texture, "noise")) for clip in clips])
        canvas.add_(grain.mul_(255 * noise)).clamp_(0, 255)
    return canvas.add_(0.5).to(torch.uint8).reshape(count, 3, frames, size, size)


@torch.inference_mode()
def render(clips: Sequence[Factors], frames: int = 16, size: int = 64, noise: float = 0.0) -> Tensor:
    """Render clips: background line colour(m), then the shape over it, ``c = b + alpha (o - b)``.

    Args:
        clips: factors of B clips.
        frames: T >= 1.
        size: H = W in pixels, >= 16.
        noise: standard deviation of the sensor noise as a share of the full range, [0, 1].

    Returns:
        uint8 RGB ``[B, 3, T, H, W]``; clip b depends on ``clips[b]`` alone, bit for bit.

    Raises:
        InputError: ``frames``, ``size`` or ``noise`` out of range.
    """
    if frames < 1 or size < 16 or not 0 <= noise <= 1:
        raise InputError(f"cannot render frames={frames} size={size} noise={noise}: needs frames >= 1, size >= 16, noise in [0, 1]")
    video = torch.empty(len(clips), 3, frames, size, size, dtype=torch.uint8)
    chunk = max(1, 2**20 // (frames * size * size))  # about a million pixels at once stay in the cache
    for start in range(0, len(clips), chunk):
        video[start : start + chunk] = _draw(clips[start : start + chunk], frames, size, noise)
    return video


class World:
    """An endless labelled data set: clip i of ``World(seed)`` is ``render([factors(seed, i)])``.

    Args:
        seed: any whole number.
        classes: the factor that is the label: motion, shape, colour, background or camera.
        noise: sensor noise, see :func:`render`.
        fixed: factors held in every clip.
    """

    def __init__(self, seed: int = 0, classes: str = "motion", noise: float = 0.0, **fixed: Any) -> None:
        self.seed, self.label, self.noise, self.fixed = seed, choose("factor", classes, FACTORS), noise, fixed
        self.classes = FACTORS[classes]
        factors(seed, 0, **fixed)  # a wrong name is said here

    def factors(self, indices: Iterable[int]) -> list[Factors]:
        """Return the factors of the clips at ``indices``."""
        return [factors(self.seed, int(index), **self.fixed) for index in indices]

    def clips(self, indices: Iterable[int], frames: int = 16, size: int = 64) -> tuple[Tensor, list[Factors]]:
        """Return ``(uint8 [B, 3, T, H, W], factors)`` of the clips at ``indices``."""
        records = self.factors(indices)
        return render(records, frames, size, self.noise), records

    def labels(self, records: Sequence[Factors]) -> Tensor:
        """Return the class of each clip, int64 ``[B]``."""
        return torch.tensor([self.classes.index(getattr(record, self.label)) for record in records], dtype=torch.int64)


# ----------------------------------------------------------------------------------------------------------------- files


def class_name(motion: str) -> str:
    """Return the folder name of a motion, in UCF101's camel case: ``"slide"`` -> ``"Slide"``."""
    return "".join(part.capitalize() for part in motion.split("-"))


def write_clip(path: str | Path, video: Tensor, record: Mapping[str, Any] | None = None, *, fps: int = 8, crf: int = 14) -> None:
    """Write one clip as an H.264 mp4 file (yuv420p), whole or not at all; the same clip gives the same bytes.

    Args:
        path: the file.
        video: uint8 RGB ``[3, T, H, W]``, H and W even.
        record: what made the clip, JSON-ready; written first to ``<path>.json``, then into the file itself as its comment.
        fps: frames per second.
        crf: x264's constant rate factor; 14 gives about 35 dB at 64 px, most of the loss from halving the chroma.
    """
    import av

    if record is not None:
        save_json(sidecar(path), record)

    def encode(temporary: Path) -> None:
        with av.open(str(temporary), "w", format="mp4") as file:
            if record is not None:
                file.metadata["comment"] = json.dumps(record, allow_nan=False)
            # x264's macroblock tree reads memory it never wrote when frames are this small: the same clip would give other bytes
            options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0:rc-lookahead=0"}
            track = file.add_stream("libx264", rate=fps, options=options)
            track.height, track.width = video.shape[-2:]
            track.pix_fmt = "yuv420p"
            for image in video.permute(1, 2, 3, 0).contiguous().numpy():
                file.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            file.mux(track.encode())

    write_atomic(path, encode)


def write_world(
    folder: str | Path,
    *,
    seed: int = 0,
    per_class_train: int = 24,
    per_class_test: int = 12,
    frames: int = 16,
    size: int = 64,
    classes: Sequence[str] = tuple(MOTIONS),
    noise: float = 0.0,
    progress: Progress = silent,
) -> None:
    """Write a world as mp4 files in UCF101's layout; the same call goes on where an interrupted one stopped.

    The folder holds ``videos/<Class>/v_<Class>_gXX_c01.mp4`` (one clip a group: clips share nothing but the class),
    ``factors.json`` (configuration, its digest, factors and caption of each clip) and, written last, ``classInd.txt``,
    ``trainlist01.txt`` and ``testlist01.txt``. Clip j of a class has index ``j * len(MOTIONS) + motion``; train comes before test.

    Args:
        folder: where to; created when missing.
        seed: of the world.
        per_class_train, per_class_test: clips per class, >= 1.
        frames, size, noise: see :func:`render`; ``size`` even.
        classes: motions to write, in the order of their labels.
        progress: called as ``progress("world", done, total)``.

    Raises:
        InputError: a count is out of range, a class is unknown, or ``folder`` already holds another world.
    """
    if per_class_train < 1 or per_class_test < 1 or frames < 1 or size < 16 or size % 2 or not classes:
        raise InputError(
            f"cannot write a world with train={per_class_train} test={per_class_test} frames={frames} size={size}: "
            "needs at least 1 of each and one class, size even and at least 16"
        )
    classes = [choose("motion", motion, MOTIONS) for motion in classes]
    configuration = {
        "version": 1,
        "seed": seed,
        "per_class_train": per_class_train,
        "per_class_test": per_class_test,
        "frames": frames,
        "size": size,
        "classes": classes,
        "noise": noise,
    }
    key, folder = digest(configuration), ensure_folder(folder)
    mark = folder / "factors.json"
    lists: dict[str, list[str]] = {"trainlist01.txt": [], "testlist01.txt": []}
    if mark.exists():
        held = load_json(mark).get("digest")
        if held != key:
            raise InputError(f"folder {folder} holds another Motion World ({held}, asked for {key}): choose another folder or delete it")
    elif any((folder / name).exists() for name in ("videos", "classInd.txt", *lists)):
        raise InputError(f"folder {folder} holds another data set: choose an empty folder for Motion World")

    jobs: dict[str, Factors] = {}
    for label, motion in enumerate(classes, 1):
        for j in range(per_class_train + per_class_test):
            name = f"{class_name(motion)}/v_{class_name(motion)}_g{j + 1:02d}_c01.mp4"
            jobs[name] = factors(seed, j * len(MOTIONS) + list(MOTIONS).index(motion), motion=motion)
            if j < per_class_train:
                lists["trainlist01.txt"].append(f"{name} {label}")
            else:
                lists["testlist01.txt"].append(name)
    if not mark.exists():
        clips = {name: {"caption": record.caption(), **record.as_dict()} for name, record in jobs.items()}
        save_json(mark, {"world": configuration, "digest": key, "clips": clips})

    missing = [name for name in jobs if not (folder / "videos" / name).exists()]
    progress("world", len(jobs) - len(missing), len(jobs))
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(missing), 64):
            names = missing[start : start + 64]
            videos = render([jobs[name] for name in names], frames, size, noise)
            list(pool.map(write_clip, [folder / "videos" / name for name in names], videos))
            progress("world", len(jobs) - len(missing) + start + len(names), len(jobs))
    lists["classInd.txt"] = [f"{label} {class_name(motion)}" for label, motion in enumerate(classes, 1)]
    for name, lines in lists.items():
        if not (folder / name).exists():
            _write_lines(folder / name, lines)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    def fill(temporary: Path) -> None:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    write_atomic(path, fill)
