"""The reproduction of AccVideo judges every card, with networks that learn nothing."""

import pytest

from vidistill.lab.cards import load_cards
from vidistill.lab.runner import RunFailed, notebooks_dir, run_notebook
from vidistill.papers.accvideo import ARMS, KNOBS

NOTEBOOK = notebooks_dir() / "reproduce/accvideo.ipynb"


@pytest.mark.slow
def test_every_claim_is_judged(tmp_path):
    small = {"teacher_steps": 4, "teacher_batch": 16, "gate": 0.0, "records": 32, "path_steps": 4, "path_updates": 4, "batch": 8}
    small |= {"dmd_updates": 1, "points": 100, "seeds": 2, "few": 2, "mismatches": "0, 3", "draws": 100, "line_steps": 3, "line_batch": 8}
    small |= {"window_updates": 2, "out": str(tmp_path / "out")}
    done = run_notebook(NOTEBOOK, tmp_path / "reproduce.ipynb", small, knobs=KNOBS, timeout=600)
    found, extra = done["result"], done["result"]["extra"]
    assert {arm["name"] for arm in found["arms"]} == set(ARMS)
    assert {row["card"] for row in extra["verdicts"]} == {card.id for card in load_cards("accvideo")}
    for row in extra["verdicts"]:
        assert row["verdict"] in ("direction holds", "direction does not hold", "cannot tell")
        assert row["difference"]["n"] == 2
    verdicts = {row["card"].split("-", 2)[2]: row for row in extra["verdicts"]}
    assert verdicts["useless"]["difference"]["mean"] > 10  # percent; the exact field needs no training
    assert (verdicts["useless"]["arm"], verdicts["useless"]["control"]) == ("M 3", "M 0")
    assert [row["setting"] for row in extra["sweeps"]["lambda"]] == ["lambda 0.01", "lambda 0.1", "lambda 1"]
    assert (tmp_path / "reproduce.ipynb").stat().st_size < 2**20


def test_a_larger_tier_is_no_notebook(tmp_path):
    with pytest.raises(RunFailed, match="tier full is no notebook: it is vidistill distill on a folder of Wan weights"):
        run_notebook(NOTEBOOK, tmp_path / "reproduce.ipynb", {"tier": "full"}, knobs=KNOBS, timeout=120)
