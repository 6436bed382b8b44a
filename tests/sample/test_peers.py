"""Guiders in the sampler: given what their papers give them, for both families, with a teacher, on a tape."""

from __future__ import annotations

import pytest
import torch

from vidistill.errors import InputError
from vidistill.guide import PEERS, Apg, Cfg, CfgPlus, CfgZero, Switch, Tcfg, way
from vidistill.rng import normal
from vidistill.sample import Teacher, fork, load_denoiser, load_tape, record, sample
from vidistill.sample.tape import facts_of, guidance_of
from vidistill.schedule import First, Interval

PROMPTS = ["a red star orbiting over a navy background", "a blue ring falling, still camera"]
FAMILIES = ["tiny_unet", "tiny_dit"]


def steps_of(model, guidance, rows: slice = slice(None), **options):
    return list(sample(model, PROMPTS[rows], seeds=[3, 4][rows], **({"steps": 3} | options), guidance=guidance))


@pytest.mark.parametrize("kind", PEERS)
@pytest.mark.parametrize("which", FAMILIES)
def test_one_is_no_guidance_bit_for_bit(kind, which, request) -> None:
    model = load_denoiser(request.getfixturevalue(which))
    off, plain = steps_of(model, PEERS[kind](1.0)), steps_of(model, 1.0)
    assert torch.equal(off[-1].latents, plain[-1].latents)
    assert [step.evaluations for step in off] == [1, 2, 3]


@pytest.mark.parametrize("kind", PEERS)
@pytest.mark.parametrize("which", FAMILIES)
def test_a_clip_alone_is_the_clip_of_a_batch(kind, which, request) -> None:
    model = load_denoiser(request.getfixturevalue(which))
    both = steps_of(model, PEERS[kind](4.0))[-1]
    alone = steps_of(model, PEERS[kind](4.0), slice(1, 2))[-1].latents
    assert (both.latents[1] - alone[0]).abs().max() <= 1e-4 * alone.abs().max()
    assert both.evaluations == 6
    assert not torch.allclose(both.latents, steps_of(model, 4.0)[-1].latents, atol=1e-3)


@pytest.mark.parametrize("which", FAMILIES)
def test_apg_is_of_clean_videos(which, request) -> None:
    """What it adds to the clean video of the prompt is what CFG adds, less the part along that video."""
    model = load_denoiser(request.getfixturevalue(which))
    plain, cfg, apg = (steps_of(model, guidance)[0].x0.flatten(1).double() for guidance in (1.0, 4.0, Apg(4.0)))
    added = cfg - plain
    unit = plain / plain.norm(dim=1, keepdim=True)
    along = (added * unit).sum(1, keepdim=True) * unit
    assert bool((along.norm(dim=1) > 1e-2 * added.norm(dim=1)).all())
    assert ((apg - plain) - (added - along)).abs().max() <= 1e-4 * added.abs().max()
    whole = steps_of(model, Apg(4.0, eta=1.0))[-1].latents
    torch.testing.assert_close(whole, steps_of(model, 4.0)[-1].latents, rtol=1e-3, atol=1e-3)


def test_a_flow_rests_and_a_model_of_noise_does_not(tiny_dit, tiny_unet) -> None:
    flow, noise = load_denoiser(tiny_dit), load_denoiser(tiny_unet)
    first, second, _ = steps_of(flow, CfgZero(4.0))
    start = normal([3, 4], "init", flow.shape)
    assert torch.equal(first.latents, start)
    assert not torch.equal(second.latents, start)
    assert torch.equal(steps_of(noise, CfgZero(4.0))[-1].latents, steps_of(noise, CfgZero(4.0, zero=0))[-1].latents)
    with pytest.raises(InputError, match="none is left"):
        steps_of(flow, CfgZero(4.0), steps=1)
    tape = record(flow, PROMPTS, seeds=[3, 4], steps=3, guidance=CfgZero(4.0))
    assert torch.equal(list(fork(flow, tape, 1))[-1].latents, tape.latents[-1])  # what rested is not gone through again


@pytest.mark.parametrize("kind", PEERS)
@pytest.mark.parametrize("names", [("tiny_unet", "tiny_dit"), ("tiny_dit", "tiny_unet")])
def test_a_teacher_is_guided_by_them(kind, names, request) -> None:
    base, teacher = (load_denoiser(request.getfixturevalue(name)) for name in names)
    one = PEERS[kind](4.0)
    guide = Teacher(teacher, base, PROMPTS, beta=0.0, tau=1, guidance=one, interval=First(1))
    options = {"seeds": [3, 4], "steps": 3, "guidance": CfgPlus(0.8)}
    step = next(sample(base, PROMPTS, operators=[guide], **options))
    x0 = next(sample(base, PROMPTS, **options)).x0
    with torch.inference_mode():
        now = teacher.like(base.grid(3)[0][0])
        z = now.alpha * x0 + now.sigma * normal([3, 4], "teacher/0", base.shape)
        u, c = teacher.predict(z, now, teacher.encode(PROMPTS), teacher.encode(["", ""]))
        if kind == "apg":
            expected = one.combine(teacher.clean(z, u, now), teacher.clean(z, c, now))[0]
        else:
            expected = teacher.clean(z, one.combine(u, c)[0], now)
    torch.testing.assert_close(step.x0, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert guide.evaluations == 2


@pytest.mark.parametrize(
    "guidance",
    [
        Cfg(2.0),
        CfgPlus(0.8),
        CfgZero(2.0, zero=2),
        Apg(3.0, eta=0.2, radius=4.0),
        Tcfg(2.0),
        Switch(way("apg", 3.0, 0.8), CfgZero(2.0, zero=0), First(2)),
        Switch(CfgPlus(0.7), Tcfg(2.0), Interval(1000, 900)),
    ],
    ids=str,
)
def test_a_tape_keeps_every_way(tiny_dit, tmp_path, guidance) -> None:
    assert guidance_of(facts_of(guidance)) == guidance
    model = load_denoiser(tiny_dit)
    record(model, PROMPTS, seeds=[1, 2], steps=4, guidance=guidance).save(tmp_path / "run.safetensors")
    again = load_tape(tmp_path / "run.safetensors")
    assert guidance_of(again.settings["guidance"]) == guidance
    torch.testing.assert_close(list(fork(model, again, 2))[-1].latents, again.latents[-1])


def test_a_tape_of_an_unknown_way_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^unknown way to combine outputs 'pag': [^\n]*$"):
        guidance_of({"kind": "pag", "scale": 2.0})
