"""LeRobot's own commands, as a user types them: train, resume, evaluate; no network."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("lerobot")
pytest.importorskip("costep.sim.desk")  # before anything imports mujoco
pytestmark = [pytest.mark.slow, pytest.mark.sim]

from costep.train.checkpoint import load  # noqa: E402

OFFLINE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}


def run(script, *arguments):
    """Runs ``lerobot-<script>``; its output, or a failure that shows its end."""
    command = [sys.executable, "-m", f"lerobot.scripts.lerobot_{script}", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, env={**os.environ, **OFFLINE}
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    return output


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Three steps, and two more after resuming."""
    out = tmp_path_factory.mktemp("lerobot-train") / "run"
    run(
        "train", "--policy.type=costep", "--policy.preset=composed", "--policy.size=tiny",
        "--policy.device=cpu", "--policy.train.lr_head=2e-4", "--dataset.repo_id=costep/gradients",
        f"--dataset.root={dataset}", "--dataset.video_backend=pyav", f"--output_dir={out}",
        "--batch_size=2", "--steps=3", "--save_freq=3", "--log_freq=1", "--num_workers=0",
        "--wandb.enable=false",
    )  # fmt: skip
    first = out / "checkpoints/000003/pretrained_model/train_config.json"
    log = run("train", f"--config_path={first}", "--resume=true", "--steps=5")
    assert "step:4" in log
    assert "step:3" not in log
    assert "exit_5:" in log  # one loss per exit
    return out / "checkpoints"


def test_the_checkpoint_is_complete_and_costep_loads_it(trained):
    folder = trained / "000005/pretrained_model"
    assert {p.name for p in folder.iterdir()} == {
        "config.json", "model.safetensors", "contract.json", "backbone", "MANIFEST.json",
        "train_config.json", "policy_preprocessor.json", "policy_postprocessor.json",
    }  # fmt: skip
    loaded = load(trained / "last", verify=True)
    assert loaded.config.preset == "composed"
    assert loaded.config.train.lr_head == 2e-4
    assert loaded.contract.state_stats is not None


def test_resuming_went_on_with_the_optimiser(trained):
    state = json.loads((trained / "000005/training_state/optimizer_param_groups.json").read_text())
    assert {g["name"] for g in state} == {
        "backbone", "backbone/no_decay", "head", "head/no_decay"
    }  # fmt: skip
    assert {g["initial_lr"] for g in state if g["name"].startswith("head")} == {2e-4}


def test_evaluation_on_the_desk(trained, tmp_path):
    run(
        "eval", f"--policy.path={trained / 'last/pretrained_model'}", "--env.type=costep_desk",
        "--env.task=bowl", "--eval.n_episodes=1", "--eval.batch_size=1",
        "--policy.device=cpu", f"--output_dir={tmp_path}/eval",
    )  # fmt: skip
    info = json.loads((tmp_path / "eval/eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 1
    assert info["per_task"][0]["task_group"] == "desk"
