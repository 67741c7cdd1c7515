"""Overlays: the core's fields, nothing chosen, and a preset that comes back unchanged."""

from dataclasses import fields, is_dataclass

import pytest

from costep.config import Exits, PolicyConfig
from costep.plugin.overlay import UNSET, assign, fill, overlay
from costep.presets import PRESETS, preset

ALL = [(name, size) for name in PRESETS for size in ("tiny", "small", "full")]


def leaves(node):
    for f in fields(node):
        value = getattr(node, f.name)
        yield from leaves(value) if is_dataclass(value) else [value]


def test_an_overlay_has_the_fields_of_its_core_and_chooses_nothing():
    twin = overlay(PolicyConfig)
    assert [f.name for f in fields(twin)] == [f.name for f in fields(PolicyConfig)]
    assert [f.name for f in fields(twin().head.focus)] == [
        f.name for f in fields(preset("composed").head.focus)
    ]
    assert set(leaves(twin())) == {None}


@pytest.mark.parametrize(("name", "size"), ALL)
def test_nothing_chosen_is_the_preset(name, size):
    base = preset(name, size)
    assert PolicyConfig.from_dict(fill(overlay(PolicyConfig)(), base)) == base


@pytest.mark.parametrize(("name", "size"), ALL)
def test_written_out_it_is_the_preset_whatever_fills_the_gaps(name, size):
    written, base = overlay(PolicyConfig)(), preset(name, size)
    assign(written, base)
    other = preset("a1_flow" if name == "oft" else "oft", size)
    assert PolicyConfig.from_dict(fill(written, other, complete=True)) == base


def test_one_choice_changes_one_value():
    chosen = overlay(PolicyConfig)()
    chosen.head.gate.hidden = 7
    changed = PolicyConfig.from_dict(fill(chosen, preset("composed")))
    assert changed.head.gate.hidden == 7
    assert changed.backbone == preset("composed").backbone


def test_none_is_a_gap_on_a_command_line_and_a_value_in_a_complete_file():
    chosen = overlay(Exits)()
    assert fill(chosen, Exits(probe="auto"))["probe"] == "auto"
    assert fill(chosen, Exits(probe="auto"), complete=True)["probe"] is None
    assert fill(chosen, Exits(metric="mad"), complete=True)["metric"] == "mad"  # cannot be None


def test_unset_says_none_where_the_core_allows_it():
    chosen = overlay(Exits)()
    chosen.probe, chosen.metric = UNSET, UNSET
    filled = fill(chosen, Exits())
    assert filled["probe"] is None
    assert filled["metric"] == UNSET  # which the core then refuses
