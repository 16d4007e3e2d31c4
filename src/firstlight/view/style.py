"""The look of all figures: one style, one set of colours, one colour for each state."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["ABSENT", "STATE_COLOURS", "VERDICT_COLOURS", "styled"]

# dead, hot and masked channels look the same in every figure of every detector
STATE_COLOURS = {
    "ok": "#4c9f70",
    "low": "#e0a030",
    "dead": "#1d1d1d",
    "hot": "#d0342c",
    "no_statistics": "#b9c4cf",
    "masked": "#8e6bbf",
    "absent": "#f2f2f2",
}
VERDICT_COLOURS = {"ok": "#2e7d4f", "no-statistics": "#6b7785", "warn": "#b7791f", "bad": "#b3261e"}
ABSENT = "#ececec"

_STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": None,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.interpolation": "nearest",
}
_CYCLE = ("#1f5f99", "#d1662a", "#3b8c5a", "#8e5ba6", "#a8323e", "#5b7083", "#b59b2b", "#3fa7a7")


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of the package, without a display."""
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {**_STYLE, "axes.prop_cycle": cycler(color=_CYCLE)}
    with mpl.rc_context(settings):
        yield
