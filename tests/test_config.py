"""Configuration: what is derived, what is refused and with which words, plain data and back."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from miniature import change, miniature

from costep.config import LEGAL, BackboneSizes, Exits, Focus, PolicyConfig
from costep.presets import PRESETS, preset

KINDS = ("step", "queries", "expert", "fast", "pi", "gr00t")


@pytest.mark.parametrize("size", ["tiny", "small", "full"])
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name, size):
    config = preset(name, size)
    assert PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_values_that_json_changes_come_back():
    config = miniature(
        "s2vla", exits__layers=(2, 5), exits__mass=(1, 0.5), head__gate__layers="all"
    )
    config = change(config, exits__require_gate=False, exits__layers=None)
    back = PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert back == config
    assert back.exits.mass == (1.0, 0.5)
    assert back.head.gated == (1, 2, 3, 4, 5, 6)
    assert hash(back) == hash(config)


# ---- what is derived -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "exits", "probe"),
    [
        ("s2vla", (11, 17, 23), 5),
        ("composed", (11, 17, 23), 5),
        ("focusvla", (5, 11, 17, 23), 2),
        ("vla_adapter", (5, 11, 17, 23), 2),
        ("a1_mlp", (6, 13, 20, 27), 3),
        ("a1_flow", (6, 13, 20, 27), 3),
    ],
)
def test_exits_of_the_papers(name, exits, probe):
    config = preset(name, "full")
    assert config.exit_layers == exits
    assert config.probe == probe


@pytest.mark.parametrize(
    ("gate", "exits", "probe"),
    [
        ((), (5, 11, 17, 23), 4),
        ((1,), (5, 11, 17, 23), 4),
        ((6,), (5, 11, 17, 23), 4),
        ((18,), (17, 23), 11),
        ((24,), (23,), 17),
        ((6, 12, 18), (5, 11, 17, 23), 4),
    ],
)
def test_moving_the_gate_needs_no_other_switch(gate, exits, probe):
    """S2's Table 3, one field per row; the quarter point before the first exit is its probe."""
    config = change(preset("s2vla", "full"), head__gate__layers=gate)
    assert config.exit_layers == exits
    assert config.probe == probe


def test_s2_leaves_the_last_four_layers_out():
    config = preset("s2vla", "full")
    assert (config.layers_run, config.backbone.sizes.layers) == (24, 28)
    assert config.vision_layer == 3  # 1-based 4
    assert config.first_gate == 11  # 1-based 12


@pytest.mark.parametrize(
    ("kind", "first", "last"), [("first", 0, 23), ("last", 4, 27), ("uniform", 0, 27)]
)
def test_layer_maps(kind, first, last):
    config = change(preset("s2vla", "full"), head__layer_map=kind)
    reads = config.layer_map
    assert len(reads) == 24
    assert all(a < b for a, b in pairwise(reads))
    assert (reads[0], reads[-1]) == (first, last)
    assert config.layers_run == last + 1


def test_the_uniform_map_rounds_half_up():
    config = change(preset("s2vla", "full"), head__layer_map="uniform")
    written = [int((i * 28 / 24) + 0.5) for i in range(1, 25)]  # rulings 9, 1-based
    assert [m + 1 for m in config.layer_map] == written


def test_exits_wait_for_the_vision_layer_and_the_gate():
    config = miniature("s2vla", head__vision_layer=4, head__gate__layers=(1,))
    assert config.exit_layers == (4, 5)
    assert change(config, exits__require_gate=False).exit_layers == (4, 5)
    late = change(config, head__vision_layer=1, head__gate__layers=(5,))
    assert late.exit_layers == (4, 5)
    assert change(late, exits__require_gate=False).exit_layers == (1, 2, 4, 5)
    assert change(late, exits__require_gate=False, exits__min_layer=3).exit_layers == (4, 5)


def test_history_and_execution_follow_the_chunk():
    config = miniature("s2vla")
    assert config.history == config.execute == config.chunk
    assert change(config, belief__horizon=9).history == 9
    assert change(config, n_action_steps=2).execute == 2
    carry = change(config, belief__mode="carry", belief__burn_in=32)
    assert carry.history == 32
    assert miniature("focusvla").history == 0


def test_how_many_patches_are_kept():
    assert Focus(top_k_frac=0.5).count(768) == 384
    assert Focus(top_k=100).count(768) == 100
    assert Focus().count(768) is None
    assert Focus(top_k_frac=0.001).count(8) == 1


