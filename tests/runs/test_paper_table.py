"""Tables as data: every row is a legal policy at every size, and no row is another row."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "runs"))

import paper_page
import paper_table
from published import TABLES, Row

from costep.cli import parser
from costep.commands.train import overridden
from costep.presets import preset

SIZES = ("tiny", "small", "full")
ROWS = [(t, r) for t, table in TABLES.items() for r in table.rows if r.preset]


def asked(*words):
    return paper_table._parser().parse_args([str(w) for w in words])


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda x: getattr(x, "name", x))
def test_every_row_is_a_legal_policy_and_its_commands_parse(name, row):
    for size in SIZES:
        overridden(preset(row.preset, size), paper_table.resized(row.switches, size))
        arguments = asked("--table", name, "--size", size)
        for _, *words in paper_table.commands(TABLES[name], row, arguments):
            parsed = parser().parse_args(words)
            if words[0] == "train" and size == "full":
                assert parsed.recipe or parsed.preset == row.preset


@pytest.mark.parametrize("name", TABLES)
def test_no_row_is_another_row_in_disguise(name):
    table = TABLES[name]
    assert len({r.name for r in table.rows}) == len(table.rows)
    assert table.against in {r.name for r in table.rows if r.preset and not r.needs}
    for size in SIZES:
        made = [
            overridden(preset(r.preset, size), paper_table.resized(r.switches, size))
            for r in table.rows
            if r.preset
        ]
        assert all(a != b for i, a in enumerate(made) for b in made[:i])


def test_the_rows_that_are_the_papers_policies_are_our_presets():
    for name, row in (("s2_3", "Gate@12 (S2-VLA)"), ("focus_2", FOCUS)):
        row = next(r for r in TABLES[name].rows if r.name == row)
        for size in SIZES:
            plain = preset(row.preset, size)
            assert overridden(plain, paper_table.resized(row.switches, size)) == plain


FOCUS = "cascaded, 256, element-wise, VLM+DS (FocusVLA)"


def test_numbers_are_the_papers():
    assert {r.name: r.paper for r in TABLES["s2_3"].rows} == {
        "w/o Gate": 95.0, "Gate@All": 94.4, "Gate@1": 94.2, "Gate@6": 96.0,
        "Gate@12 (S2-VLA)": 96.4, "Gate@18": 95.8, "Gate@24": 94.8, "Gate@6,12,18": 94.4,
        "w/o State": 95.8,
    }  # fmt: skip
    printed = [93.6, 97.0, 96.3, 98.0, 97.8, 97.3, 97.1, 98.2, 98.4, 96.8, 98.7]
    assert [r.paper for r in TABLES["focus_2"].rows] == printed
    quoted = {r.name for t in TABLES.values() for r in t.rows if r.quoted}
    assert "OpenVLA-OFT" in quoted
    assert not quoted & {"S2-VLA", "FocusVLA", "A1 (MLP)"}


def test_gates_keep_their_share_of_a_shallower_head():
    for size, layers in (("tiny", [1, 2, 3, 5, 6]), ("small", [1, 3, 6, 9, 12])):
        moved = [
            paper_table.resized((f"head.gate.layers=[{n}]",), size)[0] for n in (1, 6, 12, 18, 24)
        ]
        assert moved == [f"head.gate.layers=[{n}]" for n in layers]
    assert paper_table.resized(("head.gate.layers=[]", "x=[7]"), "tiny") == [
        "head.gate.layers=[]", "x=[7]"
    ]  # fmt: skip


def test_a_dry_run_says_the_cost_first_and_runs_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for size in SIZES:
        paper_table.main(["--table", "focus_2", "--size", size, "--dry-run"])
        lines = capsys.readouterr().out.splitlines()
        assert "FLOP of training in all" in lines[1]
        assert sum("costep train" in line for line in lines) == 11
        assert any("not run: needs VGGT" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_the_report_puts_both_numbers_side_by_side():
    table = TABLES["s2_3"]
    summary = {"success": 0.5, "interval": [0.4, 0.6], "episodes": 100}
    pair = {"difference": 0.1, "interval": [-0.05, 0.25], "mcnemar_p": 0.3}
    page = paper_page.report(table, {"Gate@1": {"eval": summary, "comparison": pair}}, "tiny")
    row = next(line for line in page.splitlines() if line.startswith("| Gate@1 "))
    assert row == (
        "| Gate@1 | 94.2 [91.8, 95.9] | 50.0 [40.0, 60.0], n = 100 | +10.0 [-5.0, +25.0], p = 0.3 |"
    )
    assert "| Gate@6 | 96.0 [93.9, 97.4] | not run |  |" in page
    drawn = paper_page.report(TABLES["focus_fig4"], {}, "tiny")
    assert "only drawn" in drawn


def test_finished_parts_are_kept_and_rows_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(paper_table, "OUT", tmp_path)
    called = []

    def costep(words):
        called.append(words[0])
        Path(words[-1]).write_text(json.dumps({"success": 1}))
        return 0

    monkeypatch.setattr("costep.cli.main", costep)
    monkeypatch.setattr(
        "costep.evaluate.compare.compare_runs",
        lambda a, b: type("C", (), {"to_json": lambda self: {"a": a.parent.name}})(),
    )
    table, arguments = TABLES["s2_3"], asked("--table", "s2_3")
    first, second = paper_table.chosen(table, ["Gate@6", "w/o Gate"])
    assert first.name == "w/o Gate"
    for row in (first, second):
        paper_table.place(row, arguments).mkdir(parents=True)
    assert "comparison" not in paper_table.run(table, first, arguments)
    assert paper_table.run(table, second, arguments)["comparison"] == {"a": "s2vla-gate-layers-2"}
    paper_table.run(table, second, arguments)
    assert called == ["collect", "train", "eval", "collect", "train", "eval"]


def test_an_unknown_row_names_the_rows():
    with pytest.raises(SystemExit, match=r"no row \['Gate@7'\]; choose from"):
        paper_table.chosen(TABLES["s2_3"], ["Gate@7"])
    assert Row("x", 1.0).preset is None


def test_rows_of_an_earlier_run_stay_in_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper_page, "RESULTS", tmp_path)
    rates = {"Gate@1": 0.25, "Gate@6": 0.5}

    def run(table, row, arguments):
        rate = rates[row.name]
        return {"eval": {"success": rate, "interval": [0, 1], "episodes": 4}}

    monkeypatch.setattr(paper_table, "run", run)
    for name in rates:
        paper_table.main(["--table", "s2_3", "--rows", name])
    page = (tmp_path / "table_s2_3_tiny_0.md").read_text()
    assert "| 25.0 [0.0, 100.0], n = 4 |" in page
    assert "| 50.0 [0.0, 100.0], n = 4 |" in page
    capsys.readouterr()
    paper_table.main(["--table", "s2_3", "--dry-run"])
    assert page in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.sim
def test_smoke_trains_and_acts(tmp_path, monkeypatch, capsys):
    pytest.importorskip("costep.sim.desk")  # chooses the GL back end before mujoco is imported
    monkeypatch.setattr(paper_table, "OUT", tmp_path)
    paper_table.main(["--table", "s2_3", "--smoke", "--rows", "w/o Gate", "Gate@12 (S2-VLA)"])
    assert "smoke: every row trained and acted" in capsys.readouterr().out
    assert len(list(tmp_path.glob("smoke/*/eval.json"))) == 2
