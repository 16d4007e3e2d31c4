"""Which figures and tables the report of a LArTPC run has, in which order and with which words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.lartpc.options import FeatureParameters
from firstlight.detectors.lartpc.tables import READ
from firstlight.view.figure import Figure, ReportTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.figure import Figure as Canvas

    from firstlight.detectors.lartpc.medium import Medium
    from firstlight.steps.step import Context

__all__ = ["FEATURE_WORDS", "figures", "tables"]

_DPI = 120
_SHEET, _PANEL = 5, 1.25  # tracks of a particle in a row of the sheet, and edge of their panels [in]
_ROWS = 9  # energies of the sheet
# the descriptions of the features in so few words that they fit a key
FEATURE_WORDS = {
    "all": "all features, cross-validated",
    "f_main": "share of the main cluster",
    "n_satellites": "number of satellites",
    "q_satellites": "share of the satellites",
    "q_largest": "share of the largest satellite",
    "farthest": "farthest satellite",
    "spread": "satellites all around",
    "q_upstream": "satellite behind the vertex",
    "linearity": "linearity",
    "planarity": "planarity",
    "width": "width",
    "path": "length of the path",
    "tortuosity": "tortuosity",
    "branch_charge": "charge off the path",
    "branch_distance": "distance off the path",
    "end_ratio": "charge of end over end",
    "start_density": "dQ/dx at the start",
    "end_density": "dQ/dx at the end",
    "start_turning": "turning at the start",
    "end_turning": "turning at the end",
    "vertex_density": "charge at the vertex",
    "arm_share": "share of the lesser arm",
    "forward": "charge on one side of the vertex",
    "ray_quality": "two rays from the vertex",
}


def figures(products: Mapping[str, Any], context: Context) -> list[Figure]:
    """Return the figures of a run: the Quest, the tracks, the detector, electrons and photons apart.

    Parameters
    ----------
    products : mapping
        Products of the run by "step/product", as far as they are there; figures without their products are left out.
    context : Context
        Of the run.
    """
    parts = (_quest, _tracks, _detector, _separation)
    return [figure for part in parts for figure in part(products, context)]


def tables(products: Mapping[str, Any], _: Context) -> list[ReportTable]:
    """Return the tables of the report, those with rows."""
    offered = (
        ReportTable(
            "quest/ranking", "The Quest in numbers",
            "Winners and runners-up of each category, by the shape of the charge alone and by the truth record; whether the truth "
            "record agrees with the definition of the category.",
            "Quest", columns=("category", "by", "rank", "track", "energy", "score", "holds"), limit=60,
        ),
        ReportTable(
            "tracks/tracks", "Tracks that cannot be used", "Files that are damaged, and why.", "Attention",
            columns=("file", "track", "status", "reason"), where="status <> 'read'",
        ),
        ReportTable(
            "energies/energies", "Tracks by particle and energy",
            "Charge per energy with its standard deviation, medians of extent and reach, bremsstrahlung and first interactions by the "
            "truth records.",
            "Tracks",
        ),
        ReportTable(
            "separation/areas", "Electrons apart from photons",
            "Area under the curve of the cross-validated classifier (all) and of the best single features, with its standard error.",
            "Electrons and photons",
        ),
        ReportTable(
            "readout/tracks", "Read-out of each track", "What arrives, and what is above threshold.", "Detector", limit=100,
            columns=(
                "track", "particle", "energy", "num_e", "survivors", "n_voxels", "n_triggered", "triggered_charge",
                "n_noise_hits",
            ),
        ),
    )  # fmt: skip
    found = []
    for table in offered:
        if table.product not in products:
            continue
        frame = products[table.product].frame
        if (frame.filter(pl.col("status") != READ) if table.where else frame).height:
            found.append(table)
    return found


# ---------------------------------------------------------------- the Quest


def _quest(products: Mapping[str, Any], context: Context) -> Iterator[Figure]:
    if "quest/ranking" not in products or "features/voxels" not in products:
        return
    ranking = products["quest/ranking"].frame.filter(by="observable")
    if not ranking.height:
        return
    yield Figure(
        "quest", "The Quest",
        "A neat electron, an electron with bremsstrahlung all around, a symmetric pair and a weird pair: the track that fits best by the "
        "shape of its charge alone, what was measured on it, and who came next. Each large panel shows the core of the event, the small one "
        "all of it. Colours are electrons in a voxel.",
        "Quest", partial(_draw_quest, ranking, _voxels(products), _edge(context)), dpi=_DPI,
    )  # fmt: skip


def _edge(context: Context) -> float:
    options = getattr(context.options, "features", None)
    return 1e-3 * (options if isinstance(options, FeatureParameters) else FeatureParameters()).voxel


def _voxels(products: Mapping[str, Any]) -> pl.DataFrame:
    """Return the voxels with the names that tracks have in the ranking."""
    frame: pl.DataFrame = products["features/voxels"].frame
    known = products["features/raw"].frame.select("file", "track")
    twice = known.filter(pl.col("track").is_duplicated())["track"].unique()
    whole = pl.when(pl.col("track").is_in(twice.implode())).then(pl.format("{}/{}", "file", "track"))
    return frame.with_columns(track=whole.otherwise(pl.col("track")))


def _draw_quest(ranking: pl.DataFrame, voxels: pl.DataFrame, edge: float) -> Canvas:
    from firstlight.detectors.lartpc.views.quest import draw_quest
    from firstlight.detectors.lartpc.views.winners import (
        entries_of_ranking,
        scene_of_voxels,
        title_of_row,
    )

    def scene(row: Mapping[str, Any]) -> Any:
        return scene_of_voxels(voxels.filter(track=row["track"]), title_of_row(row), edge)

    return draw_quest(list(entries_of_ranking(ranking, scene)))


# ---------------------------------------------------------------- tracks


def _tracks(products: Mapping[str, Any], context: Context) -> Iterator[Figure]:
    if "tracks/tracks" not in products:
        return
    frame = products["tracks/tracks"].frame.filter(status=READ)
    known = frame.filter(pl.col("energy").is_not_null() & (pl.col("particle") != ""))
    if known.height:
        yield Figure(
            "energies", "Charge and extent against energy",
            "Left: electrons that escape recombination per energy of the particle, mean and its error; a jump says that charges were made in "
            "another way. Right: the longest side of the box around all charge, median and the middle half of the tracks.",
            "Tracks", partial(_draw_energies, known), dpi=_DPI,
        )  # fmt: skip
    if "features/voxels" in products and known.height:
        yield Figure(
            "sheet", "Sheet of tracks",
            f"A row for each energy, electrons and photons side by side, the first {_SHEET} of each; the core of each event, all of a row at "
            "one scale. Colours are electrons in a voxel.",
            "Tracks", partial(_draw_sheet, known, products["features/voxels"].frame, _edge(context)), dpi=_DPI,
        )  # fmt: skip


def _draw_energies(frame: pl.DataFrame) -> Canvas:
    from firstlight.detectors.lartpc.views.summaries import draw_energies

    extent = frame.select(pl.max_horizontal("extent_x", "extent_y", "extent_z")).to_series()
    return draw_energies(
        frame["energy"].to_numpy(),
        frame["charge_per_energy"].to_numpy(),
        extent.to_numpy(),
        frame["particle"].to_list(),
    )


def _draw_sheet(frame: pl.DataFrame, voxels: pl.DataFrame, edge: float) -> Canvas:
    from firstlight.detectors.lartpc.track import Track
    from firstlight.detectors.lartpc.views.gallery import Entry, draw_gallery

    chosen = (
        frame.sort("energy", "particle", "track")
        .group_by("particle", "energy", maintain_order=True)
        .head(_SHEET)
    )
    energies = chosen["energy"].unique().sort().to_list()
    # of many energies the sheet has some of all sizes
    some = {
        energies[place]
        for place in np.linspace(0, len(energies) - 1, min(_ROWS, len(energies))).round().astype(int)
    }
    entries = []
    for row in chosen.iter_rows(named=True):
        if row["energy"] not in some:
            continue
        own = voxels.filter(file=row["file"], track=row["track"])
        positions = 1e-3 * own.select("x", "y", "z").to_numpy().T.astype(np.float64)
        charge = own["charge"].to_numpy().round().astype(np.int64)
        entries.append(
            Entry(row["particle"], row["energy"], Track(positions, charge, name=row["track"], bin_size=edge))
        )
    return draw_gallery(entries, columns=_SHEET, truth=False, panel=_PANEL)


# ---------------------------------------------------------------- the detector


def _detector(products: Mapping[str, Any], context: Context) -> Iterator[Figure]:
    if "readout/tracks" not in products or not products["readout/tracks"].frame.height:
        return
    yield Figure(
        "readout", "What the read-out sees",
        "Left: share of the charge that arrives at the anode, and of that the share in samples above threshold, before noise; one point a "
        "track. Right: samples above threshold of each track.",
        "Detector", partial(_draw_readout, products["readout/tracks"].frame), dpi=_DPI,
    )  # fmt: skip
    medium: Medium = context.options.medium.medium()  # type: ignore[attr-defined]
    yield Figure(
        "diffusion", "Diffusion against drift length",
        "Standard deviation across and along the field of 20,000 electrons drifted by this package (points, with their statistical errors) "
        "against the width that the diffusion coefficients of the medium give (lines).",
        "Detector", partial(_draw_diffusion, medium), dpi=_DPI,
    )  # fmt: skip
    anode = products["readout/anode"].frame
    if int(anode["charge"].sum()):
        yield Figure(
            "anode", "Charge on the anode",
            "Electrons of all tracks that arrive on each pad of a map of the anode; white pads have none. All electrons begin in the middle: "
            "what is far from it was carried there by photons.",
            "Detector", partial(_draw_anode, anode, context), dpi=_DPI,
        )  # fmt: skip


def _draw_readout(frame: pl.DataFrame) -> Canvas:
    from firstlight.detectors.lartpc.views.scene import length_text
    from firstlight.detectors.lartpc.views.summaries import energy_axis
    from firstlight.view.draw import place, sheet
    from firstlight.view.style import styled

    colours = {"electron": "#1f5f99", "photon": "#d1662a", "positron": "#3b8c5a"}
    with styled():
        figure = sheet(11.0, 4.4)
        left, right = place(figure, 0.75, 0.6, 5.75, 0.45), place(figure, 6.35, 0.6, 0.2, 0.45)
        rng = np.random.default_rng(1)
        for particle, colour in colours.items():
            part = frame.filter(particle=particle).drop_nulls("energy")
            if not part.height:
                continue
            # tracks of one energy stand side by side
            energy = part["energy"].to_numpy() / 1000 * np.exp(rng.uniform(-0.08, 0.08, part.height))
            arrived = (part["survivors"] / part["num_e"]).to_numpy()
            seen = (part["triggered_true"] / part["survivors"]).to_numpy()
            left.plot(energy, arrived, "o", markersize=3, color=colour, alpha=0.35, markerfacecolor="none")
            left.plot(energy, seen, "o", markersize=4, color=colour, alpha=0.8, label=f"{particle}s")
            right.plot(energy, part["n_triggered"].to_numpy(), "o", markersize=4, color=colour, alpha=0.8)
        design, depth = frame["design"][0], float(frame["depth"][0])
        left.set(
            ylabel="share of the charge", ylim=(0, 1.05), title="arrives (open), above threshold (filled)"
        )
        right.set(
            ylabel="samples above threshold", yscale="log", title=f"{design}, depth {length_text(depth)}"
        )
        for ax in (left, right):
            ax.set_xlabel("energy [MeV]")
            energy_axis(ax, frame["energy"].drop_nulls().to_numpy() / 1000)
        if frame["particle"].n_unique() > 1:
            left.legend(loc="lower right")
    return figure


def _draw_diffusion(medium: Medium) -> Canvas:
    from firstlight.detectors.lartpc.drift import drift
    from firstlight.detectors.lartpc.views.summaries import draw_diffusion

    medium = medium.with_changes(lifetime=float("inf"))
    n_electrons, lengths = 20_000, np.array([0.02, 0.05, 0.1, 0.175, 0.3, 0.5, 0.75, 1.0])
    widths = []
    for number, length in enumerate(lengths):
        found = drift(
            np.zeros((3, 1)), np.array([n_electrons]), medium, number, anode=0.0, depth=float(length)
        )
        widths.append(1e3 * found.positions.std(axis=1))
    x, y, z = np.array(widths).T
    across = np.sqrt((x**2 + y**2) / 2)
    return draw_diffusion(
        1e3 * lengths,
        across,
        z,
        velocity=medium.velocity,
        coefficients=(medium.transverse_diffusion, medium.longitudinal_diffusion),
        errors=(across / np.sqrt(4 * n_electrons), z / np.sqrt(2 * n_electrons)),
    )


def _draw_anode(frame: pl.DataFrame, context: Context) -> Canvas:
    from matplotlib.colors import LogNorm

    from firstlight.detectors.lartpc.views.marks import charge_colours
    from firstlight.view.draw import place, sheet
    from firstlight.view.style import styled

    n_pads = int(np.sqrt(len(context.channels)))
    half = float(context.channels.column("x").max()) * n_pads / (n_pads - 1)
    charge = frame["charge"].to_numpy().reshape(n_pads, n_pads)
    with styled():
        canvas = sheet(7.4, 6.2)
        axes = place(canvas, 0.85, 0.6, 1.35, 0.45)
        # rows count along y, from below
        image = axes.imshow(
            np.ma.masked_equal(charge, 0), origin="lower", extent=(-half, half, -half, half), cmap=charge_colours(),
            norm=LogNorm(max(float(charge[charge > 0].min()), 1.0), float(charge.max())), interpolation="nearest",
        )  # fmt: skip
        axes.set(
            xlabel="x [mm]",
            ylabel="y [mm]",
            title=f"charge that arrives, all tracks; pads of {2 * half / n_pads:g} mm",
        )
        axes.set_facecolor("white")
        axes.grid(visible=False)
        bar = canvas.colorbar(image, cax=canvas.add_axes((6.2 / 7.4, 0.6 / 6.2, 0.16 / 7.4, 5.15 / 6.2)))
        bar.set_label("electrons")
    return canvas


# ---------------------------------------------------------------- electrons and photons


def _separation(products: Mapping[str, Any], _: Context) -> Iterator[Figure]:
    if "separation/curves" not in products:
        return
    areas, curves = products["separation/areas"].frame, products["separation/curves"].frame
    yield Figure(
        "separation", "Electrons apart from photons",
        "Share of electrons kept against share of photons kept with them. The classifier of all features was never tested on a track that it "
        "had been fitted to. The single features are the best of all, chosen on these very tracks, and so is the sign with which each is "
        "taken: their areas look larger than they would be on other tracks. Areas have their standard errors.",
        "Electrons and photons", partial(_draw_curves, areas, curves), dpi=_DPI,
    )  # fmt: skip


def _words_of(score: str) -> str:
    return FEATURE_WORDS.get(score, score.replace("_", " "))


def _draw_curves(areas: pl.DataFrame, curves: pl.DataFrame) -> Canvas:
    from firstlight.detectors.lartpc.views.summaries import draw_roc
    from firstlight.view.draw import place, sheet
    from firstlight.view.style import styled

    panels: Sequence[tuple[float, str]] = (
        areas.select("energy", "stage").unique().sort("energy", "stage").rows()
    )
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    with styled():
        figure = sheet(5.4 * columns, 4.7 * rows)
        for number, (energy, stage) in enumerate(panels):
            column, row = number % columns, number // columns
            axes = place(
                figure,
                5.4 * column + 0.8,
                4.7 * (rows - 1 - row) + 0.6,
                5.4 * (columns - 1 - column) + 0.2,
                4.7 * row + 0.4,
            )
            mine = areas.filter(energy=energy, stage=stage)
            points = {
                _words_of(score): (part["false_positive"].to_numpy(), part["true_positive"].to_numpy())
                for score in mine["score"]
                for part in [curves.filter(energy=energy, stage=stage, score=score)]
            }
            told = {
                _words_of(row["score"]): (row["area"], row["error"]) for row in mine.iter_rows(named=True)
            }
            draw_roc(axes, points, told)
            axes.set_title(f"{energy / 1000:g} MeV, {stage}")
    return figure
