"""The chances that a track is of a kind, from the shape of its charge: logistic regressions with stored weights.

All lengths, shares and counts are columns of the table of features. The energy enters as given, or as the charge says
it, and turns shares of the charge into energies, which are compared with what two annihilation photons leave, with the
loss of one electron along its way, and with the range of an electron.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from firstlight.detectors.lartpc.quest_weights import BIASES, WEIGHTS
from firstlight.detectors.lartpc.track import ELECTRON_MASS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["chances", "energy_of", "excess", "number", "range_of", "shape_values", "step"]

_PER_KEV = (
    30.0  # electrons that escape recombination for each keV, to tell the energy where nothing else does
)
_LOSS = 0.2  # of a fast electron [MeV/mm]
_RANGE = 115.0  # [mm]
_CRITICAL = 22.0  # energy from which the range grows with the logarithm of the energy [MeV]
_ANNIHILATION = 2e-3 * ELECTRON_MASS  # [MeV]


def chances(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the chances of a track.

    Parameters
    ----------
    row : mapping
        Row of the table of features, or `Features.row()` with ``energy`` [keV].

    Returns
    -------
    dict of str to float
        By name, as in `firstlight.detectors.lartpc.quest_training.CHANCES`: what is asked, and of which tracks.
    """
    values = shape_values(row)
    logits = dict(BIASES)
    for name, weights in WEIGHTS.items():
        for chance, weight in zip(logits, weights, strict=True):
            logits[chance] += weight * values[name]
    return {name: step(logit) for name, logit in logits.items()}


