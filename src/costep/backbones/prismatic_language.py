"""Qwen2.5 as a stack that is run one layer at a time, and the prompt that it reads (baselines
sections 1.2 and 1.3).

The layers are those of transformers; rotary angles, the mask and the loop are ours, so that a
layer's residual stream and its rotated keys and values can be tapped, and nothing after the last
tap is computed.  Prompt: the chat template of Qwen2.5 with its stock system message, an empty
assistant turn.  Patches go in after the first token.  Shorter prompts are padded there too, so
that the last word of every prompt stands directly before the action queries.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RMSNorm

from costep.backbones.words import build_tokenizer
from costep.config import BackboneSizes

Pair = tuple[Tensor, Tensor]
START, END = "<|im_start|>", "<|im_end|>"
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QUESTION = "What action should the robot take to"


def prompt(instruction: str) -> str:
    return (
        f"{START}system\n{SYSTEM}{END}\n"
        f"{START}user\n{QUESTION} {instruction.lower()}?{END}\n{START}assistant\n"
    )


class Language(nn.Module):
    """Embedding, decoder layers and the last norm; no logits."""

    def __init__(self, sizes: BackboneSizes) -> None:
        super().__init__()
        config = qwen2_config(sizes)
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.layers = nn.ModuleList(Qwen2DecoderLayer(config, i) for i in range(sizes.layers))
        self.norm = Qwen2RMSNorm(sizes.width, config.rms_norm_eps)
        nn.init.normal_(self.embed_tokens.weight, std=config.initializer_range)

    def layer(self, index: int, x: Tensor, angle: Tensor, allowed: Tensor) -> tuple[Tensor, Pair]:
        """One layer: x (B, N, D), angle (B, N, d/2), allowed (B, 1, N, N) bool -> the residual
        stream after it and its post-rotary keys and values.
        """
        turn, taken = torch.cat([angle, angle], -1), Taken()
        x = self.layers[index](
            x,
            attention_mask=allowed,
            position_embeddings=(turn.cos().to(x.dtype), turn.sin().to(x.dtype)),
            past_key_values=taken,
        )
        return x, taken.kv


class Taken:
    """Stands where attention expects a cache, and keeps what attention hands to it."""

    kv: Pair

    def update(self, key: Tensor, value: Tensor, *_: object) -> Pair:
        self.kv = (key, value)
        return self.kv


class TiedHead(nn.Linear):
    """Logits with the embedding's own weight: neither counted, stored nor loaded a second time."""

    def __init__(self, embedding: nn.Embedding) -> None:
        words, width = embedding.weight.shape
        super().__init__(width, words, bias=False, device="meta")
        self.weight = embedding.weight

    def _save_to_state_dict(self, *_: object) -> None: ...

    def _load_from_state_dict(self, *_: object) -> None: ...


def qwen2_config(sizes: BackboneSizes) -> Qwen2Config:
    """Qwen2.5-0.5B where ``sizes`` are the defaults."""
    numbers: dict[str, Any] = {
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": sizes.rope_theta},
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "attn_implementation": "sdpa",
    }
    return Qwen2Config(**numbers)


# ---- words ---------------------------------------------------------------------------------------
def stand_in_tokenizer() -> Tokenizer:
    """For random weights, where no tokenizer was loaded: known words, and letters otherwise."""
    tokenizer = build_tokenizer()
    words = f"system user assistant {SYSTEM} {QUESTION}".lower().replace(".", "").replace(",", "")
    known = [AddedToken(w, single_word=True) for w in dict.fromkeys(words.split()) if len(w) > 1]
    tokenizer.add_tokens(known)
    tokenizer.add_special_tokens([START, END])
    return tokenizer


def encode(tokenizer: Tokenizer, instructions: tuple[str, ...], bucket: int) -> Pair:
    """Ids and validity, (B, L); padding follows the first token.  L is the longest prompt's length
    in steps of four, at most ``bucket``; a longer prompt raises.
    """
    rows = [_within(tokenizer.encode(prompt(s)).ids, s, bucket) for s in instructions]
    length = min(bucket, -(-max(map(len, rows)) // 4) * 4)
    ids = torch.tensor([[row[0], *[0] * (length - len(row)), *row[1:]] for row in rows])
    place, used = torch.arange(length), torch.tensor([len(row) for row in rows])[:, None]
    return ids, (place == 0) | (place > length - used)


def _within(tokens: list[int], instruction: str, bucket: int) -> list[int]:
    if len(tokens) > bucket:
        raise ValueError(
            f"instruction {instruction!r} makes a prompt of {len(tokens)} tokens; "
            f"backbone.sizes.text_tokens allows {bucket}. Shorten it or raise that field"
        )
    return tokens
