"""The configuration: every ablation of the three papers is a field here, and its default is the
paper's choice.

``rulings.md`` numbering is kept in comments where a rule is not obvious.  Layer bases:
``Head.gate.layers`` are 1-based head layers, ``Head.vision_layer`` is a 1-based backbone layer,
exits, probe and force are 0-based backbone layers.  All classes are frozen; use
``dataclasses.replace``.
"""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any
from typing import Literal as L


def _need(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True)
class BackboneSizes:
    """The dimensions of a backbone; another size is the same class with other numbers."""

    width: int = 896
    layers: int = 24
    heads: int = 14
    kv_heads: int = 2
    ffn: int = 4864
    rope_theta: float = 1e6
    vocabulary: int = 151_936
    text_tokens: int = 64  # the bucket that instructions are padded to
    pixels: int = 224
    patch: int = 14
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16


@dataclass(frozen=True)
class Backbone:
    kind: L["tiny", "qwen3_vl", "qwen2_5_vl", "prismatic", "molmo"] = "tiny"
    layers_run: int | None = None
    train: L["full", "lora", "frozen"] = "full"
    image_tokens: int | None = None
    queries: L["intent", "per_slot", "per_dof", "none"] = "intent"
    n_queries: int = 64
    attention: L["causal", "bidirectional"] = "causal"
    deepstack: L["post", "pre"] = "post"
    extra: L["none", "vggt"] = "none"
    sizes: BackboneSizes = BackboneSizes()


@dataclass(frozen=True)
class Lora:
    rank: int = 64
    alpha: int = 128
    dropout: float = 0.0
    scope: L["useful", "all_linear"] = "useful"


@dataclass(frozen=True)
class Focus:
    """FocusVLA's vision branch, for any step head."""

    top_k: int | None = None
    top_k_frac: float | None = None
    scope: L["head_query", "shared", "per_head"] = "head_query"
    score: L["prob_mean", "logit_mean"] = "prob_mean"
    impl: L["mask", "gather"] = "mask"
    quota: L["joint", "per_camera"] = "joint"
    pool: int = 1
    gate: L["none", "scalar_logit", "scalar_out", "head", "element"] = "none"
    keys: L["vlm", "ds", "vggt"] = "vlm"
    values: L["vlm", "ds", "ds_projected", "vggt", "none"] = "vlm"

    def __post_init__(self) -> None:
        _need(
            self.impl == "mask" or self.scope == "shared",
            f"focus.impl='gather' needs focus.scope='shared', not {self.scope!r}: "
            "other scopes keep a different set per query, and their union is usually every patch",
        )
        _need(
            self.top_k is None or self.top_k_frac is None,
            f"give focus.top_k={self.top_k} or focus.top_k_frac={self.top_k_frac}, not both",
        )
        _need(
            self.top_k_frac is None or 0 < self.top_k_frac <= 1,
            f"focus.top_k_frac is a share of the patches in (0, 1], not {self.top_k_frac}",
        )
        _need(
            self.top_k is None or self.top_k >= 1,
            f"focus.top_k={self.top_k} keeps no patch; use >= 1",
        )

    def count(self, tokens: int) -> int | None:
        """How many of ``tokens`` patches are kept, None for all."""
        if self.top_k_frac is not None:
            return max(1, int(tokens * self.top_k_frac + 0.5))
        return self.top_k


@dataclass(frozen=True)
class BeliefGate:
    """S2-VLA's gate over the branches of any step head."""

    layers: tuple[int, ...] | L["all"] = ()
    source: L["belief", "constant"] = "belief"
    hidden: int = 128
    init: L["uniform", "default"] = "uniform"
    static: L["third", "sum", "learned"] = "third"


@dataclass(frozen=True)
class Head:
    kind: L["step", "queries", "expert", "fast", "pi", "gr00t"] = "step"
    attention: L["mixed", "cascaded"] = "cascaded"
    cascade: L["parallel", "sequential"] = "parallel"
    fusion: L["joint", "sum", "concat"] = "concat"
    depth: int = 24
    width: int = 896
    heads: int = 8
    kv: L["shared", "separate"] = "separate"
    q: L["shared", "per_branch"] = "shared"
    layer_map: L["first", "last", "uniform"] = "first"
    vision_layer: int | L["per_layer"] = "per_layer"
    intent: L["per_layer", "concat_all", "last"] = "per_layer"
    stream: L["single", "dual"] = "single"
    ffn_skip: L["inner", "outer"] = "outer"
    rope: L["self", "all", "none", "upstream"] = "self"
    chunk_embed: bool = True
    proprio_token: bool = True
    dtype: L["fp32", "bf16"] = "fp32"
    focus: Focus = Focus()
    gate: BeliefGate = BeliefGate()

    @property
    def gated(self) -> tuple[int, ...]:
        """The 1-based head layers that have a gate of their own."""
        return (
            tuple(range(1, self.depth + 1))
            if self.gate.layers == "all"
            else tuple(self.gate.layers)
        )


