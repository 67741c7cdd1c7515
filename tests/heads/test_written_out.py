"""Every step head against the reference of written_out.py: six layers, stem to latent."""

import pytest
import torch
from miniature import climb, info, make_layout, make_taps, miniature, observe
from written_out import tower

from costep import heads

FOCUS_K = {"head__focus__top_k_frac": None, "head__focus__top_k": 5}
CASES = {
    "adapter": ("vla_adapter", {}),
    "adapter_original": ("vla_adapter", {"head__kv": "shared", "head__rope": "none"}),
    "adapter_released_rotary": (
        "vla_adapter",
        {"head__rope": "upstream", "head__chunk_embed": False},
    ),
    "adapter_scalar_out": ("vla_adapter", {"head__focus__gate": "scalar_out"}),
    "adapter_no_gate": ("vla_adapter", {"head__focus__gate": "none"}),
    "adapter_outer": ("vla_adapter", {"head__ffn_skip": "outer"}),
    "focus": ("focusvla", {}),
    "focus_k5": ("focusvla", FOCUS_K),
    "focus_dense": ("focusvla", {"head__focus__top_k_frac": None}),
    "focus_head_gate": ("focusvla", {"head__focus__gate": "head"}),
    "focus_scalar_out": ("focusvla", {"head__focus__gate": "scalar_out"}),
    "focus_vlm_values": ("focusvla", {"head__focus__values": "vlm"}),
    "focus_projected": ("focusvla", {"head__focus__values": "ds_projected"}),
    "focus_ds": ("focusvla", {"head__focus__keys": "ds"}),
    "focus_rope_all": ("focusvla", {"head__rope": "all"}),
    "focus_rope_none": ("focusvla", {"head__rope": "none"}),
    "focus_own_queries": ("focusvla", {"head__q": "per_branch"}),
    "focus_inner": ("focusvla", {"head__ffn_skip": "inner"}),
    "focus_sequential": ("focusvla", {"head__cascade": "sequential"}),
    "focus_concat_all": ("focusvla", {"head__intent": "concat_all"}),
    "focus_last_intent": ("focusvla", {"head__intent": "last"}),
    "s2": ("s2vla", {}),
    "s2_proprio": ("s2vla", {"head__proprio_token": True}),
    "s2_no_gate": ("s2vla", {"head__gate__layers": ()}),
    "s2_all_gates": ("s2vla", {"head__gate__layers": "all"}),
    "s2_three_gates": ("s2vla", {"head__gate__layers": (2, 3, 5)}),
    "s2_late_vision": ("s2vla", {"head__vision_layer": 5}),
    "s2_per_layer_vision": ("s2vla", {"head__vision_layer": "per_layer"}),
    "s2_last_layers": ("s2vla", {"head__depth": 3, "head__layer_map": "last"}),
    "s2_uniform_layers": ("s2vla", {"head__depth": 4, "head__layer_map": "uniform"}),
    "s2_narrow": ("s2vla", {"head__width": 24}),
    "composed": ("composed", {}),
}


def roughen(head):
    """Weights large enough that every term shows in the result."""
    for p in head.parameters():
        p.data += torch.randn_like(p) * 0.1


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_head_equals_its_equations(name):
    preset, fields = CASES[name]
    config = miniature(preset, **fields)
    about = info()
    head = heads.build(config, about)
    roughen(head)
    layout = make_layout(about)
    taps, observation = make_taps(about, layout)[: config.layers_run], observe(config)
    beliefs = torch.randn(len(config.head.gated), 2, 12) if config.head.gated else None
    state = climb(head, layout, taps, observation, beliefs)
    written = tower(head, config, layout, taps, observation, beliefs)
    assert written.abs().max() > 0.1
    assert (head.features(state) - written).abs().max() < 1e-5 * max(1, written.abs().max())


@pytest.mark.parametrize("name", ["s2", "focus_k5", "s2_late_vision", "focus_concat_all"])
@torch.no_grad()
def test_every_exit_equals_a_shorter_head(name):
    """The latent at exit e is what a head that ends there would have computed."""
    preset, fields = CASES[name]
    config = miniature(preset, **fields)
    about = info()
    head = heads.build(config, about)
    roughen(head)
    layout, observation = make_layout(about), observe(config)
    taps = make_taps(about, layout)
    beliefs = torch.randn(1, 2, 12) if config.head.gated else None
    for e in range(config.ready_layer, 6):
        state = climb(head, layout, taps[: e + 1], observation, beliefs)
        written = tower(head, config, layout, taps[: e + 1], observation, beliefs)
        assert torch.allclose(head.features(state), written, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["s2", "focus", "focus_k5", "adapter", "s2_late_vision", "composed"]
)
@torch.no_grad()
def test_under_flow_noisy_actions_take_the_place_of_the_stem(name):
    """At every exit the head reruns its layers on the cached taps (rulings 2)."""
    preset, fields = CASES[name]
    config = miniature(preset, decoder__kind="flow", **fields)
    about = info()
    head = heads.build(config, about)
    roughen(head)
    layout, observation = make_layout(about), observe(config)
    taps = make_taps(about, layout)
    beliefs = torch.randn(1, 2, 12) if config.head.gated else None
    x_t, t = torch.randn(2, 4, 7), torch.tensor([0.2, 0.9])
    start = head.noisy(x_t, t)
    for e in range(config.ready_layer, 6):
        state = climb(head, layout, taps[: e + 1], observation, beliefs)
        written = tower(head, config, layout, taps[: e + 1], observation, beliefs, start)
        assert torch.allclose(head.rerun(state, x_t, t), written, atol=1e-5 * written.abs().max())
        assert set(state.gates) == {g for g in config.head.gated if config.layer_map[g - 1] <= e}


@torch.no_grad()
def test_before_the_vision_layer_nothing_moves():
    config = miniature("s2vla", head__vision_layer=4)
    about = info()
    head = heads.build(config, about)
    layout, observation = make_layout(about), observe(config)
    taps = make_taps(about, layout)
    stem = head.features(head.start(layout, observation))
    waiting = climb(head, layout, taps[:3], observation)
    assert torch.equal(head.features(waiting), stem)
    assert [t.layer for t in waiting.waiting] == [0, 1, 2]


@torch.no_grad()
def test_a_layer_of_the_map_is_not_another():
    """Changing a tap that no head layer reads changes nothing; one that is read does."""
    config = miniature("focusvla", head__depth=3, head__layer_map="uniform")
    assert config.layer_map == (1, 3, 5)
    about = info()
    head = heads.build(config, about)
    layout, observation = make_layout(about), observe(config)
    taps = make_taps(about, layout)
    before = head.features(climb(head, layout, taps, observation))
    for layer in range(6):
        other = list(taps)
        other[layer] = type(taps[layer])(
            layer, taps[layer].hidden + 1, layout, taps[layer].kv, taps[layer].final_norm
        )
        after = head.features(climb(head, layout, other, observation))
        assert torch.equal(before, after) == (layer not in config.layer_map)
