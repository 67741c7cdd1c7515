"""The tokenizer of the tiny and small backbones: whole words where known, characters otherwise.

A fixed vocabulary of manipulation words keeps token ids stable between a base policy and everything
fine-tuned from it; an unknown word falls back to its letters, so no instruction is ever refused.
Saved as a Hugging Face ``tokenizer.json`` inside the checkpoint.
"""

from __future__ import annotations

import string

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

WORDS = [
    "a",
    "above",
    "all",
    "and",
    "away",
    "basket",
    "behind",
    "below",
    "beside",
    "between",
    "big",
    "black",
    "block",
    "blue",
    "both",
    "bowl",
    "box",
    "brown",
    "butter",
    "button",
    "by",
    "can",
    "cheese",
    "clockwise",
    "close",
    "closed",
    "cover",
    "cream",
    "cube",
    "cup",
    "cyan",
    "cylinder",
    "desk",
    "dish",
    "down",
    "drawer",
    "drop",
    "first",
    "flip",
    "fold",
    "from",
    "front",
    "grab",
    "grasp",
    "gray",
    "green",
    "grey",
    "handle",
    "hand",
    "hold",
    "hook",
    "in",
    "inside",
    "insert",
    "into",
    "it",
    "knob",
    "lamp",
    "large",
    "last",
    "left",
    "lid",
    "lift",
    "lower",
    "lowest",
    "lying",
    "middle",
    "milk",
    "mug",
    "move",
    "near",
    "next",
    "object",
    "of",
    "off",
    "on",
    "onto",
    "one",
    "open",
    "orange",
    "other",
    "out",
    "over",
    "pan",
    "peg",
    "pick",
    "pink",
    "place",
    "plate",
    "pot",
    "pour",
    "press",
    "pull",
    "purple",
    "push",
    "put",
    "rack",
    "red",
    "release",
    "reach",
    "right",
    "rotate",
    "round",
    "second",
    "shelf",
    "shut",
    "side",
    "slide",
    "small",
    "sort",
    "square",
    "stack",
    "stove",
    "switch",
    "table",
    "take",
    "the",
    "then",
    "third",
    "to",
    "top",
    "touch",
    "towards",
    "tower",
    "tray",
    "turn",
    "twist",
    "two",
    "under",
    "unstack",
    "up",
    "upper",
    "upright",
    "wall",
    "white",
    "wipe",
    "with",
    "yellow",
    "ball",
    "bottle",
    "disc",
    "disk",
    "duck",
    "egg",
    "fork",
    "knife",
    "sponge",
    "spoon",
    "marker",
    "after",
    "again",
    "at",
    "before",
    "corner",
    "each",
    "edge",
    "every",
    "far",
    "half",
    "hammer",
    "in-between",
    "juice",
    "jar",
    "keep",
    "nail",
    "onward",
    "only",
    "salad",
    "sauce",
    "soup",
    "soon",
    "stand",
    "step",
    "stick",
    "tape",
    "them",
    "they",
    "this",
    "three",
    "together",
    "toward",
    "until",
    "wait",
    "while",
    "wood",
]


def build_tokenizer() -> Tokenizer:
    """WordPiece over ``WORDS`` with every ASCII letter, digit and sign as a fallback; ids are
    stable.
    """
    signs = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", *signs, *("##" + s for s in signs)]
    pieces += [w for w in dict.fromkeys(WORDS) if w not in pieces]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def encode(tokenizer: Tokenizer, sentences: tuple[str, ...], bucket: int) -> tuple[Tensor, Tensor]:
    """Ids and validity, (B, N): N is the longest sentence's length in steps of four, at most
    ``bucket``; a sentence longer than the bucket raises."""
    rows = [_within(tokenizer.encode(sentence).ids, sentence, bucket) for sentence in sentences]
    length = min(bucket, -(-max(map(len, rows), default=0) // 4) * 4)
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=torch.long)
    return ids, torch.arange(length) < torch.tensor([len(row) for row in rows])[:, None]


def _within(tokens: list[int], sentence: str, bucket: int) -> list[int]:
    if not 0 < len(tokens) <= bucket:
        raise ValueError(
            f"instruction {sentence!r} has {len(tokens)} tokens; expected 1 to {bucket}. "
            "Shorten it or raise backbone.sizes.text_tokens"
        )
    return tokens
