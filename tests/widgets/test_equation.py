"""Equations of knobs as MathML: indices and exponents where they belong, and nothing that is not understood."""

from importlib import import_module
from xml.etree import ElementTree

import pytest

from vidistill.lab.presets import PAPERS
from vidistill.widgets.equation import mathml

SESSIONS = ("zoo", "gvd", "videoguide", "few_step", "plane")
EQUATIONS = {
    knob.equation
    for module in (*PAPERS.values(), *(f"vidistill.lab.{name}_session" for name in SESSIONS))
    for knob in import_module(module).KNOBS.values()
    if knob.equation
}


def drawn(latex):
    """Return the one equation as XML, its tags and texts in order."""
    return [(node.tag, node.text) for node in ElementTree.fromstring(mathml(latex)).iter()][1:]


def test_indices_and_exponents():
    assert drawn("w_f") == [("msub", None), ("mi", "w"), ("mi", "f")]
    assert drawn(r"\hat x_0^G")[0] == ("msubsup", None)
    assert [tag for tag, _ in drawn(r"\hat x_0^G")] == ["msubsup", "mover", "mi", "mo", "mn", "mi"]
    assert [tag for tag, _ in drawn("F^{-1}")] == ["msup", "mi", "mrow", "mo", "mn"]
    assert [tag for tag, _ in drawn("x_0 + m_k^2")] == ["msub", "mi", "mn", "mo", "msubsup", "mi", "mi", "mn"]


def test_signs_and_words():
    assert drawn(r"\lambda - 12") == [("mi", "λ"), ("mo", "−"), ("mn", "12")]
    assert drawn(r"\text{linear} < 1")[0] == ("mtext", "linear")
    assert mathml("a < 1").count("&lt;") == 2  # in the equation and in its words
    assert mathml(r"a \quad b").count("<math") == 2


@pytest.mark.parametrize("latex", [r"\frac a b", "{a", "a}", "a_", "_a", r"\hat"])
def test_what_is_not_understood_is_an_error(latex):
    with pytest.raises(ValueError, match="in the equation"):
        mathml(latex)


def test_the_design_cards_knobs_have_equations():
    from vidistill.lab.gvd_session import KNOBS as GVD
    from vidistill.lab.videoguide_session import KNOBS as VIDEOGUIDE
    from vidistill.papers.latent_vdd import KNOBS as LATENT_VDD

    assert all((GVD["strength"].equation, GVD["decay"].equation, VIDEOGUIDE["beta"].equation, LATENT_VDD["rank_ratio"].equation))


@pytest.mark.parametrize("latex", sorted(EQUATIONS))
def test_every_equation_of_a_knob_can_be_drawn(latex):
    for part in mathml(latex).split("</math>")[:-1]:
        assert ElementTree.fromstring(f"{part}</math>").attrib["alttext"]
