"""The papers' success tables as data: their numbers, and the switches that make each row here.

A row without a preset is the paper's number alone.  ``quoted``: the paper took the number from
elsewhere, so it was not trained under the paper's protocol.  Switches are those of the full size;
``paper_table.resized`` moves gate layers to a shallower head.  Rates are per cent.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    name: str
    paper: float | None  # None: only drawn in a figure
    preset: str | None = None
    switches: tuple[str, ...] = ()
    quoted: bool = False
    needs: str = ""  # why it cannot run on the small backbone
    recipe: str = ""  # at full size, where it is not the table's


@dataclass(frozen=True)
class Table:
    """One table.  episodes: behind each number of the paper, 500 per suite where it prints none.
    against: the row to compare with, pairwise.  recipe: its training row at full size.
    """

    title: str
    measured: str
    episodes: int
    recipe: str
    against: str
    rows: tuple[Row, ...]


def _quoted(**rates: float) -> tuple[Row, ...]:
    return tuple(Row(name.replace("_", " "), rate, quoted=True) for name, rate in rates.items())


# ---- S2-VLA --------------------------------------------------------------------------------------
def _gate(layers: str) -> tuple[str, ...]:
    return (f"head.gate.layers={layers}",)


_NO_BELIEF = ("belief.mode=none",)

S2_1 = Table(
    title="S2-VLA, table 1: success on LIBERO, average of four suites",
    measured="LIBERO",
    episodes=2000,
    recipe="s2_libero_joint",
    against="OpenVLA-OFT",
    rows=(
        Row("OpenVLA-OFT", 97.1, "oft", quoted=True),
        Row("S2-VLA", 98.2, "s2vla"),
        *_quoted(
            FlowVLA=88.1, UnifiedVLA=95.5, OpenVLA=76.5, UniVLA=95.2, MemoryVLA=96.7,
            CoT_VLA=81.1, WorldVLA=81.8, CronusVLA=97.0, TraceVLA=74.8, MolmoAct=86.6,
            ThinkAct=84.4, SpatialVLA=78.1, pi0=94.2, pi0_FAST=85.5, SmolVLA=88.8,
            GR00T_N1=93.9, VLA_OS=85.6,
        ),
        Row("4D-VLA", 88.6, quoted=True),
        Row("Seer (Long only)", 78.7, quoted=True),
    ),
)  # fmt: skip
S2_3 = Table(
    title="S2-VLA, table 3: where the belief gates",
    measured="LIBERO-Long",
    episodes=500,
    recipe="s2_libero_long",
    against="w/o Gate",
    rows=(
        Row("w/o Gate", 95.0, "s2vla", (*_gate("[]"), *_NO_BELIEF)),
        Row("Gate@All", 94.4, "s2vla", _gate("all")),
        Row("Gate@1", 94.2, "s2vla", _gate("[1]")),
        Row("Gate@6", 96.0, "s2vla", _gate("[6]")),
        Row("Gate@12 (S2-VLA)", 96.4, "s2vla", _gate("[12]")),
        Row("Gate@18", 95.8, "s2vla", _gate("[18]")),
        Row("Gate@24", 94.8, "s2vla", _gate("[24]")),
        Row("Gate@6,12,18", 94.4, "s2vla", _gate("[6,12,18]")),
        Row(
            "w/o State", 95.8, "s2vla",
            (*_gate("[12]"), "head.gate.source=constant", *_NO_BELIEF),
        ),
    ),
)  # fmt: skip

# ---- FocusVLA ------------------------------------------------------------------------------------
FOCUS_1 = Table(
    title="FocusVLA, table 1: success on LIBERO, one policy for four suites",
    measured="LIBERO",
    episodes=2000,
    recipe="focus_libero_joint",
    against="VLA-Adapter-Pro",
    rows=(
        Row("VLA-Adapter-Pro", 95.6, "vla_adapter", quoted=True),
        Row("FocusVLA", 97.0, "focusvla"),
        Row("pi0.5", 96.9, quoted=True),
        Row("NORA-1.5", 95.0, quoted=True),
        Row("EVO-1", 94.8, quoted=True),
        Row("FocusVLA, a policy per suite", 98.7),
        Row("VLA-Adapter-Pro, a policy per suite", 98.5, quoted=True),
        Row("X-VLA, a policy per suite", 98.1, quoted=True),
        Row("SpatialVLA, a policy per suite", 78.1, quoted=True),
        Row("Spatial Forcing, a policy per suite", 98.5, quoted=True),
        Row("UniVLA, a policy per suite", 95.2, quoted=True),
        Row("OpenVLA-OFT, a policy per suite", 97.1, quoted=True),
        Row("OpenVLA, a policy per suite", 76.5, quoted=True),
    ),
)
_VGGT = "needs VGGT features, which the small backbone does not have"
_MIXED = ("head.attention=mixed", "head.fusion=joint")


def _focus(
    gate: str, share: float | None, keys: str = "vlm", values: str = "vlm"
) -> tuple[str, ...]:
    kept = "null" if share is None else f"{share:g}"
    return (
        f"head.focus.gate={gate}", f"head.focus.top_k_frac={kept}",
        f"head.focus.keys={keys}", f"head.focus.values={values}",
    )  # fmt: skip


_VGGT_BOTH = ("backbone.extra=vggt", *_focus("element", 0.5, "vggt", "vggt"))
FOCUS_2 = Table(
    title="FocusVLA, table 2: attention, patches kept, gate, representation",
    measured="LIBERO, four suites",
    episodes=2000,
    recipe="focus_libero_long",
    against="mixed, 512, no gate, VLM",
    rows=(
        Row("mixed, 512, no gate, VLM", 93.6, "focusvla", (*_MIXED, *_focus("none", None))),
        Row("cascaded, 512, no gate, VLM", 97.0, "focusvla", _focus("none", None)),
        Row("cascaded, 128, no gate, VLM", 96.3, "focusvla", _focus("none", 0.25)),
        Row("cascaded, 256, no gate, VLM", 98.0, "focusvla", _focus("none", 0.5)),
        Row("cascaded, 384, no gate, VLM", 97.8, "focusvla", _focus("none", 0.75)),
        Row("cascaded, 256, 1-param, VLM", 97.3, "focusvla", _focus("scalar_out", 0.5)),
        Row("cascaded, 256, head-wise, VLM", 97.1, "focusvla", _focus("head", 0.5)),
        Row("cascaded, 256, element-wise, VLM", 98.2, "focusvla", _focus("element", 0.5)),
        Row(
            "cascaded, 256, element-wise, DS", 98.4, "focusvla", _focus("element", 0.5, "ds", "ds")
        ),
        Row("cascaded, 256, element-wise, VGGT", 96.8, "focusvla", _VGGT_BOTH, needs=_VGGT),
        Row(
            "cascaded, 256, element-wise, VLM+DS (FocusVLA)", 98.7, "focusvla",
            _focus("element", 0.5, "vlm", "ds"),
        ),
    ),
)  # fmt: skip


def _figure_4() -> tuple[Row, ...]:
    """{unconstrained, pooled, 1-param, cascaded} x {DS, VLM, VGGT}, and action queries alone."""
    designs = {
        "mixed": (*_MIXED, "head.focus.gate=none", "head.focus.top_k_frac=null"),
        "mixed, 2x2 pooling": (
            *_MIXED, "head.focus.gate=none", "head.focus.top_k_frac=null", "head.focus.pool=2",
        ),
        "mixed, 1-param gate": (
            *_MIXED, "head.focus.gate=scalar_out", "head.focus.top_k_frac=null",
        ),
        "cascaded": ("head.focus.gate=none", "head.focus.top_k_frac=null"),
    }  # fmt: skip
    rows = []
    for design, switches in designs.items():
        for source in ("ds", "vlm", "vggt"):
            both = (f"head.focus.keys={source}", f"head.focus.values={source}")
            extra = ("backbone.extra=vggt",) if source == "vggt" else ()
            needs = _VGGT if source == "vggt" else ""
            name = f"{design}, {source.upper()}"
            rows.append(Row(name, None, "focusvla", (*extra, *switches, *both), needs=needs))
    blind = (*designs["mixed"], "head.focus.values=none")
    return (Row("action queries alone", None, "focusvla", blind), *rows)


FOCUS_FIG4 = Table(
    title="FocusVLA, figure 4: how vision is used against which vision (numbers only drawn)",
    measured="LIBERO-Long",
    episodes=500,
    recipe="focus_libero_long",
    against="action queries alone",
    rows=_figure_4(),
)

# ---- A1 ------------------------------------------------------------------------------------------
A1_1 = Table(
    title="A1, table 1: success on LIBERO, average of four suites, full depth here",
    measured="LIBERO",
    episodes=2000,
    recipe="a1_libero",
    against="OpenVLA-OFT",
    rows=(
        Row("OpenVLA-OFT", 97.1, "oft", quoted=True),
        Row("A1 (MLP)", 96.6, "a1_mlp"),
        Row("A1 (flow; tables 6 and 7)", 96.0, "a1_flow", recipe="a1_libero_flow"),
        *_quoted(Octo=75.1, OpenVLA=76.5, CoT_VLA=81.1, MolmoAct=86.6, SmolVLA=88.8, pi0=94.2),
        Row("pi0.5", 96.9, quoted=True),
    ),
)

TABLES = {
    "s2_1": S2_1,
    "s2_3": S2_3,
    "focus_1": FOCUS_1,
    "focus_2": FOCUS_2,
    "focus_fig4": FOCUS_FIG4,
    "a1_1": A1_1,
}
