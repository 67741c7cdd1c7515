"""From result folders to a report: which videos, which pictures, and what to say about them.

Choices that could flatter are made by rule. Videos show the first initial states of the protocol,
solved or not; pictures show the longest recorded episode that was solved, and name it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from costep.evaluate.compare import compare
from costep.evaluate.protocol import machine
from costep.evaluate.recording import Recording
from costep.evaluate.report import data as report
from costep.evaluate.runner import recording_path
from costep.evaluate.video import poster, rollout_video
from costep.inspect.compute import ComputePoint, compute_figure, latency_figure
from costep.inspect.episode import episode_figures
from costep.inspect.runs import Role, Run, by_role, star_of

__all__ = ["Run", "report_from_recording", "report_from_runs"]


def report_from_runs(
    runs: Sequence[Run],
    *,
    title: str,
    lead: str = "",
    videos: int = 6,
    config: Mapping[str, Any] | None = None,
    commands: Sequence[tuple[str, str]] = (),
    stages: Sequence[report.Stage] = (),
    notes: Sequence[str] = (),
) -> report.ReportData:
    """Everything the folders can tell. Runs appear in the order given."""
    star = star_of(runs)
    protocol = star.protocol
    return report.ReportData(
        title=title,
        lead=lead,
        facts=(
            ("suite", protocol.suite),
            ("tasks" if len(protocol.tasks) > 1 else "task", str(len(protocol.tasks))),
            ("episodes per run", str(len(protocol))),
            ("control rate", f"{protocol.control_hz:g} Hz"),
        ),
        headlines=tuple(_headlines(runs, star)),
        videos=tuple(_videos(runs, videos)),
        videos_note="The first initial states of the evaluation, solved or not. The cells in the "
        "lower right corner light up as deep as the policy thought before the actions you see.",
        success=tuple(_success_row(run, run is star) for run in runs),
        paired=tuple(_paired(runs)),
        task_columns=tuple(run.label for run in runs),
        tasks=_task_rows(runs) if len(protocol.tasks) > 1 else (),
        figures=tuple(episode_figures(_longest_solved(star))) if star.recordings() else (),
        compute_figures=tuple(_compute_figures(runs, star)),
        latency=tuple(_latency_row(run) for run in runs if run.summary.queries),
        stages=tuple(stages),
        commands=tuple(commands),
        config=config or {},
        protocol={run.label: run.protocol.to_json() for run in runs},
        versions=protocol.versions,
        machine=machine(),
        notes=tuple(notes),
    )


def report_from_recording(recording: Recording) -> report.ReportData:
    """One episode: its video and every picture there is data for."""
    return report.ReportData(
        title=recording.instruction,
        facts=(
            ("task", recording.task),
            ("seed", str(recording.seed)),
            ("steps", str(recording.steps)),
            ("queries", str(len(recording.query_steps))),
        ),
        videos=(_video(recording.task, recording),),
        figures=tuple(episode_figures(recording)),
    )


def _headlines(runs: Sequence[Run], star: Run) -> list[report.Headline]:
    roles = {**by_role(runs), star.role: star}
    lines = []
    shown = [("full", "solved at full depth"), ("exits", "solved with early exits")]
    if not {"full", "exits"} & set(roles):
        shown = [(star.role, f"solved by {star.label}")]
    for role, text in shown:
        if role in roles and (rate := roles[role].summary.overall.rate) is not None:
            score = roles[role].summary.overall
            i = score.interval
            note = f"{score.successes} of {score.trials} episodes; 95% interval "
            note += f"{100 * i.low:.0f} to {100 * i.high:.0f}%"
            lines.append(report.Headline(f"{rate:.0%}", text, note))
    saved = roles["exits"].summary if "exits" in roles else None
    if saved and saved.layers_saved is not None and saved.mean_layers_run is not None:
        note = f"{saved.mean_layers_run:.1f} of {saved.layers_total} run on average"
        lines.append(report.Headline(f"{saved.layers_saved:.0%}", "of the layers saved", note))
    before = roles.get("before")
    if before and before.summary.overall.rate is not None:
        note = f"{before.summary.overall.successes} of {before.summary.overall.trials}"
        rate = before.summary.overall.rate
        lines.append(report.Headline(f"{rate:.0%}", "before training", note))
    return lines


def _videos(runs: Sequence[Run], count: int) -> list[report.Video]:
    """The star's first recordings; the first scene also as it went before training."""
    star, before = star_of(runs), by_role(runs).get("before")
    chosen = [(star, path) for path in star.recordings()[:count]]
    if chosen and before and before is not star:
        same = before.folder / "recordings" / chosen[0][1].name
        chosen = chosen[: count - 1] + ([(before, same)] if same.exists() else chosen[count - 1 :])
    return [_video(run.label, Recording.load(path)) for run, path in chosen]


