"""Figures into files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from firstlight.run.store import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure as Canvas

    from firstlight.run.progress import Progress
    from firstlight.view.figure import Figure

__all__ = ["save_canvas", "save_figures"]


def save_canvas(canvas: Canvas, path: Path, dpi: int) -> Path:
    """Write a matplotlib figure atomically, in the format of the ending of the name."""
    kind = path.suffix[1:]
    options: dict[str, Any] = {"png": {"pil_kwargs": {"compress_level": 4}}}.get(kind, {})
    with atomic(path) as temporary:
        canvas.savefig(temporary, dpi=dpi, format=kind, **options)
    return path


def save_figures(
    figures: Sequence[Figure], folder: Path, formats: Sequence[str], progress: Progress
) -> list[dict[str, Any]]:
    """Draw figures into ``figures/`` of a run directory.

    Parameters
    ----------
    figures : sequence of Figure
        What to draw.
    folder : Path
        Run directory.
    formats : sequence of str
        ``"png"`` and others that matplotlib knows. PNG is always written: the report shows it.
    progress : Progress
        Where progress is shown.

    Returns
    -------
    list of dict
        A record for ``run.json`` of each figure.
    """
    from firstlight.view.style import styled

    records = []
    kinds = ["png", *(kind for kind in formats if kind != "png")]
    with progress.bar("drawing", len(figures), "figures") as advance, styled():
        for figure in figures:
            canvas = figure.draw()
            target = folder / "figures" / f"{figure.name}.png"
            for kind in kinds[1:]:
                with atomic(target.with_suffix(f".{kind}")) as temporary:
                    canvas.savefig(temporary, format=kind)
            save_canvas(canvas, target, figure.dpi)
            for copy in figure.copies:
                with atomic(folder / copy) as temporary:
                    shutil.copyfile(target, temporary)
            records.append(
                {
                    "name": figure.name,
                    "title": figure.title,
                    "caption": figure.caption,
                    "section": figure.section,
                    "file": target.relative_to(folder).as_posix(),
                }
            )
            advance(1, figure.title)
    return records
