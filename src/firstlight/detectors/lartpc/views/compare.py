"""Electrons beside photons of the same energies, at the same scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firstlight.detectors.lartpc.views.boxes import draw_box
from firstlight.detectors.lartpc.views.cubes import round_edge
from firstlight.detectors.lartpc.views.marks import charge_colours, charge_norm, charge_ticks, key_of_truth
from firstlight.detectors.lartpc.views.scene import Scene, energy_text, first_words, scene_of
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from firstlight.detectors.lartpc.track import Track, Truth
    from firstlight.detectors.lartpc.views.cubes import Cube
    from firstlight.detectors.lartpc.views.scene import Zoom

__all__ = ["draw_comparison", "note_panel", "sheet_bar", "sheet_key"]

_VIEW = (22.0, -58.0)
_PANEL = 2.1  # in


def draw_comparison(
    tracks: Mapping[float, Mapping[str, Track | Scene]],
    *,
    whole: bool = True,
    view: tuple[float, float] = _VIEW,
    truth: bool = True,
    title: str = "Electrons and photons of the same energy at the same scale",
) -> Figure:
    """Draw one row for each energy: the cores of both events at one scale, and both whole events at one scale.

    Every cube is centred on its own event; in a row two cubes that stand side by side have the same edge.

    Parameters
    ----------
    tracks : mapping of float to mapping of str to Track or Scene
        Energy [keV] -> particle -> event: ``{1000.0: {"electron": track, "photon": track}}``.
    whole : bool
        Draw the whole events too.
    view : (float, float)
        Elevation and azimuth [degrees].
    truth : bool
        Mark origin and direction.
    title : str
        Above all.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    UsageError
        If there is no track.
    """
    from firstlight.view.draw import sheet
    from firstlight.view.style import styled

    energies = sorted(energy for energy in tracks if tracks[energy])
    if not energies:
        what = "there is no track to compare"
        raise UsageError(what, hint="{energy in keV: {'electron': track, 'photon': track}}")
    particles = list(dict.fromkeys(name for energy in energies for name in sorted(tracks[energy])))
    scenes = {
        energy: {name: _as_scene(entry) for name, entry in tracks[energy].items()} for energy in energies
    }
    zooms: tuple[Zoom, ...] = ("core", "all") if whole else ("core",)
    left, right, top, bottom = 0.95, 0.95, 0.95, 0.4 if truth else 0.15
    gap = 0.3
    columns = len(zooms) * len(particles)
    width = left + columns * _PANEL + gap * (len(zooms) - 1) + right
    height = top + len(energies) * _PANEL + bottom
    layers = [scene.layers[0] for row in scenes.values() for scene in row.values()]
    norm = charge_norm(layers)
    with styled():
        figure = sheet(width, height)
        figure.text(0.15 / width, 1 - 0.27 / height, title, fontsize=13, fontweight="bold", va="center")
        for block, zoom in enumerate(zooms):
            start = left + block * (len(particles) * _PANEL + gap)
            words = "largest connected piece" if zoom == "core" else "whole event"
            figure.text(start / width, 1 - 0.58 / height, words, fontsize=10, color="#56616c", va="center")
            for index, name in enumerate(particles):
                x = start + (index + 0.5) * _PANEL
                figure.text(x / width, 1 - 0.82 / height, name, fontsize=11, ha="center", va="center")
        for row, energy in enumerate(energies):
            y = height - top - (row + 1) * _PANEL
            figure.text(
                0.15 / width, (y + 0.5 * _PANEL) / height, energy_text(energy), fontsize=11, va="center"
            )
            for block, zoom in enumerate(zooms):
                edge = round_edge(max(scene.cube(zoom).edge for scene in scenes[energy].values()))
                for index, name in enumerate(particles):
                    x = left + block * (len(particles) * _PANEL + gap) + index * _PANEL
                    ax = figure.add_axes((x / width, y / height, _PANEL / width, _PANEL / height))
                    scene = scenes[energy].get(name)
                    if scene is None:
                        ax.set_axis_off()
                        ax.text(0.5, 0.5, "no track", ha="center", va="center", color="#56616c", fontsize=9)
                        continue
                    cube = scene.cube(zoom).grown(edge)
                    draw_box(
                        ax, scene.layers[0], cube, view=view, norm=norm, truth=scene.truth if truth else None,
                        interactions=False,
                    )  # fmt: skip
                    note_panel(ax, scene, cube)
        sheet_bar(figure, norm, width, height)
        if truth:
            sheet_key(figure, (scene.truth for row in scenes.values() for scene in row.values()), height)
    return figure


def _as_scene(entry: Track | Scene) -> Scene:
    return entry if isinstance(entry, Scene) else scene_of(entry)


def note_panel(
    ax: Axes, scene: Scene, cube: Cube, *more: str, letters: float = 7.5, brief: bool = False
) -> None:
    """Write in a panel how a photon began and, where it is not all, how much of the charge is shown (`brief`: in per cent)."""
    layer = scene.layers[0]
    share = float(layer.charge[cube.holds(layer.positions)].sum() / max(float(layer.charge.sum()), 1e-300))
    part = f"{share:.0%}" if brief else f"{share:.0%} of the charge"
    words = [*more, first_words(scene.truth), part if share < 0.995 else ""]
    text = ", ".join(word for word in words if word)
    ax.text(0.02, 0.99, text, transform=ax.transAxes, fontsize=letters, va="top", color="#22303c")


def sheet_key(
    figure: Figure, truths: Iterable[Truth | None], height: float, letters: float = 9.0, left: float = 0.1
) -> None:
    """Add the key to lines and stars at the bottom left of a sheet; its height in inches."""
    if handles := key_of_truth(truths):
        figure.legend(
            handles=handles, loc="lower left", ncols=len(handles), fontsize=letters, handletextpad=0.4, borderpad=0,
            bbox_to_anchor=(left / figure.get_figwidth(), 0.1 / height), columnspacing=1.6,
        )  # fmt: skip


def sheet_bar(
    figure: Figure, norm: Any, width: float, height: float, label: str = "electrons per voxel"
) -> None:
    """Add the colour bar of a sheet at its right edge; sizes of the sheet in inches."""
    from matplotlib.cm import ScalarMappable

    length = min(4.0, 0.6 * height)
    box = ((width - 0.78) / width, (height - length) / 2 / height, 0.15 / width, length / height)
    bar = figure.colorbar(ScalarMappable(norm, charge_colours()), cax=figure.add_axes(box))
    ticks, names = charge_ticks(norm)
    bar.set_ticks(ticks, labels=names)
    bar.ax.minorticks_off()
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
