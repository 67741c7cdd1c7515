"""From a frame cache to a checkpoint with the real training windows, and without LeRobot."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_policy import make_policy, small

from costep.data.contract import ContractError
from costep.data.windows import WindowDataset
from costep.train import checkpoint
from costep.train.finetune import starting_point
from costep.train.loop import train
from costep.train.options import TrainOptions

sys.path.append(str(Path(__file__).parents[1] / "data"))


def windows(path, config):
    from synthetic import make_episode, write_cache

    episodes = [make_episode("red", 0, pixels=16), make_episode("blue", 1, pixels=16)]
    return WindowDataset(write_cache(path, episodes, ["train"] * 2), history=config.history)


def setting(path):
    config = replace(small(), chunk=4)
    return config, windows(path / "cache", config)


def options(out, steps):
    return TrainOptions(out, steps, batch_size=4, precision="fp32", device="cpu", tensorboard=False)


def test_windows_train_save_and_start_a_fine_tuning(tmp_path):
    config, data = setting(tmp_path)
    result = train(make_policy(config), data, options(tmp_path / "base", 3), data.contract)
    assert all(torch.tensor(result.losses).isfinite())
    loaded = checkpoint.load(tmp_path / "base", verify=True)
    assert loaded.contract.sha256() == data.contract.sha256()

    start = starting_point(tmp_path / "base", data.contract, statistics="keep")
    tuned = train(start.policy, data, options(tmp_path / "tuned", 1), start.contract)
    assert tuned.losses[0] < result.losses[0], "fine-tuning begins where the base policy ended"


def test_windows_of_another_chunk_are_refused(tmp_path):
    config, data = setting(tmp_path)
    wrong = replace(config, chunk=8)
    with pytest.raises(ContractError, match="chunk: policy 8, contract 4"):
        train(make_policy(wrong), data, options(tmp_path / "run", 1), data.contract)


@pytest.mark.slow
def test_training_runs_without_lerobot(tmp_path):
    program = f"""
import sys
sys.modules["lerobot"] = None
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
import test_real_windows as t
t.test_windows_train_save_and_start_a_fine_tuning(Path({str(tmp_path)!r}))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