# ---- legal pairs ---------------------------------------------------------------------------------
def _paired(head, decoder):
    """A configuration of this pair that breaks no other rule."""
    base = {"queries": "oft", "expert": "a1_flow"}.get(head, "focusvla")
    config = miniature(base)
    return {"head__kind": head, "decoder__kind": decoder}, config


@pytest.mark.parametrize("head", KINDS)
@pytest.mark.parametrize("decoder", ["regression", "flow"])
def test_the_table_of_legal_pairs(head, decoder):
    legal = {
        ("step", "regression"), ("step", "flow"), ("queries", "regression"), ("expert", "flow"),
        ("pi", "flow"), ("gr00t", "flow"), ("fast", "regression"),
    }  # fmt: skip
    fields, config = _paired(head, decoder)
    if (head, decoder) in legal:
        assert decoder in LEGAL[head]
        change(config, **fields)
    else:
        with pytest.raises(ValueError, match=r"head\.kind=.*decoder\.kind"):
            change(config, **fields)


# ---- what is refused -----------------------------------------------------------------------------
ILLEGAL = [
    ("s2vla", {"head__attention": "mixed"}, r"head\.attention='mixed' with head\.fusion='sum'"),
    ("s2vla", {"head__fusion": "joint"}, r"head\.fusion='joint'"),
    ("vla_adapter", {"head__gate__layers": (3,)}, r"head\.gate\.layers=\(3,\).*fusion='joint'"),
    ("s2vla", {"belief__mode": "none"}, r"source='belief' needs belief\.mode"),
    ("s2vla", {"head__gate__layers": (7,)}, r"head\.gate\.layers=\(7,\) must lie in 1\.\.6"),
    ("s2vla", {"head__gate__layers": (0,)}, r"must lie in 1\.\.6"),
    ("s2vla", {"head__gate__layers": (4, 3)}, r"strictly increasing"),
    ("s2vla", {"head__depth": 7}, r"head\.depth=7"),
    ("s2vla", {"head__heads": 5}, r"head\.width=32 is not divisible by head\.heads=5"),
    ("s2vla", {"head__heads": 32}, r"must be even"),
    ("s2vla", {"head__vision_layer": 0}, r"head\.vision_layer=0"),
    ("s2vla", {"head__vision_layer": 7}, r"head\.vision_layer=7"),
    ("s2vla", {"head__stream": "dual"}, r"head\.stream='dual'"),
    ("s2vla", {"backbone__queries": "none"}, r"backbone\.queries='none'"),
    ("s2vla", {"backbone__layers_run": 5}, r"backbone\.layers_run=5"),
    ("s2vla", {"backbone__layers_run": 7}, r"backbone\.layers_run=7 must lie in 1\.\.6"),
    ("focusvla", {"head__focus__values": "vggt"}, r"backbone\.extra='vggt'"),
    ("focusvla", {"head__focus__keys": "vggt"}, r"backbone\.extra='vggt'"),
    ("oft", {"head__depth": 6}, r"head\.depth must be 0, not 6"),
    ("oft", {"backbone__queries": "intent"}, r"backbone\.queries='intent'"),
    ("oft", {"belief__mode": "window"}, r"belief\.mode='window' has no reader"),
    ("oft", {"head__gate__layers": (1,)}, r"head\.gate\.layers"),
    ("a1_flow", {"head__gate__layers": (1,)}, r"head\.gate\.layers=\(1,\).*'expert' has none"),
    ("a1_flow", {"head__depth": 5}, r"head\.depth=5.*sizes\.layers=6"),
    ("a1_flow", {"head__heads": 3}, r"head\.heads=3.*kv_heads=2"),
    ("s2vla", {"exits__layers": (1, 5)}, r"exits \[1\] come before backbone layer 2"),
    ("focusvla", {"exits__layers": (2, 4)}, r"must end with 5"),
    ("focusvla", {"exits__layers": (4, 2, 5)}, r"strictly increasing"),
    ("focusvla", {"exits__layers": ()}, r"must end with 5"),
    ("focusvla", {"exits__probe": 1}, r"exits\.probe=1 must come before the first exit 1"),
    ("s2vla", {"exits__probe": 0}, r"exits\.probe=0 reads no action"),
    ("focusvla", {"exits__force": 3}, r"exits\.force=3 is not an exit"),
    ("focusvla", {"head__depth": 3, "head__layer_map": "uniform", "exits__layers": (2, 5)},
     r"exits \[2\] are not read"),
    ("a1_mlp", {"exits__readout": "per_exit"}, r"exits\.readout='per_exit'"),
    ("focusvla", {"head__kind": "gr00t", "decoder__kind": "flow", "exits__layers": (5,)},
     r"'gr00t' has no early exits"),
    ("focusvla", {"upstream_compat": True}, r"upstream_compat"),
    ("vla_adapter", {"upstream_compat": True, "head__rope": "none"}, r"chunk_embed=False"),
    ("focusvla", {"n_action_steps": 5}, r"n_action_steps=5 exceeds chunk=4"),
    ("focusvla", {"cameras": ()}, r"cameras is empty"),
    ("focusvla", {"cameras": ("agent", "agent")}, r"repeats a name"),
    ("focusvla", {"chunk": 0}, r"chunk=0"),
    ("focusvla", {"pad_dim": 6}, r"pad_dim=6 is narrower than action_dim=7"),
    ("s2vla", {"belief__mode": "carry", "belief__horizon": 2}, r"belief\.horizon=2 of 4"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "message"), ILLEGAL, ids=lambda v: str(v)[:50])
