"""One way from a camera frame to the policy's pixels."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import gradient

from costep.data.images import rotate_180, to_pixels
from costep.types import ImageSpec


def test_same_size_is_the_same_pixels():
    frames = gradient(3, 32, 0)
    np.testing.assert_array_equal(to_pixels(frames, 32).permute(0, 2, 3, 1), frames)
    assert to_pixels(frames, None).shape == (3, 3, 32, 32)


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((1, 32, 32, 3), np.uint8)
    stripes[:, :, ::4] = 200  # invisible to a resize that reads two of every four pixels
    small = to_pixels(stripes, 8)[..., 1:-1].float()
    assert (small - 50).abs().max() <= 10


def test_size_and_dtype_are_checked():
    spec = ImageSpec("agent", 64, 64)
    with pytest.raises(ValueError, match=r"camera 'agent' delivered \(32, 32\).*\(64, 64\)"):
        to_pixels(gradient(1, 32, 0), 32, spec)
    with pytest.raises(ValueError, match="uint8 frames"):
        to_pixels(gradient(1, 32, 0).astype(np.float32), 32)


def test_rotation_turns_rows_and_columns():
    frames = gradient(2, 8, 0)
    assert (rotate_180(frames)[:, 0, 0] == frames[:, -1, -1]).all()
    np.testing.assert_array_equal(rotate_180(rotate_180(frames)), frames)
