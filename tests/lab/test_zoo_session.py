"""The zoo's bench: words are checked before anything runs, clips are the sampler's own, readings are the parser's."""

import json
from itertools import pairwise

import pytest
import torch

from vidistill.data.parse import parse
from vidistill.data.world import FACTORS, factors, render
from vidistill.errors import InputError
from vidistill.lab import zoo_session
from vidistill.lab.previews import BUDGET, Preview
from vidistill.lab.train.captions import clip_tokenizer, t5_tokenizer, words
from vidistill.lab.zoo_session import KNOBS, PROMPT, Take, ZooSession, asked, check_words, compose, named, read
from vidistill.sample.words import vocabulary

FEW = {"steps": 3, "guidance": 2.0, "seed": 5}


@pytest.fixture(scope="module")
def session(tiny_dit, tiny_unet):
    return ZooSession({"dit": tiny_dit, "unet": tiny_unet})


@pytest.fixture(scope="module", params=[clip_tokenizer, t5_tokenizer])
def tokenizer(request):
    return request.param()


def test_composed_prompts_are_the_captions_and_are_read_back():
    for index in range(60):
        clip = factors(4, index)
        said = {factor: getattr(clip, factor) for factor in FACTORS}
        assert compose(said) == clip.caption()
        for left_out in FACTORS:
            part = {factor: value for factor, value in said.items() if factor != left_out}
            assert asked(compose(part)) == part
    assert compose({"colour": "orange", "motion": "fall"}) == "an orange shape falling"
    assert asked("") == {}
    assert asked("Spin") == {"motion": "spin"}
    with pytest.raises(InputError, match="did you mean 'purple'"):
        compose({"colour": "purpel"})


def test_the_tokenizers_know_the_words_of_the_world(tokenizer):
    assert vocabulary(tokenizer) == {word for word in words() if word.isalpha()}
    for index in range(30):
        assert check_words(factors(9, index).caption(), tokenizer, "m")


def test_an_unknown_word_is_named_with_the_nearest_known_one(tokenizer):
    assert check_words("  A  Purple\tStar orbiting ", tokenizer, "m") == "a purple star orbiting"
    assert check_words("", tokenizer, "m") == ""
    with pytest.raises(InputError) as raised:
        check_words("a purpel star and a dragonn x", tokenizer, "lab-dit")
    line = str(raised.value)
    assert "lab-dit does not know 'purpel' (nearest known word: 'purple'), 'and' (nearest" in line
    assert "'dragonn'" in line
    assert "'x'" in line  # a letter is spelling, not a word
    assert "'star'" not in line
    assert "\n" not in line


def test_a_prompt_beyond_the_tokenizer_is_refused(tokenizer):
    with pytest.raises(InputError, match=r"too long for m: \d+ tokens, it reads 20"):
        check_words("a red star " * 9, tokenizer, "m")


def test_a_take_is_the_samplers_clip_and_the_parsers_reading(session, tiny_dit):
    from vidistill import zoo
    from vidistill.sample import generate

    (take,) = session.takes(PROMPT, ["dit"], FEW)
    model = zoo.load(tiny_dit)
    clip = model.codec.decode(generate(model, [PROMPT], seeds=[5], steps=3, guidance=2.0), 16)
    assert torch.equal(take.clip, clip[0])
    assert [reading.seen for reading in take.readings] == list(parse(clip).records()[0].values())
    assert take.evaluations == 6
    assert take.seconds > 0
    assert take.preview_seconds == 0
    assert json.loads(json.dumps(take.as_dict()))["prompt"] == PROMPT


def test_the_true_clip_reads_right_and_a_jump_is_counted():
    clip = factors(4, 0, motion="orbit", shape="star", colour="purple", background="forest", camera="pan-left")
    video = render([clip])[0].clone()
    readings = {reading.factor: reading for reading in read(video, clip.caption())}
    assert all(reading.right for reading in readings.values())
    assert readings["colour"].frames == (16, 16)
    assert readings["motion"].frames is None
    (other,) = render([factors(4, 0, motion="orbit", shape="star", colour="yellow", background="forest", camera="pan-left")])
    video[:, 12:] = other[:, 12:]
    readings = {reading.factor: reading for reading in read(video, "a yellow star")}
    assert (readings["colour"].seen, readings["colour"].right, readings["colour"].frames) == ("purple", False, (12, 16))
    assert readings["shape"].right is True
    assert readings["camera"].right is None
    nothing = {reading.factor: reading for reading in read(torch.full_like(video, 40), "a yellow star")}
    assert (nothing["colour"].seen, nothing["colour"].right, nothing["colour"].frames) == ("hidden", False, (0, 0))


def test_models_are_loaded_once_and_share_the_noise(session, monkeypatch):
    loads = []
    load = zoo_session.zoo.load
    monkeypatch.setattr(zoo_session.zoo, "load", lambda *a, **k: loads.append(a) or load(*a, **k))
    fresh = ZooSession(dict(session._places))
    fresh.takes("spin", ["dit", "unet"], FEW)
    fresh.takes("spin", ["unet"], FEW)
    assert len(loads) == 2


