"""The reproduction of Data-Forcing Distillation judges every card that has a toy, with networks that learn nothing."""

import pytest

from vidistill.lab.cards import load_cards
from vidistill.lab.runner import RunFailed, notebooks_dir, run_notebook
from vidistill.papers.dfd import ARMS, GUIDED, KNOBS

NOTEBOOK = notebooks_dir() / "reproduce/dfd.ipynb"


def cards_of(run):
    return {card.id for card in load_cards("dfd") if card.run == run and not card.absent}


@pytest.mark.slow
def test_every_claim_is_judged(tmp_path):
    small = {"teacher_steps": 4, "teacher_batch": 16, "gate": 0.0, "records": 32, "path_steps": 4, "path_updates": 4, "batch": 8}
    small |= {"updates": 2, "branch": 2, "points": 100, "seeds": 2, "few": 2, "short": 1, "guided_updates": 2, "guided_branch": 1}
    small |= {"batches": "4, 8", "easy_steps": 3}
    done = run_notebook(NOTEBOOK, tmp_path / "reproduce.ipynb", small | {"out": str(tmp_path / "out")}, knobs=KNOBS, timeout=600)
    found, extra = done["result"], done["result"]["extra"]
    assert {arm["name"] for arm in (*found["arms"], *extra["others"]["wide"])} == ARMS.keys() - set(GUIDED)
    assert {row["card"] for row in extra["verdicts"]} == cards_of("main")
    for row in extra["verdicts"]:
        assert row["verdict"] in ("direction holds", "direction does not hold", "cannot tell")
        assert row["difference"]["n"] == (1 if row["difference"].get("exact") else 2)
    verdicts = {row["card"].split("-", 2)[2]: row for row in extra["verdicts"]}
    assert (verdicts["iterations-cost"]["value"]["mean"], verdicts["iterations-cost"]["published"]) == (100, "matched")
    assert (verdicts["forced-look"]["arm"], verdicts["forced-look"]["control"]) == ("p 0.5", "p 1")
    assert [[row["setting"] for row in extra["sweeps"][title]] for title in ("batch", "K")] == [["batch 4", "batch 8"], ["K 1", "K 5"]]
    assert [row["setting"] for row in extra["sweeps"]["dfd"]] == ["p 0.25", "p 0.5", "p 1"]
    assert extra["sweeps"]["dmd-sft"][1]["difference"] is None
    assert {arm["name"] for arm in extra["others"]["guided"]} >= set(GUIDED)
    assert (tmp_path / "reproduce.ipynb").stat().st_size < 2**20


def test_a_larger_tier_is_no_notebook(tmp_path):
    with pytest.raises(RunFailed, match="tier full is no notebook: it is vidistill distill on a folder of Wan weights"):
        run_notebook(NOTEBOOK, tmp_path / "reproduce.ipynb", {"tier": "full"}, knobs=KNOBS, timeout=120)


@pytest.mark.slow
def test_the_same_claims_on_video(tmp_path, tiny_dit, tiny_students):
    told = ", ".join(f"{arm}:{folder}" for arm, folder in zip(("dfd", "more-dmd"), tiny_students.values(), strict=False))
    small = {"world": "motion-world", "net": str(tiny_dit), "students": told, "clips": 2, "seeds": 2, "out": str(tmp_path / "out")}
    small |= {"arms": "dfd, more-dmd, teacher"}
    done = run_notebook(NOTEBOOK, tmp_path / "video.ipynb", small, knobs=KNOBS, timeout=600)
    found = done["result"]
    assert {arm["name"] for arm in found["arms"]} == {"dfd", "more-dmd", "teacher", "teacher-few"}
    assert {row["card"] for row in found["extra"]["verdicts"]} == cards_of("video")
    assert found["extra"]["others"] == {}
    assert (tmp_path / "video.ipynb").stat().st_size < 2**20
