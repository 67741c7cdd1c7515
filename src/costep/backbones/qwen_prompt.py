"""What a Qwen vision-language model is asked, as token ids.

    {before} [camera 1: <|vision_start|> 64 x <|image_pad|> <|vision_end|>] [camera 2: ...]
    {task with the instruction} padding {after}

The pictures come first, so that they lie at the same places in every row of a batch; the padding
comes after the words, takes no position and is never seen.  The released tokenizers split text at
special tokens first, so encoding the three parts one by one equals encoding the whole.  The wording
is free (S2-VLA prints none) and is stored with the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from costep.backbones.words import build_tokenizer, encode


@dataclass(frozen=True)
class Prompt:
    """The wording.  image: the token that patches replace; start, end: the markers around them."""

    before: str = "<|im_start|>user\n"
    task: str = "{instruction}\nPredict the next {chunk} robot actions."
    after: str = "<|im_end|>\n<|im_start|>assistant\n"
    start: str = "<|vision_start|>"
    image: str = "<|image_pad|>"
    end: str = "<|vision_end|>"

    def __post_init__(self) -> None:
        if "{instruction}" not in self.task:
            raise ValueError(f"prompt.task={self.task!r} has no {{instruction}}")


SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")


def stand_in_tokenizer() -> Tokenizer:
    """For random weights without a folder: known words, letters, and the markers."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens([AddedToken(s, normalized=False) for s in SPECIAL])
    return tokenizer


class Asker:
    """A tokenizer and a wording, ready to ask.

    patches: how many image tokens a camera has.  vision: (cameras x patches,) where they lie in
    every row.  Raises ValueError when the tokenizer does not know a marker or has more words than
    the embedding has rows.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Prompt, cameras: int, patches: int, rows: int
    ) -> None:
        self.tokenizer, self.prompt = tokenizer, prompt
        unknown = [
            s for s in (prompt.start, prompt.image, prompt.end) if tokenizer.token_to_id(s) is None
        ]
        if unknown:
            raise ValueError(
                f"the tokenizer does not know {unknown}; load the tokenizer.json of a Qwen "
                "vision-language model, or name its markers in prompt.json"
            )
        words = tokenizer.get_vocab_size()
        if words > rows:
            raise ValueError(
                f"the tokenizer has {words} words, the embedding {rows} rows; load the tokenizer "
                "of these weights or raise backbone.sizes.vocabulary"
            )
        camera = prompt.start + patches * prompt.image + prompt.end
        self.first = _ids(tokenizer, prompt.before + cameras * camera)
        self.last = _ids(tokenizer, prompt.after)
        self.vision = self.first.eq(tokenizer.token_to_id(prompt.image)).nonzero()[:, 0]
        if len(self.vision) != cameras * patches:
            raise ValueError(
                f"the prompt has {len(self.vision)} image tokens; expected {cameras} x {patches}: "
                f"prompt.before must not hold {prompt.image!r}"
            )
        added = tokenizer.get_added_tokens_decoder()
        self._special = {i for i, token in added.items() if token.special}

    def ask(self, instructions: Sequence[str], chunk: int, bucket: int) -> tuple[Tensor, Tensor]:
        """Ids and validity, (B, N).  bucket: how many tokens the task may have at most."""
        tasks = tuple(
            self.prompt.task.replace("{chunk}", str(chunk)).replace("{instruction}", said)
            for said in instructions
        )
        text, valid = encode(self.tokenizer, tasks, bucket)
        self._plain_words(text, valid, instructions)
        first, last = (part.expand(len(tasks), -1) for part in (self.first, self.last))
        ids = torch.cat([first, text, last], 1)
        always = [torch.ones_like(part, dtype=torch.bool) for part in (first, last)]
        return ids, torch.cat([always[0], valid, always[1]], 1)

    def _plain_words(self, text: Tensor, valid: Tensor, instructions: Sequence[str]) -> None:
        for row, used, said in zip(text.tolist(), valid.sum(1).tolist(), instructions):
            if self._special.intersection(row[:used]):
                raise ValueError(f"instruction {said!r} holds a special token; write plain words")


def _ids(tokenizer: Tokenizer, text: str) -> Tensor:
    return torch.tensor(tokenizer.encode(text).ids, dtype=torch.long, device="cpu")


def positions(vision: Tensor, valid: Tensor, grid: tuple[int, int]) -> Tensor:
    """Three-dimensional rotary positions (3, B, N): time, row, column (Qwen2-VL, section 2.1).

    A word advances all three by one.  An image stands still in time and spreads in rows and
    columns; what follows it goes on after the larger side.  Padding does not advance.  vision: (V,)
    where image tokens lie, image after image, ``grid`` rows and columns each.
    """
    rows, columns = grid
    step = valid.long()
    step[:, vision] = 0
    step[:, vision[rows * columns - 1 :: rows * columns]] = max(grid)
    start = step.cumsum(1) - step
    patch = torch.arange(len(vision), device=valid.device) % (rows * columns)
    within = start.new_zeros(3, valid.shape[1])
    within[1, vision], within[2, vision] = patch // columns, patch % columns
    return start + within[:, None]
