"""Figures into files."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import UsageError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure as Canvas

    from firstlight.run.progress import Progress
    from firstlight.view.figure import Figure

__all__ = ["save_canvas", "save_figures"]

log = logging.getLogger("firstlight")

_PENDING = 3


def save_canvas(canvas: Canvas, path: Path, dpi: int) -> Path:
    """Write a matplotlib figure atomically, in the format of the ending of the name.

    Raises
    ------
    UsageError
        If there is no such format.
    """
    known = sorted(canvas.canvas.get_supported_filetypes())
    if path.suffix[1:] not in known:
        what = f"a picture cannot be written as {path.suffix or 'a file without an ending'}"
        raise UsageError(what, where=path, known=known)
    if path.suffix == ".png":
        _encode(_pixels(canvas, dpi), path, dpi)
    else:
        with atomic(path) as temporary:
            canvas.savefig(temporary, dpi=dpi, format=path.suffix[1:])
    return path


def _pixels(canvas: Canvas, dpi: int) -> Any:
    """Return the drawn figure as an image; `savefig` would draw everything twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas.set_dpi(dpi)
    drawn: Any = FigureCanvasAgg(canvas)
    drawn.draw()
    return Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("RGB")


def _encode(image: Any, path: Path, dpi: int, copies: Sequence[Path] = ()) -> None:
    with atomic(path) as temporary:
        image.save(temporary, format="png", compress_level=4, dpi=(dpi, dpi))
    for copy in copies:
        with atomic(copy) as temporary:
            shutil.copyfile(path, temporary)


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
    kinds = [kind for kind in formats if kind != "png"]
    waiting: list[Future[None]] = []
    with (
        progress.bar("drawing", len(figures), "figures") as advance,
        styled(),
        ThreadPoolExecutor(1) as encoder,
    ):
        for figure in figures:
            about = {
                "name": figure.name,
                "title": figure.title,
                "caption": figure.caption,
                "section": figure.section,
            }
            try:
                canvas = figure.draw()
            except Exception as error:
                problem = f"could not be drawn: {type(error).__name__}: {error}"
                log.error("figure %s %s", figure.name, problem)
                log.debug("", exc_info=True)
                records.append({**about, "file": "", "copies": [], "problem": problem})
                advance(1, figure.title)
                continue
            target = folder / "figures" / f"{figure.name}.png"
            for kind in kinds:
                save_canvas(canvas, target.with_suffix(f".{kind}"), figure.dpi)
            copies = [folder / copy for copy in figure.copies]
            # compression runs beside the drawing of the next figure
            waiting.append(encoder.submit(_encode, _pixels(canvas, figure.dpi), target, figure.dpi, copies))
            while len(waiting) > _PENDING:
                waiting.pop(0).result()
            records.append(
                {**about, "file": target.relative_to(folder).as_posix(), "copies": list(figure.copies)}
            )
            advance(1, figure.title)
        for encoded in waiting:
            encoded.result()
    return records
