"""Pictures of the winners of the Quest: of each track by itself, all on one sheet, and a page on which they can be turned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.quest import CATEGORIES
from firstlight.detectors.lartpc.views.cubes import Part, core_cube, cube_of
from firstlight.detectors.lartpc.views.quest import QuestEntry, draw_quest, score_words
from firstlight.detectors.lartpc.views.scene import Layer, Scene, energy_text, length_text, scene_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import polars as pl

    from firstlight.run.progress import Progress

__all__ = ["entries_of_ranking", "save_quest", "scene_of_voxels"]


def scene_of_voxels(frame: pl.DataFrame, title: str, edge: float) -> Scene:
    """Return an event that is known by its voxels.

    Parameters
    ----------
    frame : polars.DataFrame
        Of the schema of voxels: places [mm], charge, cluster.
    title : str
        Above it.
    edge : float
        Of a voxel [m].
    """
    positions = 1e-3 * frame.select("x", "y", "z").to_numpy().T.astype(np.float64)
    charge = frame["charge"].to_numpy().astype(np.float64)
    about = f"{charge.size:,} voxels of {length_text(edge)}"
    labels = frame["cluster"].to_numpy().astype(np.int64)
    layer = Layer("raw", positions, charge, about, f"voxel of {length_text(edge)}", edge, labels)
    return Scene(title, (layer,), None, cube_of(positions), core_cube(Part(positions, charge, edge)))


def entries_of_ranking(
    ranking: pl.DataFrame, scene: Callable[[Mapping[str, Any]], Scene]
) -> Iterator[QuestEntry]:
    """Yield the winner of each category, in the order of the categories.

    Parameters
    ----------
    ranking : polars.DataFrame
        Of the schema `QUEST`, by one of the scores.
    scene : callable
        From the row of a track to what is drawn of it.
    """
    for name, category in CATEGORIES.items():
        rows = ranking.filter(category=name).sort("rank").to_dicts()
        if not rows:
            continue
        first, others = rows[0], rows[1:]
        numbers = [tuple(text.rsplit(" ", 1)) for text in first["numbers"].split(", ")]
        holds = {
            True: "the truth record agrees",
            False: "the truth record does not agree",
            None: "no truth record",
        }
        yield QuestEntry(
            category.title,
            scene(first),
            first["score"],
            [(label, value) for label, value in numbers],
            [(row["track"], row["score"]) for row in others],
            f"{holds[first['holds']]}: {category.definition}" if first["holds"] is not None else "",
        )


def title_of_row(row: Mapping[str, Any]) -> str:
    """Return particle, energy and name of a track of the ranking."""
    energy = f"{energy_text(row['energy'])} " if row["energy"] is not None else ""
    return f"{energy}{row['particle'] or 'track'}, {row['track']}"


def save_quest(
    ranking: pl.DataFrame, paths: Mapping[str, str], folder: Path, page: Path, progress: Progress
) -> Iterator[Path]:
    """Write the pictures of the Quest, and yield their paths.

    Parameters
    ----------
    ranking : polars.DataFrame
        Of the schema `QUEST`.
    paths : mapping of str to str
        By the name of a track, where it is read from.
    folder : Path
        Of the pictures: ``CATEGORY.png`` and ``quest.png``.
    page : Path
        Name of the page.
    progress : Progress
        Where progress is shown.
    """
    from firstlight.detectors.lartpc.features.measure import measure
    from firstlight.detectors.lartpc.reading.tracks import load
    from firstlight.detectors.lartpc.views.page import event_page
    from firstlight.detectors.lartpc.views.three import draw_panels
    from firstlight.view.save import save_canvas

    def scene(row: Mapping[str, Any]) -> Scene:
        track = load(paths[row["track"]])
        topology = measure(track.positions, track.num_e).topology
        labels = topology.cluster[topology.voxels.label.clip(0)]
        words = f"{CATEGORIES[row['category']].title}, {score_words(row['score'])}"
        return scene_of(track, labels={"raw": labels}, facts=[("Quest", words), ("numbers", row["numbers"])])

    entries = []
    categories = [name for name in CATEGORIES if ranking.filter(category=name).height]
    with progress.bar("drawing", len(categories) + 2, "pictures") as advance:
        for name, entry in zip(categories, entries_of_ranking(ranking, scene), strict=True):
            entries.append(entry)
            yield save_canvas(draw_panels(entry.scene), folder / f"{name}.png", 150)
            advance(1, name)
        yield save_canvas(draw_quest(entries), folder / "quest.png", 130)
        advance(1, "quest")
        yield event_page([entry.scene for entry in entries], page, title="The Quest")
        advance(1, "page")
