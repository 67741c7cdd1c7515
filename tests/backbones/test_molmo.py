"""Molmo's sequence and language layers: equal to transformers' Qwen2, cameras in their own slots,
rows and padding that do not see each other.
"""

from dataclasses import replace

import pytest
import torch
from miniature import change, make, observe, pick
from molmo_like import CROP, TOKENS, build, molmo
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model

from costep import backbones
from costep.backbones.molmo import MARKERS, qwen_config
from costep.policy import Policy
from costep.presets import preset


def hidden(backbone, observation, extra=None):
    """Every tap's residual stream, (layers, B, N, D), and the layout."""
    with torch.no_grad():
        inputs = backbone.prepare(observation, extra)
        return torch.stack([t.hidden for t in backbone.layers(inputs)]), inputs.layout


def count(module):
    return sum(p.numel() for p in module.parameters())


# ---- the language model --------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "everything"), [("a1_flow", False), ("a1_mlp", True)])
def test_taps_equal_qwen2(name, everything):
    """Raw residual stream, final norm, and rotated keys and values of every layer."""
    config = molmo(name)
    backbone, seen = build(config), observe(config)
    theirs = Qwen2Model(qwen_config(config.backbone.sizes)).eval()
    state = {f"layers.{k}": v for k, v in backbone.blocks.state_dict().items()}
    state["norm.weight"] = backbone.final_norm.weight
    theirs.load_state_dict(state, strict=False)
    with torch.no_grad():
        extra = torch.randn(2, 1, 32)
        inputs = backbone.prepare(seen, extra)
        valid = inputs.layout.key_valid
        n = valid.shape[1]
        mask = valid[:, None, None].expand(-1, 1, n, n)
        if not everything:
            mask = (mask & torch.ones(n, n).tril().bool()) | torch.eye(n).bool()
        out = theirs(
            inputs_embeds=inputs.embeds, attention_mask=mask, use_cache=True,
            position_ids=(valid.cumsum(1) - 1), output_hidden_states=True,
        )  # fmt: skip
        taps = list(backbone.layers(inputs))
        assert [t.layer for t in taps] == list(range(6))
        for tap, state in zip(taps, out.hidden_states[1:-1]):
            assert torch.allclose(tap.hidden[valid], state[valid], atol=1e-5)
        last = taps[-1].final_norm(taps[-1].hidden)
        assert torch.allclose(last[valid], out.last_hidden_state[valid], atol=1e-5)
        for tap, cached in zip(taps, out.past_key_values.layers):
            keep = valid[:, None].expand(-1, 2, -1)
            assert torch.allclose(tap.kv[0][keep], cached.keys[keep], atol=1e-5)
            assert torch.allclose(tap.kv[1][keep], cached.values[keep], atol=1e-5)


def test_layers_run_when_asked():
    config = molmo()
    backbone = build(config)
    ran = []
    for index, block in enumerate(backbone.blocks):
        block.register_forward_hook(lambda *_, i=index: ran.append(i))
    taps = backbone.layers(backbone.prepare(observe(config)))
    next(taps), next(taps)
    assert ran == [0, 1]


# ---- the sequence --------------------------------------------------------------------------------
def test_the_sequence_is_start_cameras_text_extra_and_fenced_queries():
    config = molmo("a1_mlp")
    backbone, seen = build(config), observe(config)
    token = torch.randn(2, 1, 32)
    with torch.no_grad():
        inputs = backbone.prepare(seen, token)
    x, layout = inputs.embeds, inputs.layout
    marker = {m: backbone.words.weight[640 - 128 + i] for i, m in enumerate(MARKERS)}
    near = lambda a, b: torch.allclose(a, b.expand_as(a), atol=1e-6)  # noqa: E731
    assert near(x[:, 0], marker["<|endoftext|>"])
    for camera in range(2):
        crop = x[:, 1 + camera * CROP : 1 + (camera + 1) * CROP]
        assert near(crop[:, 0], marker["<im_start>"])
        assert near(crop[:, -1], marker["<im_end>"])
        grid = crop[:, 1:-1].unflatten(1, (3, 4))
        assert near(grid[:, :, 3], marker["<im_col>"])
        features = layout.projected_vision[:, camera * TOKENS : (camera + 1) * TOKENS]
        patches = grid[:, :, :3].flatten(1, 2)
        assert near(patches - marker["<im_patch>"], features)
    words = backbone.tokenizer.encode(f" User: {seen.instruction[0]} Assistant: Action").ids
    text = x[0, 1 + 2 * CROP :][: len(words)]
    assert near(text, backbone.words.weight[words])
    n, queries = x.shape[1], config.chunk * config.action_dim
    assert layout.queries == slice(n - 1 - queries, n - 1)
    assert near(x[0, layout.queries], backbone.queries)
    assert near(x[0, n - 3 - queries : n - 1 - queries], backbone.fence[:2])
    assert near(x[0, -1], backbone.fence[2])
    assert near(x[:, n - 4 - queries], token[:, 0])


