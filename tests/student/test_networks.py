"""The students have the sizes, shapes and starting weights of the official ones."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidistill.errors import InputError
from vidistill.student import build
from vidistill.student.networks import CNNGRU, CNNLSTM, ConvNet3D


def count(net):
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize("classes", [1, 50, 101])
def test_conv3d_has_the_published_number_of_parameters(classes):
    with torch.device("meta"):
        assert count(ConvNet3D(classes)) == 3_641_216 + 129 * classes
        assert count(ConvNet3D(50)) == 3_647_666


def test_recurrent_students_have_the_published_number_of_parameters():
    with torch.device("meta"):
        assert round(count(CNNGRU(50)) / 1e6, 1) == 28.7
        assert round(count(CNNLSTM(50)) / 1e6, 1) == 537.6


@pytest.mark.parametrize(("frames", "size", "left"), [(16, 112, 3), (8, 64, 1), (8, 43, 1), (4, 64, 1), (8, 96, 1), (16, 224, 3)])
def test_conv3d_keeps_one_place_and_the_expected_time_steps(frames, size, left):
    """At 16x112x112 three time steps reach the classifier, at 8x64x64 one; space is always gone."""
    net = build("conv3d", 5, 2, frames, size).eval()
    seen = []
    net.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with torch.inference_mode():
        assert net(torch.zeros(2, 3, frames, size, size)).shape == (2, 5)
    assert seen[0] == (2, 5, left, 1, 1)


@pytest.mark.parametrize(("frames", "size"), [(16, 112), (8, 64)])
def test_conv3d_is_the_official_network_written_out(frames, size):
    """ReLU before the pool and the average pool chosen by image size, as in the official code, give the same logits."""
    net = build("conv3d", 7, 4, frames, size, seed=3).eval()
    x = torch.randn(2, 3, frames, size, size, generator=torch.Generator().manual_seed(0))
    h = x
    for conv, pool in zip(net.convs, ((1, 2, 2), (2, 2, 2), (2, 2, 2)), strict=True):
        h = F.max_pool3d(F.relu(F.conv3d(h, conv.weight, conv.bias, stride=(1, 2, 2), padding=(1, 3, 3))), pool, pool)
    h = F.avg_pool3d(h, (2, 2, 2) if size > 64 else (2, 1, 1), stride=1)
    wanted = net.classifier(h).squeeze(3).squeeze(3).max(dim=2).values
    with torch.inference_mode():
        torch.testing.assert_close(net(x), wanted)


@pytest.mark.parametrize("name", ["cnn-gru", "cnn-lstm"])
def test_recurrent_students_see_the_central_64_pixels(name):
    net = build(name, 3, 4, 2, 112).eval()
    x = torch.randn(2, 3, 2, 112, 112, generator=torch.Generator().manual_seed(0))
    inner = torch.zeros_like(x)
    inner[..., 24:88, 24:88] = x[..., 24:88, 24:88]
    with torch.inference_mode():
        assert torch.equal(net(x), net(inner))
        assert not torch.equal(net(x), net(torch.zeros_like(x)))


@pytest.mark.parametrize("name", ["conv3d", "cnn-gru", "cnn-lstm"])
def test_starting_weights_belong_to_the_seed_and_follow_torch(name):
    a, b, c = (build(name, 5, 8, 8, 64, seed) for seed in (1, 1, 2))
    state = torch.random.get_rng_state()
    for (key, x), y, z in zip(a.named_parameters(), b.parameters(), c.parameters(), strict=True):
        assert torch.equal(x, y)
        if "cnn" not in key or x.ndim > 1:
            assert not torch.equal(x, z), key
    assert torch.equal(state, torch.random.get_rng_state())
    for module in a.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):  # torch: U(-1/sqrt(fan_in), 1/sqrt(fan_in))
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert bound * 0.9 < module.weight.abs().max() <= bound
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 1000:
            twin = nn.Conv3d(module.in_channels, module.out_channels, module.kernel_size)
            assert module.weight.std().item() == pytest.approx(twin.weight.std().item(), rel=0.1)


def test_width_scales_every_channel():
    net = build("conv3d", 5, 32, 8, 64)
    assert [conv.out_channels for conv in net.convs] == [16, 32, 32]
    assert build("cnn-gru", 5, 16, 8, 64).recurrent.hidden_size == 128  # 1024 at 128
    with torch.device("meta"):
        assert CNNLSTM(5, 128).recurrent.hidden_size == 8192


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("conv3", 5), "did you mean 'conv3d'?"),
        (("conv3d", 5, 15), "even"),
        (("conv3d", 5, 16, 8, 42), "43x43"),
        (("conv3d", 5, 16, 3, 64), "at least 4 frames"),
        (("conv3d", 0), "at least one class"),
        (("cnn-gru", 5, 0), "width >= 1"),
    ],
)
def test_bad_sizes_are_said_in_one_line(arguments, said):
    with pytest.raises(InputError) as error:
        build(*arguments)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
