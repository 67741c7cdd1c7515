"""Pictures draw what the recording says, follow the page's theme, and refuse what is missing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from costep.evaluate.recording import Recording
from costep.evaluate.records import Score
from costep.evaluate.runner import to_record
from costep.inspect import compute, depth, film, gates, patches, style
from costep.inspect.compute import ComputePoint


def words(svg: bytes) -> list[str]:
    """All text of a picture; also proves that it is well-formed."""
    return ["".join(e.itertext()).strip() for e in ET.fromstring(svg).iter() if "text" in e.tag]


def test_gates_name_the_three_branches_and_the_layer(recording: Recording) -> None:
    text = " ".join(words(gates.gate_figure(recording)))
    for word in (
        "vision",
        "intent",
        "action",
        "head layer 4",
        "grip closes",
        "grip opens",
        "1.5 s",
    ):
        assert word in text
    assert "head layer 2" in " ".join(words(gates.gate_figure(recording, layer=2)))
    with pytest.raises(ValueError, match=r"gated are \[2, 4\]"):
        gates.gate_figure(recording, layer=3)
    with pytest.raises(ValueError, match="no belief gate"):
        gates.gate_figure(replace(recording, gates={}))


def test_nearly_constant_gates_still_get_a_readable_scale() -> None:
    low, high = gates._limits(np.full((5, 3), 1 / 3))
    assert high - low == pytest.approx(0.2)
    low, high = gates._limits(np.array([[0.0, 0.1, 0.9]]))
    assert low == 0.0
    assert high < 1.0


def test_curve_labels_never_overlap() -> None:
    heights = style.spread([0.34, 0.33, 0.9], 0.1)
    assert heights == pytest.approx([0.43, 0.33, 0.9])
    assert style.spread([], 0.1) == []


def test_gripper_events_come_from_sign_changes(recording: Recording) -> None:
    assert film.gripper_events(recording) == [(0.6, "closes"), (1.5, "opens")]
    assert film.gripper_events(replace(recording, actions=recording.actions[:0])) == []


def test_key_frames_are_centred_in_their_share(recording: Recording) -> None:
    assert film.key_steps(recording, 4) == [5, 15, 25, 35]
    assert film.key_steps(replace(recording, actions=recording.actions[:2]), 7) == [0, 1]


def test_depth_prints_the_mean_of_the_layers_run(recording: Recording) -> None:
    assert any("mean 6.0" in word for word in words(depth.depth_figure(recording)))
    none = np.zeros(0, int)
    control = replace(recording, query_steps=none, layers_run=none, exit_layer=none)
    with pytest.raises(ValueError, match="control without network"):
        depth.depth_figure(control)


def test_discrepancies_show_every_exit(recording: Recording) -> None:
    text = words(depth.discrepancy_figure(recording))
    assert "layer 4" in text
    assert "layer 6" in text
    with pytest.raises(ValueError, match="without exits"):
        depth.discrepancy_figure(replace(recording, discrepancies={}))


def test_camera_maps_split_tokens_by_camera_then_row() -> None:
    maps = patches.camera_maps(np.arange(32.0), 2)
    assert maps.shape == (2, 4, 4)
    assert maps[1, 0].tolist() == [16, 17, 18, 19]
    assert patches.camera_maps(np.arange(16.0), 2, grid=(2, 4)).shape == (2, 2, 4)
    with pytest.raises(ValueError, match=r"30 vision tokens.*grid="):
        patches.camera_maps(np.arange(30.0), 2)


def test_dropped_patches_go_dark_where_they_are() -> None:
    image = np.full((8, 8, 3), 200, np.uint8)
    frequency = np.ones((2, 2))
    frequency[0, 1] = 0.0  # upper right
    shaded = patches.shade(image, frequency, 0.0, 1.0)
    assert (shaded[4:] == 200).all()
    assert (shaded[:4, :4] == 200).all()
    assert (shaded[:4, 4:] < 60).all()


def test_patch_figure_needs_selection_frequencies(recording: Recording) -> None:
    assert {"agent", "wrist"} <= set(words(patches.patch_figure(recording)))
    unreached = np.full_like(recording.kept[3], np.nan)
    both = replace(recording, kept={**recording.kept, 5: unreached})
    assert patches.patch_figure(both) == patches.patch_figure(recording)
    with pytest.raises(ValueError, match="keeps all"):
        patches.patch_figure(replace(recording, kept={}))
    with pytest.raises(ValueError, match=r"recorded are \[3\]"):
        patches.patch_figure(recording, layer=1)


def test_success_against_compute_prints_rates_and_n() -> None:
    points = [
        ComputePoint("random", None, Score(1, 50)),
        ComputePoint("exits", 0.6, Score(45, 50)),
        ComputePoint("full", 1.0, Score(46, 50)),
        ComputePoint("empty", 0.5, Score(0, 0)),
    ]
    text = words(compute.compute_figure(points))
    assert {"exits", "90% of 50", "full", "92% of 50", "random  2%"} <= set(text)
    assert "empty" not in text


def test_latency_groups_queries_by_depth(recording: Recording) -> None:
    text = " ".join(words(compute.latency_figure([to_record(recording, 1.0)])))
    assert "15.0 ms" in text  # depth 4: 12.5 and 17.5, and depth 8: 10 and 20
    assert text.count("n = 2") == 2
    with pytest.raises(ValueError, match="nothing to time"):
        compute.latency_figure([])


def test_pictures_follow_the_theme_and_share_no_ids(recording: Recording) -> None:
    first, second = depth.depth_figure(recording), gates.gate_figure(recording)
    for svg in (first, second):
        assert b"var(--ink," in svg
        assert b"#0102" not in svg
        assert b"DejaVu" not in svg
        assert b"<dc:date" not in svg
    ids = [{e.get("id") for e in ET.fromstring(s).iter() if e.get("id")} for s in (first, second)]
    assert not ids[0] & ids[1]
    assert depth.depth_figure(recording) == first  # the same bytes every time


def test_depth_colours_darken() -> None:
    assert style.depth_colour(0.0) == style.DEPTH[0]
    assert style.depth_colour(1.0) == style.DEPTH[-1]
