"""Verdicts on a folder of tracks: is everything there, do charges and energies agree, was charge kept by the read-out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.lartpc.tables import READ
from firstlight.detectors.lartpc.track import ELECTRON_MASS
from firstlight.steps.step import Check, Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from firstlight.steps.step import Verdict

__all__ = ["checks"]

_SCALE = (0.03, 0.10)  # largest deviation of the charge per energy of a folder from the median of all
_ENERGY = 1e-4  # relative, of what points have as 32-bit numbers
_BALANCE = 0.02  # of K+ + K-
_UNLIKELY = (1e-3, 1e-6)
_SLOW = 1000.0  # keV: below it recombination lowers the charge per energy
_NAMED = 20


def checks(products: Mapping[str, Any], _: Context) -> list[Check]:
    """Return the verdicts on a run, those that its products allow."""
    if "tracks/tracks" not in products:
        return []
    frame = products["tracks/tracks"].frame
    good = frame.filter(status=READ)
    found: list[Check] = list(_refused(frame))
    if not good.height:
        return found
    parts: Sequence[Callable[[pl.DataFrame], Iterator[Check]]] = (
        _truth, _charged, _charge_sum, _scale, _deposits, _pairs, _repeated, _first, _directions,
    )  # fmt: skip
    for part in parts:
        found += part(good)
    if "readout/tracks" in products:
        found += _conserved(products["readout/tracks"].frame)
        found += _noise(products["readout/tracks"].frame)
        found += _beyond(products["readout/tracks"].frame)
    return found


def _named(frame: pl.DataFrame, *columns: str) -> tuple[str, ...]:
    told = [", ".join(str(value) for value in row) for row in frame.select("track", *columns).iter_rows()]
    return tuple(told[:_NAMED] + [f"... {len(told)} in all"] * (len(told) > _NAMED))


def _refused(frame: pl.DataFrame) -> Iterator[Check]:
    refused = frame.filter(pl.col("status") != READ)
    n_tracks, n_refused = frame.height, refused.height
    verdict: Verdict = "bad" if n_refused else "ok"
    if not n_tracks:
        verdict = "no-statistics"
    rule = f"{n_refused} of {n_tracks} tracks cannot be read"
    if n_refused:
        rule += f"; {refused['track'][0]}: {refused['reason'][0]}"
    elif not n_tracks:
        rule = "there is no track: a cut takes all of them, or the inputs hold none"
    yield Check("readable tracks", verdict, n_refused, 0, rule, details=_named(refused, "reason"))


def _truth(good: pl.DataFrame) -> Iterator[Check]:
    without = good.filter(~pl.col("has_truth"))
    if not good.height:
        return
    rule = f"{without.height} of {good.height} tracks have no truth record: charge and shape only"
    verdict: Verdict = "warn" if without.height else "ok"
    yield Check("truth records", verdict, without.height, 0, rule, details=_named(without))


def _charged(good: pl.DataFrame) -> Iterator[Check]:
    empty = good.filter(pl.col("num_e") == 0)
    if empty.height:
        rule = f"{empty.height} of {good.height} tracks have points without any charge: nothing is drifted or read of them"
        yield Check("tracks without charge", "warn", empty.height, 0, rule, details=_named(empty))


def _charge_sum(good: pl.DataFrame) -> Iterator[Check]:
    told = good.filter(pl.col("true_num_e").is_not_null())
    if not told.height:
        return
    other = told.filter(pl.col("true_num_e") != pl.col("num_e"))
    rule = (
        f"the charges of {other.height} of {told.height} tracks do not add up to what their truth record has"
    )
    details = _named(other, "num_e", "true_num_e")
    yield Check("sum of charges", "bad" if other.height else "ok", other.height, 0, rule, details=details)


def _scale(good: pl.DataFrame) -> Iterator[Check]:
    """Charge per energy jumps where a folder was made with another step size, W or recombination."""
    whole = good.filter(pl.col("charge_per_energy").is_not_null() & (pl.col("energy") >= _SLOW))
    groups = (
        whole.group_by("particle", "energy")
        .agg(pl.col("charge_per_energy").median().alias("scale"))
        .sort("particle", "energy")
    )
    if groups.height < 2:
        rule = "charge per energy is compared between energies of 1 MeV and more: two of them are needed"
        yield Check("charge scale", "no-statistics", float("nan"), _SCALE[0], rule)
        return
    scale = groups["scale"].to_numpy()
    usual = float(np.median(scale))
    off = np.abs(scale / usual - 1)
    worst = int(np.argmax(off))
    row = groups.row(worst, named=True)
    rule = (
        f"charge per energy of {row['energy'] / 1000:g} MeV {row['particle']}s is {scale[worst]:.2f} electrons/keV, "
        f"{scale[worst] / usual - 1:+.1%} from the median of all energies; up to {_SCALE[0]:.0%} is usual"
    )
    details = tuple(
        f"{entry['energy'] / 1000:g} MeV {entry['particle']}s: {entry['scale']:.2f} electrons/keV"
        for entry, far in zip(groups.iter_rows(named=True), off > _SCALE[0], strict=True)
        if far
    )
    verdict: Verdict = "bad" if off[worst] > _SCALE[1] else "warn" if off[worst] > _SCALE[0] else "ok"
    yield Check("charge scale", verdict, float(off[worst]), _SCALE[0], rule, details=details)


def _deposits(good: pl.DataFrame) -> Iterator[Check]:
    annihilation = pl.when(pl.col("particle") == "positron").then(2 * ELECTRON_MASS).otherwise(0.0)
    told = good.filter(pl.col("deposited").is_not_null() & pl.col("energy").is_not_null()).with_columns(
        balance=pl.col("deposited") / (pl.col("energy") + annihilation)
    )
    if not told.height:
        return
    off = told.filter((pl.col("balance") - 1).abs() > _ENERGY)
    largest = float((told["balance"] - 1).abs().max() or 0.0)  # type: ignore[arg-type]
    rule = (
        f"deposits of {off.height} of {told.height} tracks differ from their energy by more than {_ENERGY:g}"
    )
    yield Check(
        "energy balance",
        "bad" if off.height else "ok",
        largest,
        _ENERGY,
        rule,
        details=_named(off, "balance"),
    )


def _pairs(good: pl.DataFrame) -> Iterator[Check]:
    pairs = good.filter(pl.col("pair_balance").is_not_null())
    if not pairs.height:
        return
    off = pairs.filter((pl.col("pair_balance") - 1).abs() > _BALANCE)
    largest = float((pairs["pair_balance"] - 1).abs().max() or 0.0)  # type: ignore[arg-type]
    rule = f"K+ + K- of {off.height} of {pairs.height} pairs differs from the recorded energy of the pair by more than {_BALANCE:.0%}"
    details = _named(off, "positron_energy", "electron_energy", "pair_balance")
    yield Check("energies of pairs", "warn" if off.height else "ok", largest, _BALANCE, rule, details=details)


def _repeated(good: pl.DataFrame) -> Iterator[Check]:
    twice = good.filter(pl.col("digest").is_duplicated()).sort("digest", "track")
    rule = f"{twice.height} of {good.height} tracks have the same points as another one"
    verdict: Verdict = "bad" if twice.height else "ok"
    yield Check("repeated tracks", verdict, twice.height, 0, rule, details=_named(twice))


def _first(good: pl.DataFrame) -> Iterator[Check]:
    """Compare the share of pairs among first interactions with the cross sections."""
    from scipy.stats import binomtest

    from firstlight.detectors.lartpc.simulation.tables import pair_share

    photons = good.filter((pl.col("particle") == "photon") & (pl.col("first_interaction") != ""))
    groups = photons.group_by("energy").agg(
        pl.len().alias("n"), (pl.col("first_interaction") == "pair").sum().alias("pairs")
    )
    lowest, told = 1.0, ""
    for row in groups.sort("energy").iter_rows(named=True):
        expected = float(pair_share(row["energy"]))
        p_value = float(binomtest(row["pairs"], row["n"], expected).pvalue)
        if not told or p_value < lowest:
            lowest = p_value
            told = (
                f"{row['pairs']} of {row['n']} photons of {row['energy'] / 1000:g} MeV convert first, "
                f"{expected:.1%} are expected: probability {p_value:.2g}"
            )
    if not told:
        return
    lowest = min(1.0, lowest * groups.height)
    verdict: Verdict = "bad" if lowest < _UNLIKELY[1] else "warn" if lowest < _UNLIKELY[0] else "ok"
    rule = f"{told}; {lowest:.2g} with {groups.height} energies looked at"
    yield Check("first interactions", verdict, lowest, _UNLIKELY[0], rule)


def _directions(good: pl.DataFrame) -> Iterator[Check]:
    """Directions over all angles have a mean near zero: three times its square, per track, is a chi-square."""
    from scipy.stats import chi2

    columns = [f"direction_{axis}" for axis in "xyz"]
    known = good.filter(pl.col("has_truth")).select(columns).drop_nulls().to_numpy()
    if len(known) < 10:
        return
    mean = known.mean(axis=0)
    p_value = float(chi2.sf(3 * len(known) * float(mean @ mean), 3))
    beam = p_value < _UNLIKELY[1]
    rule = (
        f"mean direction of {len(known)} tracks is ({mean[0]:+.2f}, {mean[1]:+.2f}, {mean[2]:+.2f}): "
        f"{'a beam, not' if beam else 'agrees with'} all directions alike (probability {p_value:.2g})"
    )
    yield Check("directions", "ok" if p_value > _UNLIKELY[0] else "warn", p_value, _UNLIKELY[0], rule)


def _conserved(frame: pl.DataFrame) -> Iterator[Check]:
    lost = frame.filter(pl.col("sampled") != pl.col("survivors"))
    rule = f"voxels or wires of {lost.height} of {frame.height} tracks do not hold the charge that arrived"
    yield Check(
        "charge in the read-out", "bad" if lost.height else "ok", lost.height, 0, rule,
        details=_named(lost, "survivors", "sampled"),
    )  # fmt: skip


def _noise(frame: pl.DataFrame) -> Iterator[Check]:
    from scipy.stats import poisson

    expected, seen = float(frame["expected_noise_hits"].sum()), int(frame["n_noise_hits"].sum())
    if expected <= 0:
        return
    p_value = float(2 * min(poisson.cdf(seen, expected), poisson.sf(seen - 1, expected), 0.5))
    rule = f"{seen} hits of noise alone, {expected:.1f} are expected: probability {p_value:.2g}"
    yield Check("hits of noise", "ok" if p_value > _UNLIKELY[0] else "warn", p_value, _UNLIKELY[0], rule)


def _beyond(frame: pl.DataFrame) -> Iterator[Check]:
    total, beyond = int(frame["survivors"].sum()), int(frame["beyond"].sum())
    if not total:
        return
    rule = f"{beyond / total:.2%} of the charge arrives beyond the map of the anode (option anode.half_width)"
    verdict: Verdict = "warn" if beyond > 0.1 * total else "ok"
    yield Check("map of the anode", verdict, beyond / total, 0.1, rule)
