"""The stop-or-go step, replayed on chunks that a fake decoder hands out layer by layer."""

import math

import pytest
import torch

from costep.exits.controller import ExitRule, decide, start
from costep.exits.discrepancy import discrepancy
from costep.exits.quantile import ALWAYS, NEVER

LAYERS, PROBE = (2, 5, 8, 11), 1


@pytest.fixture
def chunks():
    """What the decoder would read after each of twelve layers: (12, B=3, T=4, A=5)."""
    return torch.randn(12, 3, 4, 5, generator=torch.Generator().manual_seed(1))


def run(rule, chunks):
    state = start(chunks.shape[1])
    for layer, chunk in enumerate(chunks):
        state = decide(rule, state, layer, chunk)
        if state.all_done:
            break
    return state


def matrix(chunks, probe=PROBE):
    """V of the exits by hand: every exit against the exit (or probe) before it."""
    before = (probe, *LAYERS[:-1])
    return torch.stack([discrepancy(chunks[e], chunks[b]) for e, b in zip(LAYERS, before)])


def test_never_runs_to_the_last_layer_and_returns_its_chunk_bitwise(chunks):
    state = run(ExitRule.full(LAYERS, PROBE), chunks)
    assert state.exit_layer.tolist() == [11, 11, 11]
    assert torch.equal(state.chunk, chunks[11])


def test_always_stops_at_the_first_exit(chunks):
    state = run(ExitRule(LAYERS, PROBE, (ALWAYS,) * 4), chunks)
    assert state.exit_layer.tolist() == [2, 2, 2]
    assert torch.equal(state.chunk, chunks[2])


def test_readings_are_the_column_of_v(chunks):
    state = run(ExitRule.full(LAYERS, PROBE), chunks)
    assert [r.layer for r in state.readings] == list(LAYERS)  # the probe only fills `previous`
    assert [r.threshold for r in state.readings] == [NEVER, NEVER, NEVER, ALWAYS]
    assert torch.equal(torch.stack([r.discrepancy for r in state.readings]), matrix(chunks))


def test_the_threshold_is_inclusive_in_fp32(chunks):
    d = matrix(chunks)[0, 0].item()
    below = float(torch.tensor(d).nextafter(torch.tensor(0.0)))
    one = chunks[:, :1]
    rest = (NEVER, NEVER, ALWAYS)
    assert run(ExitRule(LAYERS, PROBE, (d, *rest)), one).exit_layer.item() == 2
    assert run(ExitRule(LAYERS, PROBE, (below, *rest)), one).exit_layer.item() == 11
    shy = d * (1 - 1e-12)  # a float64 threshold is rounded to fp32 before it is compared
    assert run(ExitRule(LAYERS, PROBE, (shy, *rest)), one).exit_layer.item() == 2


def test_rows_latch_and_ignore_each_other(chunks):
    v = matrix(chunks)
    eta = (v[0].min().item(), v[1].median().item(), NEVER, ALWAYS)
    state = run(ExitRule(LAYERS, PROBE, eta), chunks)
    assert len(set(state.exit_layer.tolist())) > 1  # otherwise this tests nothing
    for row, layer in enumerate(state.exit_layer.tolist()):
        assert torch.equal(state.chunk[row], chunks[layer, row])
        alone = run(ExitRule(LAYERS, PROBE, eta), chunks[:, row : row + 1])
        assert alone.exit_layer.item() == layer
        assert torch.equal(alone.chunk[0], state.chunk[row])


def test_a_finished_row_has_no_further_readings(chunks):
    v = matrix(chunks)
    row = int(v[0].argmin())
    state = run(ExitRule(LAYERS, PROBE, (v[0].min().item(), NEVER, NEVER, ALWAYS)), chunks)
    later = torch.stack([r.discrepancy for r in state.readings[1:]])
    assert later[:, row].isnan().all()
    others = [r for r in range(3) if r != row]
    assert torch.equal(later[:, others], v[1:, others])


def test_without_a_probe_the_first_exit_cannot_stop(chunks):
    state = run(ExitRule(LAYERS, None, (1e9, 1e9, NEVER, ALWAYS)), chunks)
    assert state.exit_layer.tolist() == [5, 5, 5]
    assert state.readings[0].discrepancy.isnan().all()
    only = run(ExitRule((11,), None, (ALWAYS,)), chunks)
    assert only.exit_layer.tolist() == [11, 11, 11]


@pytest.mark.parametrize("layer", LAYERS)
def test_force_is_honoured_whatever_the_thresholds(chunks, layer):
    for eta in ((ALWAYS,) * 4, (NEVER, NEVER, NEVER, ALWAYS)):
        state = run(ExitRule(LAYERS, PROBE, eta, force=layer), chunks)
        assert state.exit_layer.tolist() == [layer] * 3
        assert torch.equal(state.chunk, chunks[layer])
    forced = ExitRule.forced(LAYERS, layer, probe=PROBE, metric="mad")
    assert (forced.last, forced.metric) == (layer, "mad")
    assert run(forced, chunks).exit_layer.tolist() == [layer] * 3


def test_a_nan_reading_never_stops_early(chunks):
    chunks[5, 0] = math.nan
    state = run(ExitRule(LAYERS, PROBE, (NEVER, 1e9, NEVER, ALWAYS)), chunks)
    assert state.exit_layer.tolist() == [11, 5, 5]


def test_layers_that_are_not_read_are_ignored(chunks):
    rule = ExitRule.full(LAYERS, PROBE)
    assert [layer for layer in range(12) if rule.reads(layer)] == [1, 2, 5, 8, 11]
    before = start(3)
    assert decide(rule, before, 0, chunks[0]) is before


def test_decide_is_pure_and_nothing_survives_a_query(chunks):
    rule = ExitRule(LAYERS, PROBE, (matrix(chunks)[0].median().item(), NEVER, NEVER, ALWAYS))
    initial = start(3)
    probed = decide(rule, initial, PROBE, chunks[PROBE])
    assert initial.chunk is None
    assert not initial.done.any()
    first = decide(rule, probed, 2, chunks[2])
    assert not probed.done.any()
    assert first.done.any()
    assert torch.equal(probed.chunk, chunks[PROBE])
    again = [run(rule, chunks) for _ in range(2)]
    assert torch.equal(again[0].exit_layer, again[1].exit_layer)


def test_the_rule_compares_with_its_metric_dims_and_horizon(chunks):
    dims = (True, True, False, False, True)
    state = run(ExitRule.full(LAYERS, PROBE, "max", dims, 2), chunks)
    expected = discrepancy(chunks[2], chunks[1], "max", dims=dims, horizon=2)
    assert torch.equal(state.readings[0].discrepancy, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), None, ()), "at least one layer"),
        (((5, 2), None, (NEVER, ALWAYS)), "increasing"),
        (((2, 5), None, (ALWAYS,)), "1 thresholds for 2"),
        (((2, 5), None, (math.nan, ALWAYS)), "NaN"),
        (((2, 5), None, (0.1, 0.1)), "must stop at layer 5"),
        (((2, 5), 2, (0.1, ALWAYS)), "probe 2"),
        (((2, 5), 1, (0.1, ALWAYS), "l2", None, 0), "horizon=0"),
        (((2, 5), 1, (0.1, ALWAYS), "l2", None, None, 3), r"layer 3; the exits are \(2, 5\)"),
    ],
)
def test_impossible_rules_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExitRule(*arguments)
