"""Pictures of a scan of pitch, noise and drift length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

__all__ = ["draw_scan"]

_LABELS = {"depth": "drift length added [mm]", "pitch": "pitch [mm]", "noise": "noise [electrons]"}
_SCALES = {"depth": 1e3}  # tables have it in m


def draw_scan(frame: pl.DataFrame, name: str) -> Figure:
    """Draw the share of the charge that is seen, and the samples above threshold, of every point of a scan.

    The axis is the number with the most values, every combination of the others is a line.

    Parameters
    ----------
    frame : polars.DataFrame
        From `firstlight.detectors.lartpc.scan.scan_design`.
    name : str
        Of the read-out.
    """
    from firstlight.view.draw import place, sheet
    from firstlight.view.style import styled

    order = sorted(_LABELS, key=lambda each: -frame[each].n_unique())
    axis, others = order[0], [each for each in order[1:] if frame[each].n_unique() > 1]
    fixed = [each for each in order[1:] if each not in others]
    with styled():
        figure = sheet(10.5, 4.4)
        axes = (place(figure, 0.8, 0.6, 5.5, 0.75), place(figure, 6.2, 0.6, 0.2, 0.75))
        groups = frame.group_by(others, maintain_order=True) if others else [((), frame)]
        for key, part in groups:
            part = part.sort(axis)
            label = ", ".join(
                f"{value * _SCALES.get(each, 1):g} {_LABELS[each].split(' [')[1][:-1]} {each}"
                for each, value in zip(others, key, strict=True)
            )
            for ax, column in zip(axes, ("seen", "samples"), strict=True):
                error = part[f"{column}_error"].cast(float).fill_null(float("nan")).to_numpy()
                ax.errorbar(
                    _SCALES.get(axis, 1) * part[axis].to_numpy(), part[column].to_numpy(), np.nan_to_num(error), marker="o", markersize=4,
                    capsize=2, label=label or None,
                )  # fmt: skip
        axes[0].set(
            ylabel="share of the charge that arrives", ylim=(0, 1.05), title="in samples above threshold"
        )
        axes[1].set(ylabel="samples per track", ylim=(0, None), title="samples above threshold")
        for ax in axes:
            ax.set_xlabel(_LABELS[axis])
            values = frame[axis].unique().to_numpy()
            if values.min() > 0 and values.max() > 8 * values.min():
                ax.set_xscale("log")
        if others:
            axes[0].legend(fontsize=8)
        told = ", ".join(
            f"{_LABELS[each].split(' [')[0]} {frame[each][0] * _SCALES.get(each, 1):g} {_LABELS[each].split(' [')[1][:-1]}"
            for each in fixed
        )
        tracks = int(frame["n_tracks"][0])
        words = f"{name}: {tracks} track{'s' if tracks > 1 else ''}" + (f"; {told}" if told else "")
        figure.text(0.01, 0.97, words, fontsize=11, fontweight="bold", va="top")
    return figure