def _video(title: str, recording: Recording) -> report.Video:
    return report.Video(
        content=rollout_video(recording),
        title=title,
        caption=f"“{recording.instruction}” Seed {recording.seed}, {recording.seconds:.1f}\u00a0s.",
        success=recording.success,
        poster=poster(recording),
    )


def _success_row(run: Run, is_star: bool) -> report.SuccessRow:
    kinds: dict[Role, report.Kind] = {"control": "control", "before": "control"}
    return report.SuccessRow(
        label=run.label,
        score=run.summary.overall,
        kind="highlight" if is_star else kinds.get(run.role, "result"),
        note=run.note,
        layers_saved=run.summary.layers_saved,
        flops_saved=run.summary.flops_saved,
        mean_steps=run.summary.mean_steps,
    )


def _paired(runs: Sequence[Run]) -> list[tuple[str, str]]:
    roles, star = by_role(runs), star_of(runs)
    named = [("exits", "full"), ("full", "before"), ("full", "control")]
    pairs = [(roles[a], roles[b]) for a, b in named if a in roles and b in roles]
    pairs += [(star, run) for run in runs if run.role == "other" and run is not star]
    found = []
    for a, b in pairs:
        result = compare(a.records, b.records)
        names = a.label, b.label
        found.append((result.headline(*names), result.sentence(*names)))
    return found


def _task_rows(runs: Sequence[Run]) -> tuple[report.TaskRow, ...]:
    said: dict[str, list[str]] = {}
    for record in (r for run in runs for r in run.records if r.instruction):
        said.setdefault(record.task, []).append(record.instruction)
    return tuple(
        report.TaskRow(task, _example(said[task]), tuple(r.summary.tasks.get(task) for r in runs))
        for task in star_of(runs).protocol.tasks
        if task in said
    )


def _example(instructions: Sequence[str]) -> str:
    """The instruction of a task, or one of them where they vary with the scene."""
    first = instructions[0]
    return first if len(set(instructions)) == 1 else f"for example: {first}"


def _compute_figures(runs: Sequence[Run], star: Run) -> list[report.Figure]:
    points = [
        ComputePoint(
            run.label,
            None if run.summary.layers_saved is None else 1 - run.summary.layers_saved,
            run.summary.overall,
        )
        for run in runs
    ]
    if not any(p.layers is not None for p in points):
        return []
    made = [
        report.Figure(
            compute_figure(points),
            "Success against compute",
            "Further left is cheaper, higher is better. Bars are 95% Wilson intervals of each run "
            "by itself; the paired comparison above says how two runs differ.",
            "Success rate of each run against the share of backbone layers it ran.",
            "after A1, table 5",
        )
    ]
    timed = [r for run in runs if run.role in ("full", "exits") for r in run.records]
    timed = timed or star.records
    if any(r.ms for r in timed):
        made.append(
            report.Figure(
                latency_figure(timed),
                "Time follows depth",
                "Milliseconds per query grouped by the layers it ran: dots are medians, bars reach "
                "from the 5th to the 95th percentile.",
                "Median query time for each number of layers run.",
            )
        )
    return made


def _latency_row(run: Run) -> report.LatencyRow:
    s = run.summary
    return report.LatencyRow(
        run.label, s.queries, s.ms_p50 or 0.0, s.ms_p95 or 0.0, s.mean_layers_run, s.layers_total
    )


def _longest_solved(run: Run) -> Recording:
    """The longest recorded success (it shows most of the task), else the longest recording."""
    recorded = set(run.recordings())
    paths = {recording_path(run.folder, *r.key): r for r in run.records}
    best = max(recorded & set(paths), key=lambda p: (paths[p].success, paths[p].steps, str(p)))
    return Recording.load(best)