def test_the_layout_finds_the_patches_between_the_markers():
    config = molmo()
    backbone = build(config)
    inputs = backbone.prepare(observe(config))
    layout, tap = inputs.layout, next(backbone.layers(inputs))
    row = [2, 3, 4, 6, 7, 8, 10, 11, 12]
    assert layout.vision.tolist() == row + [CROP + at for at in row]
    assert layout.camera.tolist() == [0] * 9 + [1] * 9
    assert torch.equal(tap.vision, tap.hidden[:, layout.vision])
    assert tap.intent.shape == (2, 0, 32)  # a flow asks no queries
    assert layout.raw_vision.shape == (2, 18, 24)
    assert backbone.info.vision_tokens == 18
    assert backbone.info.grid == (3, 3)


def test_the_instruction_is_read_in_lower_case():
    config = molmo()
    backbone, seen = build(config), observe(config, rows=1)
    x, _ = hidden(backbone, replace(seen, instruction=("Open THE Drawer",)))
    y, _ = hidden(backbone, replace(seen, instruction=("open the drawer",)))
    assert torch.equal(x, y)


def test_two_crops_per_camera():
    config = molmo(backbone__image_tokens=2 * TOKENS)
    backbone = build(config)
    layout = backbone.prepare(observe(config)).layout
    assert len(layout.vision) == len(set(layout.vision.tolist())) == 4 * TOKENS
    assert layout.camera.tolist() == [0] * 18 + [1] * 18
    assert backbone.info.grid == (6, 3)
    with pytest.raises(ValueError, match="image_tokens=7; Molmo takes 9 per camera"):
        build(molmo(backbone__image_tokens=7))


@pytest.mark.parametrize(("queries", "rows"), [("per_slot", 28), ("per_dof", 7)])
def test_action_queries(queries, rows):
    config = molmo("a1_mlp", backbone__queries=queries)
    backbone = build(config)
    inputs = backbone.prepare(observe(config))
    asked = inputs.embeds[0, inputs.layout.queries].unflatten(0, (4, 7))
    assert len(backbone.queries) == rows
    assert asked.shape == (4, 7, 32)
    same = torch.equal(asked[0], asked[1])
    assert same == (queries == "per_dof")


# ---- cameras, rows, padding ----------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a1_flow", "a1_mlp"])
def test_cameras_keep_their_own_slots(name):
    """Swapped cameras give another answer, and one camera's picture reaches its own slots only."""
    config = molmo(name)
    backbone, seen = build(config), observe(config)
    swapped = {"agent": seen.images["wrist"], "wrist": seen.images["agent"]}
    before, after = backbone.prepare(seen), backbone.prepare(replace(seen, images=swapped))
    a, b = (i.embeds[:, i.layout.vision] for i in (before, after))
    assert torch.allclose(a[:, :9], b[:, 9:], atol=1e-5)
    assert torch.allclose(a[:, 9:], b[:, :9], atol=1e-5)
    assert not torch.allclose(a[:, :9], a[:, 9:], atol=1e-3)
    policy = make(config)
    actions = [
        policy.act(o, generator=torch.Generator().manual_seed(0))[0].actions
        for o in (seen, replace(seen, images=swapped))
    ]
    assert not torch.allclose(*actions, atol=1e-5)


@pytest.mark.parametrize("name", ["a1_flow", "a1_mlp"])
def test_a_row_alone_equals_the_row_in_a_batch(name):
    """Instructions of different lengths: padding is never seen and takes no position."""
    config = molmo(name)
    policy = make(config)
    seen = replace(
        observe(config, rows=3),
        instruction=("go", "stack the big blue cube", "open the drawer now"),
    )
    x, layout = hidden(policy.backbone, seen)
    assert len(set(layout.length.tolist())) == 3, layout.length
    chunk = lambda o: policy.act(o, generator=torch.Generator().manual_seed(0))[0].actions  # noqa: E731
    for row in range(3):
        y, alone = hidden(policy.backbone, pick(seen, row))
        a, b = x[:, row, layout.key_valid[row]], y[:, 0, alone.key_valid[0]]
        assert torch.allclose(a, b, atol=1e-5)
    if name == "a1_mlp":
        together = chunk(seen)
        for row in range(3):
            assert torch.allclose(together[row], chunk(pick(seen, row))[0], atol=1e-5)


