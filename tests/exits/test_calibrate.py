"""Calibration on synthetic recordings: shares, split, verdict, and run-time replay."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from costep.exits import quantile
from costep.exits.calibrate import (
    CalibrationFailed,
    bootstrap_mean,
    calibrate,
    comparable,
    exit_rule,
    readings_to_matrix,
    split_episodes,
    subsample,
)
from costep.exits.controller import ExitRule, decide, start
from costep.exits.discrepancy import discrepancy
from costep.exits.mass import exit_mass
from costep.types import ExitReading

LAYERS = (6, 13, 20, 27)


def test_shares_on_the_fit_side_are_the_mass(record):
    v, episode, task = record()
    result = calibrate(v, episode, LAYERS, c=0.7, tasks=task)
    assert result.fit_samples + result.held_out_samples == v.shape[1]
    np.testing.assert_allclose(result.fitted, result.mass, atol=1.01 / result.fit_samples)
    assert result.nominal_depth == pytest.approx(14.49, abs=0.005)
    assert result.fitted_depth == pytest.approx(result.nominal_depth, abs=28 / result.fit_samples)
    assert result.passed
    assert result.require() is result


def test_held_out_numbers_are_those_of_held_out_episodes(record):
    v, episode, task = record()
    fit = split_episodes(episode, tasks=task, seed=4)
    result = calibrate(v, episode, LAYERS, tasks=task, seed=4)
    assert result.thresholds == quantile.thresholds(v[:, fit], result.mass)
    taken = quantile.assign(v[:, ~fit], result.thresholds)
    np.testing.assert_allclose(result.held_out, quantile.shares(taken, 4))
    assert result.held_out_depth == pytest.approx(np.mean([LAYERS[t] + 1 for t in taken]))


def test_episodes_that_behave_differently_fail_and_show_both_distributions(record):
    v, episode, _ = record()
    fit = split_episodes(episode)
    v[:, ~fit] *= 20  # unseen episodes disagree with themselves far more
    result = calibrate(v, episode, LAYERS, c=0.4)
    assert not result.passed
    with pytest.raises(CalibrationFailed) as failure:
        result.require()
    text = str(failure.value)
    assert "FAILED" in text
    for share in (*result.mass, *result.held_out):
        assert f"{share:.1%}" in text


def test_the_verdict_needs_both_conditions_to_fail(record):
    result = calibrate(*record()[:2], LAYERS)
    off = replace(result, nominal_depth=10.0, held_out_depth=11.0)
    assert not replace(off, interval=(10.5, 11.5)).passed
    assert replace(off, interval=(9.5, 12.0)).passed  # 10 % off, but within the noise
    assert replace(off, held_out_depth=10.4, interval=(10.3, 10.5)).passed  # sure, but 4 % off


def test_split_is_by_episode_seeded_and_even_over_tasks(record):
    _, episode, task = record(episodes=60, tasks=3)
    fit = split_episodes(episode, tasks=task, seed=1)
    for e in range(60):
        assert len(set(fit[episode == e])) == 1
    for t in range(3):
        assert len(np.unique(episode[fit & (task == t)])) == 16
    assert (fit == split_episodes(episode, tasks=task, seed=1)).all()
    assert (fit != split_episodes(episode, tasks=task, seed=2)).any()


def test_split_always_leaves_something_on_both_sides():
    episode = np.array([0, 0, 1])
    fit = split_episodes(episode, tasks=np.array([0, 0, 1]))  # one episode per task
    assert fit.any()
    assert not fit.all()
    with pytest.raises(ValueError, match="1 episode"):
        split_episodes(np.zeros(5, dtype=int))


def test_subsample_is_even_over_tasks():
    task = np.repeat([0, 1, 2], [500, 100, 20])
    chosen = subsample(task, 240)
    assert np.bincount(task[chosen]).tolist() == [120, 100, 20]
    assert (np.diff(chosen) > 0).all()
    assert subsample(task).tolist() == list(range(620))  # min(10,000, all)


def test_bootstrap_resamples_episodes_not_queries():
    # ten episodes whose 100 queries are copies: the interval must know that n is 10
    value = np.repeat(np.arange(10.0), 100)
    low, high = bootstrap_mean(value, np.repeat(np.arange(10), 100))
    naive = 1.96 * value.std() / np.sqrt(1000)
    assert high - low > 5 * naive
    assert low < value.mean() < high


def test_readings_become_one_column_per_row():
    def query(b, offset):
        return [ExitReading(e, offset + torch.arange(b) / 8 + e, 0.0) for e in LAYERS]

    v = readings_to_matrix([query(2, 100.0), query(3, 200.0)], LAYERS, probe=3)
    assert v.dtype == np.float32
    assert v.shape == (4, 5)
    assert v[1].tolist() == [113, 113.125, 213, 213.125, 213.25]


def test_without_a_probe_the_first_exit_is_no_row():
    nothing = ExitReading(6, torch.full((2,), torch.nan), 0.0)
    query = [nothing, *(ExitReading(e, torch.rand(2), 0.0) for e in LAYERS[1:])]
    assert readings_to_matrix([query], LAYERS, probe=None).shape == (3, 2)
    assert comparable(LAYERS, None) == LAYERS[1:]
    with pytest.raises(ValueError, match=r"V\[0, 0\] = nan"):
        readings_to_matrix([query], LAYERS, probe=3)
    with pytest.raises(ValueError, match="nothing to compare"):
        comparable((27,), None)
    rule = exit_rule((0.1, 0.2, quantile.ALWAYS), LAYERS, None)
    assert rule.thresholds == (quantile.NEVER, 0.1, 0.2, quantile.ALWAYS)


def test_incomplete_recordings_are_named():
    with pytest.raises(ValueError, match=r"query 0 has no reading at exits \[20, 27\]"):
        readings_to_matrix([[ExitReading(e, torch.rand(2), 0.0) for e in (6, 13)]], LAYERS, 3)
    with pytest.raises(ValueError, match="no query"):
        readings_to_matrix([], LAYERS, 3)
    with pytest.raises(ValueError, match="episode numbers"):
        calibrate(np.ones((4, 9)), np.zeros(8), LAYERS)


@pytest.mark.parametrize("metric", ["cosine", "l2", "mad", "max"])
@pytest.mark.parametrize("probe", [3, None])
def test_run_time_repeats_the_calibrated_shares(metric, probe):
    """Calibration path == run-time path: the same chunks leave where V says, in the nominal shares.

    Thresholds of per-step values compared with chunk means would leave three layers too late here.
    """
    g = torch.Generator().manual_seed(0)
    target = torch.randn(1, 600, 8, 7, generator=g)
    depth = torch.arange(28.0)[:, None, None, None]
    spread = torch.randn(28, 600, 8, 7, generator=g) * torch.exp(-depth / 9)
    tails = torch.exp(torch.randn(1, 600, 8, 1, generator=g))  # heavy-tailed over the chunk's steps
    chunks = target + spread * tails

    def act(rule):
        state = start(600)
        for layer, chunk in enumerate(chunks):
            state = decide(rule, state, layer, chunk)
        return state

    v = readings_to_matrix([act(ExitRule.full(LAYERS, probe, metric)).readings], LAYERS, probe)
    rows = comparable(LAYERS, probe)
    assert torch.equal(torch.from_numpy(v[-1]), discrepancy(chunks[27], chunks[20], metric))
    p = exit_mass(rows, c=0.7)
    eta = quantile.thresholds(v, p)
    left = act(exit_rule(eta, LAYERS, probe, metric=metric)).exit_layer
    assert left.tolist() == [rows[i] for i in quantile.assign(v, eta)]
    realised = np.array([(left == e).float().mean().item() for e in rows])
    np.testing.assert_allclose(realised, p, atol=0.02)
