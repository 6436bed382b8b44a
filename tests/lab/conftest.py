"""What the tests of sessions share."""

import pytest


@pytest.fixture
def evaluations(monkeypatch):
    """The model of every call of a network: with a prompt and without is one call."""
    from vidistill.sample.denoiser import Epsilon, Flow

    seen = []
    for family in (Epsilon, Flow):

        def counted(net, *arguments, predict=family.predict):
            seen.append(net.id)
            return predict(net, *arguments)

        monkeypatch.setattr(family, "predict", counted)
    return seen
