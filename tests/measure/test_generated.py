"""Metrics of generated clips on clips whose truth is known."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from vidistill.data.parse import parse
from vidistill.data.world import factors, render
from vidistill.errors import InputError
from vidistill.measure import generated as g


@cache
def real():
    """Two dozen clips, their factors and what the parser sees."""
    wanted = [factors(8, i) for i in range(24)]
    video = render(wanted)
    return wanted, video, parse(video)


def test_wilson_share():
    half = g.share([True, False] * 50)
    assert (half["mean"], half["n"]) == (0.5, 100)
    assert (half["low"], half["high"]) == pytest.approx((0.40383, 0.59617), abs=1e-5)  # R: prop.test(50, 100, correct = FALSE)
    whole = g.share(torch.ones(10, dtype=torch.bool))
    assert (whole["mean"], whole["high"]) == (1, 1)
    assert whole["low"] == pytest.approx(10 / (10 + g.Z**2))
    assert g.share([])["mean"] is None


def test_average_leaves_clips_without_a_value_out():
    found = g.average(torch.tensor([1.0, math.nan, 3.0]))
    assert (found["mean"], found["n"]) == (2, 2)
    assert found["low"] < 2 < found["high"]
    assert "values" not in found
    assert g.average(torch.tensor([math.nan]))["mean"] is None


def test_quantiles_and_their_ranks():
    found = g.quantile(torch.arange(101).flip(0), 0.5)
    assert found["mean"] == 50
    assert (found["low"], found["high"]) == (40, 61)  # ranks 50.5 -+ 1.96 sqrt(25.25)
    assert g.quantile(torch.arange(101), 0.0) == {"mean": 0, "low": None, "high": None, "n": 101}
    assert g.quantile(torch.arange(9), 0.05)["low"] is None


def test_ratio_of_pairs():
    x = torch.rand(200, generator=torch.Generator().manual_seed(0)).double()
    assert g.ratio(x, x) == {"mean": 1, "low": 1, "high": 1, "n": 200}
    twice = g.ratio(2 * x, x)
    assert (twice["low"], twice["high"]) == pytest.approx((2, 2))
    loose = g.ratio(x.flip(0), x)
    assert loose["low"] < 0.97 < 1 < 1.03 < loose["high"]
    assert loose == g.ratio(x.flip(0), x)  # the draws are named
    zero = torch.zeros(5)
    assert g.ratio(zero, zero)["mean"] == 1
    assert g.ratio(zero + 1, zero)["mean"] is None
    assert g.ratio(torch.tensor([1.0, math.nan]), torch.tensor([2.0, 5.0]))["mean"] == 0.5
    one_in_five = torch.tensor([1.0, 0, 0, 0, 0])
    assert g.ratio(zero + 1, one_in_five)["high"] is None  # some rounds have no reference at all
    with pytest.raises(InputError, match="one reference a clip"):
        g.ratio(zero, zero[:2])


def test_ratio_of_means_taken_apart():
    a, b = ({"mean": mean, "std": 1.0, "n": 400} for mean in (3.0, 1.0))
    found = g.ratio_of_means(a, b)
    half = g.Z * 0.05 * math.sqrt(1 / 9 + 1)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((3, 3 * math.exp(-half), 3 * math.exp(half)))
    assert g.ratio_of_means(a, b | {"mean": 0.0})["mean"] is None
    assert g.ratio_of_means(a | {"mean": 0.0}, b) == {"mean": 0, "low": None, "high": None, "n": 400}


def test_true_clips_have_full_fidelity_and_coverage():
    wanted, _, parsed = real()
    answers = parsed.records()
    assert {name: row["mean"] for name, row in g.fidelity(answers, wanted).items()} == dict.fromkeys(
        ("motion", "shape", "colour", "background", "camera", "together"), 1.0
    )
    for row in g.coverage(answers, wanted).values():
        assert row["values"] == {"mean": 1, "low": 1, "high": 1, "n": 24}
        assert row["distance"] == {"mean": 0, "low": 0, "high": 0, "n": 24}
    assert g.confusions(answers, wanted, "motion") == []


def test_a_wrong_answer_is_seen_where_it_is():
    wanted, _, parsed = real()
    asked = [replace(clip, colour="red") for clip in wanted]
    found = g.fidelity(parsed.records(), asked)
    red = sum(clip.colour == "red" for clip in wanted)
    assert found["colour"]["mean"] == found["together"]["mean"] == pytest.approx(red / 24)
    assert found["motion"]["mean"] == 1
    by_value = g.fidelity_by_value(parsed.records(), asked)
    assert by_value["colour"].keys() == {"red"}
    assert by_value["colour"]["red"]["n"] == 24
    covered = g.coverage(parsed.records(), asked)["colour"]
    assert covered["distance"]["mean"] == pytest.approx(1 - red / 24)
    worst = g.confusions(parsed.records(), asked, "colour", top=1)[0]
    assert (worst["asked"], worst["of"]) == ("red", 24)
    assert worst["clips"] == max(sum(clip.colour == name for clip in wanted) for name in {clip.colour for clip in wanted} - {"red"})


def test_a_lost_value_is_not_covered():
    wanted = [replace(factors(8, i), shape=("star", "ring")[i % 2]) for i in range(8)]
    answers = [{"shape": "ring"}] * 8
    found = g.coverage(answers, wanted)["shape"]
    assert found["values"]["mean"] == 0.5
    assert found["distance"]["mean"] == 0.5
    assert g.fidelity(answers, wanted).keys() == {"shape"}
    assert g.coverage([{"shape": "hidden"}] * 8, wanted)["shape"]["distance"]["mean"] == 1


def test_answers_and_clips_must_match():
    wanted, _, parsed = real()
    for call in (g.fidelity, g.fidelity_by_value, g.coverage):
        with pytest.raises(InputError, match="one answer a clip"):
            call(parsed.records()[:3], wanted)


def test_spread_of_the_clips_themselves_and_of_clips_in_one_place():
    wanted, _, parsed = real()
    same = g.spread(parsed, parsed, wanted)
    assert {name: row["mean"] for name, row in same.items()} == {"x": 1, "y": 1, "radius": 1}
    middle = [replace(clip, x=0.0, y=0.0) for clip in wanted]
    centred = g.spread(parse(render(middle)), parsed, wanted)
    assert centred["x"]["high"] < 0.8
    assert centred["radius"]["mean"] == pytest.approx(1, abs=0.15)


def test_drift_counts_the_frames_that_changed():
    wanted, video, parsed = real()
    rows = [i for i, clip in enumerate(wanted) if clip.motion != "blink"][:4]
    clean = g.drift(parsed)
    assert all(clean["any"][i] == 0 for i in rows)
    other = render([replace(wanted[i], colour="cyan" if wanted[i].colour != "cyan" else "red") for i in rows])
    mixed = torch.cat([video[rows][:, :, :12], other[:, :, 12:]], 2)
    found = g.drift(parse(mixed))
    assert found["colour"].tolist() == [0.25] * 4
    assert found["any"].tolist() == [0.25] * 4
    assert found["shape"].tolist() == found["background"].tolist() == [0] * 4
    elsewhere = render([replace(wanted[i], background="brown" if wanted[i].background != "brown" else "navy") for i in rows])
    assert g.drift(parse(torch.cat([video[rows][:, :, :10], elsewhere[:, :, 10:]], 2)))["background"].tolist() == [0.375] * 4
    assert g.ratio(found["any"], clean["any"][rows])["mean"] is None  # real clips without drift are no reference


def test_drift_of_an_empty_clip_is_not_a_number():
    _, video, _ = real()
    empty = video[:1, :, :1, :1, :1].expand(1, 3, 16, 64, 64).contiguous()
    parsed = parse(empty)
    assert g.drift(parsed)["any"].isnan().all()
    assert g.feature_drift(torch.ones(1, 16, 2), parsed).isnan().all()
    assert g.average(g.drift(parsed)["any"])["n"] == 0


def test_feature_drift():
    wanted, _, parsed = real()
    row = next(i for i, clip in enumerate(wanted) if clip.motion != "blink")
    one = type(parsed)(**{name: value[row : row + 1] for name, value in vars(parsed).items()})
    features = torch.zeros(1, 16, 2)
    features[..., 0] = 3
    assert g.feature_drift(features, one).tolist() == pytest.approx([0], abs=1e-12)
    features[:, 8:] = torch.tensor([0.0, 3.0])
    assert g.feature_drift(features, one).tolist() == pytest.approx([1 - math.sqrt(0.5)])
    with pytest.raises(InputError, match="feature drift"):
        g.feature_drift(features[:, :3], one)


def test_contrast_and_saturation_of_known_pixels():
    video = torch.zeros(2, 3, 2, 4, 4, dtype=torch.uint8)
    video[0, :, :, :2] = 255  # half white, half black
    video[1, 0] = 200
    video[1, 1] = 50
    assert g.contrast(video).tolist() == pytest.approx([0.5, 0], abs=0.01)
    assert g.saturation(video).tolist() == pytest.approx([0, 1])
    with pytest.raises(InputError, match="uint8"):
        g.contrast(video.float())


def test_a_grey_copy_is_less_saturated_and_a_faded_one_has_less_contrast():
    _, video, _ = real()
    grey = video.float().mean(1, keepdim=True)
    half = ((video + grey) / 2).round().to(torch.uint8)
    assert g.ratio(g.saturation(half), g.saturation(video))["high"] < 0.75
    assert g.ratio(g.saturation(video), g.saturation(video))["mean"] == 1
    faded = (video // 2) + 60
    assert g.ratio(g.contrast(faded), g.contrast(video))["mean"] == pytest.approx(0.5, abs=0.01)


def test_nearest_training_clip(monkeypatch):
    monkeypatch.setattr(g, "BANK_SLICE", 7)
    bank = torch.randn(30, 4, 2, 3, 3, generator=torch.Generator().manual_seed(1)).half()
    some = torch.cat([bank[[3, 29]].float(), torch.randn(5, 4, 2, 3, 3, generator=torch.Generator().manual_seed(2))])
    found = g.nearest(some, bank)
    brute = (some[:, None] - bank[None].float()).square().mean((2, 3, 4, 5)).sqrt().sort(1).values[:, :2]
    assert found[:2, 0].tolist() == [0, 0]
    assert torch.allclose(found, brute, atol=1e-5)
    with pytest.raises(InputError, match="two training clips"):
        g.nearest(some, bank[:1])


def test_copies_are_told_from_near_clips():
    held_out = torch.tensor([[1.0, 1.1], [2.0, 2.1]])
    copies = g.memorisation(torch.tensor([[0.0, 1.0], [0.9, 1.0], [1.5, 1.6], [1.5, 1.6]]), held_out)
    assert copies["nearer"]["mean"] == 0.5
    assert copies["copies"]["mean"] == 0.25
    assert copies["copies_held_out"]["mean"] == 0
    assert copies["generated"]["0%"]["mean"] == 0
    assert copies["held_out"]["50%"]["mean"] == 1.5
