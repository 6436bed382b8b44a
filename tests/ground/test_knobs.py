import pytest

from vidistill.errors import InputError
from vidistill.knobs import Knob, Knobs

KNOBS = Knobs(
    "demo",
    Knob("rank_ratio", 0.75, "share of each mode kept", low=0, high=1, open_low=True, step=0.05, symbol="r", source="LVDD Table 3"),
    Knob("instances", 24, "clips per class", low=1, unit="clips"),
    Knob("selector", "dpp", "how clips are picked", choices=("dpp", "random")),
    Knob("live", True, "show widgets"),
    Knob("codec", "lab-vae", "folder or hub id"),
)


def test_defaults_then_preset_then_user():
    assert KNOBS.resolve()["rank_ratio"] == 0.75
    values = KNOBS.resolve({"rank_ratio": 0.5, "selector": "random"}, {"rank_ratio": 1})
    assert values["rank_ratio"] == 1.0
    assert isinstance(values["rank_ratio"], float)
    assert values["selector"] == "random"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("rank_ratio", value) for value in (0, 1.01, float("nan"), True, "x")),
        *(("instances", value) for value in (0, 2.5)),
        *(("selector", "ddp"), ("live", 1), ("codec", 3)),
    ],
)
def test_out_of_range_or_wrong_type_is_an_error(name, value):
    with pytest.raises(InputError, match=name):
        KNOBS.resolve({name: value})


def test_limits_and_their_source_are_in_the_line():
    with pytest.raises(InputError, match=r"rank_ratio=1\.5 .*\(0, 1\].*LVDD Table 3"):
        KNOBS.resolve({"rank_ratio": 1.5})


def test_unknown_knob_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'rank_ratio'"):
        KNOBS.resolve({"rank_ration": 0.5})


def test_texts_are_parsed_by_type():
    parsed = KNOBS.parse({"rank_ratio": "0.5", "instances": " 8", "live": "no", "codec": "a/b"})
    assert parsed == {"rank_ratio": 0.5, "instances": 8, "live": False, "codec": "a/b"}
    for bad in ({"instances": "many"}, {"live": "maybe"}, {"rank_ratio": ""}):
        with pytest.raises(InputError):
            KNOBS.parse(bad)


def test_parameters_cell_is_python_that_papermill_can_read():
    space: dict = {}
    source = KNOBS.parameters_cell({"rank_ratio": 0.5})
    exec(source, space)
    assert space["rank_ratio"] == 0.5
    assert all(line.count("=") == 1 for line in source.splitlines())


def test_a_comment_with_an_equals_sign_is_refused():
    with pytest.raises(ValueError, match="without '='"):
        Knobs("demo", Knob("a", 1, "a = 1"))


def test_table_has_a_row_per_knob():
    assert len(KNOBS.table().splitlines()) == 2 + len(KNOBS)
