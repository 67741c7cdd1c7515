"""All pictures of one recorded episode, with captions that a newcomer can follow."""

from __future__ import annotations

from costep.evaluate.recording import Recording
from costep.evaluate.report import data as report
from costep.inspect.depth import depth_figure, discrepancy_figure
from costep.inspect.gates import gate_figure
from costep.inspect.patches import patch_figure


def episode_figures(recording: Recording) -> list[report.Figure]:
    """Every picture that a recording has the data for."""
    solved = "solved" if recording.success else "not solved"
    which = f"Episode: “{recording.instruction}”, seed {recording.seed}, {solved}."
    made: list[report.Figure] = []
    if recording.gates:
        made.append(
            report.Figure(
                gate_figure(recording),
                "Which sense it trusts, moment by moment",
                "At one layer of the action head, a belief about how far the task has come weighs "
                "three sources: what the cameras show (vision), what was asked (intent) and how "
                "the arm has been moving (action). The dashed line is an equal share. " + which,
                "Three curves of gate weights over the episode with key frames below.",
                "S2-VLA, section 4.5",
            )
        )
    if recording.layers_total:
        made.append(
            report.Figure(
                depth_figure(recording),
                "How deep it thinks",
                "Each bar is one query of the network, as wide as the actions it produced and as "
                "tall as the layers it ran before two readings of the action agreed. "
                f"{recording.layers_total} layers would be full depth. " + which,
                f"Bars of layers run per query; mean {recording.layers_run.mean():.1f} "
                f"of {recording.layers_total}.",
                "A1, early termination",
            )
        )
    if recording.discrepancies:
        made.append(
            report.Figure(
                discrepancy_figure(recording),
                "Why it stopped there",
                "How much the action still changed from one exit to the next; the policy stops "
                "(ring) when the change falls below a threshold calibrated on other episodes. "
                "Empty cells were never computed: that is the saving.",
                "Heat map of action changes, queries against exits, the exit taken marked.",
                "A1, consistency across layers",
            )
        )
    if recording.kept:
        made.append(
            report.Figure(
                patch_figure(recording),
                "Where it looks",
                "Attention keeps only the most useful patches of each picture. Bright patches were "
                "kept by many attention heads and action queries, dark ones by few. " + which,
                "Camera pictures at several moments with rarely kept patches darkened.",
                "FocusVLA, Focus Attention",
            )
        )
    return made
