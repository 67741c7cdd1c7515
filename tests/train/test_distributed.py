"""Two processes: the same layers, the same gradients, and the weights of one larger batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_policy import Windows, make_contract, make_policy, small

from costep.train.loop import train
from costep.train.options import TrainOptions


def run(out, rank, processes):
    config = small("vla_adapter", exit_supervision="random")
    policy = make_policy(config, seed=rank)  # the wrapper starts every rank from rank 0's weights
    options = TrainOptions(
        out, steps=4, batch_size=8 // processes, precision="fp32", tensorboard=False
    )
    draws = []
    result = train(
        policy, Windows(config), options, make_contract(), on_step=lambda r: draws.append(r.parts)
    )
    torch.save((result.losses, policy.state_dict(), draws), out / f"rank{rank}.pt")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    places = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    base = os.environ | {
        "PYTHONPATH": places, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(),
        "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    command = [sys.executable, __file__, str(tmp_path / "two")]
    ranks = [
        subprocess.Popen(command, env=base | {"RANK": str(r), "LOCAL_RANK": str(r)}) for r in (0, 1)
    ]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    run(tmp_path / "one", 0, 1)

    first, second, alone = (
        torch.load(tmp_path / name) for name in ("two/rank0.pt", "two/rank1.pt", "one/rank0.pt")
    )
    assert first[0] == second[0] == pytest.approx(alone[0], rel=1e-4)
    for key, value in first[1].items():
        assert torch.equal(value, second[1][key]), key
        assert torch.allclose(value, alone[1][key], atol=2e-4), key
    layers = {key for parts in first[2] for key in parts if key.startswith("exit_")}
    assert len(layers) > 1, "the draw never moved"
    saved = tmp_path / "two" / "checkpoints" / "000004" / "pretrained_model" / "model.safetensors"
    assert torch.equal(load_file(saved)["backbone.queries"], first[1]["backbone.queries"])


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
