"""The networks speak ``net(x, t, c)``: a Wan transformer as diffusers asks it, discriminators on a frozen teacher's features."""

import pytest
import torch

from vidistill.data.plane import quadrants
from vidistill.distill import FlowNet, Heads, Trainer, cast, in_memory
from vidistill.distill.mlp import VelocityMLP, exact, points
from vidistill.distill.nets import Mlp, feature_block
from vidistill.distill.recipe import Recipe
from vidistill.errors import InputError
from vidistill.rng import stream

TIMES = (1.0, 0.5, 0.0)


@pytest.fixture(scope="module")
def wan():
    from diffusers import WanTransformer3DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4}
        net = WanTransformer3DModel(**shape, text_dim=8, freq_dim=16, ffn_dim=16, num_layers=3, rope_max_seq_len=16)
    return FlowNet(net).requires_grad_(False)


@pytest.fixture
def clips():
    draws = stream(0, "clips")
    return torch.randn(4, 3, 4, 2, 4, 4, generator=draws), torch.randn(4, 5, 8, generator=draws)


def test_flow_net_asks_the_transformer_as_the_sampler_does(wan, clips):
    """As ``vidistill.sample.Flow.predict``: ``transformer(x, 1000 t, text).sample``."""
    path, text = clips
    x, t = path[:, 0], torch.tensor([0.2, 0.4, 0.9, 1.0])
    assert torch.equal(wan(x, t, text), wan.transformer(x, 1000 * t, text).sample)
    assert wan.label == "WanTransformer3DModel, 3 layers of width 24, 4 channels"
    assert wan.depth == 3


def test_features_are_a_blocks_output_in_cells(wan, clips):
    path, text = clips
    x, t, seen = path[:, 0], torch.full((4,), 0.5), []
    handle = wan.transformer.blocks[1].register_forward_hook(lambda module, given, out: seen.append(out))
    found = wan.features(x, t, text, 1)
    handle.remove()
    assert found.shape == (4, 24, 2, 2, 2)
    assert torch.equal(found[:, :, 1, 0, 1], seen[0][:, 1 * 4 + 0 * 2 + 1])
    assert not wan.transformer.blocks[1]._forward_hooks


def test_the_feature_block_depends_on_the_time():
    """accvideo.md test 8: HunyuanVideo's 60th of 60 blocks at t > 0, its 40th at t = 0."""
    assert (feature_block(60, 0.5) + 1, feature_block(60, 0.0) + 1) == (60, 40)
    assert [feature_block(depth, 0.0) for depth in (1, 2, 3, 6)] == [0, 0, 1, 3]


def test_heads_judge_frame_by_frame_and_let_gradients_through_to_the_sample(wan, clips):
    path, text = clips
    x = path[:, 0].clone().requires_grad_(True)
    heads = Heads(24, 2, width=8)
    logits = heads(wan, x, torch.full((4,), 0.5), text, 1)
    assert logits.shape == (4, 2)
    logits.sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(w.grad is None for w in wan.parameters())
    assert all(w.grad is not None for w in heads.heads[1].parameters())
    assert all(w.grad is None for w in heads.heads[0].parameters())
    assert Heads(24, 1, width=8)(wan, x, torch.zeros(4), text, 1).shape == (4, 2)
    with pytest.raises(InputError, match="at least one head"):
        Heads(24, 0)
    with pytest.raises(InputError, match="did you mean 'frame'"):
        Heads(24, 2, kind="frames")


@pytest.mark.parametrize("method", ["accvideo", "dfd"])
def test_the_same_trainer_trains_a_wan_transformer(wan, clips, method, tmp_path):
    path, text = clips
    recipe = Recipe(method, times=TIMES, updates=1, student_update_freq=2, gan=0.1, lr=1e-3, scale=2.0, precision="bf16")
    nets = cast(wan, heads=Heads(24, 2, width=8), empty=torch.zeros_like)
    before = {name: w.clone() for name, w in wan.state_dict().items()}
    one = Trainer(recipe, nets, in_memory(2, path=path, c=text))
    student = one.run(tmp_path)
    assert any(not torch.equal(w, before[name]) for name, w in student.state_dict().items())
    assert all(torch.equal(w, before[name]) for name, w in wan.state_dict().items())
    assert all(value == value for value in one.log[-1].losses.values())


def test_point_networks_belong_to_their_seed_and_leave_global_state_alone():
    state = torch.random.get_rng_state()
    one, same, other = VelocityMLP(seed=1), VelocityMLP(seed=1), VelocityMLP(seed=2)
    Mlp()
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(one.out.weight, same.out.weight)
    assert not torch.equal(one.out.weight, other.out.weight)


def test_point_networks_know_their_class_and_the_empty_one():
    net, x, t, c = VelocityMLP(classes=4, width=8), torch.randn(4, 2), torch.rand(4), torch.arange(4)
    assert torch.equal(net(x, t), net(x, t, net.empty(c)))
    assert not torch.equal(net(x, t, c), net(x, t, c.flip(0)))
    assert torch.equal(net.out(net.features(x, t, c, 2)), net(x, t, c))
    assert Mlp(classes=4)(None, x, t, c).shape == (4, 1)


def test_exact_fields_are_networks():
    world = quadrants()
    batch = points(world, 32)(stream(0, "x"))
    t = torch.full((32,), 0.02)
    v = exact(world)(batch.x0, t, batch.c)
    assert v.dtype == torch.float32
    assert torch.allclose(v, world.velocity(batch.x0, t, batch.c).float())
