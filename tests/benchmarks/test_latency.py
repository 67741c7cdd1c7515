"""The latency benchmark: turns are taken, ratios are paired, a busy machine publishes no times."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import latency
from cases import ADAPTIVE, FULL, VISION, Case, forced
from setting import finished
from tables import markdown
from timing import Timed, interleaved, median_with_interval

from costep.exits.controller import ExitRule


def test_cases_take_turns_and_warm_up_is_not_recorded():
    seen = []
    cases = {name: (lambda i, name=name: seen.append((i, name))) for name in "ab"}
    timed = interleaved(cases, rounds=3, warmup=2)
    assert seen == [(i, name) for i in range(-2, 3) for name in "ab"]
    assert timed["a"].wall.shape == (3,)


def test_the_thread_clock_does_not_count_waiting():
    import time

    timed = interleaved({"nap": lambda i: time.sleep(0.05)}, rounds=1, warmup=0)["nap"]
    assert timed.wall[0] >= 50
    assert timed.thread[0] < 25


def test_paired_ratios_survive_a_drifting_machine():
    drift = np.linspace(1, 5, 40)
    middle, low, high = median_with_interval((2 * drift) / drift)
    assert middle == low == high == 2.0
    middle, low, high = median_with_interval(np.random.default_rng(1).normal(3, 0.5, 200))
    assert low < middle < high
    assert low > 2.7
    assert high < 3.3


def fake(milliseconds):
    """A case of six layers with exits 2, 4, 5, and its timings."""
    config = SimpleNamespace(layers_run=6, exit_layers=(2, 4, 5))
    device = torch.device("cuda")  # then the wall clock decides
    case = SimpleNamespace(
        name="p", size="tiny", hosted=SimpleNamespace(config=config, device=device)
    )
    timed = {k: Timed(np.full(20, v), np.zeros(20)) for k, v in milliseconds.items()}
    return case, timed


def test_time_that_follows_depth_has_no_excess():
    vision, layer = 7.0, 2.0
    exits = {forced(k): vision + layer * (k + 1) for k in (2, 4, 5)}
    rows = latency.proportionality(*fake({VISION: vision, FULL: 18.0, **exits}))
    assert [r["depth"] for r in rows] == [0.5, 5 / 6, 1.0]
    assert [r["excess"] for r in rows[:2]] == pytest.approx([0, 0], abs=1e-12)
    assert rows[-1]["with_tests"] == pytest.approx(19 / 18)
    exits[forced(2)] += layer
    rows = latency.proportionality(*fake({VISION: vision, FULL: 18.0, **exits}))
    assert rows[0]["excess"] == pytest.approx(1 / 6)


def test_a_busy_processor_is_noticed_and_a_gpu_does_not_mind():
    facts = {"load_before": 0.1, "threads": 1}
    assert finished({**facts, "load_before": 1e3}, on_cpu=True)["busy"]
    assert not finished({**facts, "load_before": 1e3}, on_cpu=False)["busy"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("latency") / "latency_cpu.json"
    words = ["--presets", "a1_mlp", "s2vla", "--rounds", "1", "--warmup", "0", "--out", str(out)]
    latency.main([*words, "--tflops", "1", "--terabytes", "0.01"])
    return json.loads(out.read_text())["results"], out.with_suffix(".md").read_text()


def test_every_way_to_leave_is_timed(results):
    rows = [r for r in results[0][0]["rows"] if r["preset"] == "a1_mlp"]
    titles = [r["case"] for r in rows]
    assert titles == [
        FULL,
        *(forced(k) for k in (1, 2, 4, 5)),
        ADAPTIVE,
        "agent, full depth",
        VISION,
    ]
    layers = {r["case"]: r["layers"] for r in rows}
    assert [layers[forced(k)] for k in (1, 2, 4, 5)] == [2, 3, 5, 6]
    assert layers[VISION] == 0
    assert 2 < layers[ADAPTIVE] < 6, "equal shares leave at every exit"
    flops = {r["case"]: r["gflop"] for r in rows}
    assert flops[VISION] < flops[forced(1)] < flops[forced(2)] < flops[FULL]
    full = rows[0]
    compute, memory = flops[FULL] * 1e9 / 1e12, full["parameters"] * 4 / 1e10
    assert full["limit_ms"] == pytest.approx(max(compute, memory) * 1e3)


def test_the_table_hides_milliseconds_of_a_busy_machine(results):
    found, text = results
    quiet = [{**r, "setting": {**r["setting"], "busy": False}} for r in found]
    busy = [{**r, "setting": {**r["setting"], "busy": True}} for r in found]
    assert "p50 ms" in markdown(quiet, "x.json")
    assert "(computed)" in markdown(quiet, "x.json")
    assert "p50 ms" not in markdown(busy, "x.json")
    assert "milliseconds are not published" in markdown(busy, "x.json")
    assert "| s2vla (tiny" in text
    facts = found[0]["setting"]
    assert {"device", "dtype", "threads", "load_before", "load_after", "versions"} <= facts.keys()


def test_a_hosted_policy_acts_as_the_policy_itself():
    case = Case.make("s2vla", "tiny", torch.device("cpu"), "fp32", seed=0)
    rule = ExitRule.forced(case.hosted.config.exit_layers, case.hosted.config.exit_layers[0])
    hosted = case.hosted.act(case.at(0), case.belief, exits=rule)[0]
    direct = case.hosted.policy.act(case.at(0), case.belief, exits=rule)[0]
    assert torch.equal(hosted.actions, direct.actions)
