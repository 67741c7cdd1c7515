"""Every augmentation changes pixels, is reproducible, and treats cameras as told."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from costep.data.augment import Augment, augment, colour, shift

OFF = Augment.off()
SWITCHES = {
    "shift": dataclasses.replace(OFF, shift=3),
    "brightness": dataclasses.replace(OFF, brightness=0.3),
    "contrast": dataclasses.replace(OFF, contrast=0.3),
    "saturation": dataclasses.replace(OFF, saturation=0.5),
    "tint": dataclasses.replace(OFF, tint=0.2),
    "sharpen": dataclasses.replace(OFF, sharpen=1.0, sharpen_probability=1.0),
    "erase": dataclasses.replace(OFF, erase_probability=1.0, erase_side=0.5),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    picture = torch.randint(0, 256, (16, 3, 24, 24), generator=generator(), dtype=torch.uint8)
    return {"agent": picture, "wrist": picture.clone()}


@pytest.mark.parametrize("name", SWITCHES)
def test_every_transform_changes_uint8_pixels(images, name):
    out = augment(images, SWITCHES[name], generator())["agent"]
    assert out.dtype == torch.uint8
    assert out.shape == images["agent"].shape
    changed = (out != images["agent"]).flatten(1).any(1)
    assert changed.float().mean() > 0.8


def test_every_strength_is_covered_by_the_test_above():
    strengths = {f.name for f in dataclasses.fields(Augment)} - {"independent"}
    tested = {k for c in SWITCHES.values() for k, v in vars(c).items() if k in strengths and v}
    assert tested == strengths


def test_off_is_an_identity_and_the_input_is_left_alone(images):
    kept = images["agent"].clone()
    assert torch.equal(augment(images, OFF, generator())["agent"], kept)
    augment(images, Augment(), generator())
    assert torch.equal(images["agent"], kept)


def test_seed_decides(images):
    first, second, other = (augment(images, Augment(), generator(s))["wrist"] for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_cameras_draw_independently_unless_told(images):
    out = augment(images, Augment(), generator())
    assert not torch.equal(out["agent"], out["wrist"])
    out = augment(images, Augment(independent=False), generator())
    assert torch.equal(out["agent"], out["wrist"])


def test_shift_moves_a_point_and_repeats_the_edge():
    x = torch.zeros(64, 3, 9, 9, dtype=torch.uint8)
    x[:, :, 4, 4], x[:, :, 0] = 255, 7
    out = shift(x, 2, generator())
    places = {tuple(p.tolist()) for image in out for p in (image[0] == 255).nonzero()}
    assert len(places) > 15
    assert all(2 <= r <= 6 and 2 <= c <= 6 for r, c in places)
    assert set(out.unique().tolist()) == {0, 7, 255}


def test_colour_by_the_formula_of_one_image():
    """Brightness is a factor, contrast keeps the mean luma, saturation keeps luma."""
    x = torch.randint(60, 180, (1, 3, 16, 16), generator=generator(5), dtype=torch.uint8)
    luma = torch.tensor([0.299, 0.587, 0.114])
    bright = colour(x, SWITCHES["brightness"], generator(1)).float()
    factor = 1 + 0.3 * (2 * torch.rand(1, generator=generator(1)).item() - 1)
    torch.testing.assert_close(bright, (x * factor).round(), atol=1, rtol=0)
    grey = torch.einsum(
        "c,bchw->bhw", luma, colour(x, SWITCHES["saturation"], generator(1)).float()
    )
    torch.testing.assert_close(grey, torch.einsum("c,bchw->bhw", luma, x.float()), atol=1, rtol=0)
    flat = torch.full((1, 3, 16, 16), 90, dtype=torch.uint8)
    torch.testing.assert_close(
        colour(flat, SWITCHES["contrast"], generator(1)), flat, atol=1, rtol=0
    )


def test_other_input_is_refused(images):
    with pytest.raises(ValueError, match="uint8"):
        augment({"agent": images["agent"].float()}, Augment(), generator())
