"""``costep flops``: what one query of a preset costs, part by part, and the least time that devices
need for it.

The policy is built without storage and really run, batch 1, without exits, so the numbers are those
of the code and not of a formula.  LoRA counts as merged, which is how it is deployed.  For A1 the
paper's cost table is printed beside ours.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from typing import Any

SENTENCE = "pick up the black bowl and place it on the plate"
PARTS = ("vision", "language model", "head", "decoder", "belief")
EYES = ("vision", "visual", "dino", "siglip", "projector", "camera")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("preset", help="s2vla, focusvla, a1_mlp, a1_flow, vla_adapter, oft, ...")
    parser.add_argument("--size", choices=("tiny", "small", "full"), default="full")
    parser.add_argument("--cameras", type=int, default=2, metavar="N")
    parser.add_argument(
        "--instruction", default=SENTENCE, help="the task in words; longer ones cost more"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from costep.commands.progress import say
    from costep.flops import DEVICES, cost_table
    from costep.presets import preset

    config = with_cameras(preset(arguments.preset, arguments.size), arguments.cameras)
    report = measure(config, arguments.instruction)
    many = "camera" if arguments.cameras == 1 else "cameras"
    say(
        f"{arguments.preset} ({arguments.size}), {arguments.cameras} {many}, "
        f"{report.tokens} tokens, chunk {config.chunk}, batch 1; limits in ms per chunk"
    )
    say(_line("part", "parameters", "GB bf16", "GFLOP", *(d.name for d in DEVICES)))
    for part in (*report.parts, report.total):
        say(_line(*_cells(part)))
    result = {"tokens": report.tokens, "parts": [asdict(p) for p in (*report.parts, report.total)]}
    if arguments.preset in ("a1_mlp", "a1_flow") and arguments.size == "full":
        result["table_3"] = [asdict(row) for row in cost_table()]
        _say_table(say)
    return result


# ---- counting ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Part:
    """One row.  weights: numbers in the matrices that it reads, once each.  limits: device ->
    milliseconds.
    """

    name: str
    parameters: int
    weights: int
    flops: int
    limits: dict[str, float]

    @property
    def bytes(self) -> int:
        """In bf16."""
        return 2 * self.parameters


@dataclass(frozen=True)
class Report:
    tokens: int
    parts: tuple[Part, ...]

    @property
    def total(self) -> Part:
        limits = {d: sum(p.limits[d] for p in self.parts) for d in self.parts[0].limits}
        add = lambda field: sum(getattr(p, field) for p in self.parts)  # noqa: E731
        return Part("total", add("parameters"), add("weights"), add("flops"), limits)


def measure(config, instruction: str = SENTENCE) -> Report:
    """Every part of a query without exits; nothing is allocated."""
    import torch

    from costep.flops import DEVICES, limit, record
    from costep.policy import Policy

    whole = "full" if config.backbone.train == "lora" else config.backbone.train
    with torch.device("meta"):
        policy = Policy(replace(config, backbone=replace(config.backbone, train=whole))).eval()
    observation = blank(config, instruction)
    parameters = dict(policy.named_parameters())
    products = record(lambda: policy.act(observation), parameters, part_of)
    with torch.no_grad():
        tokens = policy.backbone.prepare(observation, policy.head.prefix(observation))
    read = {name for name, p in parameters.items() if p.dim() > 1}
    parts = []
    for name in PARTS:
        mine = [p for p in products if p.part == name]
        held = {n: p.numel() for n, p in parameters.items() if part_of(n) == name}
        if held:
            limits = {d.name: limit(mine, d) for d in DEVICES}
            weights = sum(size for n, size in held.items() if n in read)
            parts.append(
                Part(name, sum(held.values()), weights, sum(p.flops for p in mine), limits)
            )
    return Report(tokens.embeds.shape[1], tuple(parts))


def part_of(name: str) -> str:
    """The row of a parameter, by its name in the policy."""
    owner, _, rest = name.partition(".")
    if owner == "backbone":
        return "vision" if any(word in rest for word in EYES) else "language model"
    return owner if owner in PARTS else "aids of training"


def with_cameras(config, cameras: int):
    """``config`` for so many cameras."""
    if cameras < 1:
        raise ValueError(f"--cameras {cameras}; a policy needs at least one")
    names = (*config.cameras, *(f"camera_{i + 1}" for i in range(len(config.cameras), cameras)))
    return replace(config, cameras=names[:cameras])


def blank(config, instruction: str):
    """One observation of the right shapes, without storage."""
    import torch

    from costep.types import Observation

    side = config.backbone.sizes.pixels
    image = torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta")
    state = torch.empty(1, config.state_dim, device="meta")
    return Observation({name: image for name in config.cameras}, state, (instruction,))


# ---- printing ------------------------------------------------------------------------------------
def _cells(part: Part) -> tuple[str, ...]:
    limits = (f"{ms:.3g}" if ms < 1000 else f"{ms:,.0f}" for ms in part.limits.values())
    head = (
        part.name,
        f"{part.parameters:,}",
        f"{part.bytes / 1e9:.2f}",
        f"{part.flops / 1e9:,.2f}",
    )
    return (*head, *limits)


def _line(name: str, *cells: str) -> str:
    widths = (15, 9, 11, *(12 for _ in cells[3:]))
    return f"{name:<18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))


def _say_table(say) -> None:
    """A1's table 3: ours, the paper's, and why they differ."""
    from costep.flops import cost_table
    from costep.flops.a1 import CROPS, TOKENS

    say(f"\nTable 3 of A1 at {TOKENS} tokens and {CROPS} crops, which is what the paper counted")
    say(f"{'GFLOP':<28}{'ours':>12}{'paper':>12}{'difference':>12}")
    notes: list[str] = []
    for row in cost_table():
        mark = ""
        if row.note:
            notes = [*notes, row.note] if row.note not in notes else notes
            mark = f" [{notes.index(row.note) + 1}]"
        away = f"{row.relative:+.3%}" if not row.note else f"x {row.ours / row.paper:.1f}"
        say(f"{row.name + mark:<28}{row.ours:>12,.3f}{row.paper:>12,.3f}{away:>12}")
    for number, note in enumerate(notes, 1):
        say(f"[{number}] {note}")
