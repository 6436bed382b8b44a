"""The film is what was given: same frames, same order, side by side."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from vidistill.widgets.player import GAP, SCALE, Player, apng, film, labelled, mp4, png


@pytest.fixture
def clips():
    t = torch.arange(6).view(1, 6, 1, 1)
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    red = torch.cat([(40 * t).expand(1, 6, 16, 16), (8 * y).expand(1, 6, 16, 16), (8 * x).expand(1, 6, 16, 16)]).byte()
    return {"original": red, "distilled": 255 - red}


def test_film_keeps_pixels_and_order(clips):
    frames = film(clips)
    assert frames.shape == (6, 32, 64 + GAP, 3)
    left = frames[:, ::SCALE, :32:SCALE]
    assert np.array_equal(left, clips["original"].permute(1, 2, 3, 0).numpy())
    right = frames[:, ::SCALE, 32 + GAP :: SCALE]
    assert np.array_equal(right, clips["distilled"].permute(1, 2, 3, 0).numpy())


def test_mp4_plays_all_frames(clips):
    import av

    frames = film(clips)
    with av.open(io.BytesIO(mp4(frames, fps=8))) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 8
        back = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 6


def test_the_same_film_is_the_same_bytes_whatever_is_left_in_memory():
    """MALLOC_PERTURB_ fills new memory: an encoder that reads what it never wrote gives other bytes."""
    code = (
        "import hashlib\nfrom vidistill.data.world import factors, render\nfrom vidistill.widgets.player import film, mp4\n"
        "clips = render([factors(0, i) for i in range(3)], frames=16, size=32)\n"
        "print(hashlib.sha256(mp4(film(dict(zip('abc', clips))))).hexdigest())"
    )
    films = set()
    for fill in ("0", "37"):
        environment = {**os.environ, "MALLOC_PERTURB_": fill}
        films.add(subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(films) == 1


def test_apng_is_a_png_that_moves(clips):
    from PIL import Image

    pictures = labelled(film(clips), list(clips))
    data = apng(pictures, fps=8)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    picture = Image.open(io.BytesIO(data))
    assert picture.n_frames == 6
    assert picture.info["duration"] == pytest.approx(125)
    for k in (0, 5):
        picture.seek(k)
        difference = np.abs(np.asarray(picture.convert("RGB")).astype(int) - np.asarray(pictures[k]))
        assert difference.mean() < 12  # one palette of 255 colours
    assert len(data) < 60_000


def test_labels_are_burnt_into_the_static_twin(clips):
    plain = film(clips)
    picture = np.asarray(labelled(plain, ["original", "distilled"])[0])
    assert picture.shape[0] == 32 + 22
    assert np.array_equal(picture[:32], plain[0])
    assert (picture[32:] < 128).any()


def test_player_plays_stops_and_scrubs(clips):
    player = Player()
    player.load(clips, alt='two clips, "side by side"')
    assert "<video" in player._screen.object
    assert "&quot;side by side&quot;" in player._screen.object
    player._slider.value = 4
    assert not player.playing
    assert player.frame == 4
    assert "<img" in player._screen.object
    assert 'alt="two clips' in player._screen.object
    first = player._screen.object
    player._slider.value = 5
    assert player._screen.object != first
    player._toggle.clicks += 1
    assert player.playing
    assert "<video" in player._screen.object


def test_still_is_the_frame_asked_for(clips):
    player = Player()
    player.load(clips)
    assert player.still(2) == png(labelled(film(clips)[2:3], list(clips))[0])
    assert player.still(2) != player.still(3)


def test_a_shorter_clip_moves_the_frame_back(clips):
    player = Player()
    player.load(clips)
    player._slider.value = 5
    player.load({name: clip[:, :3] for name, clip in clips.items()})
    assert player.frame == 2
