"""The page: self-contained, valid, complete, and made of nothing but what was passed in."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from costep.evaluate.records import Score
from costep.evaluate.report import (
    Figure,
    Headline,
    LatencyRow,
    ReportData,
    Stage,
    SuccessRow,
    TaskRow,
    Video,
    render_report,
    write_report,
)

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'
FULL = ReportData(
    title="Desk & <friends>",
    lead="What happened.",
    facts=(("suite", "desk"),),
    headlines=(Headline("87%", "solved", "26 of 30"),),
    videos=(Video(b"mp4", "After", "“stack”", success=True, poster=b"jpg"),),
    videos_note="By rule.",
    success=(
        SuccessRow("random", Score(0, 30), "control"),
        SuccessRow("exits", Score(26, 30), "highlight", "c = 1", 0.41, 63.2),
    ),
    paired=(("A against B: +3.0 points", "Of 30 starts, ..."),),
    task_columns=("random", "exits"),
    tasks=(TaskRow("stack", "stack red on blue", (None, Score(26, 30))),),
    figures=(Figure(SVG, "Gates", "Three curves.", "curves of gates", "S2-VLA"),),
    compute_figures=(Figure(b"\x89PNG....", "Compute", "Dots.", "dots"),),
    latency=(LatencyRow("exits", 240, 12.34, 20.0, 4.7, 8),),
    stages=(Stage("train", 125.0), Stage("report", 5.0)),
    commands=(("Again:", "make demo && echo <done>"),),
    config={"preset": "composed"},
    protocol={"exits": {"seeds": [11, 12, 13]}},
    versions={"torch": "2.11.0"},
    machine={"cores": 2},
    notes=("Seeds do not overlap.",),
)


class Page(HTMLParser):
    """Checks nesting, collects ids, addresses and visible text."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack, self.ids, self.links, self.text = [], [], [], []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [values[k] for k in ("src", "href", "poster", "xlink:href") if k in values]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.text.append(data)


def test_the_page_is_well_formed_and_self_contained() -> None:
    html = render_report(FULL)
    page = Page(html)
    assert page.stack == []
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith(("#", "data:")) for link in page.links), page.links
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []
    targets = [link[1:] for link in page.links if link.startswith("#")]
    assert set(targets) <= set(page.ids)


def test_everything_that_goes_in_comes_out() -> None:
    text = " ".join(Page(render_report(FULL)).text)
    for expected in (
        "Desk & <friends>", "87%", "26 of 30", "solved", "70 to 95%", "41%", "A against B",
        "stack red on blue", "Three curves.", "S2-VLA", "12.3 ms", "20.0 ms", "4.7 of 8",
        "make demo && echo <done>", '"preset": "composed"', "11", "2.11.0", "2 min 10 s",
        "Seeds do not overlap.",
    ):  # fmt: skip
        assert expected in text, expected


def test_texts_are_escaped_everywhere() -> None:
    bad = "<script>alert(1)</script>"
    data = ReportData(
        title=bad, lead=bad, facts=((bad, bad),), headlines=(Headline(bad, bad, bad),),
        videos=(Video(b"", bad, bad),), videos_note=bad, paired=((bad, bad),),
        success=(SuccessRow(bad, Score(1, 2), note=bad),), task_columns=(bad,),
        tasks=(TaskRow(bad, bad, (Score(1, 2),)),), figures=(Figure(SVG, bad, bad, bad, bad),),
        latency=(LatencyRow(bad, 1, 1.0, 1.0),), stages=(Stage(bad, 1.0),),
        commands=((bad, bad),), config={bad: bad}, protocol={bad: bad}, versions={bad: bad},
        machine={bad: bad}, notes=(bad,),
    )  # fmt: skip
    html = render_report(data)
    assert html.count("<script>") == 1  # ours
    assert 'aria-label="<script' not in html


def test_empty_parts_leave_no_trace() -> None:
    page = Page(render_report(ReportData(title="Nothing yet")))
    assert "section" not in page.tags
    assert "table" not in page.tags
    assert [link for link in page.links if link.startswith("#")] == []


def test_unknown_numbers_are_dashes_not_zeros() -> None:
    html = render_report(ReportData("t", success=(SuccessRow("none", Score(0, 0)),)))
    assert "0%</b>" not in html
    assert "–" in html


def test_pictures_have_a_text_alternative_and_sections_a_name() -> None:
    html = render_report(FULL)
    assert html.count("role=img aria-label=") == 2
    assert html.count("<section") == html.count("aria-labelledby=") == 5
    assert '<html lang="en">' in html
    assert "prefers-color-scheme:dark" in html
    assert "prefers-reduced-motion" in html


def test_a_figure_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="SVG or PNG"):
        render_report(ReportData("t", figures=(Figure(b"GIF89a", "g", "c", "a"),)))


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    path = write_report(tmp_path / "deep" / "report.html", FULL)
    assert path.read_text(encoding="utf-8") == render_report(FULL)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
