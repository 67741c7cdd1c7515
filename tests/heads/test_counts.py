"""Parameter counts of the papers' heads at full size, on meta tensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from miniature import change
from torch.utils.flop_counter import FlopCounterMode

from costep import decoders, heads
from costep.belief import BeliefEncoder
from costep.presets import focusvla, preset
from costep.types import BackboneInfo

PRISMATIC = BackboneInfo(24, 896, 2, 64, 1e6, 2176, 512, (16, 16))
QWEN3_VL = BackboneInfo(28, 2048, 8, 128, 5e6, 1024, 128, (8, 8))
MOLMO = BackboneInfo(28, 3584, 4, 128, 1e6, 1024, 288, (12, 12))
BARE = {"head__chunk_embed": False, "head__proprio_token": False}


def count(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


def head_and_readout(config, info):
    with torch.device("meta"):
        head = heads.build(config, info)
        return head, decoders.build(config, head.features_width)


def total(config, info):
    return count(*head_and_readout(config, info))


FOCUS = [
    ({}, 239_060_871),
    ({"head__proprio_token": True}, 239_872_647),
    ({"head__proprio_token": True, "head__chunk_embed": True}, 239_879_815),
    ({"head__focus__values": "ds_projected"}, 237_110_279),
    ({"head__focus__values": "vggt", "backbone__extra": "vggt"}, 238_946_183),
    ({"head__focus__gate": "none"}, 219_771_783),
    ({"head__focus__gate": "head"}, 219_944_007),
    ({"head__q": "per_branch"}, 277_639_047),
    ({"action_dim": 14}, 244_699_406),
]


@pytest.mark.parametrize(("fields", "expected"), FOCUS, ids=[str(e) for _, e in FOCUS])
def test_focusvla(fields, expected):
    assert total(change(preset("focusvla", "full"), **(BARE | fields)), PRISMATIC) == expected


def test_two_arms_and_three_cameras():
    """The dual-arm row: 14 dimensions, 384 of 768 patches kept (focusvla sections 2, 6)."""
    config = focusvla(arms=2, cameras=3)
    assert config.cameras == ("agent", "left_wrist", "right_wrist")
    assert (config.action_dim, config.state_dim, config.chunk) == (14, 14, 16)
    assert config.head.focus.count(768) == 384
    views = replace(PRISMATIC, vision_tokens=768)
    assert total(change(config, **BARE), views) == 244_699_406
    assert focusvla(arms=1, cameras=2) == focusvla() == preset("focusvla", "full")
    for arms, cameras in ((1, 3), (2, 4), (3, 2), (1, 0)):
        with pytest.raises(ValueError, match=rf"arms={arms}, cameras={cameras}: expected"):
            focusvla(arms=arms, cameras=cameras)


def test_the_parts_of_focusvla():
    config = change(preset("focusvla", "full"), **BARE)
    head, readout = head_and_readout(config, PRISMATIC)
    assert count(head.blocks[0]) == 9_644_544
    assert count(head.blocks) == 231_469_056
    assert count(head.stem) == 5_633_152
    assert count(head.adapt["raw"]) == 1_950_592
    assert count(readout) == 8_071


def test_vla_adapter_original_and_pro():
    pro = change(preset("vla_adapter", "full"), **BARE)
    original = change(pro, head__kv="shared", head__rope="none")
    assert total(original, PRISMATIC) == 102_129_695
    assert total(pro, PRISMATIC) == 179_286_047
    assert count(head_and_readout(original, PRISMATIC)[0].blocks[0]) == 4_020_353
    block = count(head_and_readout(pro, PRISMATIC)[0].blocks[0])
    assert block + 896 * 1792 + 1792 == 8_842_625  # with its dead FiLM; the file's: test_weights
    with_defaults = preset("vla_adapter", "full")
    assert total(with_defaults, PRISMATIC) == 180_104_991  # rulings 5: with chunk and proprio
    assert total(change(with_defaults, head__proprio_token=False), PRISMATIC) == 179_293_215


def s2_parts(config):
    head, readout = head_and_readout(config, QWEN3_VL)
    gates = len(config.head.gated)
    with torch.device("meta"):
        belief = BeliefEncoder(7, 8, QWEN3_VL.width, config.belief.dim, gates, carry=False)
    return head, readout, belief


def test_s2_with_its_belief():
    head, readout, belief = s2_parts(preset("s2vla", "full"))
    assert count(head, readout, belief) == 938_127_882
    assert count(belief.cell) == 814_080
    assert count(belief.out) == 262_656
    assert count(belief.start) == 1_049_088
    assert count(head.blocks[11].weights) == 66_051
    assert count(head.blocks[0]) == 37_771_264
    assert count(head.stem) == 29_390_848
    assert count(readout) == 18_439


def test_s2_without_belief():
    config = change(
        preset("s2vla", "full"),
        head__gate__layers=(), head__chunk_embed=False, belief__mode="none",
    )  # fmt: skip
    assert total(config, QWEN3_VL) == 935_919_623


def test_s2_at_smaller_widths():
    """Two shared adapters from 2048 to the head's width (s2vla section 3)."""
    for width, expected in ((896, 185_156_874), (1024, 240_523_786)):
        config = change(preset("s2vla", "full"), head__width=width)
        assert count(*s2_parts(config)) == expected


