"""The report is the same in JSON, on the console and on the page; the page needs nothing but itself."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from vidistill.errors import InputError
from vidistill.lab.report import SCHEMA_FILE, byte_rows, dot_chart, nice_ticks, pareto_chart, print_report, result_rows, write_report
from vidistill.measure import interval
from vidistill.types import Report, Score

SCORE = Score("Held-out accuracy", "top-1 %", "random", "Top-1 on held-out clips.", chance=25.0)


def spread(*values):
    mean = sum(values) / len(values)
    low, high = (mean - 3, mean + 3) if len(values) > 1 else (None, None)
    return {"mean": mean, "low": low, "high": high, "std": None, "n": len(values), "values": list(values)}


def arm(name, role, *values, against=None, stored=True):
    size = {"core": 4000, "factors": 300, "codec": 90000, "labels": 64, "header": 636}
    size["total"] = sum(size.values())
    kept = (
        {"bytes": size, "error": 0.0625, "psnr": 28.5, "ranks": [[6, 6, 6]]}
        if stored
        else dict.fromkeys(("bytes", "error", "psnr", "ranks"))
    )
    return {"name": name, "role": role, "score": spread(*values), "difference": against, "clips": 1200, **kept}


def sample(seeds=2):
    values = lambda mean: [mean + i for i in range(seeds)]  # noqa: E731
    return Report(
        paper="toy",
        knobs={"rank_ratio": 0.5, "selector": "dpp", "instances": 24},
        data={
            "root": "clips",
            "layout": "ucf101",
            "classes": ["<run>", "jump", "wave", "sit"],
            "train": 1200,
            "test": 300,
            "skipped": [{"name": "bad.avi", "reason": "no video stream"}],
        },
        arms=[
            arm("method", "method", *values(50.0), against=spread(*values(-2.0))),
            arm("random", "control", *values(52.0), against=spread(*[0.0] * seeds)),
            arm("full-data", "reference", *values(70.0), against=spread(*values(18.0)), stored=False),
        ],
        notes=["the kernel is numerically the identity: L < I & all"],
        extra={"sweep": [{"rank_ratio": 0.25, "accuracy": spread(40.0), "bytes": 12345}], "kernels": {"method": {}}},
        score=SCORE,
    )


def test_report_json_holds_every_number_and_follows_the_schema(tmp_path):
    value = write_report(tmp_path, sample())
    assert value == json.loads((tmp_path / "report.json").read_text())
    assert value["arms"][0]["score"]["values"] == [50.0, 51.0]
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    check.validate(value)
    check.validate(write_report(tmp_path, sample(seeds=1)))
    for break_it in (
        lambda r: r["arms"][0].pop("score"),
        lambda r: r["arms"][0].update(role="winner"),
        lambda r: r["arms"][0]["bytes"].update(core=1.5),
        lambda r: r.update(schema=1),
        lambda r: r.update(score=None),
        lambda r: r["arms"][0]["score"].update(values=[]),
    ):
        broken = json.loads(json.dumps(value))
        break_it(broken)
        assert not check.is_valid(broken)


def test_the_tables_say_what_the_json_says():
    report = {"schema": 1, **sample().as_dict()}
    header, rows = result_rows(report)
    first = dict(zip(header, rows[0], strict=True))
    assert first["top-1 % [95 %]"] == "50.5 [47.5, 53.5]"
    assert first["against random"] == "-1.5 [-4.5, +1.5]"
    assert first["file B"] == "95,000"
    assert first["clips B"] == "4,300"
    assert first["error"] == "0.0625"
    last = dict(zip(header, rows[2], strict=True))
    assert (last["file B"], last["error"], last["PSNR"]) == ("-", "-", "-")
    header, rows = byte_rows(report)
    assert [row[0] for row in rows] == ["method", "random"]  # full data stores no file
    for row in rows:
        parts = [int(cell.replace(",", "")) for cell in row[1:]]
        assert sum(parts[:-1]) == parts[-1]


def test_one_seed_shows_no_interval():
    _, rows = result_rows({"schema": 1, **sample(seeds=1).as_dict()})
    assert rows[0][3:6] == ["50.0", "1", "-2.0"]


def test_the_console_shows_arms_notes_and_sweeps():
    from rich.console import Console

    text = io.StringIO()
    print_report({"schema": 1, **sample().as_dict()}, Console(file=text, width=150))
    for word in ("method", "full-data", "50.5 [47.5, 53.5]", "bytes of each", "90,000", "sweep", "12,345", "L < I & all", "1 skipped"):
        assert word in text.getvalue()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_stands_alone_small_and_escaped(tmp_path):
    write_report(tmp_path, sample())
    page = (tmp_path / "report.html").read_text()
    assert len(page) < 300_000
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert tags.links == []
    assert tags.tags.count("svg") == 2
    assert "the kernel is numerically the identity: L < I & all" in tags.text
    assert "bad.avi" in tags.text
    assert "http" not in page


def test_the_chart_puts_dots_where_the_numbers_are_and_tells_roles_by_shape():
    chart = dot_chart(sample().arms, sample().as_dict()["score"])
    assert chart.count("<circle") == 2  # the method and its legend
    x = {name: float(found) for name, found in re.findall(r"<title>([\w-]+):[^<]*</title><(?:circle cx|rect x)='([\d.]+)'", chart)}
    corner = 4.5  # rectangles are placed by their corner
    per_point = (x["full-data"] - x["random"]) / 18
    assert x["random"] + corner - x["method"] == pytest.approx(2 * per_point, abs=0.2)


def test_a_number_without_chance_has_an_axis_of_its_own():
    report = sample().as_dict()
    for row, value in zip(report["arms"], (0.9183, 0.9437, 0.9614), strict=True):
        row["score"] = interval([value, value + 0.001])
    chart = dot_chart(report["arms"], report["score"] | {"chance": None, "digits": 4, "title": "Subject consistency"})
    assert "class='chance'" not in chart
    assert re.findall(r"text-anchor='middle'>([\d.]+)<", chart) == ["0.91", "0.92", "0.93", "0.94", "0.95", "0.96", "0.97"]
    assert "method: 0.9188 [0." in chart
    assert nice_ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert nice_ticks(3, 3)[0] <= 3 < nice_ticks(3, 3)[-1]


def test_the_plane_shows_the_score_over_motion(tmp_path):
    report = sample()
    for row, flow in zip(report.arms, (2.0, 4.0, 3.0), strict=True):
        row["flow"] = spread(flow, flow + 1)
    report.arms.append(arm("unseen", "control", 60.0) | {"flow": None})
    chart = pareto_chart(report.arms, report.as_dict()["score"])
    assert "unseen" not in chart
    x = {name: float(found) for name, found in re.findall(r"<title>([\w-]+):[^<]*</title><(?:circle cx|rect x)='([\d.]+)'", chart)}
    assert x["method"] < x["full-data"] < x["random"]
    assert "full-data: 70.5 [67.5, 73.5] at flow px 3.50" in chart
    assert write_report(tmp_path, report)["arms"][0]["flow"]["mean"] == 2.5
    assert "Held-out accuracy against motion" in (tmp_path / "report.html").read_text()


def test_a_full_or_read_only_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_report(tmp_path / "file", sample())


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_report(tmp_path, replace(sample(), extra={"x": float("nan")}))
    assert not (tmp_path / "report.json").exists()


def test_sets_of_pixels_stand_in_the_same_tables(tmp_path):
    report = sample()
    pixels = {"pixels": 5000, "soft_labels": 48, "labels": 24, "header": 128, "total": 5200}
    clips = arm("clips", "method", 50.0) | {
        "bytes": pixels,
        "agreement": interval([91.66]),
        "entropy": interval([0.25, 0.75]),
        "error": None,
        "psnr": None,
    }
    value = write_report(tmp_path, Report("toy", report.knobs, report.data, [*report.arms, clips], [], {}, SCORE))
    header, rows = result_rows(value)
    assert header[-4:] == ["error", "PSNR", "teacher agrees %", "entropy"]
    assert rows[-1][-6:] == ["5,200", "5,000", "-", "-", "92", "0.50"]
    assert rows[0][-6:] == ["95,000", "4,300", "0.0625", "28.50", "-", "-"]
    header, rows = byte_rows(value)
    assert header == ["arm", "core", "factors", "pixels", "codec", "soft labels", "labels", "header", "file"]
    assert rows[-1] == ["clips", "0", "0", "5,000", "0", "48", "24", "128", "5,200"]
    assert "soft labels" in (tmp_path / "report.html").read_text()
    assert not any(name in result_rows(write_report(tmp_path, report))[0] for name in ("entropy", "teacher agrees %"))


def test_a_world_of_points_has_points_and_two_axes(tmp_path):
    shares = {"precision": spread(80.0, 82.0), "kl": spread(0.1, 0.2), "diversity": spread(118.0, 120.0), "updates": 600}
    arms = [arm("dfd", "method", 98.0, 99.0, stored=False) | shares, arm("more-dmd", "control", 80.0, 82.0, stored=False) | shares]
    data = {"root": "", "layout": "plane", "classes": [], "train": 0, "test": 0, "skipped": []}
    data |= {"world": "grid-25", "points": 8000, "guidance": 2.0}
    report = replace(sample(), arms=arms, data=data, score=Score("Mode coverage", "modes held %", "more-dmd", "..."))
    value = write_report(tmp_path, report)
    header, rows = result_rows(value)
    assert header[2] == "points"
    assert rows[0][header.index("diversity %")] == "119"
    assert rows[0][header.index("student updates")] == "600"
    assert rows[0][header.index("KL")] == "0.150"
    page = (tmp_path / "report.html").read_text()
    assert "<p>grid-25, 8,000 points an arm, guidance 2</p>" in page
    assert "Mode coverage against on a mode %" in page
    assert "more is sharper" in page
    assert "more is livelier" not in page
