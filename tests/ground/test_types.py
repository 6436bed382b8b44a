import pytest
import torch

from vidistill.errors import InputError
from vidistill.types import Latents, Protocol


def test_take_keeps_names_labels_and_order():
    z = torch.arange(3.0).reshape(3, 1, 1, 1, 1)
    latents = Latents(z, torch.tensor([0, 1, 1]), ("a", "b", "c"), ("x", "y"), ("g1", "g2", "g2"))
    taken = latents.take(torch.tensor([2, 0]))
    assert taken.names == ("c", "a")
    assert taken.groups == ("g2", "g1")
    assert taken.labels.tolist() == [1, 0]
    assert taken.z.flatten().tolist() == [2.0, 0.0]


def test_counts_that_disagree_are_refused():
    with pytest.raises(InputError, match="latents need"):
        Latents(torch.zeros(2, 1, 1, 1, 1), torch.zeros(1), ("a", "b"), ("x",))


@pytest.mark.parametrize(
    "bad",
    [{"frames": 1}, {"gap": 0}, {"size": 8}, {"crop": "centre"}, {"test_policy": "middle"}, {"width": 32}, {"width": 8, "crop": "center"}],
)
def test_protocol_limits(bad):
    with pytest.raises(InputError):
        Protocol(**bad)


def test_a_square_says_nothing_of_its_width():
    """What is keyed by a square's protocol stays where it is."""
    assert "width" not in Protocol().as_dict()
    assert Protocol().height_width == (112, 112)
    wide = Protocol(size=48, crop="center", width=80)
    assert (wide.height_width, wide.as_dict()["width"]) == ((48, 80), 80)
    assert Protocol(**wide.as_dict()) == wide
