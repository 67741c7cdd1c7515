"""Prismatic: the sequence, the language model's taps, batches and cameras."""

from dataclasses import replace

import pytest
import torch
from miniature import SENTENCES, change, make, observe, pick, windows
from small_prismatic import build, small
from transformers import Qwen2Model

from costep.backbones.prismatic import PrismaticBackbone
from costep.backbones.prismatic_language import prompt, qwen2_config
from costep.policy import Policy
from costep.presets import preset


@pytest.fixture
def config():
    return small()


@pytest.fixture
def backbone(config):
    return build(config)


@torch.no_grad()
def run(backbone, observation, extra=None):
    inputs = backbone.prepare(observation, extra)
    return inputs, list(backbone.layers(inputs))


# ---- full size -----------------------------------------------------------------------------------
def test_counts_of_the_released_model():
    with torch.device("meta"):
        backbone = PrismaticBackbone(change(preset("focusvla", "full"), backbone__train="full"))
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    vision = backbone.vision
    assert [count(m) for m in (vision.dino, vision.siglip, backbone.projector)] == [
        303_230_976, 427_680_704, 27_552_000,
    ]  # fmt: skip
    assert count(backbone.language) == 494_032_768
    assert backbone.language.embed_tokens.weight.numel() == 136_134_656
    assert backbone.queries.numel() == 57_344
    assert count(backbone) == 1_252_553_792
    assert len(backbone.state_dict()) == 982
    about = backbone.info
    assert (about.layers, about.width, about.kv_heads, about.head_dim) == (24, 896, 2, 64)
    assert (about.raw_width, about.vision_tokens, about.grid) == (2176, 512, (16, 16))


@pytest.mark.parametrize("name", ["focusvla", "vla_adapter", "oft", "composed"])
def test_full_presets_build_on_it(name):
    with torch.device("meta"):
        policy = Policy(preset(name, "full"))
    assert isinstance(policy.backbone, PrismaticBackbone)
    rows = 56 if name == "oft" else 64
    assert policy.backbone.queries.shape == (rows, 896)


@pytest.mark.slow
@torch.no_grad()
def test_one_full_size_query_with_random_weights():
    """1.25 billion random bf16 weights, two cameras: finite taps of the right shapes."""
    with torch.device("meta"):
        backbone = PrismaticBackbone(change(preset("focusvla", "full"), backbone__train="full"))
    backbone = backbone.to(torch.bfloat16).to_empty(device="cpu").eval()
    for name, weight in backbone.named_parameters():
        ones = "norm" in name and name.endswith("weight")
        torch.nn.init.ones_(weight) if ones else torch.nn.init.normal_(weight, std=0.02)
    seen = observe(preset("focusvla", "full"), rows=1)
    inputs, taps = run(backbone, seen)
    assert inputs.embeds.shape == (1, 1 + 512 + inputs.layout.length.item() - 577 + 64, 896)
    assert inputs.layout.raw_vision.shape == (1, 512, 2176)
    assert len(taps) == 24
    assert taps[-1].kv[0].shape == (1, 2, inputs.embeds.shape[1], 64)
    assert taps[-1].intent.shape == (1, 64, 896)
    assert torch.isfinite(taps[-1].hidden).all()
    assert taps[-1].hidden.dtype == torch.bfloat16


# ---- the sequence --------------------------------------------------------------------------------
def test_the_prompt_word_for_word():
    assert prompt("Open the Drawer") == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\nWhat action should the robot take to open the drawer?"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


@torch.no_grad()
def test_start_token_then_patches_then_prompt_then_queries(config, backbone):
    seen = pick(observe(config), 0)
    inputs = backbone.prepare(seen)
    ids = torch.tensor(backbone.tokenizer.encode(prompt(seen.instruction[0])).ids)
    words = backbone.language.embed_tokens(ids)
    layout, n = inputs.layout, len(ids)
    expected = [words[:1], layout.projected_vision[0], words[1:], backbone.queries]
    kept = inputs.embeds[0, layout.key_valid[0]]
    assert torch.equal(kept, torch.cat(expected))
    assert (layout.vision, layout.length.item()) == (slice(1, 33), n + 32 + 3)
    assert torch.equal(layout.projected_vision, backbone.projector(layout.raw_vision))
    assert layout.camera.tolist() == [0] * 16 + [1] * 16


@torch.no_grad()
def test_padding_follows_the_patches_so_that_the_prompt_ends_at_the_queries(config, backbone):
    """Released heads read the position before the queries as the last prompt token."""
    seen = replace(observe(config), instruction=("press", "press the button and open the drawer"))
    inputs = backbone.prepare(seen)
    valid, before = inputs.layout.key_valid, inputs.layout.queries.start - 1
    assert valid[:, before].all()
    assert not valid[0, 33]
    assert valid[:, :33].all()
    last = backbone.tokenizer.encode(prompt("press")).ids[-1]
    word = backbone.language.embed_tokens.weight[last]
    assert torch.equal(inputs.embeds[:, before], word.expand(2, -1))