def test_steps_come_one_by_one_with_previews_and_takes(session):
    steps = list(session.steps(PROMPT, ["dit", "unet"], FEW | {"steps": 4}))
    assert [step.stage for step in steps[:2]] == ["load dit", "load unet"]  # both before the first is sampled
    assert [step.done for step in steps if step.stage == "unet, step"] == [1, 2, 3, 4, 4]
    takes = [step.result for step in steps if isinstance(step.result, Take)]
    assert [take.model for take in takes] == ["dit", "unet"]
    previews = [step.result for step in steps if isinstance(step.result, Preview)]
    assert {preview.picture.shape for preview in previews} == {(3, 64, 64)}
    assert all(1 <= preview.step < 4 and preview.frame == 8 for preview in previews)


def test_previews_keep_to_their_budget(tiny_dit, monkeypatch):
    """A decoder ten times slower than a step must not slow the run: previews wait until they are paid for."""
    from types import SimpleNamespace

    import vidistill.sample

    now = [0.0]
    monkeypatch.setattr(zoo_session.time, "perf_counter", lambda: now[0])
    session = ZooSession({"dit": tiny_dit})
    codec = session.load("dit").codec
    decode = codec.decode

    def slow(z, frames, **how):
        now[0] += 0.05 * z.shape[2]
        return decode(z, frames, **how)

    def sample(model, prompts, *, seeds, steps, guidance):
        for k in range(steps):
            x = torch.zeros(1, *model.shape)
            yield SimpleNamespace(index=k, steps=steps, x0=x, latents=x, evaluations=2 * k + 2, seconds=0.1 * (k + 1))

    monkeypatch.setattr(codec, "decode", slow)
    monkeypatch.setattr(vidistill.sample, "sample", sample)
    runs = [list(session.steps("spin", ["dit"], {"steps": 50})) for _ in range(2)]
    for steps in runs:
        at = [step.result.step for step in steps if isinstance(step.result, Preview)]
        assert len(at) > 2
        assert all(b - a >= 10 for a, b in pairwise(at))  # 0.05 s are 5 % of ten steps
    second = runs[1][-1].result
    assert second.preview_seconds <= BUDGET * 0.1 * 50
    assert runs[0][1].result is not None  # the very first one is shown at once: its cost is not known
    assert second.seconds == pytest.approx(0.1 * 50 + 0.05 * 16)  # previews are not counted as sampling


def test_nothing_runs_on_bad_input(session, tiny_dit, tmp_path):
    for models, prompt, values, line in (
        (["dit"], "a purpel star", FEW, "nearest known word: 'purple'"),
        (["dit", "lab-nothing"], PROMPT, FEW, "unknown model 'lab-nothing'"),
        (["dit"], PROMPT, {"guidance": 13}, r"must be a number in \[1, 12\]"),
    ):
        seen = []
        with pytest.raises(InputError, match=line):
            seen.extend(step.stage for step in session.steps(prompt, models, values))
        assert "dit, step" not in seen
    broken = ZooSession({"broken": tmp_path, "vae": "lab-vae"})
    with pytest.raises(InputError, match="holds no model"):
        broken.takes("spin", ["broken"], FEW)
    with pytest.raises(InputError, match="no text-to-video model but a Codec"):
        broken.load("vae")


def test_own_settings_and_card(session, tmp_path):
    assert session.own("dit") == {"steps": 4, "guidance": 3.0}
    assert session.card("dit") == ""
    (tmp_path / "README.md").write_text("# mine\n")
    (tmp_path / "sampling.json").write_text('{"steps": 400, "guidance": 0.5}')
    other = ZooSession({"mine": tmp_path})
    assert other.card("mine") == "# mine\n"
    assert other.own("mine") == {"steps": 50, "guidance": 1.0}
    assert ZooSession().names == list(zoo_session.MODELS)
    assert set(KNOBS) == {"steps", "guidance", "seed"}


def test_models_from_one_line():
    assert named("lab-dit, mine=/runs/x/model, /runs/lab-y") == {"lab-dit": "lab-dit", "mine": "/runs/x/model", "lab-y": "/runs/lab-y"}
    assert named("") == {}
    with pytest.raises(InputError, match="called 'model'"):
        named("/a/model, /b/model")


def test_a_forecast_is_the_weights_that_are_not_loaded(tiny_dit, tiny_unet):
    from diffusers import AutoencoderKL

    session = ZooSession({"dit": tiny_dit, "unet": tiny_unet})
    parts = [*session.load("dit").parts.values(), AutoencoderKL.from_pretrained(tiny_dit / "vae")]
    numbers = sum(one.numel() for part in parts for one in part.parameters())
    assert session.forecast("dit") == 0
    assert ZooSession({"dit": tiny_dit}).forecast("dit", "dit") == pytest.approx(4 * numbers, rel=0.01)
    assert session.forecast("dit", "unet") == session.forecast("unet") > 0
