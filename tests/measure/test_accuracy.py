"""Accuracy against counting by hand."""

import pytest
import torch

from vidistill.errors import InputError
from vidistill.measure import accuracy


def test_a_case_counted_by_hand():
    """Three classes, class 1 never tested: 2 of 4 right; class 0 2/3, class 2 0/1, mean 1/3."""
    logits = torch.tensor([[3.0, 1, 2], [3, 1, 2], [1, 3, 2], [3, 2, 1]])
    labels = torch.tensor([0, 0, 0, 2])
    result = accuracy(logits, labels)
    assert result == {"top1": pytest.approx(50), "top5": pytest.approx(100), "mean_class": pytest.approx(100 / 3)}


def test_top5_against_sorting():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 20, generator=generator), torch.randint(0, 20, (200,), generator=generator)
    place = (logits > logits.gather(1, labels[:, None])).sum(1)  # how many classes beat the right one
    result = accuracy(logits, labels)
    assert result["top1"] == pytest.approx(100 * (place == 0).double().mean().item())
    assert result["top5"] == pytest.approx(100 * (place < 5).double().mean().item())
    assert result["top1"] < result["top5"] < 60


def test_balanced_classes_make_both_means_equal():
    logits, labels = torch.randn(60, 6, generator=torch.Generator().manual_seed(1)), torch.arange(6).repeat(10)
    result = accuracy(logits, labels)
    assert result["mean_class"] == pytest.approx(result["top1"])


def test_perfect_and_hopeless():
    labels = torch.arange(8)
    assert accuracy(torch.eye(8), labels) == {"top1": 100.0, "top5": 100.0, "mean_class": 100.0}
    assert accuracy(-torch.eye(8), labels)["top1"] == 0.0


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "M >= 1"),
        (torch.zeros(2, 3), torch.tensor([0]), "M labels"),
        (torch.zeros(1, 3), torch.tensor([3]), "0..2"),
        (torch.full((1, 3), float("nan")), torch.tensor([0]), "not finite"),
    ],
)
def test_bad_input_is_one_clear_line(logits, labels, said):
    with pytest.raises(InputError, match=said):
        accuracy(logits, labels)