@dataclass(frozen=True)
class BeliefConfig:
    mode: L["none", "window", "carry"] = "none"
    dim: int = 512
    horizon: int | None = None  # None: the chunk length
    burn_in: int = 0
    serve: L["session", "stateless"] = "session"


@dataclass(frozen=True)
class Flow:
    steps: int = 10
    steps_exits: int = 2
    warm_start: L["none", "reference", "common_noise", "renoise"] = "common_noise"
    t0: float = 0.5
    suffix_mask: L["block", "causal"] = "block"
    rope_theta: float | None = None
    time_embed: L["periods", "reference"] = "periods"
    qk_norm: bool = False
    width: int = 1024
    ffn: int = 2048
    state_in_prefix: bool = False
    detach_prefix: bool = False
    kv_proj: bool = False


@dataclass(frozen=True)
class Decoder:
    kind: L["regression", "flow"] = "regression"
    readout: L["linear", "mlp"] = "linear"
    loss: L["l1", "mse", "smooth_l1"] = "l1"
    reduction: L["mean", "step_sum"] = "mean"
    flow: Flow = Flow()


@dataclass(frozen=True)
class Exits:
    """A1's early exits.  ``layers=None`` means the quarter points of the layers that run."""

    layers: tuple[int, ...] | None = None
    probe: int | L["auto"] | None = "auto"
    metric: L["cosine", "l2", "mad", "max"] = "l2"
    horizon: L["all", "executed"] = "all"
    dims: L["real", "no_gripper"] = "real"
    family: L["exponential", "gaussian", "gamma", "custom"] = "exponential"
    c: float = 1.0
    mass: tuple[float, ...] | None = None
    quantile: L["carry", "count", "literal"] = "carry"
    min_layer: int = 0
    norm: L["raw", "final"] = "raw"
    readout: L["shared", "per_exit_norm", "per_exit"] = "shared"
    require_gate: bool = True
    force: int | None = None
    overlap: bool = True


@dataclass(frozen=True)
class Train:
    exit_supervision: L["last", "random", "all"] = "last"
    exit_sampling: L["all_layers", "eligible"] = "eligible"
    exit_weights: L["uniform", "linear_depth"] = "uniform"
    recipe: L["ours", "upstream"] = "ours"
    lr_backbone: float = 2e-5
    lr_head: float = 1e-4
    warmup: int = 1000
    freeze_steps: int = 0
    own_ramp: bool = False
    state_mask: L["none", "dim", "sample"] = "none"
    waypoints: float = 0.0  # weight of hindsight waypoints, for backbones that start from nothing


