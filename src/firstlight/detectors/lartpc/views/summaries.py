"""Many tracks in one plot: charge and extent against energy, diffusion against depth, dQ/dx, separation.

Every function takes plain arrays, draws into given axes and returns them. Lengths are in the unit that the axes shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "PARTICLE_COLOURS",
    "draw_charge_scale",
    "draw_densities",
    "draw_diffusion",
    "draw_energies",
    "draw_extents",
    "draw_profiles",
    "draw_roc",
    "draw_spread",
    "energy_axis",
    "minimum_ionising",
    "spread",
]

PARTICLE_COLOURS = {"electron": "#1f5f99", "photon": "#d1662a", "positron": "#8e5ba6"}
_SYMBOLS = {"electron": "o", "photon": "s", "positron": "^"}
_OTHER = "#5b7083"
_MUTED = "#56616c"


def spread(length: ArrayLike, coefficient: float, velocity: float) -> Floats:
    """Return the standard deviation after a drift [mm]: sqrt(2 D t).

    Parameters
    ----------
    length : array
        Drift length [mm].
    coefficient : float
        Diffusion coefficient D [cm2/s].
    velocity : float
        Drift velocity [mm/us].
    """
    time = np.asarray(length, dtype=np.float64) / velocity
    return np.sqrt(2 * coefficient * 1e-4 * time)  # 1 cm2/s is 1e-4 mm2/us


def draw_charge_scale(
    ax: Axes,
    energy: ArrayLike,
    charge_per_energy: ArrayLike,
    particle: Sequence[str],
    *,
    expected: float | None = None,
) -> Axes:
    """Draw electrons per keV against energy: a point for each track, mean and its error for each energy.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    energy : array, shape (n,)
        Of the particle [keV].
    charge_per_energy : array, shape (n,)
        Electrons per energy [1/keV].
    particle : sequence of str, length n
        Name of the particle.
    expected : float, optional
        Charge per energy that is expected [1/keV].
    """
    values = _columns(energy, charge_per_energy, particle)
    if expected is not None:
        ax.axhline(expected, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        ax.annotate(
            f"{expected:g} e⁻/keV", (1, expected), xycoords=("axes fraction", "data"), fontsize=8,
            ha="right", va="bottom", color=_MUTED,
        )  # fmt: skip
    _draw_groups(ax, values, median=False)
    ax.set_xlabel("energy [MeV]")
    ax.set_ylabel("charge per energy [e⁻/keV]")
    energy_axis(ax, values[0])
    return ax


def draw_extents(
    ax: Axes, energy: ArrayLike, extent: ArrayLike, particle: Sequence[str], *, label: str = "largest extent [mm]",
    csda: tuple[ArrayLike, ArrayLike] | None = None,
) -> Axes:  # fmt: skip
    """Draw a length against energy: a point for each track, the median and the middle half of each energy.

    Parameters
    ----------
    ax, energy, particle
        As in `draw_charge_scale`.
    extent : array, shape (n,)
        Lengths [mm].
    label : str
        Of the axis.
    csda : (array, array), optional
        Energies [keV] and ranges [mm] of electrons that slow down continuously, for a line.
    """
    values = _columns(energy, extent, particle)
    if csda is not None:
        ax.plot(
            np.asarray(csda[0], dtype=float) / 1e3, csda[1], color=_MUTED, linewidth=1.2, zorder=1,
            label="range of electrons (CSDA)",
        )  # fmt: skip
    _draw_groups(ax, values, median=True)
    positive = values[1][values[1] > 0]
    if positive.size:
        from firstlight.view.draw import log_ticks

        ax.set_yscale("log")
        low, high = float(positive.min()) / 1.5, float(positive.max()) * 1.5
        ticks, names = log_ticks(low, high)
        ax.set_ylim(low, high)
        ax.set_yticks(ticks, labels=names)
        ax.minorticks_off()
    ax.set_xlabel("energy [MeV]")
    ax.set_ylabel(label)
    energy_axis(ax, values[0])
    return ax


def draw_energies(
    energy: ArrayLike,
    charge_per_energy: ArrayLike,
    extent: ArrayLike,
    particle: Sequence[str],
    **options: Any,
) -> Figure:
    """Draw charge per energy and extent side by side; arguments as in `draw_charge_scale` and `draw_extents`."""
    from firstlight.view.draw import place, sheet
    from firstlight.view.style import styled

    with styled():
        figure = sheet(11.0, 4.4)
        left, right = place(figure, 0.75, 0.6, 5.75, 0.45), place(figure, 6.35, 0.6, 0.2, 0.45)
        draw_charge_scale(left, energy, charge_per_energy, particle, expected=options.get("expected"))
        left.set_title("charge of an event: mean and its error")
        draw_extents(right, energy, extent, particle, csda=options.get("csda"))
        right.set_title("size of an event: median and middle half")
    return figure


def _columns(
    energy: ArrayLike, values: ArrayLike, particle: Sequence[str]
) -> tuple[Floats, Floats, NDArray[np.str_]]:
    columns = np.asarray(energy, dtype=np.float64), np.asarray(values, dtype=np.float64), np.asarray(particle)
    if not columns[0].shape == columns[1].shape == columns[2].shape:
        what = f"lengths differ: {columns[0].size} energies, {columns[1].size} values, {columns[2].size} particles"
        raise UsageError(what, hint="one entry for each track")
    known = np.isfinite(columns[0]) & np.isfinite(columns[1]) & (columns[0] > 0)
    return columns[0][known] / 1e3, columns[1][known], columns[2][known].astype(str)


def _draw_groups(ax: Axes, values: tuple[Floats, Floats, NDArray[np.str_]], *, median: bool) -> None:
    """Draw points of all tracks, particles beside each other, and what they have in common at each energy."""
    from firstlight.view.draw import no_data

    energy, value, particle = values
    if not energy.size:
        no_data(ax, "no track with a known energy")
        return
    names = [name for name in _SYMBOLS if name in particle] + sorted(set(particle) - set(_SYMBOLS))
    for index, name in enumerate(names):
        shift = 1.06 ** (index - (len(names) - 1) / 2)
        own = particle == name
        colour, symbol = PARTICLE_COLOURS.get(name, _OTHER), _SYMBOLS.get(name, "D")
        ax.scatter(energy[own] * shift, value[own], s=13, color=colour, alpha=0.35, linewidths=0, zorder=3)
        places = np.unique(energy[own])
        groups = [value[own & (energy == place)] for place in places]
        middle = np.array([np.median(group) if median else group.mean() for group in groups])
        bars = np.array([_bar(group, median=median) for group in groups]).T
        ax.errorbar(
            places * shift, middle, yerr=bars, fmt=f"-{symbol}", color=colour, markersize=5, linewidth=1,
            elinewidth=1.4, label=f"{name}, {_tracks(int(own.sum()))}", zorder=4,
        )  # fmt: skip
    ax.legend(loc="best")


def _bar(group: Floats, *, median: bool) -> tuple[float, float]:
    """Return how far a bar reaches down and up: to the middle half about a median, or by the error of a mean."""
    if median:
        low, middle, high = np.quantile(group, (0.25, 0.5, 0.75))
        return float(middle - low), float(high - middle)
    error = float(group.std(ddof=1) / np.sqrt(group.size)) if group.size > 1 else 0.0
    return error, error


def _tracks(number: int) -> str:
    return f"{number} track" if number == 1 else f"{number} tracks"


def energy_axis(ax: Axes, energy: Floats) -> None:
    """Give an axes a logarithmic scale of energy [MeV] with plain numbers."""
    from firstlight.view.draw import log_ticks

    if not energy.size:
        return
    ax.set_xscale("log")
    low, high = float(energy.min()) / 1.3, float(energy.max()) * 1.3
    ticks, names = log_ticks(low, high)
    ax.set_xlim(low, high)
    ax.set_xticks(ticks, labels=names)
    ax.xaxis.minorticks_off()
    ax.grid(color="#e9edf0", linewidth=0.6)


def draw_spread(
    ax: Axes, length: ArrayLike, sigma: ArrayLike, error: ArrayLike | None, *, coefficient: float, velocity: float,
    name: str, colour: str, ratio: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw the measured spread of drifted electrons against drift length, with sqrt(2 D t).

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    length, sigma, error : array, shape (n,)
        Drift lengths, standard deviations and their errors [mm].
    coefficient : float
        Diffusion coefficient [cm2/s].
    velocity : float
        Drift velocity [mm/us].
    name, colour : str
        What it is, and how it looks.
    ratio : matplotlib Axes, optional
        Where measured over expected is drawn.
    """
    where, measured = np.asarray(length, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    bars = None if error is None else np.asarray(error, dtype=np.float64)
    if where.shape != measured.shape or (bars is not None and bars.shape != where.shape):
        what = f"lengths differ: {where.size} drift lengths, {measured.size} widths"
        raise UsageError(what, hint="one width, and one error, for each drift length")
    line = np.linspace(0, 1.05 * float(where.max(initial=1.0)), 200)
    ax.plot(
        line, spread(line, coefficient, velocity), color=colour, linewidth=1.3,
        label=f"{name}: √(2Dt), D = {coefficient:.3g} cm²/s",
    )  # fmt: skip
    look: dict[str, Any] = {"color": colour, "markersize": 5, "elinewidth": 1.3, "zorder": 4}
    ax.errorbar(where, measured, yerr=bars, fmt="o", label=f"{name}, measured", **look)
    if ratio is not None:
        expected = spread(where, coefficient, velocity)
        known = expected > 0
        part = None if bars is None else bars[known] / expected[known]
        ratio.errorbar(where[known], measured[known] / expected[known], yerr=part, fmt="o", **look)
    return ax


def draw_diffusion(
    length: ArrayLike,
    transverse: ArrayLike,
    longitudinal: ArrayLike,
    *,
    velocity: float,
    coefficients: tuple[float, float],
    errors: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    title: str = "Diffusion against drift length",
) -> Figure:
    """Draw both spreads of drifted electrons against drift length, with theory and ratio.

    Parameters
    ----------
    length : array, shape (n,)
        Drift lengths [mm].
    transverse, longitudinal : array, shape (n,)
        Standard deviations [mm].
    velocity : float
        Drift velocity [mm/us].
    coefficients : (float, float)
        Transverse and longitudinal diffusion coefficient [cm2/s].
    errors : (array, array), optional
        Errors of both spreads [mm].
    title : str
        Above all.

    Returns
    -------
    matplotlib Figure
    """
    from firstlight.view.draw import place, sheet
    from firstlight.view.style import styled

    with styled():
        figure = sheet(6.6, 5.6)
        ax, ratio = place(figure, 0.75, 1.75, 0.2, 0.45), place(figure, 0.75, 0.6, 0.2, 4.0)
        both = (("transverse", transverse, "#1f5f99"), ("longitudinal", longitudinal, "#d1662a"))
        for (name, sigma, colour), coefficient, error in zip(both, coefficients, errors, strict=True):
            draw_spread(
                ax, length, sigma, error, coefficient=coefficient, velocity=velocity, name=name, colour=colour,
                ratio=ratio,
            )  # fmt: skip
        ax.set(ylabel="standard deviation [mm]", ylim=(0, None), xlim=(0, None))
        ax.set_title(f"{title}, {velocity:.4g} mm/µs")
        ax.tick_params(labelbottom=False)
        ax.legend(loc="upper left", fontsize=8.5)
        ratio.axhline(1, color=_MUTED, linewidth=0.9)
        ratio.set(xlabel="drift length [mm]", ylabel="ratio", xlim=ax.get_xlim())
        for each in (ax, ratio):
            each.grid(color="#e9edf0", linewidth=0.6)
    return figure


def draw_densities(
    ax: Axes,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    expected: float | None = None,
    title: str = "",
    colours: Sequence[str] = ("#1f5f99", "#d1662a", "#3b8c5a", "#8e5ba6"),
) -> Axes:
    """Draw charge per length along the paths of tracks.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    curves : mapping of str to (array, array)
        Distance from the start [mm] and charge per length [electrons/mm] in the middle of equal bins.
    expected : float, optional
        Charge per length of a minimum-ionising electron [electrons/mm], as of `minimum_ionising`.
    title : str
        Above the axes.
    colours : sequence of str
        One after the other, again and again.
    """
    from firstlight.view.draw import no_data

    if not any(np.size(along) for along, _ in curves.values()):
        return no_data(ax, "no path has any length")
    for index, (name, (along, density)) in enumerate(curves.items()):
        where, value = np.asarray(along, dtype=np.float64), np.asarray(density, dtype=np.float64)
        if where.size == 0:
            continue
        half = 0.5 * (where[1] - where[0]) if where.size > 1 else where[0]
        edges = np.r_[where - half, where[-1] + half]
        ax.stairs(value, edges, color=colours[index % len(colours)], linewidth=1.4, label=name)
    if expected is not None:
        # in the key: beside its line the label would be struck through by the curves
        label = f"minimum ionising: {expected:,.0f} e⁻/mm"
        ax.axhline(expected, color="#22303c", linewidth=1.1, linestyle=(0, (4, 3)), label=label, zorder=1)
    ax.set(xlabel="distance along the path [mm]", ylabel="dQ/dx [e⁻/mm]", xlim=(0, None), ylim=(0, None))
    # room for the key
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])
    ax.set_title(title)
    ax.grid(color="#e9edf0", linewidth=0.6)
    ax.legend(loc="upper right", ncols=2)
    return ax


