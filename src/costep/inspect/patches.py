"""Which patches FocusVLA's attention kept, drawn over what the cameras saw (paper, figure 8).

Every head and action query keeps its own top K of the vision tokens, so a patch has a selection
frequency between 0 (nobody looked) and 1 (everybody did). Patches nobody needed go dark.
"""

from __future__ import annotations

import math

import numpy as np

from costep.evaluate.recording import Recording
from costep.inspect.film import key_steps
from costep.inspect.style import INK, MUTED, empty, figure, svg

DARK = np.array([14, 17, 24], dtype=np.float32)  # what a dropped patch fades to


def patch_figure(
    recording: Recording,
    layer: int | None = None,
    grid: tuple[int, int] | None = None,
    columns: int = 6,
) -> bytes:
    """SVG: one row per camera, one column per moment; brightness = how often a patch was kept.

    layer: 1-based head layer, default the deepest that every query reached.  grid: patches per
    camera (rows, columns), default square.  All pictures share one brightness scale, which is
    printed below them.
    """
    kept = recording.kept[_pick(recording, layer)]
    queries = [recording.query_at(step) for step in key_steps(recording, columns)]
    shown = sorted({q for q in queries if q is not None})
    maps = np.stack([camera_maps(kept[q], len(recording.frames), grid) for q in shown])
    low, high = np.nanpercentile(maps, [2, 98])
    side, left = 1.38, 0.35
    fig = figure(left + side * len(shown), side * len(recording.frames) + 0.62)
    width, height = fig.get_figwidth(), fig.get_figheight()
    for row, (camera, images) in enumerate(recording.frames.items()):
        for column, query in enumerate(shown):
            x = left + column * side
            y = height - 0.24 - (row + 1) * side
            size = side - 0.06
            ax = empty(fig.add_axes((x / width, y / height, size / width, size / height)))
            step = int(recording.query_steps[query])
            picture = shade(images[step], maps[column, row], low, high)
            ax.imshow(picture, interpolation="none", aspect="auto")
            if row == 0:
                seconds = step / recording.control_hz
                ax.set_title(f"{seconds:.1f} s", color=MUTED, fontsize=9, pad=4)
            if column == 0:
                ax.set_ylabel(camera, color=INK, fontsize=9.5)
    scale = f"dark: kept by at most {low:.0%} of heads and action queries"
    scale += f" · bright: by {high:.0%} or more"
    fig.text(left / width, 0.10 / height, scale, color=MUTED, fontsize=9)
    return svg(fig)


def camera_maps(kept: np.ndarray, cameras: int, grid: tuple[int, int] | None = None) -> np.ndarray:
    """Token frequencies (V,) -> (cameras, rows, columns); tokens run camera by camera, by rows."""
    per_camera, rest = divmod(kept.shape[-1], cameras)
    side = math.isqrt(per_camera)
    rows, columns = grid or (side, side)
    if rest or rows * columns != per_camera:
        raise ValueError(
            f"{kept.shape[-1]} vision tokens do not form {cameras} grids of "
            f"{rows} x {columns} patches; pass grid=(rows, columns) of one camera"
        )
    return kept.reshape(cameras, rows, columns)


def shade(image: np.ndarray, frequency: np.ndarray, low: float, high: float) -> np.ndarray:
    """Fade each patch of an image (H, W, 3) towards the dark by how rarely it was kept."""
    light = np.nan_to_num(np.clip((frequency - low) / max(high - low, 1e-6), 0, 1))
    rows = np.arange(image.shape[0]) * light.shape[0] // image.shape[0]
    columns = np.arange(image.shape[1]) * light.shape[1] // image.shape[1]
    weight = (0.14 + 0.86 * light)[rows][:, columns, None]
    return (image * weight + DARK * (1 - weight)).astype(np.uint8)


def _pick(recording: Recording, layer: int | None) -> int:
    if not recording.kept:
        raise ValueError("this recording has no kept patches: the policy keeps all of them")
    if layer is not None and layer not in recording.kept:
        raise ValueError(f"layer {layer} was not recorded; recorded are {sorted(recording.kept)}")
    if layer is not None:
        return layer
    return max(recording.kept, key=lambda n: (np.isfinite(recording.kept[n]).mean(), n))
