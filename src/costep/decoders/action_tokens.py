"""Actions as tokens: cosine transform, rounding, byte-pair encoding (Pertsch et al., FAST, 2025).

    c = DCT(chunk) along time,   q = round(scale c),   q read frequency by frequency as one word,
    pairs of frequent neighbours merged up to ``vocabulary`` tokens

Smooth chunks have few large coefficients and many zeros, so a chunk becomes a handful of tokens.
Every coefficient within ``bound`` is a token of its own, so whatever was not in the training
actions can be written too, at length; a coefficient beyond the bound is cut to it.  Decoding is
exact up to rounding: at most 1 / (2 scale) per coefficient.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, trainers
from torch import Tensor

from costep.nn.dct import dct, idct

FILE = "action_tokenizer.json"
FIRST = 0x4E00  # the character of the lowest coefficient: a plain letter, never a space


@dataclass(frozen=True)
class ActionTokenizer:
    """bound: the largest |q| that has a letter.  A word has ``chunk x dims`` letters."""

    chunk: int
    dims: int
    scale: float
    bound: int
    bpe: Tokenizer

    @classmethod
    def fit(cls, actions: Tensor, scale: float, vocabulary: int) -> ActionTokenizer:
        """From training chunks (M, T, A), normalised; the same chunks give the same tokens."""
        rounded = torch.round(dct(actions.float()) * scale).long()
        bound = max(1, int(rounded.abs().max()))
        if 2 * bound + 1 > vocabulary:
            raise ValueError(
                f"the coefficients of these actions reach {bound / scale:g} and need "
                f"{2 * bound + 1} letters at decoder.tokens.scale={scale}, more than "
                f"decoder.tokens.vocabulary={vocabulary}; lower the scale, raise the vocabulary, "
                "or normalise the actions"
            )
        bpe = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            initial_alphabet=[chr(FIRST + i) for i in range(2 * bound + 1)],
            show_progress=False,
        )
        bpe.train_from_iterator(_words(rounded, bound), trainer)
        return cls(actions.shape[1], actions.shape[2], scale, bound, bpe)

    @property
    def letters(self) -> int:
        """Coefficients in a chunk."""
        return self.chunk * self.dims

    @cached_property
    def pieces(self) -> tuple[tuple[int, ...], ...]:
        """The rounded coefficients that each token stands for."""
        names = (self.bpe.id_to_token(i) for i in range(self.bpe.get_vocab_size()))
        return tuple(tuple(ord(c) - FIRST - self.bound for c in name) for name in names)

    def encode(self, actions: Tensor) -> list[list[int]]:
        """Chunks (B, T, A) -> the tokens of each."""
        if actions.shape[1:] != (self.chunk, self.dims):
            raise ValueError(
                f"chunks have shape {tuple(actions.shape[1:])}, the action tokenizer was fitted on "
                f"({self.chunk}, {self.dims}); fit one on these actions"
            )
        rounded = torch.round(dct(actions.float().cpu()) * self.scale).long()
        return [e.ids for e in self.bpe.encode_batch(_words(rounded, self.bound))]

    def decode(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Tokens -> chunks (B, T, A) and which of them could be decoded (B,).

        A row without exactly one letter per coefficient means nothing; its chunk is zero.
        """
        letters = [[q for i in row for q in self.pieces[i]] for row in rows]
        good = torch.tensor([len(word) == self.letters for word in letters])
        filled = [w if ok else [0] * self.letters for w, ok in zip(letters, good.tolist())]
        rounded = torch.tensor(filled, dtype=torch.float32).view(-1, self.chunk, self.dims)
        return idct(rounded / self.scale), good

    def save(self, path: Path) -> None:
        facts = {k: getattr(self, k) for k in ("chunk", "dims", "scale", "bound")}
        path.write_text(json.dumps(facts | {"bpe": json.loads(self.bpe.to_str())}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> ActionTokenizer:
        facts = json.loads(path.read_text())
        bpe = Tokenizer.from_str(json.dumps(facts.pop("bpe")))
        return cls(**facts, bpe=bpe)


def _words(rounded: Tensor, bound: int) -> list[str]:
    """(B, T, A) integers -> one word each, low frequencies of all dimensions first."""
    rows = (rounded.clamp(-bound, bound) + bound + FIRST).flatten(1).tolist()
    return ["".join(map(chr, row)) for row in rows]