@dataclass(frozen=True)
class PolicyConfig:
    """Everything that fixes a policy's function and its training objective."""

    preset: str
    size: L["tiny", "small", "full"]
    cameras: tuple[str, ...] = ("agent", "wrist")
    action_dim: int = 7
    state_dim: int = 8
    pad_dim: int | None = None
    chunk: int = 8
    n_action_steps: int | None = None
    upstream_compat: bool = False
    trace_layers: tuple[int, ...] = ()
    format_version: int = 1
    backbone: Backbone = Backbone()
    lora: Lora = Lora()
    head: Head = Head()
    belief: BeliefConfig = BeliefConfig()
    decoder: Decoder = Decoder()
    exits: Exits = Exits()
    train: Train = Train()

    def __post_init__(self) -> None:
        check(self)

    # ---- derived, never stored twice -------------------------------------------------------------
    @property
    def layer_map(self) -> tuple[int, ...]:
        """0-based backbone layer that each head layer reads (empty for heads of depth 0)."""
        n, depth = self.backbone.sizes.layers, self.head.depth
        if self.head.kind == "queries" or depth == 0:
            return ()
        match self.head.layer_map:
            case "first":
                return tuple(range(depth))
            case "last":
                return tuple(range(n - depth, n))
            case _:
                return tuple(int((i + 1) * n / depth + 0.5) - 1 for i in range(depth))

    @property
    def layers_run(self) -> int:
        """Backbone layers that a query without exits runs; what feeds nothing never runs."""
        if self.backbone.layers_run is not None:
            return self.backbone.layers_run
        return self.layer_map[-1] + 1 if self.layer_map else self.backbone.sizes.layers

    @property
    def vision_layer(self) -> int:
        """0-based backbone layer after which the head may start and the belief is updated."""
        at = self.head.vision_layer
        return (self.layer_map[0] if self.layer_map else 0) if at == "per_layer" else at - 1

    @property
    def ready_layer(self) -> int:
        """0-based backbone layer from which the head climbs; taps before it wait."""
        return self.layers_run - 1 if self.head.intent == "last" else self.vision_layer

    @property
    def first_gate(self) -> int:
        """0-based backbone layer of the first gated head layer, 0 without gates."""
        gated = self.head.gated
        return self.layer_map[gated[0] - 1] if gated and self.layer_map else 0

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """The enabled exits, 0-based; quarter points unless given, none before the vision layer and
        the first gate.
        """
        if self.exits.layers is not None:
            return self.exits.layers
        return tuple(e for e in self._quarters if e >= self.first_readable and e in self._read)

    @property
    def first_readable(self) -> int:
        gate = self.first_gate if self.exits.require_gate else 0
        return max(self.ready_layer, gate, self.exits.min_layer)

    @property
    def probe(self) -> int | None:
        """The layer that only gives the first exit something to compare with: the quarter point
        before it, or where there is none, the middle of what can be read before it."""
        if self.exits.probe != "auto":
            return self.exits.probe
        first = self.exit_layers[0]
        before = [m for m in self._read if self.ready_layer <= m < first]
        quarters = [m for m in before if m in self._quarters]
        return quarters[-1] if quarters else before[len(before) // 2] if before else None

    @property
    def _quarters(self) -> tuple[int, ...]:
        n = self.layers_run
        return tuple(sorted({max(0, int(n * q / 4 + 0.5) - 1) for q in (1, 2, 3, 4)}))

    @property
    def _read(self) -> tuple[int, ...]:
        """Backbone layers after which the head has something new to say."""
        return self.layer_map if self.head.kind == "step" else tuple(range(self.layers_run))

    @property
    def history(self) -> int:
        """K, how many executed actions a belief looks back on (0 without belief)."""
        if self.belief.mode == "none":
            return 0
        rows = self.belief.horizon or self.chunk
        return max(rows, self.belief.burn_in) if self.belief.mode == "carry" else rows

    @property
    def execute(self) -> int:
        """How many actions of a chunk are executed before the next query."""
        return self.n_action_steps or self.chunk

    @property
    def flow_steps(self) -> int:
        return self.decoder.flow.steps

    # ---- plain data ------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PolicyConfig:
        """Inverse of :meth:`to_dict`; unknown keys and values of the wrong kind raise, naming field
        and fix.
        """
        return _build(cls, data, "config")


def check(c: PolicyConfig) -> None:
    """The cross-field rules of the house; every message names the field, the value and the fix."""
    head, dec = c.head, c.decoder
    _check_values(c, "config")
    _check_shapes(c)
    _need(
        c.execute <= c.chunk, f"n_action_steps={c.n_action_steps} exceeds chunk={c.chunk}; lower it"
    )
    _need(
        (head.attention == "mixed") == (head.fusion == "joint"),
        f"head.attention={head.attention!r} with head.fusion={head.fusion!r}: mixed attention "
        "has one joint "
        "softmax, so use mixed with joint, and cascaded with sum or concat",
    )
    _need(head.stream == "single", "head.stream='dual' has no agreed definition yet; use 'single'")
    _legal_pair(head.kind, dec.kind)
    if head.kind == "queries":
        _need(
            head.depth == 0,
            f"head.kind='queries' carries nothing, so head.depth must be 0, not {head.depth}",
        )
        _need(
            c.backbone.queries in ("per_slot", "per_dof"),
            "head.kind='queries' reads action queries; "
            f"backbone.queries={c.backbone.queries!r} should be 'per_slot'",
        )
    if head.kind == "expert":
        _check_expert(c)
    if head.kind == "step":
        _check_step(c)
    else:
        _need(
            not head.gated,
            f"head.gate.layers={head.gated} weights the branches of a step head; "
            f"head.kind={head.kind!r} has none, leave it empty",
        )
    _check_belief(c)
    _check_exits(c)
    _check_compat(c)


def _check_values(node: Any, path: str) -> None:
    """Every field is of its annotated kind, so that a misspelt choice cannot pass for another."""
    hints = typing.get_type_hints(type(node))
    for field in fields(node):
        value, hint, where = getattr(node, field.name), hints[field.name], f"{path}.{field.name}"
        if is_dataclass(hint):
            _need(isinstance(value, hint), _wrong(where, value, hint))
            _check_values(value, where)
        else:
            fitted = _value(hint, value, where)
            _need(fitted == value, f"{where}={value!r} is not immutable; write {fitted!r}")


def _check_shapes(c: PolicyConfig) -> None:
    sizes, n = c.backbone.sizes, c.backbone.sizes.layers
    _need(len(c.cameras) > 0, "cameras is empty; name at least one camera")
    _need(
        len(set(c.cameras)) == len(c.cameras),
        f"cameras={c.cameras} repeats a name; drop one of them",
    )
    for name in ("chunk", "action_dim", "state_dim"):
        _need(getattr(c, name) >= 1, f"{name}={getattr(c, name)}; it must be at least 1")
    _need(
        c.pad_dim is None or c.pad_dim >= c.action_dim,
        f"pad_dim={c.pad_dim} is narrower than action_dim={c.action_dim}; widen it or leave it "
        "unset",
    )
    _need(
        c.backbone.layers_run is None or 1 <= c.backbone.layers_run <= n,
        f"backbone.layers_run={c.backbone.layers_run} must lie in 1..{n}, the backbone's layers",
    )
    _need(
        sizes.width % sizes.heads == 0 and sizes.heads % sizes.kv_heads == 0,
        f"backbone.sizes.width={sizes.width}, heads={sizes.heads}, kv_heads={sizes.kv_heads}: "
        "each must be a multiple of the next",
    )


LEGAL = {
    "step": ("regression", "flow"),
    "queries": ("regression",),
    "expert": ("flow",),
    "pi": ("flow",),
    "gr00t": ("flow",),
    "fast": ("regression",),
}  # head kind -> decoders it can carry; ``fast`` decodes its own tokens


def _legal_pair(head: str, decoder: str) -> None:
    _need(
        decoder in LEGAL[head],
        f"head.kind={head!r} cannot carry decoder.kind={decoder!r}; legal: "
        f"{', '.join(LEGAL[head])}",
    )


def _check_expert(c: PolicyConfig) -> None:
    sizes = c.backbone.sizes
    _need(
        c.head.depth == sizes.layers,
        f"the flow expert runs beside every backbone layer: head.depth={c.head.depth}, "
        f"backbone.sizes.layers={sizes.layers}; make them equal",
    )
    _need(
        c.head.heads % sizes.kv_heads == 0,
        f"the flow expert shares the backbone's keys and values: head.heads={c.head.heads} must be "
        f"a multiple of backbone.sizes.kv_heads={sizes.kv_heads}",
    )


def _check_belief(c: PolicyConfig) -> None:
    mode, rows = c.belief.mode, c.belief.horizon or c.chunk
    if mode == "none":
        return
    _need(
        c.head.kind in ("step", "expert"),
        f"belief.mode={mode!r} has no reader in head.kind={c.head.kind!r}; use a step head or the "
        "flow expert, or belief.mode='none'",
    )
    _need(
        mode == "window" or c.execute <= rows,
        f"belief.mode='carry' sees the last belief.horizon={rows} of {c.execute} executed actions; "
        "raise belief.horizon or lower n_action_steps",
    )


def _check_step(c: PolicyConfig) -> None:
    head, n = c.head, c.backbone.sizes.layers
    _need(
        1 <= head.depth <= n, f"head.depth={head.depth} must lie in 1..{n}, the backbone's layers"
    )
    _need(
        c.layers_run > c.layer_map[-1],
        f"backbone.layers_run={c.layers_run} ends before backbone layer {c.layer_map[-1]} that "
        f"head layer {head.depth} reads; raise it, or lower head.depth",
    )
    _need(
        "vggt" not in (head.focus.keys, head.focus.values) or c.backbone.extra == "vggt",
        f"head.focus.keys={head.focus.keys!r} and head.focus.values={head.focus.values!r} read a "
        "second encoder; set backbone.extra='vggt'",
    )
    _need(
        head.width % head.heads == 0,
        f"head.width={head.width} is not divisible by head.heads={head.heads}",
    )
    _need(
        (head.width // head.heads) % 2 == 0,
        "head.width / head.heads must be even for rotary positions",
    )
    if isinstance(head.vision_layer, int):
        _need(
            1 <= head.vision_layer <= c.layers_run,
            f"head.vision_layer={head.vision_layer} not in 1..{c.layers_run}",
        )
    gated = head.gated
    _need(
        all(1 <= g <= head.depth for g in gated),
        f"head.gate.layers={gated} must lie in 1..{head.depth}",
    )
    _need(
        list(gated) == sorted(set(gated)), f"head.gate.layers={gated} must be strictly increasing"
    )
    if gated:
        _need(
            head.fusion in ("sum", "concat"),
            f"head.gate.layers={gated} weights branches; head.fusion={head.fusion!r} has none, "
            "use 'sum' or 'concat'",
        )
        _need(
            head.gate.source == "constant" or c.belief.mode != "none",
            "head.gate.source='belief' needs belief.mode='window' or 'carry'",
        )
    queries = c.backbone.queries
    _need(
        queries == "intent",
        f"a step head reads intent tokens; backbone.queries={queries!r} should be 'intent'",
    )


def _check_exits(c: PolicyConfig) -> None:
    if c.head.kind in ("fast", "gr00t"):
        _need(
            not c.exits.layers,
            f"head.kind={c.head.kind!r} has no early exits; leave exits.layers unset",
        )
        return
    exits, last = c.exit_layers, c.layers_run - 1
    _need(list(exits) == sorted(set(exits)), f"exits.layers={exits} must be strictly increasing")
    _need(
        bool(exits) and exits[-1] == last,
        f"exits.layers={exits} must end with {last}, the last layer that runs",
    )
    floor = c.first_readable
    early = [e for e in exits if e < floor]
    _need(
        not early,
        f"exits {early} come before backbone layer {floor}, where the vision tap and the first "
        "gate are in; "
        "move them later, or set exits.require_gate=False to let exits ignore the gate",
    )
    if c.head.kind == "step":
        off = [e for e in exits if e not in c.layer_map]
        _need(
            not off, f"exits {off} are not read by any head layer; head layers read {c.layer_map}"
        )
    probe = c.exits.probe
    if isinstance(probe, int):
        _need(
            0 <= probe < exits[0], f"exits.probe={probe} must come before the first exit {exits[0]}"
        )
        _need(
            c.head.kind != "step" or (probe >= c.ready_layer and probe in c.layer_map),
            f"exits.probe={probe} reads no action: the head starts at backbone layer "
            f"{c.ready_layer} and reads {c.layer_map}",
        )
    _need(
        c.exits.force is None or c.exits.force in exits,
        f"exits.force={c.exits.force} is not an exit; choose one of {exits}",
    )
    everywhere = c.head.kind != "step" and c.train.exit_sampling == "all_layers"
    _need(
        c.exits.readout == "shared" or c.train.exit_supervision != "random" or not everywhere,
        f"exits.readout={c.exits.readout!r} has read-outs at exits only; "
        "use train.exit_sampling='eligible' with it",
    )


def _check_compat(c: PolicyConfig) -> None:
    if not c.upstream_compat:
        return
    _need(
        c.head.attention == "mixed"
        and c.head.rope in ("upstream", "none")
        and not c.head.chunk_embed,
        "upstream_compat reproduces released VLA-Adapter weights only: head.attention='mixed', "
        "head.rope='upstream' (Pro) or 'none' (original), head.chunk_embed=False",
    )


def _build(cls: type, data: dict[str, Any], path: str) -> Any:
    _need(isinstance(data, dict), _wrong(path, data, dict))
    hints = typing.get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(data) - known)
    _need(not unknown, f"{path}: unknown field(s) {unknown}; {cls.__name__} has {sorted(known)}")
    needed = {f.name for f in fields(cls) if f.default is MISSING}
    missing = sorted(needed - set(data))
    _need(not missing, f"{path}: missing field(s) {missing}; {cls.__name__} cannot do without")
    return cls(**{k: _value(hints[k], v, f"{path}.{k}") for k, v in data.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
    """``value`` as ``hint`` wants it: dicts become dataclasses, lists become tuples, literals are
    checked.
    """
    if is_dataclass(hint):
        return _build(hint, value, path)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_fit(args, value, path)
    if origin is typing.Literal:
        _need(value in args, f"{path}={value!r}; expected one of {args}")
        return value
    if origin is tuple:
        _need(isinstance(value, list | tuple), f"{path}={value!r}; expected a list")
        return tuple(_value(args[0], v, path) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _need(
        isinstance(value, hint) and (hint is bool or not isinstance(value, bool)),
        _wrong(path, value, hint),
    )
    return value


def _first_fit(args: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in args:
        return None
    problems = []
    for arg in args:
        if arg is type(None):
            continue
        try:
            return _value(arg, value, path)
        except (ValueError, TypeError) as problem:
            problems.append(str(problem))
    raise ValueError("; or ".join(problems))


def _wrong(path: str, value: Any, hint: type) -> str:
    return f"{path}={value!r} is {type(value).__name__}; expected {getattr(hint, '__name__', hint)}"


__all__ = [n for n, v in list(globals().items()) if isinstance(v, type) and is_dataclass(v)] + [
    "LEGAL"
]
