"""Charge per energy of the PENELOPE sample, and how to make it the same at all energies.

The tools that made the sample cut the electrons of every soft step down to a whole number: ``floor(dE 0.7 / 17.6 eV)``.
Each step loses half an electron in the mean, and steps that would give less than one vanish. Nominal are 39.77 electrons per
keV. Up to 10 MeV the steps are short (cut-offs of 50 eV, two electrons at a point) and a quarter of the charge is lost: 28 to
30 electrons per keV are left. At 20 and 50 MeV they are long (cut-offs of 1000 eV, ten electrons) and 38.8 are left. So charge
per keV jumps by 30 % between 10 and 20 MeV, for no reason of physics; argon gives about 30 in a field of 0.5 kV/cm.

What was lost belongs to the steps, so it can be put back step by step, without looking at the truth:
``energy = (num_e + loss) 17.6 eV / 0.7`` with the mean loss per written point of `LOSSES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.reading.charges import DEPOSIT_MODELS, whole_electrons
from firstlight.errors import ConfigError, InputError, UsageError

if TYPE_CHECKING:
    from firstlight.detectors.lartpc.track import Track

__all__ = ["LOSSES", "METHODS", "YIELDS", "cut_off_of", "rescale_charge"]

METHODS = ("steps", "factor")

LOSSES = {50.0: 0.80, 1000.0: 0.68}
"""Electrons that a written point lost in the mean, by the cut-off for soft steps [eV].

Measured on 21 tracks of the sample as ``(39.77 E - sum(num_e)) / n_points``: 0.76 to 0.82 and 0.68 to 0.70. Half an electron is
the part that was cut off; the rest are the steps with less than one electron, which were not written.
"""

YIELDS = {50.0: 29.8, 1000.0: 38.82}
"""Electrons per keV as they stand in the files, by the cut-off for soft steps [eV]; means of 180 tracks above 1 MeV."""

_NOMINAL = DEPOSIT_MODELS["gampy"].electrons_per_keV
_TARGET = DEPOSIT_MODELS["constant"].electrons_per_keV


def cut_off_of(track: Track) -> float:
    """Return the cut-off for soft steps [eV] with which a track of the sample was made.

    It stands in the steering file of PENELOPE that the truth record holds. Where there is none, the points tell: two
    electrons at a point in the median, or ten.

    Raises
    ------
    InputError
        If neither says it.
    """
    original = track.meta.get("original")
    steering = original.get("penelope_input") if isinstance(original, dict) else None
    if isinstance(steering, dict) and steering.get("wcc") is not None:
        cut_off = steering["wcc"]
        if isinstance(cut_off, int | float) and float(cut_off) in LOSSES:
            return float(cut_off)
        said = f"{cut_off:g}" if isinstance(cut_off, int | float) else repr(cut_off)[:60]
        what = f"was made with a cut-off of {said} eV for soft steps, for which the loss of charge was not measured"
        known = [f"{each:g} eV" for each in LOSSES]
        raise InputError(what, where=track.name or "track", known=known)
    median = float(np.median(track.num_e)) if len(track) else 0.0
    if not track.bin_size and 1 <= median <= 3:
        return 50.0
    if not track.bin_size and 7 <= median <= 15:
        return 1000.0
    what = f"does not say with which cut-offs it was made, and {median:g} electrons at a point in the median do not tell"
    raise InputError(what, where=track.name or "track", hint="loss=..., or method='factor' with factor=...")


def rescale_charge(
    track: Track,
    *,
    target: float = _TARGET,
    method: str = "steps",
    loss: float | None = None,
    factor: float | None = None,
) -> Track:
    """Return a track of the PENELOPE sample with charges that are in proportion to energy.

    Parameters
    ----------
    track : Track
        As it was read.
    target : float
        Electrons per keV to arrive at; 0.70 / 23.6 eV if not given.
    method : str
        ``"steps"`` puts back what each step lost. ``"factor"`` multiplies all charges by one number, which is what there is
        for points that were put together (compressed tracks); what short tracks lose more than long ones then stays (photons of 1 MeV
        are 3 % low).
    loss : float, optional
        Electrons that a point lost in the mean; of `LOSSES` by `cut_off_of` if not given.
    factor : float, optional
        The number for ``"factor"``; target over `YIELDS` if not given.

    Returns
    -------
    Track
        Whole electrons; fractions are carried from point to point, so the sum is right within half an electron.
        ``meta["charge_scale"]`` is the new charge over the old one, ``meta["charge_rescaled"]`` says how.

    Raises
    ------
    UsageError
        If the charge was rescaled before, or `method` does not fit the track.
    InputError
        If the track was not made by the tools of the sample, or does not say with which cut-offs.
    """
    _check(track, target, method)
    if method == "steps":
        lost = LOSSES[cut_off_of(track)] if loss is None else loss
        if not (np.isfinite(lost) and lost >= 0):
            what = f"a loss of {lost} electrons per point"
            raise ConfigError(what, hint="0 or more")
        expected = (track.num_e + lost) * (track.num_e > 0) * (target / _NOMINAL)
        how: dict[str, Any] = {"method": method, "loss_per_point": lost}
    else:
        number = target / YIELDS[cut_off_of(track)] if factor is None else factor
        if not (np.isfinite(number) and number > 0):
            what = f"a factor of {number}"
            raise ConfigError(what, hint="a number above 0")
        expected = track.num_e * number
        how = {"method": method}
    charges = whole_electrons(np.asarray(expected, dtype=np.float64))
    scale = float(charges.sum() / track.charge)
    return track.with_charge(
        charges,
        charge_scale=scale,
        charge_rescaled={**how, "target_electrons_per_keV": target, "num_electrons_before": track.charge},
    )


def _check(track: Track, target: float, method: str) -> None:
    where = track.name or "track"
    if method not in METHODS:
        raise ConfigError.unknown("method to rescale charge", method, METHODS)
    if not (np.isfinite(target) and target > 0):
        what = f"a target of {target} electrons per keV"
        raise ConfigError(what, hint="a number above 0, as 29.66")
    if track.meta.get("charge_rescaled") or track.meta.get("charge_scale", 1.0) != 1.0:
        what = f"was rescaled before, by {track.meta.get('charge_scale')}"
        raise UsageError(what, where=where, hint="the track as it was read")
    model = track.meta.get("charge_model")
    name = model.get("name") if isinstance(model, dict) else model
    if name not in {None, "gampy"}:
        what = f"its charges are of the model {name!r}, which loses none"
        raise InputError(what, where=where, hint="only charges of the original tools need this")
    if method == "steps" and track.bin_size:
        what = f"its points were put together in cubes of {track.bin_size:g} m: steps are not known any more"
        raise UsageError(what, where=where, hint="method='factor', or the raw form")
    if track.charge == 0:
        what = "has no charge"
        raise InputError(what, where=where)
