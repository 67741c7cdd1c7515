"""Actions as tokens: exact up to rounding, short for smooth motion, the same every time."""

import json
import math

import pytest
import torch

from costep.decoders.action_tokens import ActionTokenizer
from costep.nn.dct import dct

SCALE, T, A = 10.0, 8, 7


def smooth(chunks=256, seed=0):
    """Slow sines in [-1, 1] with a gripper that is open or closed."""
    random = torch.Generator().manual_seed(seed)
    phase, rate = torch.rand(2, chunks, 1, A, generator=random)
    x = torch.sin(6.3 * phase + rate * torch.arange(T)[:, None] / 4)
    x[..., -1] = (x[..., -1] > 0).float()
    return x


@pytest.fixture(scope="module")
def tokens():
    return ActionTokenizer.fit(smooth(), SCALE, 512)


def test_the_round_trip_stays_within_the_rounding(tokens):
    x = smooth(64, seed=1)
    back, good = tokens.decode(tokens.encode(x))
    assert good.all()
    assert (dct(back) - dct(x)).abs().max() <= 0.5 / SCALE + 1e-5
    assert (back - x).norm(dim=1).max() <= 0.5 / SCALE * math.sqrt(T) + 1e-5
    assert (back - x).abs().max() > 1e-3  # it is rounding


def test_smooth_chunks_are_short(tokens):
    lengths = [len(row) for row in tokens.encode(smooth(64, seed=1))]
    assert max(lengths) < tokens.letters
    assert sum(lengths) / len(lengths) < tokens.letters / 2
    noise = tokens.encode(torch.rand(16, T, A) * 2 - 1)
    assert sum(map(len, noise)) / 16 > 1.3 * sum(lengths) / len(lengths)


def test_low_frequencies_come_first(tokens):
    """A chunk that stands still is A letters and zeros after them."""
    still = torch.linspace(-0.5, 0.5, A).expand(1, T, A)
    (row,) = tokens.encode(still)
    letters = [q for i in row for q in tokens.pieces[i]]
    assert letters[:A] == torch.round(dct(still)[0, 0] * SCALE).int().tolist()
    assert letters[A:] == [0] * (T * A - A)


def test_what_training_never_showed_can_be_written(tokens):
    x = torch.rand(8, T, A, generator=torch.Generator().manual_seed(2)) * 2 - 1
    back, good = tokens.decode(tokens.encode(x))
    assert good.all()
    assert (dct(back) - dct(x)).abs().max() <= 0.5 / SCALE + 1e-5


def test_beyond_the_bound_coefficients_are_cut(tokens):
    back, good = tokens.decode(tokens.encode(torch.full((1, T, A), 9.0)))
    assert good.all()
    assert torch.allclose(dct(back)[:, 0], torch.tensor(tokens.bound / SCALE), atol=1e-4)


def test_a_sequence_of_another_length_means_nothing(tokens):
    (row,) = tokens.encode(smooth(1))
    chunk, good = tokens.decode([row, row[:-1], [*row, row[0]], []])
    assert good.tolist() == [True, False, False, False]
    assert chunk[0].abs().max() > 0
    assert (chunk[1:] == 0).all()


def test_equal_actions_give_equal_tokens(tokens, tmp_path):
    again = ActionTokenizer.fit(smooth(), SCALE, 512)
    assert again.bpe.to_str() == tokens.bpe.to_str()
    tokens.save(tmp_path / "tokens.json")
    loaded = ActionTokenizer.load(tmp_path / "tokens.json")
    assert loaded.encode(smooth(9, seed=3)) == tokens.encode(smooth(9, seed=3))
    assert loaded.pieces == tokens.pieces
    json.loads((tmp_path / "tokens.json").read_text())


def test_too_few_tokens_for_the_letters():
    with pytest.raises(ValueError, match=r"\d+ letters at decoder\.tokens\.scale=1000"):
        ActionTokenizer.fit(smooth(), 1000.0, 512)


def test_another_chunk_length_is_refused(tokens):
    with pytest.raises(ValueError, match=r"\(4, 7\), the action tokenizer was fitted on \(8, 7\)"):
        tokens.encode(torch.zeros(1, 4, 7))
