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


@pytest.mark.parametrize("bad", [{"frames": 1}, {"gap": 0}, {"size": 8}, {"crop": "centre"}, {"test_policy": "middle"}])
def test_protocol_limits(bad):
    with pytest.raises(InputError):
        Protocol(**bad)
