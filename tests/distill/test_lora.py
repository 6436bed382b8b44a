"""Teacher, student and critic on one base: one copy of the weights, each role its own network, adapters as diffusers has them."""

import copy
import sys

import pytest
import torch

from vidistill.distill import FlowNet, Heads, Recipe, Trainer, in_memory
from vidistill.distill.lora import Base, adapted
from vidistill.distill.nets import halved, kept_whole
from vidistill.errors import InputError
from vidistill.files import load_tensors
from vidistill.rng import stream

RECIPE = Recipe("dfd", times=(1.0, 0.5, 0.0), updates=2, student_update_freq=2, gan=0.1, lr=1e-2, critic_lr=1e-2, scale=2.0, ema=0.5)


@pytest.fixture
def net():
    from diffusers import WanTransformer3DModel

    shape = {"patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WanTransformer3DModel(**shape, text_dim=8, freq_dim=16, ffn_dim=16, num_layers=3, rope_max_seq_len=16)


@pytest.fixture
def clips():
    draws = stream(0, "clips")
    return torch.randn(4, 3, 4, 2, 4, 4, generator=draws), torch.randn(4, 5, 8, generator=draws)


def run(net, clips, checkpoint=False, recipe=RECIPE, out=None):
    base = Base(net, 2)
    if checkpoint:
        base.checkpoint()
    nets = adapted(base, heads=Heads(24, 1, width=8), empty=torch.zeros_like)
    trainer = Trainer(recipe, nets, in_memory(2, path=clips[0], c=clips[1]))
    trainer.run(out)
    return trainer


def frozen(base):
    return {name: w for name, w in base.transformer.named_parameters() if ".lora_" not in name}


def test_all_roles_begin_as_the_teacher_on_one_copy_of_its_weights(net, clips):
    plain = copy.deepcopy(net)
    x, t, c = clips[0][:, 0], torch.tensor([0.2, 0.4, 0.9, 1.0]), clips[1]
    base = Base(net, 2)
    nets = adapted(base)
    for role in (nets.teacher, nets.student, nets.critic):
        with torch.no_grad():
            assert torch.equal(role(x, t, c), FlowNet(plain)(x, t, c))
            assert torch.equal(role.features(x, t, c, 1), FlowNet(plain).features(x, t, c, 1))
    assert not list(nets.teacher.parameters())
    own = [{w.data_ptr() for w in role.parameters()} for role in (nets.student, nets.critic)]
    assert not own[0] & own[1]
    held = {w.data_ptr(): w for w in base.transformer.parameters()}
    adapter = sum(w.numel() for w in nets.student.parameters())
    assert sum(w.numel() for w in held.values()) == sum(w.numel() for w in plain.parameters()) + 2 * adapter
    assert nets.student.depth == 3
    assert nets.student.label == "WanTransformer3DModel, 3 layers of width 24, 4 channels, LoRA of rank 2"


def test_roles_learn_apart_and_the_base_stays_as_it_was(net, clips):
    before = {name: w.clone() for name, w in net.state_dict().items()}
    trainer = run(net, clips)
    base = trainer.nets.student.base
    assert all(torch.equal(before[name.replace(".base_layer.", ".")], w) for name, w in frozen(base).items())
    x, t, c = clips[0][:, 0], torch.full((4,), 0.5), clips[1]
    with torch.no_grad():
        teacher, student, critic = (role(x, t, c) for role in (trainer.nets.teacher, trainer.nets.student, trainer.nets.critic))
    assert not torch.allclose(teacher, student)
    assert not torch.allclose(student, critic)


def test_checkpointing_computes_the_same(net, clips):
    """Blocks are run anew in the backward pass, when the teacher was asked last: with the adapter of their forward pass."""
    plain = copy.deepcopy(net)
    one, other = run(net, clips), run(plain, clips, checkpoint=True)
    assert all(torch.equal(w, other.tensors()[name]) for name, w in one.tensors().items())


def test_a_state_holds_adapters_alone_and_a_copy_shares_the_rest(net, clips, tmp_path):
    trainer = run(net, clips, out=tmp_path)
    state, _ = load_tensors(tmp_path / "state.safetensors")
    assert not [name for name in state if "lora_" not in name and not name.startswith(("heads/", "adam/heads/"))]
    student, base = trainer.student(), trainer.nets.student.base
    assert all(w.data_ptr() == frozen(student.base)[name].data_ptr() for name, w in frozen(base).items())
    assert all(torch.equal(trainer.average[name], w) for name, w in student.named_parameters())
    assert not any(torch.equal(w, dict(trainer.nets.student.named_parameters())[name]) for name, w in student.named_parameters())


def test_merged_weights_are_the_student(net, clips):
    plain = copy.deepcopy(net)
    trainer = run(net, clips)
    student = trainer.student()
    exported = student.exported(trainer.weights())
    assert all(torch.equal(w, student.base.adapter("student")[name]) for name, w in exported.items())
    assert next(iter(exported)) == "transformer.blocks.0.attn1.to_q.lora_A.weight"
    plain.load_state_dict(student.base.merged(exported))
    x, t, c = clips[0][:, 0], torch.full((4,), 0.5), clips[1]
    with torch.no_grad():
        assert torch.allclose(FlowNet(plain)(x, t, c), student(x, t, c), atol=1e-5)


def test_a_base_in_half_precision_has_adapters_in_full(net, clips):
    from dataclasses import replace

    trainer = run(halved(net), clips, checkpoint=True, recipe=replace(RECIPE, precision="bf16"))
    base = trainer.nets.student.base
    kinds = {name: w.dtype for name, w in base.transformer.named_parameters()}
    assert all(kind == torch.float32 for name, kind in kinds.items() if ".lora_" in name or kept_whole(net, name))
    assert kinds["blocks.0.attn1.to_q.base_layer.weight"] == torch.bfloat16
    assert {kinds["scale_shift_table"], kinds["blocks.0.scale_shift_table"]} == {torch.float32}
    assert all(value == value for update in trainer.log for value in update.losses.values())
    merged = base.merged(base.adapter())
    assert merged["blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16


def test_what_cannot_be_adapted_is_one_line(net, monkeypatch):
    for rank in (0, -3):
        with pytest.raises(InputError, match=f"LoRA rank {rank} is out of range: it must be 1 or more"):
            Base(net, rank)
    with pytest.raises(InputError, match="Sequential cannot be adapted: Target modules"):
        Base(torch.nn.Sequential(torch.nn.Linear(2, 2)), 2)
    with pytest.raises(
        InputError, match=r"the adapter of other does not fit WanTransformer3DModel, .* with rank 2: 60 of its weights differ"
    ):
        Base(copy.deepcopy(net), 2).load(Base(net, 3).adapter(), "student", "other")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'vidistill\[lora\]'"):
        Base(net, 2)