def draw_profiles(
    curves: Sequence[tuple[str, tuple[ArrayLike, ArrayLike]]],
    *,
    expected: float | None = None,
    title: str = "Charge along the path through the main cluster",
) -> Figure:
    """Draw charge per length along the paths of many tracks, a panel for every four.

    Parameters
    ----------
    curves : sequence of (str, (array, array))
        Names, and what `draw_densities` takes; two may have the same name.
    expected : float, optional
        As in `draw_densities`.
    title : str
        Above all.
    """
    from firstlight.view.draw import place, sheet
    from firstlight.view.style import styled

    rows = max(-(-len(curves) // 4), 1)
    height = 3.8 * rows + 0.45
    with styled():
        figure = sheet(9.0, height)
        figure.text(0.15 / 9.0, 1 - 0.25 / height, title, fontsize=13, fontweight="bold", va="center")
        for row in range(rows):
            axes = place(figure, 0.9, 3.8 * (rows - 1 - row) + 0.6, 0.2, 3.8 * row + 0.6)
            own = curves[4 * row : 4 * row + 4]
            # the same track can be given twice: names tell panels, not tracks, apart
            named = {name if index == [n for n, _ in own].index(name) else f"{name} ({index + 1})": curve
                     for index, (name, curve) in enumerate(own)}  # fmt: skip
            draw_densities(axes, named, expected=expected)
    return figure


def minimum_ionising(charge_per_energy: float, density: float = 1.396) -> float:
    """Return the charge per length of a minimum-ionising electron [electrons/mm].

    Parameters
    ----------
    charge_per_energy : float
        Electrons that escape recombination [1/keV], as measured on the tracks.
    density : float
        Of the argon [g/cm3].

    Notes
    -----
    The least energy loss in argon is 1.508 MeV cm2/g (Particle Data Group, for muons); in a liquid of 1.396 g/cm3 that is
    2.1 MeV/cm.
    """
    return 1.508e3 * density / 10 * charge_per_energy


def draw_roc(
    ax: Axes,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    areas: Mapping[str, tuple[float, float]] | None = None,
    *,
    positive: str = "electrons",
    negative: str = "photons",
) -> Axes:
    """Draw how well scores tell two kinds of events apart.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    curves : mapping of str to (array, array)
        Share of the negatives and of the positives at or above each threshold.
    areas : mapping of str to (float, float), optional
        Area under each curve with its error, for the key.
    positive, negative : str
        What is kept, and what is refused.
    """
    ax.plot([0, 1], [0, 1], color="#b7c0c9", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for name, (refused, kept) in curves.items():
        label = name
        if areas and name in areas:
            label = f"{name}: area {areas[name][0]:.3f} ± {areas[name][1]:.3f}"
        ax.plot(refused, kept, drawstyle="steps-post", linewidth=1.5, label=label)
    ax.set(
        xlabel=f"share of {negative} taken for {positive}", ylabel=f"share of {positive} kept",
        xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal",
    )  # fmt: skip
    ax.grid(color="#e9edf0", linewidth=0.6)
    if curves:
        key = ax.legend(loc="lower right", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none")
        key.set_zorder(5)
    return ax
