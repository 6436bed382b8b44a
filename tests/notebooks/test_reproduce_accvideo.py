"""The reproduction of AccVideo judges every card that has a toy, with networks that learn nothing."""

import pytest

from vidistill.lab.cards import load_cards
from vidistill.lab.runner import RunFailed, notebooks_dir, run_notebook
from vidistill.papers.accvideo import ARMS, KNOBS

NOTEBOOK = notebooks_dir() / "reproduce/accvideo.ipynb"


def cards_of(run):
    return {card.id for card in load_cards("accvideo") if card.run == run and not card.absent}


@pytest.mark.slow
def test_every_claim_is_judged(tmp_path):
    small = {"teacher_steps": 4, "teacher_batch": 16, "gate": 0.0, "records": 32, "path_steps": 4, "path_updates": 4, "batch": 8}
    small |= {"dmd_updates": 1, "points": 100, "seeds": 2, "few": 2, "draws": 100, "line_steps": 3, "line_batch": 8}
    small |= {"window_updates": 2, "out": str(tmp_path / "out")}
    done = run_notebook(NOTEBOOK, tmp_path / "reproduce.ipynb", small, knobs=KNOBS, timeout=600)
    found, extra = done["result"], done["result"]["extra"]
    assert {arm["name"] for arm in found["arms"]} == set(ARMS)
    assert {row["card"] for row in extra["verdicts"]} == cards_of("main")
    for row in extra["verdicts"]:
        assert row["verdict"] in ("direction holds", "direction does not hold", "cannot tell")
        assert row["difference"]["n"] == (1 if row["difference"].get("exact") else 2)
    verdicts = {row["card"].split("-", 2)[2]: row for row in extra["verdicts"]}
    assert verdicts["useless"]["difference"]["mean"] > 10  # percent; the exact field needs no training
    assert (verdicts["useless"]["arm"], verdicts["useless"]["control"]) == ("M 3", "M 0")
    assert (verdicts["useless-15"]["arm"], verdicts["useless-15"]["control"]) == ("M 1.5", "M 0")
    assert (verdicts["evaluations"]["verdict"], verdicts["evaluations"]["published"]) == ("direction holds", "matched")
    assert (verdicts["storage"]["value"]["mean"], verdicts["storage"]["against"]["mean"]) == (37_601_280, 319_610_880)  # 37.6 and 320 MB
    assert [row["setting"] for row in extra["sweeps"]["lambda"]] == ["lambda 0.01", "lambda 0.1", "lambda 1"]
    assert (tmp_path / "reproduce.ipynb").stat().st_size < 2**20


def test_a_larger_tier_is_no_notebook(tmp_path):
    with pytest.raises(RunFailed, match="tier full is no notebook: it is vidistill distill on a folder of Wan weights"):
        run_notebook(NOTEBOOK, tmp_path / "reproduce.ipynb", {"tier": "full"}, knobs=KNOBS, timeout=120)


@pytest.mark.slow
def test_every_claim_on_video_is_judged(tmp_path, tiny_dit, tiny_students):
    told = ", ".join(f"{arm}:{tiny_students['anew']}" for arm in ("accvideo", "kd", "kd-ode", "dmd"))
    small = {"world": "motion-world", "net": str(tiny_dit), "students": told, "clips": 2, "seeds": 2, "out": str(tmp_path / "out")}
    done = run_notebook(
        NOTEBOOK, tmp_path / "video.ipynb", small | {"arms": "accvideo, kd, kd-ode, dmd, teacher"}, knobs=KNOBS, timeout=600
    )
    extra = done["result"]["extra"]
    assert {row["card"] for row in extra["verdicts"]} == cards_of("video")
    assert {row["difference"]["n"] for row in extra["verdicts"]} == {2}
    assert {row["verdict"] for row in extra["verdicts"]} == {"cannot tell"}  # of two seeds
    assert extra["sweeps"] == {}
