"""Rollout videos that play in any browser: H.264, yuv420p, a few hundred kilobytes, embeddable.

Cameras stand side by side above a caption bar with the instruction, the clock and a row of cells,
one per backbone layer, lit as deep as the policy thought before the action now being executed
(A1's early exit made visible). The last frame is held, framed green on success.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from costep.evaluate.recording import Recording

BACKGROUND, TEXT, MUTED = (17, 20, 26), (240, 242, 245), (148, 156, 168)
LIT, UNLIT, SUCCESS, FAILURE = (92, 157, 255), (52, 58, 68), (52, 190, 130), (226, 96, 84)
BAR, GAP, HOLD_SECONDS = 52, 4, 0.8


def rollout_video(
    recording: Recording, *, panel: int = 256, max_bytes: int = 300_000, speed: float = 1.0
) -> bytes:
    """The MP4 of a recorded episode; quality is lowered until it fits ``max_bytes``.

    panel: height of one camera's picture in pixels.  speed: 2 plays twice as fast as the robot.
    """
    frames = list(compose(recording, panel))
    for crf in (23, 28, 33, 38):
        video = encode(frames, fps=recording.control_hz * speed, crf=crf)
        if len(video) <= max_bytes:
            break
    return video


def poster(recording: Recording, *, panel: int = 256) -> bytes:
    """A JPEG of the final state, shown until the video plays."""
    last = _frame(recording, recording.steps, panel, ended=True)
    buffer = io.BytesIO()
    Image.fromarray(last).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def encode(frames: Iterable[np.ndarray], fps: float, crf: int = 23) -> bytes:
    """Frames (H, W, 3) uint8 with even sides -> an MP4 whose index comes first (plays at once)."""
    frames = list(frames)
    if not frames:
        raise ValueError("a video needs at least one frame")
    height, width = frames[0].shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 in yuv420p needs even sides, got {width}x{height}")
    with TemporaryDirectory() as folder:  # moving the index to the front needs a real file
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            rate = Fraction(fps).limit_denominator(1000)
            stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf)})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        return path.read_bytes()


def write_video(path: Path, video: bytes) -> None:
    """Atomic write of encoded bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(video)
    os.replace(temporary, path)


def data_uri(content: bytes, mime: str) -> str:
    """``data:`` address that embeds a file in a page."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def compose(recording: Recording, panel: int = 256) -> Iterator[np.ndarray]:
    """Every frame with its caption bar, then the end held for a moment."""
    for step in range(recording.steps + 1):
        yield _frame(recording, step, panel, ended=False)
    end = _frame(recording, recording.steps, panel, ended=True)
    yield from [end] * max(1, round(HOLD_SECONDS * recording.control_hz))


def _frame(recording: Recording, step: int, panel: int, *, ended: bool) -> np.ndarray:
    panels = [_panel(images[step], panel) for images in recording.frames.values()]
    width = sum(p.width for p in panels) + GAP * (len(panels) - 1)
    canvas = Image.new("RGB", (width + width % 2, panel + BAR), BACKGROUND)
    x = 0
    for picture in panels:
        canvas.paste(picture, (x, 0))
        x += picture.width + GAP
    _caption(ImageDraw.Draw(canvas), recording, step, panel, ended=ended)
    return np.asarray(canvas)


def _panel(image: np.ndarray, height: int) -> Image.Image:
    width = round(image.shape[1] * height / image.shape[0] / 2) * 2
    return Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)


def _caption(
    draw: ImageDraw.ImageDraw, recording: Recording, step: int, top: int, *, ended: bool
) -> None:
    width = draw.im.size[0]
    draw.text((10, top + 8), _fitted(recording.instruction, 15, width - 20), TEXT, _font(15))
    status, colour = f"{step / recording.control_hz:.1f} s", MUTED
    if ended:
        colour = SUCCESS if recording.success else FAILURE
        status += "   solved" if recording.success else "   not solved"
        draw.rectangle((0, 0, width - 1, top + BAR - 1), outline=colour, width=4)
    draw.text((10, top + 30), status, colour, _font(13))
    query = recording.query_at(min(step, recording.steps - 1))
    if query is not None:
        _cells(draw, int(recording.layers_run[query]), recording.layers_total, width, top + 30)


def _cells(draw: ImageDraw.ImageDraw, run: int, total: int, right: int, y: int) -> None:
    """One small cell per backbone layer, filled up to the depth of this query."""
    size = max(3, min(10, 200 // total - 2))
    start = right - 10 - total * (size + 2)
    label = f"{run}/{total} layers"
    draw.text((start - 8 - draw.textlength(label, _font(13)), y), label, MUTED, _font(13))
    for layer in range(total):
        x = start + layer * (size + 2)
        draw.rectangle((x, y + 3, x + size - 1, y + 13), LIT if layer < run else UNLIT)


def _fitted(text: str, size: int, width: float) -> str:
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
