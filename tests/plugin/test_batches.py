"""LeRobot batches become exactly what training and rollouts of the core see."""

import pytest
import torch
from lerobot_like import SIDE, make_contract, normalised, raw, raw_training
from miniature import miniature

from costep.data.images import to_pixels
from costep.data.normalise import Normaliser
from costep.plugin import batches

CONFIG = miniature("composed")
CONTRACT = make_contract(CONFIG)
EXECUTED = Normaliser(CONTRACT).as_executed


def windows(batch):
    return batches.windows(batch, CONTRACT, CONFIG, EXECUTED)


def test_frames_are_the_bytes_of_the_camera_resized_as_in_the_cache():
    camera = torch.randint(0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8)
    expected = to_pixels(camera, 32, CONTRACT.images[0])
    as_float = camera.permute(0, 3, 1, 2).float() / 255
    assert torch.equal(batches.frames(as_float, CONTRACT.images[0], 32), expected)
    assert torch.equal(batches.frames(camera.permute(0, 3, 1, 2), CONTRACT.images[0], 32), expected)


def test_every_byte_survives_the_way_through_floats():
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    spec = make_contract(CONFIG).images[0]
    same = batches.frames(ramp.float() / 255, type(spec)("ramp", 16, 16), 16)
    assert torch.equal(same, ramp)
    rounded_down = (ramp.float() / 255 - 1e-6).clamp(min=0)
    assert torch.equal(batches.frames(rounded_down, type(spec)("ramp", 16, 16), 16), ramp)


def test_normalised_frames_are_refused():
    with pytest.raises(ValueError, match=r"values from -1.00 to .*VISUAL normalisation"):
        batches.frames(torch.rand(1, 3, SIDE, SIDE) * 2 - 1 - 1e-9, CONTRACT.images[0], 32)
    with pytest.raises(ValueError, match="the contract says"):
        batches.frames(torch.rand(1, 3, 16, 16), CONTRACT.images[0], 32)


def test_a_missing_camera_is_named():
    batch = raw(CONFIG)
    del batch["observation.images.wrist"]
    with pytest.raises(KeyError, match=r"\['wrist'\] are missing.*rename_map"):
        batches.observe(batch, CONTRACT, 32)


def test_sentences_are_one_per_row():
    assert batches.sentences("open the drawer", 2) == ("open the drawer",) * 2
    for wrong in (None, "", ["open the drawer"], ["a", ""]):
        with pytest.raises(ValueError, match=r"for 2 row\(s\)"):
            batches.sentences(wrong, 2)


def test_the_window_is_cut_where_now_is():
    batch = normalised(raw_training(CONFIG), CONTRACT)
    out, k = windows(batch), CONFIG.history
    assert k > 0
    inside = ~batch["action_is_pad"]
    assert torch.equal(out["actions"][1], batch["action"][1, k:])
    assert torch.equal(out["history"][1], EXECUTED(batch["action"][1, :k]))
    assert torch.equal(out["action_valid"], inside[:, k:])
    assert torch.equal(out["history_valid"], inside[:, :k])
    assert set(out["history"][1, :, 6].tolist()) <= {-1.0, 1.0}


def test_rows_that_lerobot_repeats_beyond_an_episode_are_zero():
    out = windows(normalised(raw_training(CONFIG), CONTRACT))
    assert not out["history_valid"][0, :-1].any()
    assert out["history"][0, :-1].abs().sum() == 0
    assert out["history"][0, -1].abs().sum() > 0
    assert out["actions"][-1, -2:].abs().sum() == 0
    assert out["actions"][-1, :-2].abs().sum() > 0


def test_a_window_of_another_length_says_how_to_load_the_data():
    batch = normalised(raw_training(CONFIG), CONTRACT)
    batch["action"] = batch["action"][:, 1:]
    with pytest.raises(ValueError, match="action_delta_indices"):
        windows(batch)
