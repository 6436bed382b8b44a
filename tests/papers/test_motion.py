"""Few-step students on Motion World with models that know nothing: arms, pairing, captions, what is left out, runs that resume, errors."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from vidistill.errors import Cancelled, InputError
from vidistill.papers import accvideo, dfd, motion
from vidistill.rng import stream_seed
from vidistill.sample import generate, load_denoiser


@pytest.fixture
def few(tiny_students):
    """A student of four steps with the weights of its teacher."""
    return tiny_students["anew"]


@pytest.fixture
def go(tiny_dit, few, tmp_path, monkeypatch):
    for paper in (dfd, accvideo):
        short = {name: motion.Film(film.role, film.model, min(film.steps, 3), film.renoise) for name, film in paper.FILMS.items()}
        monkeypatch.setattr(paper, "FILMS", short)

    def run(paper, arms, progress=lambda *_: None, students=None, **knobs):
        told = f"{arms.split(',')[0]}:{few}" if students is None else students
        values = {"world": "motion-world", "net": str(tiny_dit), "students": told, "arms": arms, "clips": 4, "seeds": 2} | knobs
        return paper.run(values, None, tmp_path / "out", progress=progress)

    return run


def by_name(report):
    return {arm["name"]: arm for arm in report.arms}


def test_students_stand_beside_their_teacher(go, few, tiny_dit) -> None:
    report = go(dfd, "dfd, teacher")
    arms = by_name(report)
    json.dumps(report.as_dict(), allow_nan=False)
    assert set(arms) == {"dfd", "teacher", "teacher-few"}  # the last one is always there
    for arm in arms.values():
        assert arm["clips"] == 4
        assert all(
            arm[name]["n"] == 2 for name in ("score", "difference", "fidelity", "drift", "saturation", "contrast", "camera", "sampling")
        )
        assert 0 <= arm["score"]["mean"] <= 100
    assert {name: arm["evaluations"] for name, arm in arms.items()} == {"dfd": 4, "teacher": 6, "teacher-few": 6}  # the teacher is guided
    assert (report.score.control, arms["teacher-few"]["difference"]["mean"]) == ("teacher-few", 0)
    assert any(note.startswith("more-dmd: left out") and "students=more-dmd:FOLDER" in note for note in report.notes)


def test_what_is_judged_is_what_the_model_samples(go, few, tmp_path, monkeypatch) -> None:
    seen = []
    judge = motion.mode_numbers
    monkeypatch.setattr(motion, "mode_numbers", lambda video, *rest, **how: seen.append((video, rest[1])) or judge(video, *rest, **how))
    go(accvideo, "accvideo", seeds=1)
    model, (video, prompts) = load_denoiser(few), seen[0]
    seeds = [stream_seed(0, "clip", row) % 2**31 for row in range(4)]
    own = model.codec.decode(generate(model, prompts, seeds=seeds).half().float(), model.frames, size=model.size)
    assert (own.int() - video.int()).abs().max() <= 1


def test_the_rule_of_renoising_is_the_arms(go, few) -> None:
    report = go(accvideo, "kd, kd-ode", students=f"kd:{few}, kd-ode:{few}")
    arms = by_name(report)
    assert arms["kd"]["contrast"]["values"] != arms["kd-ode"]["contrast"]["values"]


def test_a_value_that_every_prompt_asks_for(go) -> None:
    arms = by_name(go(dfd, "dfd", rare="white"))
    assert all(0 <= arm["rare"]["mean"] <= 100 for arm in arms.values())
    assert by_name(go(dfd, "dfd"))["dfd"]["rare"] is None
    with pytest.raises(InputError, match="did you mean 'white'"):
        go(dfd, "dfd", rare="whit")


def test_an_interrupted_run_resumes(go, cut_at) -> None:
    whole = go(dfd, "dfd", seeds=1)
    with pytest.raises(Cancelled):
        go(dfd, "dfd", seeds=2, progress=cut_at(6))
    again = go(dfd, "dfd", seeds=2)
    assert by_name(again)["dfd"]["score"]["values"][:1] == by_name(whole)["dfd"]["score"]["values"]


def test_bad_students_are_one_line(go, tiny_dit) -> None:
    with pytest.raises(InputError, match="has no times"):
        go(dfd, "dfd", students=f"dfd:{tiny_dit}")
    with pytest.raises(InputError, match=r"'dfdd:x'.*did you mean 'dfd'"):
        go(dfd, "dfd", students="dfdd:x")
    with pytest.raises(InputError, match="must be arm:folder"):
        go(dfd, "dfd", students="dfd=x")


def test_another_autoencoder_is_refused(go, few, tmp_path) -> None:
    other = shutil.copytree(few, tmp_path / "other")  # with its own copy of the autoencoder
    weights = next((other / "vae").glob("*.safetensors"))
    save_file({name: tensor * 1.01 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(InputError, match="another autoencoder"):
        go(dfd, "dfd", students=f"dfd:{other}")