def shape_values(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what the regressions look at: all finite, of the order of one, the same for any scale of charge.

    Parameters
    ----------
    row : mapping
        As for `chances`. What is not known is taken as what it is where there is nothing: no second arm, no satellite.
    """
    values = _energy_values(row) | _satellite_values(row)
    values |= _vertex_values(row) | _path_values(row)
    values |= _arm_values(row, values) | _parting_values(row, values)
    return values


def _energy_values(row: Mapping[str, Any]) -> dict[str, float]:
    energy = math.log(energy_of(row) / 1e4)
    return {"energy": energy, "energy squared": energy**2}


def _satellite_values(row: Mapping[str, Any]) -> dict[str, float]:
    energy, beyond = energy_of(row) / 1e3, excess(row)
    share, count = number(row, "q_satellites", 0.0), number(row, "n_satellites", 0.0)
    largest, second, third = (number(row, f"q_{name}", 0.0) for name in ("largest", "second", "third"))
    return {
        # around the limits of what is called quiet (3 %) and radiating (10 %)
        "excess above 0": step(beyond / 0.01),
        "excess above 4 %": step((beyond - 0.04) / 0.01),
        "excess above 7 %": step((beyond - 0.07) / 0.01),
        "excess above 10 %": step((beyond - 0.10) / 0.01),
        "excess above 15 %": step((beyond - 0.15) / 0.015),
        "excess above 25 %": step((beyond - 0.25) / 0.03),
        "annihilation complete": math.exp(-0.5 * (max(-beyond * energy, 0.0) / 0.4) ** 2),
        "satellites over annihilation": min(share * energy / _ANNIHILATION, 1.0),
        "satellites over three annihilations": min(share * energy / _ANNIHILATION, 3.0),
        # an electron has no annihilation photons
        "satellite share above 2 %": step((share - 0.02) / 0.005),
        "satellite share above 10 %": step((share - 0.10) / 0.01),
        "satellite share above 13 %": step((share - 0.13) / 0.015),
        "satellite share above 20 %": step((share - 0.20) / 0.03),
        "satellite share": math.log1p(100 * share),
        "no satellite": float(count == 0),
        "satellites": math.log1p(count),
        # 511 keV are the most that one annihilation photon leaves
        "largest": min(largest * energy / 0.511, 3.0),
        "largest above 0.6 MeV": step((largest * energy - 0.6) / 0.05),
        "second above 0.6 MeV": step((second * energy - 0.6) / 0.05),
        "third above 0.6 MeV": step((third * energy - 0.6) / 0.05),
        "largest above 1.5 MeV": step((largest * energy - 1.5) / 0.15),
        "second above 1.5 MeV": step((second * energy - 1.5) / 0.15),
        "largest share": largest,
        "second share": second,
        "spread": number(row, "spread", 0.0),
        "farthest": math.log1p(number(row, "farthest", 0.0)),
        # an annihilation photon leaves 341 keV at most in one scattering: more, behind the vertex, was there before it
        "upstream above 0.37 MeV": step((number(row, "q_upstream", 0.0) * energy - 0.37) / 0.03),
        "upstream": min(number(row, "q_upstream", 0.0) * energy, 3.0),
        "ahead": math.log1p(number(row, "n_ahead", 0.0)),
        "beside": math.log1p(number(row, "n_beside", 0.0)),
        "behind": math.log1p(number(row, "n_behind", 0.0)),
        "ahead share": number(row, "q_ahead", 0.0),
    }


def _vertex_values(row: Mapping[str, Any]) -> dict[str, float]:
    energy = energy_of(row) / 1e3
    # one arm leaves 1
    around = {
        f"{name} charge": number(row, f"q_{name}", 0.0) * energy / (_LOSS * radius)
        for name, radius in (("vertex", 1.5), ("near", 8.0), ("middle", 16.0), ("wide", 32.0))
    }
    return around | {
        "vertex density": min(number(row, "vertex_density", 1.0), 3.0),
        "vertex chance": number(row, "vertex_chance", 0.0),
        "vertex inside": number(row, "vertex_from_end", 0.0) / max(number(row, "path", 0.0), 1.0),
        "forward": number(row, "forward", 0.0),
        "ray quality": number(row, "ray_quality", 0.0),
        "ray overlap": number(row, "ray_overlap", 0.0),
        "separable": float(bool(row.get("separable"))),
        "opening": number(row, "opening", 0.0) / 90,
    }


def _path_values(row: Mapping[str, Any]) -> dict[str, float]:
    length = number(row, "path", 0.0) / range_of(energy_of(row))
    return {
        "length over range": min(length, 1.3),
        "full length": step((length - 0.85) / 0.04),
        "linearity": number(row, "linearity", 0.0),
        "width": math.log1p(number(row, "width", 0.0)),
        "tortuosity": math.log(max(number(row, "tortuosity", 5.0), 1.0)),
        "branch charge": number(row, "branch_charge", 0.0),
        "branch distance": math.log1p(number(row, "branch_distance", 0.0)),
        "branches": min(number(row, "n_branches", 0.0), 4.0),
        "end ratio": min(math.log(max(number(row, "end_ratio", 1.0), 1.0)), 2.0),
        "start density": min(number(row, "start_density", 1.0), 3.0),
        "end density": min(number(row, "end_density", 1.0), 3.0),
        "start turning": number(row, "start_turning", 0.0),
        "end turning": number(row, "end_turning", 0.0),
    }


def _arm_values(row: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, float]:
    fork = float(row.get("arm_share") is not None and not math.isnan(row["arm_share"]))
    share, short = number(row, "arm_share", 0.0), number(row, "arm_short", 9.0)
    low, high = fork * step((0.19 - share) / 0.02), fork * step((share - 0.40) / 0.02)
    stops, chance = fork * step((2.5 - short) / 0.4), values["vertex chance"]
    return {
        "fork": fork,
        "fork distance": number(row, "fork", 12.0) / 10,
        "share": share,
        "share below 0.19": low,
        "share below 0.08": fork * step((0.08 - share) / 0.02),
        "share above 0.33": fork * step((share - 0.33) / 0.03),
        "share above 0.40": high,
        "short below 2.5 mm": stops,
        "short below 5 mm": fork * step((5.0 - short) / 0.8),
        "short": fork * math.log1p(short),
        "long": math.log1p(number(row, "arm_long", 0.0)),
        "arm linearity": number(row, "arm_linearity", 0.0),
        "unequal and radiates": (low + 0.5 * (1 - fork)) * values["excess above 10 %"],
        "unequal and short": low * stops,
        "unequal at the vertex": low * chance,
        "equal at the vertex": high * chance,
        "equal and quiet": high * (1 - values["excess above 4 %"]),
    }


def _parting_values(row: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of arms that may stay together for long: by the charge, and by the length of both."""
    energy, distance = energy_of(row) / 1e3, number(row, "parting", 0.0)
    trunk, lesser, greater = (number(row, f"q_{name}", 0.0) for name in ("trunk", "lesser", "greater"))
    reach = [number(row, f"reach_{name}", 0.0) for name in ("lesser", "greater")]
    # a trunk with the charge of two belongs to both
    density = trunk * energy / (_LOSS * max(distance, 1.0))
    less = lesser + 0.5 * trunk * step((density - 1.5) / 0.2)
    by_charge = min(less, greater + trunk) / max(lesser + greater + trunk, 0.1 / energy)
    needed = [_CRITICAL * math.expm1(length / _RANGE) for length in reach]
    by_length = min(needed) / sum(needed) if sum(needed) > 0 else 0.0
    explained = sum(needed) / max((lesser + greater + trunk) * energy, 0.1)
    unequal = step((0.19 - by_charge) / 0.02)
    return {
        "whole share": by_charge,
        "whole share below 0.19": unequal,
        "whole share below 0.10": step((0.10 - by_charge) / 0.02),
        "whole share above 0.38": step((by_charge - 0.38) / 0.02),
        "share by length": by_length,
        "share by length below 0.19": step((0.19 - by_length) / 0.03),
        "share by length above 0.37": step((by_length - 0.37) / 0.03),
        "both shares above": step((by_charge - 0.38) / 0.02) * step((by_length - 0.37) / 0.03),
        "both shares below at the vertex": unequal
        * step((0.19 - by_length) / 0.03)
        * values["vertex chance"],
        "whole share below, radiates": unequal * values["excess above 10 %"],
        "lesser below 0.9 MeV": step((0.9 - less * energy) / 0.1),
        "lesser energy": math.log(max(less * energy, 0.05)),
        "trunk density": min(density, 4.0),
        "greater density": min(greater * energy / (_LOSS * max(reach[1] - distance, 1.0)), 4.0),
        "explained by length": min(explained, 2.0),
        "lengths explain all": step((explained - 0.85) / 0.05),
    }


def energy_of(row: Mapping[str, Any]) -> float:
    """Return the energy of a row [keV]: as given, else by the charge, at 30 electrons for each keV."""
    energy = number(row, "energy", 0.0)
    return energy if energy > 0 else max(number(row, "charge", 0.0) / _PER_KEV, 1.0)


def excess(row: Mapping[str, Any]) -> float:
    """Return the share of the charge in satellites beyond what two annihilation photons leave."""
    return number(row, "q_satellites", 0.0) - 2 * ELECTRON_MASS / energy_of(row)


def range_of(energy: float) -> float:
    """Return the range of an electron in liquid argon [mm], where the loss grows linearly with the energy [keV].

    Within 7 % of the range in continuous slowing down from 3 to 50 MeV at 1.396 g/cm3.
    """
    return _RANGE * math.log1p(energy / (1e3 * _CRITICAL))


def number(row: Mapping[str, Any], name: str, otherwise: float) -> float:
    """Return a number of a row, or another where there is none."""
    value = row.get(name)
    return otherwise if value is None or math.isnan(value) else float(value)


def step(x: float) -> float:
    """Return the logistic function: a step from 0 to 1 around 0."""
    return 0.5 * (1 + math.tanh(0.5 * x))