def test_causal_tokens_look_back_and_bidirectional_ones_everywhere():
    for name, everywhere in (("a1_flow", False), ("a1_mlp", True)):
        config = molmo(name)
        backbone, seen = build(config), observe(config, rows=1)
        x, layout = hidden(backbone, seen)
        other = seen.images | {"wrist": 255 - seen.images["wrist"]}
        y, _ = hidden(backbone, replace(seen, images=other))
        moved = (x - y).abs().amax((1, 3))[-1]
        first = layout.vision[9]
        assert (moved[:first].max() > 0) == everywhere
        assert moved[first:][layout.key_valid[0, first:]].min() > 0


# ---- refusals ------------------------------------------------------------------------------------
def test_a_missing_camera_is_named():
    config = molmo()
    seen = observe(config)
    with pytest.raises(KeyError, match=r"'wrist' is missing.*agent"):
        build(config).prepare(replace(seen, images={"agent": seen.images["agent"]}))


def test_a_tokenizer_with_more_words_than_rows_is_refused():
    with pytest.raises(ValueError, match=r"needs \d+ embedding rows, .*vocabulary=300"):
        build(change(molmo(), backbone__sizes__vocabulary=300))


@pytest.mark.parametrize("field", [{"backbone__extra": "vggt"}, {"backbone__film": True}])
def test_what_molmo_does_not_have_is_refused(field):
    with pytest.raises(ValueError, match=r"Molmo"):
        build(molmo(**field))


# ---- full size -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def full():
    """Both A1 policies at full size, without storage; state and actions of 32 for the expert."""
    with torch.device("meta"):
        wide = change(preset("a1_flow", "full"), state_dim=32, action_dim=32)
        return Policy(preset("a1_mlp", "full")), Policy(preset("a1_flow", "full")), Policy(wide)


def test_full_size_counts(full):
    mlp, flow, wide = full
    for policy in full:
        assert {count(block) for block in policy.backbone.blocks} == {233_057_792}
        assert policy.backbone.info.vision_tokens == 288
        assert policy.backbone.info.grid == (12, 12)
    matrices = [p for p in mlp.backbone.blocks[0].parameters() if p.dim() == 2]
    assert sum(p.numel() for p in matrices) == 233_046_016
    assert count(flow.backbone.words) == 152_192 * 3584
    assert count(flow.backbone.vision) == 404_950_016
    assert count(flow.backbone.vision.tower.layers) == 23 * 12_596_224
    logits = 152_064 * 3584  # released, never computed
    assert (count(flow.backbone) + logits) / 1e9 == pytest.approx(8.02, abs=0.01)
    assert len(mlp.backbone.queries) == 56
    assert count(mlp.decoder) == 115_713_031
    assert count(wide.head) + count(wide.decoder) == 270_762_016


def test_full_size_sequence(full):
    """Two cameras: 158 tokens each; a query head adds state, three markers and 56 queries."""
    mlp, flow, _ = full
    for policy, more in ((mlp, 60), (flow, 0)):
        seen = observe(policy.config, rows=1)
        seen = replace(seen, images={k: v.to("meta") for k, v in seen.images.items()})
        extra = policy.head.prefix(replace(seen, state=seen.state.to("meta")))
        inputs = policy.backbone.prepare(seen, extra)
        words = policy.backbone.tokenizer.encode(f" User: {seen.instruction[0]} Assistant: Action")
        text = -(-len(words.ids) // 4) * 4
        assert inputs.embeds.shape == (1, 1 + 2 * 158 + text + more, 3584)
        assert len(inputs.layout.vision) == 288


@pytest.mark.slow
def test_one_full_size_layer_runs():
    sizes = preset("a1_flow", "full").backbone.sizes
    config = molmo(backbone__sizes=replace(sizes, layers=6, vocabulary=640))
    with torch.device("meta"):
        backbone = backbones.build(config)
    layer = backbone.blocks[0].to_empty(device="cpu")
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.01)
    x = torch.randn(1, 20, 3584)
    allowed = torch.ones(1, 1, 20, 20, dtype=torch.bool).tril()
    turn = torch.randn(1, 20, 128)
    with torch.no_grad():
        out = layer(x, attention_mask=allowed, position_embeddings=(turn.cos(), turn.sin()))
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert not torch.equal(out, x)
