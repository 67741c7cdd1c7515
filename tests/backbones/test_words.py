"""Instructions to ids: every sentence is accepted, none is cut short silently."""

import pytest
import torch
from miniature import make, miniature, observe

from costep.backbones.words import WORDS, build_tokenizer, encode


def test_known_words_are_one_token_each():
    tokenizer = build_tokenizer()
    tokens = tokenizer.encode("Pick up the RED cube").tokens
    assert tokens == ["pick", "up", "the", "red", "cube"]


def test_unknown_words_fall_back_to_letters():
    tokens = build_tokenizer().encode("grab the zxq9!").tokens
    assert tokens == ["grab", "the", "z", "##x", "##q", "##9", "!"]
    assert "[UNK]" not in tokens


def test_ids_are_stable():
    """A checkpoint's embedding rows mean these words for ever."""
    ids = build_tokenizer().encode("put the red block in the basket").ids
    again = build_tokenizer().encode("put the red block in the basket").ids
    assert ids == again
    vocabulary = build_tokenizer().get_vocab()
    assert vocabulary["[PAD]"] == 0
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert len(vocabulary) <= 512
    assert set(WORDS) <= set(vocabulary)


def test_encode_pads_and_marks():
    ids, valid = encode(build_tokenizer(), ("open the drawer", "push"), 9)
    assert ids.shape == valid.shape == (2, 4)
    assert valid.sum(1).tolist() == [3, 1]
    assert ids[1, 1:].tolist() == [0, 0, 0]


def test_padding_follows_the_longest_sentence_in_steps_of_four():
    lengths = {
        words: encode(build_tokenizer(), ("push " * words,), 9)[0].shape[1]
        for words in (1, 4, 5, 9)
    }
    assert lengths == {1: 4, 4: 4, 5: 8, 9: 9}


def test_too_long_or_empty_sentences_say_so():
    with pytest.raises(ValueError, match=r"has 3 tokens; expected 1 to 2.*text_tokens"):
        encode(build_tokenizer(), ("open the drawer",), 2)
    with pytest.raises(ValueError, match="has 0 tokens"):
        encode(build_tokenizer(), ("",), 5)


def test_the_tokenizer_survives_a_checkpoint(tmp_path):
    config = miniature("focusvla")
    policy, seen = make(config), observe(config)
    before = policy.act(seen)[0].actions
    policy.backbone.save_tokenizer(tmp_path / "tokenizer")
    policy.backbone.tokenizer = None
    policy.backbone.load_tokenizer(tmp_path / "tokenizer")
    assert policy.backbone.tokenizer.get_vocab() == build_tokenizer().get_vocab()
    assert torch.equal(policy.act(seen)[0].actions, before)
