"""`python -m costep.sim.desk.gallery docs/desk.png`: what the two cameras see, one row a task.

Each row shows both cameras at five moments of one expert episode, from the first step to the last.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from costep.sim.desk import TASKS, collect_episode
from costep.sim.desk.collect import Episode

MOMENTS = 5


def strip(episode: Episode) -> np.ndarray:
    """(H, MOMENTS * 2 W, 3) uint8: third-person and wrist pictures side by side, early to late."""
    moments = np.linspace(0, len(episode) - 1, MOMENTS).round().astype(int)
    pictures = [episode.images[camera][at] for at in moments for camera in ("agent", "wrist")]
    return np.concatenate(pictures, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the picture to write")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    episodes = [collect_episode(task, options.seed) for task in TASKS]
    rows = [strip(episode) for episode in episodes if episode is not None]
    Image.fromarray(np.concatenate(rows)).save(options.file, optimize=True)


if __name__ == "__main__":
    main()
