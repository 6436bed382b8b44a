"""PSNR and relative error against closed forms."""

import math

import pytest
import torch

from vidistill.errors import InputError
from vidistill.measure import mean_psnr, psnr, relative_error


def test_psnr_of_a_constant_offset():
    """Every pixel off by d: 20 log10(255 / d), whatever the number of clips."""
    a = torch.full((70, 3, 2, 4, 4), 100, dtype=torch.uint8)
    b = a.clone()
    b[1] += 1
    b[2:] -= 10
    result = psnr(a, b)
    assert result.shape == (70,)
    assert result[0] == math.inf
    assert result[1].item() == pytest.approx(20 * math.log10(255), abs=1e-4)
    assert torch.allclose(result[2:], torch.tensor(20 * math.log10(25.5)))


def test_psnr_does_not_wrap_around():
    """Black against white is 0 dB: uint8 subtraction would say otherwise."""
    black = torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8)
    assert psnr(black, black + 255).item() == pytest.approx(0, abs=1e-6)
    assert psnr(black + 255, black).item() == pytest.approx(0, abs=1e-6)


def test_relative_error():
    z = torch.randn(130, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    assert relative_error(z, z) == 0
    assert relative_error(z, torch.zeros_like(z)) == pytest.approx(1)
    assert relative_error(z, 1.1 * z) == pytest.approx(0.1, rel=1e-5)
    wanted = (z - z.flip(0)).norm() / z.norm()
    assert relative_error(z, z.flip(0)) == pytest.approx(wanted.item(), rel=1e-5)


def test_relative_error_of_half_precision_does_not_overflow():
    z = torch.full((1000, 10), 300.0, dtype=torch.float16)  # squares exceed float16
    assert relative_error(z, z * 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: psnr(torch.zeros(1, 3), torch.zeros(1, 3)), "uint8"),
        (lambda: psnr(torch.zeros(1, 3, dtype=torch.uint8), torch.zeros(2, 3, dtype=torch.uint8)), "one shape"),
        (lambda: relative_error(torch.zeros(2), torch.zeros(3)), "one shape"),
        (lambda: relative_error(torch.zeros(2), torch.zeros(2)), "only zeros"),
    ],
)
def test_bad_input_is_one_clear_line(call, said):
    with pytest.raises(InputError, match=said):
        call()


def test_mean_psnr_fetches_slices_and_keeps_the_pairing():
    clips = torch.randint(0, 256, (150, 3, 2, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = list(range(149, -1, -1))
    asked = []

    def originals(rows):
        asked.append(len(rows))
        return (clips[rows].int() + 1).clamp(max=255).to(torch.uint8)

    found = mean_psnr(clips[index], originals, index)
    assert asked == [64, 64, 22]
    assert found == pytest.approx(psnr(clips, (clips.int() + 1).clamp(max=255).to(torch.uint8)).mean().item(), abs=1e-4)
