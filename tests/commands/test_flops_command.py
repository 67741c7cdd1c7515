"""``costep flops``: what it counts is what torch counts, and A1 at full size is what its formulas
say.
"""

import json

import pytest
import torch
from miniature import make, observe
from molmo_like import molmo

from costep import flops
from costep.cli import main
from costep.commands.flops import blank, measure, part_of, with_cameras
from costep.presets import preset

GIGA = 1e9


@pytest.mark.parametrize("name", ["s2vla", "focusvla", "vla_adapter", "oft", "a1_mlp", "a1_flow"])
def test_the_parts_add_up_to_what_torch_counts(name):
    """On a real observation: blank ones without storage count the same."""
    config = preset(name, "tiny")
    policy, seen = make(config), observe(config, rows=1)
    report = measure(config, seen.instruction[0])
    with torch.no_grad():
        assert report.total.flops == flops.counted(lambda: policy.act(seen))
    aids = 0 if policy.waypoints is None else sum(p.numel() for p in policy.waypoints.parameters())
    assert report.total.parameters == sum(p.numel() for p in policy.parameters()) - aids
    assert {"vision", "language model", "decoder"} <= {part.name for part in report.parts}
    assert report.total.limits["H200"] > 0


@pytest.mark.parametrize("name", ["a1_mlp", "a1_flow"])
def test_molmo_counts_what_torch_counts(name):
    config = molmo(name)
    policy, seen = make(config), observe(config, rows=1)
    report = measure(config, seen.instruction[0])
    with torch.no_grad():
        assert report.total.flops == flops.counted(lambda: policy.act(seen))


def test_a1_at_full_size():
    """Vision without the layer that nothing reads, 28 language layers, ten flow steps; limits as
    in the roofline of the H200.
    """
    report = measure(preset("a1_flow", "full"))
    parts, n = {p.name: p for p in report.parts}, report.tokens
    assert 2 * 158 < n < 2 * 158 + 64
    assert parts["vision"].flops == 2 * flops.molmo_crop(22)
    assert parts["language model"].flops == 28 * flops.QWEN2_7B.flops(n)
    flow = parts["head"].flops + parts["decoder"].flops
    assert flow == pytest.approx(10 * flops.expert_pass(28, n, chunk=10), rel=1e-4)
    assert parts["vision"].parameters == 404_950_016
    limits = {p.name: p.limits["H200"] for p in report.parts}
    assert limits["language model"] == pytest.approx(5.88, rel=0.02)
    assert limits["head"] + limits["decoder"] == pytest.approx(1.28, rel=0.03)
    assert report.total.limits["H200"] == pytest.approx(8.17, rel=0.02)


def test_cameras_are_added_and_dropped():
    config = preset("focusvla", "tiny")
    assert with_cameras(config, 1).cameras == ("agent",)
    assert with_cameras(config, 3).cameras == ("agent", "wrist", "camera_3")
    assert list(blank(with_cameras(config, 3), "go").images) == ["agent", "wrist", "camera_3"]
    with pytest.raises(ValueError, match="at least one"):
        with_cameras(config, 0)


def test_parameters_belong_to_rows():
    assert part_of("backbone.vision.tower.norm.weight") == "vision"
    assert part_of("backbone.projector.0.weight") == "vision"
    assert part_of("backbone.blocks.3.qkv.weight") == "language model"
    assert part_of("decoder.out.weight") == "decoder"


def test_the_command_prints_a_table(capsys, tmp_path):
    file = tmp_path / "f.json"
    assert main(["flops", "focusvla", "--size", "tiny", "--cameras", "1", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    for word in ("vision", "language model", "head", "total", "H200", "1 camera,"):
        assert word in printed
    result = json.loads(file.read_text())
    assert result["parts"][-1]["name"] == "total"
    assert "table_3" not in result


def test_a1s_table_is_printed_with_the_reason(capsys, monkeypatch):
    from costep.commands import flops as command

    tiny = measure(preset("a1_mlp", "tiny"))
    monkeypatch.setattr(command, "measure", lambda *_: tiny)
    assert main(["flops", "a1_mlp"]) == 0
    printed = capsys.readouterr().out
    for word in ("Table 3", "11,074.361", "11,503.300", "55.684", "4.931", "[1] the paper prints"):
        assert word in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tokens", "gigaflops", "milliseconds"),
    [("s2vla", 241, 1030, 1.65), ("focusvla", 616, 1284, 1.69), ("a1_flow", 352, 5511, 8.17)],
)
def test_the_limits_of_an_h200_with_two_cameras(name, tokens, gigaflops, milliseconds):
    """Computed by hand before there was code, for so many tokens; vision, language, head."""
    report = measure(preset(name, "full"))
    assert report.tokens == pytest.approx(tokens, rel=0.03)
    assert report.total.flops / GIGA == pytest.approx(gigaflops, rel=0.03)
    assert report.total.limits["H200"] == pytest.approx(milliseconds, rel=0.08)