@torch.no_grad()
def test_further_tokens_follow_the_patches(config, backbone):
    token = torch.randn(2, 1, 32)
    inputs = backbone.prepare(observe(config), token)
    assert torch.equal(inputs.embeds[:, 33:34], token)
    assert inputs.layout.key_valid[:, 33].all()
    assert torch.equal(inputs.embeds[0, inputs.layout.queries], backbone.queries)


def test_queries_are_not_zero_at_the_start(backbone):
    assert 0.01 < backbone.queries.std() < 0.03


# ---- taps ----------------------------------------------------------------------------------------
@torch.no_grad()
def test_taps_equal_transformers_hidden_states_and_cache(config, backbone):
    """The whole Qwen2 model on the same embeddings: residual stream, keys, values, last norm."""
    inputs, taps = run(backbone, pick(observe(config), 0, 0))  # equal rows: nothing is padded
    keep = inputs.layout.key_valid[0]
    model = Qwen2Model(qwen2_config(config.backbone.sizes)).eval()
    model.set_attn_implementation("eager")
    model.load_state_dict(backbone.language.state_dict())
    out = model(inputs_embeds=inputs.embeds[:, keep], output_hidden_states=True, use_cache=True)
    for tap, hidden in zip(taps[:-1], out.hidden_states[1:-1], strict=True):
        assert torch.allclose(tap.hidden[:, keep], hidden, atol=1e-5)
    last = taps[-1].final_norm(taps[-1].hidden)[:, keep]
    assert torch.allclose(last, out.hidden_states[-1], atol=1e-5)
    assert not torch.allclose(last, taps[-1].hidden[:, keep], atol=1e-2)
    for tap, layer in zip(taps, out.past_key_values.layers, strict=True):
        assert torch.allclose(tap.kv[0][:, :, keep], layer.keys, atol=1e-5)
        assert torch.allclose(tap.kv[1][:, :, keep], layer.values, atol=1e-5)


def test_a_row_alone_equals_the_row_in_a_batch(config, backbone):
    """Prompts of different lengths are padded, and nobody notices."""
    short, long = "press", "pick up the red cube and stack it on the green one"
    seen = replace(observe(config), instruction=(short, long))
    both, together = run(backbone, seen)
    for row in range(2):
        one, alone = run(backbone, pick(seen, row))
        assert one.layout.length == both.layout.length[row]
        for a, b in zip(alone, together, strict=True):
            mine, theirs = one.layout.key_valid[0], both.layout.key_valid[row]
            assert torch.allclose(a.hidden[0, mine], b.hidden[row, theirs], atol=1e-5)
            assert torch.allclose(a.intent[0], b.intent[row], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("attention", "sees"), [("causal", False), ("bidirectional", True)])
def test_attention_switch(config, attention, sees):
    """What comes last is seen by what comes first only where attention runs both ways."""
    backbone = build(change(config, backbone__attention=attention))
    _, before = run(backbone, observe(config))
    backbone.queries[-1] += 1
    _, after = run(backbone, observe(config))
    same = torch.allclose(before[0].hidden[:, 0], after[0].hidden[:, 0], atol=1e-6)
    assert same != sees


@torch.no_grad()
def test_segments_equal_the_generator(config, backbone):
    inputs, taps = run(backbone, observe(config))
    hidden, first = backbone.segment(inputs, inputs.embeds, 0, 2)
    hidden, second = backbone.segment(inputs, hidden, 2, 6)
    assert torch.equal(hidden, taps[-1].hidden)
    for a, b in zip((*first, *second), taps, strict=True):
        assert torch.equal(a.hidden, b.hidden)


# ---- policies ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["focusvla", "vla_adapter", "oft", "composed"])
def test_every_preset_acts_and_learns_on_it(name):
    config = small(name)
    policy = make(config)
    chunk, _, _ = policy.act(observe(config))
    assert chunk.actions.shape == (2, config.chunk, 7)
    loss, _ = policy.loss(windows(config))
    loss.backward()
    backbone = policy.backbone
    for weight in (
        backbone.queries,
        backbone.vision.siglip.pos_embed,
        backbone.projector[0].weight,
    ):
        assert weight.grad.abs().sum() > 0


# ---- words ---------------------------------------------------------------------------------------
def test_the_tokenizer_travels_with_the_checkpoint(config, backbone, tmp_path):
    backbone.save_tokenizer(tmp_path / "backbone")
    other = build(config)
    other.tokenizer = None
    other.load_tokenizer(tmp_path / "backbone")
    for sentence in SENTENCES:
        ids = [b.tokenizer.encode(prompt(sentence)).ids for b in (backbone, other)]
        assert ids[0] == ids[1]


def test_a_tokenizer_larger_than_the_embedding_is_refused(config, backbone, tmp_path):
    backbone.save_tokenizer(tmp_path)
    narrow = build(change(config, backbone__sizes__vocabulary=100))
    with pytest.raises(ValueError, match="the embedding 100 rows"):
        narrow.load_tokenizer(tmp_path)


def test_a_prompt_longer_than_its_bucket_is_refused(config, backbone):
    seen = replace(observe(config), instruction=("open the drawer " * 20, "press"))
    with pytest.raises(ValueError, match="text_tokens allows 64"):
        backbone.prepare(seen)