def test_illegal_crosses_name_the_field(name, fields, message):
    config = miniature(name)
    with pytest.raises(ValueError, match=message):
        change(config, **fields)


def test_upstream_compat_is_for_the_ancestors():
    for kv, rope in (("separate", "upstream"), ("shared", "none")):
        change(
            miniature("vla_adapter"), upstream_compat=True,
            head__kv=kv, head__rope=rope, head__chunk_embed=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 4, "top_k_frac": 0.5}, "not both"),
        ({"top_k": 0}, r"focus\.top_k=0"),
        ({"top_k_frac": 1.5}, r"focus\.top_k_frac"),
        ({"impl": "gather"}, r"focus\.impl='gather' needs focus\.scope='shared'"),
    ],
)
def test_illegal_focus(fields, message):
    with pytest.raises(ValueError, match=message):
        Focus(**fields)


def test_widths_that_do_not_divide():
    with pytest.raises(ValueError, match="kv_heads"):
        change(miniature("focusvla"), backbone__sizes__kv_heads=3)


def test_a_misspelt_choice_raises_at_once():
    with pytest.raises(ValueError, match=r"config\.head\.ffn_skip='outter'; expected one of"):
        change(miniature("focusvla"), head__ffn_skip="outter")
    with pytest.raises(ValueError, match=r"exits\.layers=\[1, 5\] is not immutable"):
        change(miniature("focusvla"), exits=replace(Exits(), layers=[1, 5]))
    with pytest.raises(ValueError, match=r"config\.head='step' is str"):
        change(miniature("focusvla"), head="step")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(colour=1), r"config: unknown field\(s\) \['colour'\]"),
        (lambda d: d["head"]["focus"].update(topk=1), r"config\.head\.focus: unknown field"),
        (lambda d: d["head"].update(kind="stepp"), r"config\.head\.kind='stepp'; expected one of"),
        (lambda d: d.update(chunk="8"), r"config\.chunk='8' is str; expected int"),
        (lambda d: d.update(chunk=True), r"config\.chunk=True is bool"),
        (lambda d: d["head"].update(chunk_embed=1), r"chunk_embed=1 is int; expected bool"),
        (lambda d: d["exits"].update(layers=5), r"config\.exits\.layers=5; expected a list"),
        (lambda d: d["exits"].update(layers=["a"]), r"config\.exits\.layers='a'"),
        (lambda d: d["exits"].update(probe="first"), r"config\.exits\.probe='first'"),
        (lambda d: d.update(head=3), r"config\.head=3 is int; expected dict"),
        (lambda d: d.pop("preset"), r"missing field\(s\) \['preset'\]"),
    ],
)
def test_bad_files_name_the_path(edit, message):
    data = miniature("focusvla").to_dict()
    edit(data)
    with pytest.raises(ValueError, match=message):
        PolicyConfig.from_dict(data)


def test_an_old_file_without_a_new_field_gets_the_default():
    data = miniature("focusvla").to_dict()
    del data["exits"]["overlap"]
    assert PolicyConfig.from_dict(data) == miniature("focusvla")


def test_sizes_are_the_prismatic_ones_by_default():
    assert BackboneSizes().width == 896
