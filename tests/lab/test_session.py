"""The bench without a screen: what it answers is what the rooms below answer, byte for byte."""

import pytest
import torch

from vidistill.compress import load_distilled
from vidistill.errors import InputError
from vidistill.lab.presets import knobs_of
from vidistill.lab.session import SWEEP, Session, WorldClips

KNOBS = knobs_of("latent_vdd")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Three motions of six clips, seen through a tiny codec with random weights."""
    from diffusers import AutoencoderKL

    folder = tmp_path_factory.mktemp("session")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, **blocks).save_pretrained(
        folder
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDISTILL_CACHE", str(folder / "cache"))
        yield Session.world(codec=str(folder), per_class=6, motions=("slide", "orbit", "spin"))


def values(**own):
    return KNOBS.resolve({"instances": 2, **own})


def test_world_clips_come_in_groups_that_look_alike():
    clips = WorldClips(seed=3, per_class=6, motions=("slide", "orbit"), alike=3, size=32)
    assert len(clips) == 12
    assert clips.labels.tolist() == [0] * 6 + [1] * 6
    assert [len(set(clips.groups[i : i + 3])) for i in range(0, 12, 3)] == [1, 1, 1, 1]
    assert len(set(clips.groups)) == 4
    still = [caption.replace("sliding", "").replace("orbiting", "") for caption in clips.captions]
    assert len(set(still[:3])) == 1
    assert not torch.equal(clips.video[0], clips.video[1])  # alike, not the same
    assert torch.equal(torch.cat([video for _, video in clips.batches(5)]), clips.video)


def test_a_look_holds_together(session):
    look = session.look(values(), seed=1)
    parts = dict(look.bytes)
    assert parts.pop("total") == sum(parts.values())
    assert len(look.chosen) == 6
    assert look.clip in look.chosen.tolist()
    assert torch.equal(look.clips["original"], session.clips.video[look.clip])
    assert {clip.shape for clip in look.clips.values()} == {(3, 16, 64, 64)}
    assert look.pixels == 6 * 3 * 16 * 64 * 64
    for mode, share in look.energy.items():
        assert sum(share) == pytest.approx(1)
        assert look.ranks[mode] == max(1, int(0.75 * len(share)))
    assert look.kernel["clips"] == 6
    assert set(look.values) == set(KNOBS)
    assert look.values["size"] == 64  # what was used, not what the knob's default says


def test_the_curves_pass_through_the_present_setting(session):
    look = session.look(values(core_dtype="fp32", rank_ratio=0.5))
    assert look.curves["HOSVD fp32"][SWEEP.index(0.5)] == pytest.approx(look.stored)
    errors = [error for _, error in look.curves["HOSVD fp32"]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5


def test_the_first_picture_comes_before_the_curves(session):
    looks = [step.result for step in session.steps(values(rank_ratio=0.3)) if step.result is not None]
    assert len(looks) == 2
    assert not looks[0].curves
    assert looks[1].curves
    assert looks[0].stored == looks[1].stored


def test_what_is_saved_is_what_was_shown(session, tmp_path):
    look = session.look(values(), seed=4321)
    path = tmp_path / "distilled.safetensors"
    sizes = session.save(path, values(), seed=4321)
    assert sizes["total"] == path.stat().st_size == look.bytes["total"]
    stored = load_distilled(path)
    assert stored.names == tuple(session.latents.names[i] for i in look.chosen.tolist())
    from vidistill.codec import unpack

    place = look.chosen.tolist().index(look.clip)
    decoded = unpack(stored.codec_tensors, stored.codec).decode(stored.z[[place]], stored.frames)[0]
    assert torch.equal(decoded, look.clips["distilled"])


def test_the_clip_asked_for_is_shown_or_its_nearest_of_the_same_class(session):
    chosen = session.look(values()).chosen.tolist()
    assert session.look(values(), clip=chosen[-1]).clip == chosen[-1]
    missing = next(i for i in range(6, 12) if i not in chosen)
    shown = session.look(values(), clip=missing).clip
    assert session.latents.labels[shown] == 1
    assert abs(shown - missing) == min(abs(i - missing) for i in chosen if 6 <= i < 12)


def test_the_official_kernel_is_told_apart_from_one_that_sees(session):
    assert session.look(values(kernel="rbf-median")).kernel["blind"] == 0
    assert session.look(values(selector="random")).kernel == {}


def test_seeds_choose_and_more_than_there_is_is_an_error(session):
    picks = {tuple(session.look(values(selector="random"), seed=seed).chosen.tolist()) for seed in range(4)}
    assert len(picks) > 1
    assert session.most == 6
    with pytest.raises(InputError, match="k=7"):
        session.look(values(instances=7))


def test_svd_has_no_ranks_per_mode(session):
    assert session.look(values(decomposition="svd")).ranks == {}
