"""What released heads call their tensors, and what the same tensors are called here.

A table maps a foreign name to a name in a policy's state dict.  In Pro's names "adapter" is queries
and proprioception, "task" is vision, the gated one (baselines section 6).
"""

from __future__ import annotations

from itertools import product

from costep.config import PolicyConfig

Table = dict[str, str]

STREAMS = {
    "shared": {"q_proj": "q.act", "k_proj": "k.act", "v_proj": "v.act"},
    "separate": {
        "q_proj": "q.act",
        "k_self": "k.act",
        "v_self": "v.act",
        "k_adapter": "k.ite",
        "v_adapter": "v.ite",
        "k_task": "k.vis",
        "v_task": "v.vis",
    },
}


class HeadWeightsError(ValueError):
    """Foreign tensors and the configured head do not fit; the message lists names."""


def released_names(config: PolicyConfig) -> tuple[Table, Table]:
    """(head, proprio) tables of the released format that ``config`` stands for."""
    if config.upstream_compat:
        head = adapter(config)
    elif config.head.kind == "queries" and config.decoder.readout == "mlp":
        if config.exits.norm != "final":
            raise HeadWeightsError(
                "OpenVLA-OFT reads states after the backbone's final norm, this policy before it "
                f"(exits.norm={config.exits.norm!r}); set exits.norm='final'"
            )
        head = _oft()
    else:
        raise HeadWeightsError(
            f"no released format has the {config.preset!r} head as configured. VLA-Adapter's needs "
            "upstream_compat=True, OpenVLA-OFT's head.kind='queries' with decoder.readout='mlp'"
        )
    return head, projector() if config.head.proprio_token else {}


def film_shapes(config: PolicyConfig) -> dict[str, tuple[int, ...]]:
    """Pro's dead tensors; the original has none."""
    if config.head.kind != "step" or config.head.kv == "shared":
        return {}
    d, blocks = config.head.width, range(config.head.depth)
    shapes: dict[str, tuple[int, ...]] = {"weight": (2 * d, d), "bias": (2 * d,)}
    name = "model.mlp_resnet_blocks.{}.film_gen.0.{}"
    return {name.format(i, p): shapes[p] for i, p in product(blocks, shapes)}


def adapter(config: PolicyConfig) -> Table:
    layers = {"layer_norm1": "head.stem.0", "fc1": "head.stem.1"}
    layers |= {"layer_norm2": "decoder.out.norms.shared", "fc2": "decoder.out.outs.shared"}
    table = {}
    for i in range(config.head.depth):
        block, ours = f"mlp_resnet_blocks.{i}", f"head.blocks.{i}"
        streams = STREAMS[config.head.kv].items()
        layers |= {f"{block}.{k}": f"{ours}.streams.{v}" for k, v in streams}
        layers |= {f"{block}.ffn.{j}": f"{ours}.ffn.{j}" for j in (0, 1)}
        layers[f"{block}.o_proj"] = f"{ours}.fuse"
        table[f"model.{block}.gating_factor"] = f"{ours}.vision.gate.g"
    return table | {f"model.{k}": v for k, v in _both(layers).items()}


def _oft() -> Table:
    ours = "decoder.out.outs.shared"
    layers = {"layer_norm1": f"{ours}.stem.0", "fc1": f"{ours}.stem.1"}
    layers |= {"layer_norm2": f"{ours}.out.0", "fc2": f"{ours}.out.1"}
    blocks = product((0, 1), (0, 1))
    layers |= {f"mlp_resnet_blocks.{i}.ffn.{j}": f"{ours}.blocks.{i}.{j}" for i, j in blocks}
    return {f"model.{k}": v for k, v in _both(layers).items()}


def projector() -> Table:
    return _both({"fc1": "head.proprio.0", "fc2": "head.proprio.2"})


def _both(layers: Table) -> Table:
    return {f"{k}.{p}": f"{v}.{p}" for (k, v), p in product(layers.items(), ("weight", "bias"))}