def test_several_gates_share_the_gru():
    one, three = preset("s2vla", "full"), preset("s2vla", "full")
    three = change(three, head__gate__layers=(6, 12, 18))
    assert count(*s2_parts(three)) - count(*s2_parts(one)) == 2 * 66_051


def test_oft_readout():
    config = preset("oft", "full")
    with torch.device("meta"):
        assert count(decoders.build(config, 7 * 896)) == 7_252_231
    wide = replace(config.backbone.sizes, width=4096, heads=32, kv_heads=32)
    config = change(config, backbone__sizes=wide)
    with torch.device("meta"):
        assert count(decoders.build(config, 7 * 4096)) == 151_117_831


def test_a1_mlp_readout():
    config = preset("a1_mlp", "full")
    head, readout = head_and_readout(config, MOLMO)
    assert head.features_width == 25_088
    assert count(readout) == 115_713_031


def test_a1_mlp_costs_what_the_paper_says():
    """1.850 GFLOP at eight steps of seven dimensions, counted by torch on the module itself."""
    _, readout = head_and_readout(preset("a1_mlp", "full"), MOLMO)
    with FlopCounterMode(display=False) as counter:
        readout.out(torch.empty(1, 8, 25_088, device="meta"), 27)
    assert counter.get_total_flops() / 1e9 == pytest.approx(1.850, abs=5e-4)


def test_the_flow_expert():
    config = change(preset("a1_flow", "full"), state_dim=32, action_dim=32)
    head, readout = head_and_readout(config, MOLMO)
    assert count(head, readout) == 270_762_016
    assert count(head.layers, head.norm) == 264_355_840 + 1024
    # seven real dimensions padded to 32 read and write the same width
    padded = change(preset("a1_flow", "full"), state_dim=32, pad_dim=32)
    assert total(padded, MOLMO) == 270_762_016


def test_a_readout_per_exit():
    shared = change(preset("focusvla", "full"), **BARE)
    norms = change(shared, exits__readout="per_exit_norm")
    own = change(shared, exits__readout="per_exit")
    assert total(norms, PRISMATIC) - total(shared, PRISMATIC) == 4 * 2 * 896
    assert total(own, PRISMATIC) - total(shared, PRISMATIC) == 4 * 8_071


PAGE = Path(__file__).parents[2] / "docs" / "heads.md"


@pytest.mark.parametrize(
    "number",
    [102_129_695, 179_286_047, 217_864_223, 239_060_871, 244_699_406, 151_117_831, 7_252_231,
     115_713_031, 270_762_016, 938_127_882, 185_156_874, 240_523_786],
)  # fmt: skip
def test_the_page_lists_the_counts(number):
    row = next(line for line in PAGE.read_text().splitlines() if f"{number:,}" in line)
    if number in (938_127_882, 185_156_874, 240_523_786):
        assert "inferred" in row  # S2-VLA prints no width
