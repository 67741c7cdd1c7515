"""Milliseconds per query, and whether time follows depth (B1 and B2 of the benchmark suite).

    python benchmarks/latency.py --out docs/results/latency_cpu.json
    python benchmarks/latency.py --device cuda --sizes tiny small --out latency_cuda.json

For every preset: full depth, every exit forced (with the tests before it), the adaptive rule, the
vision encoder alone, and full depth through ``Agent``, from camera frames.  Batch 1.

Exit proportionality (B2): (T(k) - T_vis) / (T(L) - T_vis) - k/L, zero if time follows depth.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import FULL, VISION, Case, forced
from hosted import DTYPES
from setting import finished, setting
from tables import markdown
from timing import Timed, interleaved, median_with_interval

from costep.evaluate.protocol import write_json
from costep.presets import PRESETS

ROUNDS, WARMUP = {"cpu": 30, "cuda": 200}, {"cpu": 3, "cuda": 20}


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    results: list[dict[str, Any]] = []
    for dtype in arguments.dtypes:
        results.append(measure(arguments, dtype))
        write_json(arguments.out, {"format_version": 1, "results": results})
        arguments.out.with_suffix(".md").write_text(markdown(results, arguments.out.name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--presets", nargs="*", default=list(PRESETS), metavar="PRESET")
    parser.add_argument("--sizes", nargs="*", default=["tiny"], choices=("tiny", "small"))
    parser.add_argument("--dtypes", nargs="*", default=["fp32"], choices=tuple(DTYPES))
    parser.add_argument("--rounds", type=int, help="default: 200 on a GPU, 30 on a CPU")
    parser.add_argument("--warmup", type=int, help="default: 20 on a GPU, 3 on a CPU")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tflops", type=float, help="the device's peak, for the limit column")
    parser.add_argument("--terabytes", type=float, help="its memory bandwidth per second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def measure(arguments: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """Every preset at every size in one dtype: the setting, a row per case, a row per exit."""
    device = torch.device(arguments.device)
    rounds = arguments.rounds or ROUNDS[device.type]
    warmup = WARMUP[device.type] if arguments.warmup is None else arguments.warmup
    facts, rows, exits = setting(device, dtype, arguments.seed), [], []
    for size in arguments.sizes:
        for name in arguments.presets:
            case = Case.make(name, size, device, dtype, arguments.seed)
            timed = interleaved(case.calls(), rounds, warmup)
            rows += latencies(case, timed, arguments.tflops, arguments.terabytes)
            if not case.hosted.config.head.last_only:
                exits += proportionality(case, timed)
            print(f"{name} {size} {dtype}: p50 {timed[FULL].percentiles()['p50']} ms", flush=True)
    facts = finished(facts, on_cpu=device.type == "cpu")
    return {"setting": facts, "rows": rows, "proportionality": exits}


def latencies(
    case: Case, timed: dict[str, Timed], tflops: float | None, terabytes: float | None
) -> list[dict[str, Any]]:
    """One row per call; the limit is computed from counted FLOPs where the peaks are given."""
    rows = []
    for title, t in timed.items():
        flops = case.flops(title)
        ratio, *interval = median_with_interval(clock(case, t) / clock(case, timed[FULL]))
        rows.append(
            {
                "preset": case.name,
                "size": case.size,
                "parameters": case.parameters,
                "case": title,
                "layers": case.layers(title),
                "n": len(t.wall),
                **t.percentiles(),
                "ratio": ratio,
                "ratio_interval": interval,
                "gflop": None if flops is None else flops / 1e9,
                "limit_ms": limit(case, flops, tflops, terabytes),
            }
        )
    return rows


def proportionality(case: Case, timed: dict[str, Timed]) -> list[dict[str, Any]]:
    """B2, a row per exit; the last one compares with full depth without tests instead."""
    config, who = case.hosted.config, {"preset": case.name, "size": case.size}
    vision = clock(case, timed[VISION])
    last = clock(case, timed[forced(config.layers_run - 1)])
    rows = []
    for layer in config.exit_layers[:-1]:
        share = (clock(case, timed[forced(layer)]) - vision) / (last - vision)
        depth, (middle, low, high) = (layer + 1) / config.layers_run, median_with_interval(share)
        excess = {"excess": middle - depth, "interval": [low - depth, high - depth]}
        rows.append({**who, "exit": layer, "depth": depth, "time": middle, **excess})
    tested, *interval = median_with_interval(last / clock(case, timed[FULL]))
    final = {"exit": config.layers_run - 1, "depth": 1.0, "with_tests": tested}
    return [*rows, {**who, **final, "interval": interval}]


def clock(case: Case, timed: Timed) -> np.ndarray:
    """Processor time where one thread of this machine does everything, else the wall."""
    alone = case.hosted.device.type == "cpu" and torch.get_num_threads() == 1
    return timed.thread if alone else timed.wall


def limit(
    case: Case, flops: int | None, tflops: float | None, terabytes: float | None
) -> float | None:
    """max(FLOPs / peak, bytes of all weights / bandwidth) in ms, weights as they are stored."""
    if flops is None or tflops is None or terabytes is None:
        return None
    stored = case.parameters * next(case.hosted.policy.parameters()).element_size()
    return max(flops / (tflops * 1e9), stored / (terabytes * 1e9))


if __name__ == "__main__":
    main()
