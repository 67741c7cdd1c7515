"""VGGT's aggregator with random weights: shapes, both kinds of attention, names, gradients."""

import pytest
import torch
import torch.nn.functional as F
from miniature import change, make, observe, windows
from safetensors.torch import save_file
from small_prismatic import build, small

from costep.backbones.vggt import SPECIAL, Vggt
from costep.backbones.weights import WeightsError
from costep.presets import preset

SIZES = {"backbone__sizes__vision_width": 24, "backbone__sizes__vision_heads": 3}


def with_vggt(**fields):
    return small(backbone__extra="vggt", head__focus__values="vggt", **SIZES, **fields)


def aggregator(seed=0):
    """Weights large enough that positions, tokens and LayerScale all matter."""
    torch.manual_seed(seed)
    vggt = Vggt(with_vggt().backbone.sizes).eval()
    for name, weight in vggt.named_parameters():
        if "token" in name or "gamma" in name:
            torch.nn.init.normal_(weight, mean=0.5)
    return vggt


@pytest.fixture
def frames():
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8, generator=random)


# ---- an independent aggregator -------------------------------------------------------------------
def rope(x, places):
    """x (n, d), places (n, 2): pair (i, i + d/4) of each half turns by place x 100^(-i / (d/4))."""
    out, quarter = x.clone(), x.shape[1] // 4
    for axis in range(2):
        for i in range(quarter):
            turn = places[:, axis] * 100.0 ** (-i / quarter)
            a, b = 2 * axis * quarter + i, (2 * axis + 1) * quarter + i
            out[:, a] = x[:, a] * turn.cos() - x[:, b] * turn.sin()
            out[:, b] = x[:, b] * turn.cos() + x[:, a] * turn.sin()
    return out


def layer(block, x, places):
    """One pre-norm layer on x (n, D), head by head."""
    norm = lambda m, t: F.layer_norm(t, t.shape[-1:], m.weight, m.bias)  # noqa: E731
    q, k, v = block.attn.qkv(norm(block.norm1, x)).chunk(3, -1)
    heads = []
    for a, b, c in zip(*(t.chunk(3, -1) for t in (q, k, v))):
        a, b = rope(norm(block.attn.q_norm, a), places), rope(norm(block.attn.k_norm, b), places)
        heads.append((a @ b.T / a.shape[1] ** 0.5).softmax(-1) @ c)
    x = x + block.ls1.gamma * block.attn.proj(torch.cat(heads, -1))
    h = F.gelu(block.mlp.fc1(norm(block.norm2, x)))
    return x + block.ls2.gamma * block.mlp.fc2(h)


def by_hand(vggt, frames):
    """One observation, frames (cameras, 3, P, P)."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (frames / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    patches = vggt.patch_embed.forward_features(pixels)[:, 5:]
    special = torch.cat([vggt.camera_token[0], vggt.register_token[0]], 1)
    x = [torch.cat([special[min(c, 1)], p]) for c, p in enumerate(patches)]
    grid = [(r + 1.0, c + 1.0) for r in range(4) for c in range(4)]
    places = torch.tensor([(0.0, 0.0)] * SPECIAL + grid)
    for frame, everywhere in zip(vggt.frame_blocks, vggt.global_blocks):
        alone = [layer(frame, one, places) for one in x]
        together = layer(everywhere, torch.cat(alone), places.repeat(len(x), 1))
        x = together.chunk(len(x))
    return torch.cat([torch.cat([a, b], -1)[SPECIAL:] for a, b in zip(alone, x)])


@torch.no_grad()
def test_the_aggregator_written_out(frames):
    vggt = aggregator()
    seen = vggt(frames)
    assert seen.shape == (2, 3 * 16, 48)
    for row in range(2):
        assert torch.allclose(seen[row], by_hand(vggt, frames[row]), atol=1e-4)


# ---- in a policy ---------------------------------------------------------------------------------
@pytest.mark.parametrize("keys", ["vlm", "vggt"])
def test_a_head_reads_it_and_only_the_projection_learns(keys):
    config = with_vggt(head__focus__keys=keys)
    policy = make(config)
    assert policy.backbone.info.extra_width == 48
    assert policy.head.adapt["extra"].in_features == 48
    layout = policy.backbone.prepare(observe(config)).layout
    assert layout.extra_vision.shape == (2, 32, 48)
    policy.loss(windows(config))[0].backward()
    assert policy.head.adapt["extra"].weight.grad.abs().sum() > 0
    assert not any(w.requires_grad for w in policy.backbone.vggt.parameters())


@torch.no_grad()
def test_the_action_depends_on_it():
    policy = make(with_vggt())
    before, _, _ = policy.act(observe(policy.config))
    policy.backbone.vggt.frame_blocks[0].mlp.fc1.weight.normal_()
    after, _, _ = policy.act(observe(policy.config))
    assert not torch.equal(before.actions, after.actions)


def test_gradients_reach_every_weight_of_an_aggregator_that_may_learn(frames):
    vggt = aggregator()
    vggt(frames).square().sum().backward()
    idle = [n for n, w in vggt.named_parameters() if w.grad is None or not w.grad.abs().sum()]
    assert idle == []


def test_adapters_leave_it_alone():
    backbone = build(with_vggt(backbone__train="lora", lora__scope="all_linear", lora__rank=2))
    names = [n for n, _ in backbone.vggt.named_parameters()]
    assert not any("lora_" in n for n in names)


def test_full_size_numbers():
    with torch.device("meta"):
        vggt = Vggt(preset("focusvla", "full").backbone.sizes)
    assert vggt.width == 2048
    assert len(vggt.frame_blocks) == len(vggt.global_blocks) == 24
    assert vggt.patch_embed.pos_embed.shape == (1, 37 * 37, 1024)
    assert vggt.frame_blocks[0].attn.q_norm.weight.shape == (64,)


# ---- files ---------------------------------------------------------------------------------------
def written(vggt, folder, **more):
    """The published spelling, with heads, one position table and a mask token."""
    tensors = {}
    for name, weight in vggt.state_dict().items():
        name = name.replace("reg_token", "register_tokens")
        tensors[f"aggregator.{name}"] = weight
    eye, place = "aggregator.patch_embed.", torch.randn(1, 1, 24)
    tensors[eye + "pos_embed"] = torch.cat([place, tensors[eye + "pos_embed"]], 1)
    tensors[eye + "cls_token"] = tensors[eye + "cls_token"] - place
    tensors[eye + "mask_token"] = torch.zeros(1, 24)
    tensors["camera_head.token_norm.weight"] = torch.ones(3)
    save_file(tensors | more, folder / "model.safetensors")
    return folder


def test_published_names_load(tmp_path, frames):
    donor = aggregator(seed=3)
    backbone = build(with_vggt())
    backbone.load_vggt(written(donor, tmp_path))
    assert torch.allclose(backbone.vggt(frames), donor(frames), atol=1e-5)


def test_a_misfit_says_that_real_weights_were_never_seen(tmp_path):
    folder = written(aggregator(), tmp_path, **{"aggregator.surprise": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"aggregator\.surprise.*untested with real weights"):
        build(with_vggt()).load_vggt(folder)


def test_without_vggt_there_is_nothing_to_load(tmp_path):
    with pytest.raises(ValueError, match=r"backbone\.extra='vggt'"):
        build(small()).load_vggt(tmp_path)


def test_heads_too_narrow_for_two_axes_are_refused():
    with pytest.raises(ValueError, match="divisible by 4"):
        Vggt(change(with_vggt(), backbone__sizes__vision_heads=4).backbone.sizes)
