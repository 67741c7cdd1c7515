"""The latency results as Markdown; milliseconds of a busy machine are left out, ratios stay."""

from __future__ import annotations

from typing import Any

PREAMBLE = """# Latency

Made by `python benchmarks/latency.py`; all numbers are in `{source}`. One query is one chunk of
actions for batch 1 and two cameras, from observation tensor to actions in host memory, with random
weights. "agent" starts from 128-pixel camera frames instead. Cases take turns; ratios are medians
of the ratios within a round, with their bootstrap 95 % interval.
"""
EXITS = """Exit proportionality: the share of the time after vision against the share of the layers.
An exit at the last layer is compared with full depth without exit tests.
"""
BUSY = "**Busy machine: milliseconds are not published.** Ratios are those of processor time.\n"


def markdown(results: list[dict[str, Any]], source: str) -> str:
    sections = [_section(result) for result in results]
    return "\n".join([PREAMBLE.format(source=source), *sections])


def _section(result: dict[str, Any]) -> str:
    facts, busy = result["setting"], result["setting"]["busy"]
    title = f"## {facts['device']}, {facts['dtype']}"
    title += " (autocast)" if facts["dtype"] == "bf16" else ""
    parts = [title, "", _circumstances(facts), "", *([BUSY] if busy else [])]
    parts += [*_latency(result["rows"], busy), "", EXITS, *_exits(result["proportionality"]), ""]
    return "\n".join(parts)


def _circumstances(facts: dict[str, Any]) -> str:
    known = facts["versions"]
    said = [
        f"{facts['execution']}, {facts['threads']} thread(s) of {facts['cores']} cores",
        f"1-minute load {facts['load_before']} before and {facts['load_after']} after",
        ", ".join(f"{n} {known[n]}" for n in ("python", "torch", "costep") if n in known),
        f"commit {facts['commit']}, seed {facts['seed']}",
    ]
    if facts["driver"]:
        said.append(f"driver and clock {facts['driver']}, TF32 {facts['tf32']}")
    return "; ".join(said) + "."


def _latency(rows: list[dict[str, Any]], busy: bool) -> list[str]:
    head = ["preset", "case", "layers", "x full depth", "GFLOP counted"]
    head += [] if busy else ["p50 ms", "p95", "p99", "limit ms", "n"]
    lines = [_line(head), "|" + "---|" * len(head)]
    for r in rows:
        low, high = r["ratio_interval"]
        cells = [
            f"{r['preset']} ({r['size']}, {r['parameters'] / 1e6:.1f}M)",
            r["case"],
            f"{r['layers']:.1f}",
            f"{r['ratio']:.3f} [{low:.3f}, {high:.3f}]",
            "-" if r["gflop"] is None else f"{r['gflop']:.3f}",
        ]
        lines.append(_line(cells if busy else [*cells, *_milliseconds(r)]))
    return lines


def _milliseconds(row: dict[str, Any]) -> list[str]:
    limit = row["limit_ms"]
    times = [f"{row[q]:.2f}" for q in ("p50", "p95", "p99")]
    return [*times, "-" if limit is None else f"{limit:.4f} (computed)", str(row["n"])]


def _exits(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| preset | exit | depth | time | excess |", "|---|---|---|---|---|"]
    for r in rows:
        low, high = r["interval"]
        who = [f"{r['preset']} ({r['size']})", str(r["exit"]), f"{r['depth']:.3f}"]
        if "excess" in r:
            cells = [f"{r['time']:.3f}", f"{r['excess']:+.3f} [{low:+.3f}, {high:+.3f}]"]
        else:
            cells = [f"{r['with_tests']:.3f} x without tests [{low:.3f}, {high:.3f}]", "-"]
        lines.append(_line([*who, *cells]))
    return lines


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
