"""The page of a table: the paper's numbers beside ours, with intervals, in ``docs/results``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from published import Row, Table

RESULTS = Path("docs/results")


def stored(arguments: argparse.Namespace) -> dict:
    """Rows that earlier runs of this table, size and seed have left."""
    path = page(arguments).with_suffix(".json")
    known = path.exists() and not arguments.smoke
    return json.loads(path.read_text())["rows"] if known else {}


def save(table: Table, arguments: argparse.Namespace, results: dict) -> None:
    """All rows so far, as JSON and as a page."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) for k, v in vars(arguments).items()}
    for suffix, text in (
        ("json", json.dumps({"settings": settings, "rows": results}, indent=1) + "\n"),
        ("md", report(table, results, arguments.size)),
    ):
        path = page(arguments).with_suffix(f".{suffix}")
        partial = path.with_name(path.name + ".tmp")
        partial.write_text(text)
        partial.replace(path)


def page(arguments: argparse.Namespace) -> Path:
    """Where the table of these arguments lies."""
    return RESULTS / f"table_{arguments.table}_{arguments.size}_{arguments.seed}.md"


def report(table: Table, results: dict, size: str) -> str:
    """The table in Markdown: the paper's rate and ours with 95 % Wilson intervals."""
    lines = [
        f"# {table.title}", "",
        f"Paper: {table.measured}, n = {table.episodes} per number. Here: desk, size `{size}`; "
        "another benchmark, so compare differences between rows only.", "",
        f"| row | paper, % | here, % | here, against “{table.against}” |", "|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row.name} | {published(row, table)} | {ours(row, results)} | "
        f"{difference(results.get(row.name, {}))} |"
        for row in table.rows
    ]
    return "\n".join(lines) + "\n"


def published(row: Row, table: Table) -> str:
    from costep.evaluate.statistics import wilson

    if row.paper is None:
        return "only drawn"
    interval = wilson(round(row.paper / 100 * table.episodes), table.episodes)
    note = ", quoted" if row.quoted else ""
    return f"{row.paper} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]{note}"


def ours(row: Row, results: dict) -> str:
    if "eval" not in results.get(row.name, {}):
        return f"not run: {row.needs}" if row.needs else "not run"
    summary = results[row.name]["eval"]
    low, high = summary["interval"]
    rate = f"{100 * summary['success']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{rate}, n = {summary['episodes']}"


def difference(result: dict) -> str:
    pair = result.get("comparison")
    if not pair:
        return ""
    low, high = (100 * x for x in pair["interval"])
    return f"{100 * pair['difference']:+.1f} [{low:+.1f}, {high:+.1f}], p = {pair['mcnemar_p']:.2g}"
