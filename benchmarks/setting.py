"""Under what circumstances a number was taken; written beside every one of them."""

from __future__ import annotations

import subprocess
from typing import Any

import torch

from costep.evaluate.protocol import installed_versions, machine

BUSY = 1.5  # load per thread used, above which milliseconds are not published


def setting(device: torch.device, dtype: str, seed: int) -> dict[str, Any]:
    """Device, driver, precision, threads, versions, commit and the load at this moment."""
    facts = machine()
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else facts["cpu"],
        "driver": _says(
            "nvidia-smi", "--query-gpu=driver_version,clocks.sm", "--format=csv,noheader"
        )
        if gpu
        else None,
        "dtype": dtype,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if gpu else None,
        "execution": "eager",
        "threads": torch.get_num_threads(),
        "cores": facts["cores"],
        "load_before": facts["load_1min"],
        "versions": installed_versions(),
        "commit": _says("git", "rev-parse", "--short", "HEAD"),
        "seed": seed,
    }


def finished(facts: dict[str, Any], on_cpu: bool) -> dict[str, Any]:
    """``facts`` with the load afterwards, and whether it forbids publishing milliseconds."""
    after = machine()["load_1min"]
    worst = max(facts["load_before"] or 0.0, after or 0.0)
    return {**facts, "load_after": after, "busy": on_cpu and worst > BUSY * facts["threads"]}


def _says(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
