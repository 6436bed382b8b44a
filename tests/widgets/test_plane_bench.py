"""The page of points: pressing Train moves them, curves grow, finished runs stay as rows and can be gone on from, failures are words."""

import asyncio
import re
from dataclasses import replace
from functools import partial

import pages
import plotly.graph_objects as go
import pytest
import torch
from pages import words

from vidistill.lab import plane_session
from vidistill.lab.plane_session import KNOBS, LONG, SDE, STUDENT, PlaneSession
from vidistill.widgets.plane_bench import (
    BEGIN,
    PlaneBench,
    alarms_html,
    described,
    learning_figure,
    moving_figure,
    runs_html,
    static_views,
    teacher_line,
    tiles_html,
)

FEW = KNOBS.resolve({"world": "quadrants", "teaching": 40, "updates": 6})
pytestmark = pytest.mark.usefixtures("small_plane")
play = partial(pages.play, seconds=60)


@pytest.fixture(scope="module")
def session(small_plane):
    return small_plane


@pytest.fixture(scope="module")
def trained(session):
    return session.last(FEW, name="run 1")


@pytest.fixture
def bench(session, trained):
    return PlaneBench(session, session.opening(FEW), FEW)


def rows(page: str) -> list[str]:
    return re.findall(r'data-run="([^"]+)"', page)


def test_the_first_state_teaches_untouched(bench):
    assert rows(bench._table.object) == [LONG, SDE, plane_session.ODE]
    assert "does not pass the papers' gate" in bench._teacher.object  # forty steps are no training
    assert "weak teacher" in bench._alarms.object
    assert bench.start.options == [BEGIN]
    assert "truth: train a student" in bench._moving.object["layout"]["meta"]["words"]
    assert bench._curves.object["layout"]["meta"]["words"] == "while it learns: nothing yet"
    bench.__panel__()


def test_without_a_teacher_the_page_says_so(tmp_path):
    fresh = PlaneSession(tmp_path)
    bench = PlaneBench(fresh, fresh.opening(FEW), FEW)
    assert "is not there yet: 40 steps" in bench._teacher.object
    assert "choose a method and train" in bench._alarms.object
    assert "it is trained once" in bench._table.object
    play(bench, bench.run)
    assert rows(bench._table.object)[-1] == "run 1"


def test_training_moves_points_and_leaves_a_row(bench, trained):
    seen = []
    bench._moving.param.watch(lambda event: seen.append(event.new["layout"]["meta"]["words"]), "object")
    play(bench, bench.run)
    assert bench.bar.failed == ""
    updates = [int(re.search(r"update (\d+) of 6", line).group(1)) for line in seen]
    assert updates == sorted(updates)
    assert {0, 1, 2, 4, 6} <= set(updates)
    assert torch.equal(bench._look.clouds[STUDENT], trained.clouds[STUDENT])
    assert rows(bench._table.object)[-1] == "run 1"
    assert bench.start.options == [BEGIN, "run 1"]
    lines = {line.name: line for line in go.Figure(bench._curves.object).data}
    assert list(lines) == ["modes held", "on a mode", "radius", "pairwise diversity", "KL of the modes"]
    assert list(lines["radius"].x) == list(trained.curve)
    assert len({(line.marker.symbol, line.line.dash) for line in lines.values()}) == 5  # never colour alone
    assert f"{trained.tables[STUDENT]['radius']:.0f} %" in bench._tiles.object


def test_a_run_goes_on_from_another(bench, session, trained):
    bench.panel.set({"method": "dfd", "updates": 4})
    play(bench, bench.run)
    assert "from" not in described(bench._runs[0])
    bench._runs, bench._begun = [trained], 1
    bench._rows()
    bench.start.value = "run 1"
    play(bench, bench.run)
    made = session.last(FEW | {"method": "dfd", "updates": 4}, start=trained, name="run 2")
    assert torch.equal(bench._runs[-1].clouds[STUDENT], made.clouds[STUDENT])
    assert "quadrants: dfd, p 0.5, guidance 2, 4 updates, from run 1, seed 0, re-noised" in bench._table.object
    play(bench, lambda: setattr(bench.panel, "seed", 3), bench.run)  # of another teacher: one line, and the rows stay
    assert "run 1 cannot be gone on from" in bench.bar.failed
    assert rows(bench._table.object)[-2:] == ["run 1", "run 2"]
    bench.forget.clicks += 1
    assert "run 1" not in rows(bench._table.object)
    assert bench.start.value == BEGIN


def test_another_rule_is_another_row(bench):
    bench.panel.set({"method": "kd"})
    play(bench, bench.run, lambda: bench.panel.set({"rule": "ode"}))
    assert rows(bench._table.object)[-2:] == ["run 1", "run 1, Euler"]
    assert "Euler (trained for re-noised)" in bench._table.object
    assert 'data-alarm="sampled against its training"' in bench._alarms.object
    play(bench, lambda: bench.panel.set({"rule": "trained"}))
    assert rows(bench._table.object)[-1] == "run 1, re-noised"
    assert 'data-alarm="sampled against its training"' not in bench._alarms.object


def test_another_world_is_shown_and_nothing_is_trained(bench):
    play(bench, lambda: bench.panel.set({"world": "ring-8"}))
    assert bench._look.world.name == "ring-8"
    assert "is not there yet" in bench._teacher.object
    assert bench.panel.controls["cfg"].disabled
    bench.panel.set({"method": "dfd-cfg1"})
    play(bench, bench.run)
    assert "nothing is guided here" in bench.bar.failed


def test_cancel_keeps_the_points_and_makes_no_row(bench):
    async def run():
        bench.panel.set({"updates": 2000})
        asyncio.get_running_loop().call_soon(lambda: None)
        task = asyncio.create_task(bench.run())
        while bench._look.updates < 2:
            await asyncio.sleep(0.005)
        bench.bar.cancel_button.clicks += 1
        await task

    asyncio.run(run())
    assert "cancelled" in bench.bar._words.object
    assert 2 <= bench._look.updates < 2000
    assert "update" in bench._moving.object["layout"]["meta"]["words"]
    assert "run 1" not in rows(bench._table.object)


def test_missing_modes_are_crossed_out_and_failures_are_words(trained):
    inner = trained.clouds[STUDENT].clone()
    inner[inner[:, 0] > 0] *= 50  # half of the plane is empty now
    figure = moving_figure(replace(trained, clouds=trained.clouds | {STUDENT: inner}))
    crossed = [x for line in go.Figure(figure).data if line.name == "missing mode" for x in line.x if x is not None]
    assert len(crossed) >= 8
    odd = replace(trained, alarms={"diversity <misleads>": "x"})
    assert "&lt;misleads&gt;" in alarms_html(odd)
    assert "⚠ diversity &lt;misleads&gt;" in runs_html(trained, [odd])
    assert "✓ none" in runs_html(trained, [replace(trained, alarms={})])
    assert "✓" in teacher_line(replace(trained, sharp=97.0))
    assert "passes the papers' gate: 97 %" in words(teacher_line(replace(trained, sharp=97.0)))
    assert words(tiles_html(trained)).count("untrained") == 5
    assert "modes held" in learning_figure(trained)["layout"]["meta"]["words"]


def test_static_twins_hold_still(trained):
    from IPython.display import HTML

    views = static_views(trained, [trained])
    assert all("<script" not in view.data for view in views if isinstance(view, HTML))
    figures = [view._repr_mimebundle_() for view in views if not isinstance(view, HTML)]
    assert [figure["text/plain"].split(":")[0] for figure in figures] == ["student", "truth and teacher", "while it learns"]
