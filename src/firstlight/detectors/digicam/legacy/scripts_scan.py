"""What ``analyse_ac_dac_scan`` does: light of flashes at every level, gain, light of every level, light against level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.digicam.legacy import fit_files, scan_files
from firstlight.detectors.digicam.legacy.scripts import (
    Script,
    own_parameters,
    read_raw,
    remember,
    require_product,
    run_imported,
    run_of,
)
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.run.store import Run

    FloatArray = NDArray[np.float64]

__all__ = ["Scan", "analyse_scan"]


@dataclass
class Scan(Script):
    """What ``analyse_ac_dac_scan`` was asked for.

    Parameters
    ----------
    time, full, gain, led : bool
        Whether the histogram of highest samples and that of all levels are made, the fit of all levels, the fit of light against
        level.
    peaks, led_fit : str
        Names of the files of highest samples and of light against level.
    input_hv_off, input_dark : str, optional
        Names of earlier fit files, which must be there; those of the usual names are used if they are.
    levels : tuple of float
        Of the scan [DAC].
    full_name : str
        Name of the histogram of all levels; that of the levels with ``full_`` before it where empty.
    range_added : (float, float), optional
        Mean light of the levels that are added up [LSB above the baseline]; from 5 LSB on by default.
    n_peaks : int
        Amplitudes of the fit of all levels.
    """

    time: bool = False
    full: bool = False
    gain: bool = False
    led: bool = False
    peaks: str = "peaks.npz"
    led_fit: str = "led_fit.npz"
    input_hv_off: str | None = None
    input_dark: str | None = None
    levels: tuple[float, ...] = ()
    full_name: str = ""
    range_added: tuple[float, float] | None = None
    n_peaks: int = 22

    @property
    def full_path(self) -> Path:
        """The histogram of all levels."""
        if self.full_name:
            return self.output / self.full_name
        return self.histogram_path.with_name(f"full_{self.histogram_path.name}")

    @property
    def full_fit_path(self) -> Path:
        """The fit of all levels."""
        if self.full_name:
            return self.output / f"{self.full_name.removesuffix('.npz')}_fit.npz"
        return self.fit_path.with_name(f"full_{self.fit_path.name}")

    @property
    def peaks_path(self) -> Path:
        """The file of highest samples."""
        return self.output / self.peaks

    @property
    def led_path(self) -> Path:
        """The fit of light against level."""
        return self.output / self.led_fit

    @property
    def acts(self) -> bool:
        """Whether anything is to be made."""
        return any((self.create, self.perform, self.time, self.full, self.gain, self.led))


def analyse_scan(script: Scan) -> None:
    """Do what ``analyse_ac_dac_scan`` does.

    Raises
    ------
    InputError
        If raw files, or a histogram or fit that is needed, cannot be used.
    """
    if script.create or script.time:
        _create_scan(script)
    if script.full:
        counts, centres = scan_files.add_levels(
            script.histogram_path, _known_baseline(script), script.range_added
        )
        scan_files.write_full(script.full_path, counts, centres, scan_files.zero_of(script.histogram_path))
        script.wrote(script.full_path, f"full_mpe {counts.shape}, {int(counts.sum()):,} flashes")
    if script.gain:
        _fit_full(script)
    if script.perform:
        _fit_levels(script)
    if script.led:
        _fit_led(script)


def _create_scan(script: Scan) -> None:
    """Read the raw files of a scan."""
    changes: dict[str, Any] = {}
    if script.peaks_path.is_file() and not script.time:
        changes["positions"] = str(script.peaks_path)
        script.say(f"the light is looked for where {script.peaks_path} has it")
    run = read_raw(script, "led", changes)
    require_product(run, "light/charge", script.histogram_path)
    if script.create:
        scan = _scan_of(run, script)
        scan_files.write_scan(script.histogram_path, scan)
        remember(run, script.histogram_path)
        shape = (scan.wanted.size, 1296, scan.centres.size)
        script.wrote(script.histogram_path, f"mpes {shape}, {scan.levels.size} levels with events")
    if script.time:
        scan_files.write_peaks(script.peaks_path, run["light/peak"].value)  # type: ignore[arg-type]
        script.wrote(script.peaks_path, "peaks: which sample is the highest")


def _scan_of(run: Run, script: Scan) -> scan_files.LightHistograms:
    """Return the light of a run as it stands in a histogram file."""
    from firstlight.detectors.digicam.options import LightParameters
    from firstlight.run.config import build

    levels = run["light/levels"].to_polars()["level"].to_numpy()
    one_sequence = any(
        "level" not in entry.get("conditions", {})
        for entry in run.record["inputs"]
        if entry["status"] == "used"
    )
    wanted = np.asarray(script.levels, dtype=np.float64) if one_sequence and script.levels else levels
    light = build(LightParameters, run.record["configuration"].get("light", {}))
    reference = run["channels/map"].to_polars()["reference"].to_numpy().astype(np.int64)
    return scan_files.LightHistograms(run["light/charge"].value, levels, reference, light.n_samples, wanted)  # type: ignore[arg-type]


def _earlier(
    script: Scan, name: str | None, usual: str, layouts: Sequence[fit_files.Layout]
) -> fit_files.FitFile | None:
    """Return an earlier fit; None if it was not asked for and is not there."""
    path = script.output / (name or usual)
    return None if name is None and not path.is_file() else fit_files.read_first(path, layouts)


def _inputs(script: Scan) -> tuple[fit_files.FitFile | None, fit_files.FitFile | None]:
    """Return the fits without high voltage and in the dark."""
    dark = (fit_files.SPE, fit_files.DARK)
    return (
        _earlier(script, script.input_hv_off, "adc_hv_off_fit.npz", (fit_files.HV_OFF,)),
        _earlier(script, script.input_dark, "spe_hv_on_fit.npz", dark),
    )


def _known_baseline(script: Scan) -> FloatArray | None:
    """Return the baseline from earlier fits, as the original: without high voltage, plus the offset of dark pulses."""
    hv_off, dark = _inputs(script)
    if hv_off is None:
        return None
    offset = np.nan_to_num(dark.value("offset")) if dark is not None and dark.layout is fit_files.SPE else 0.0
    return np.asarray(hv_off.value("mean") + offset)


def _fit_full(script: Scan) -> None:
    """Fit the comb of all levels."""
    from firstlight.detectors.digicam.legacy.combs import fit_all_levels, full_arrays, peak_distances

    counts, centres = scan_files.read_full(script.full_path)
    hv_off, dark = _inputs(script)
    baseline, gain, noise = peak_distances(counts, centres)
    zero = scan_files.zero_of(script.full_path)
    baseline = baseline if zero is None else zero.astype(np.float64)
    smearing = 0.45 * noise
    if hv_off is not None:
        baseline, noise = _instead(baseline, hv_off.value("mean")), _instead(noise, hv_off.value("sigma"))
    if dark is not None:
        gain, smearing = _instead(gain, dark.value("gain")), _instead(smearing, dark.value("sigma_1"))
    result = fit_all_levels(counts, centres, (baseline, gain, noise, smearing), script.n_peaks)
    values, errors, beside = full_arrays(result)
    fit_files.write_fit(script.full_fit_path, fit_files.FULL, values, errors, beside)
    done = int(np.isfinite(values[:, 1]).sum())
    script.wrote(script.full_fit_path, f"full_mpe_fit_result {(*values.shape, 2)}, {done} pixels")
    if done:
        script.say(f"  gain       {np.nanmedian(values[:, 1]):.4g} LSB/p.e. (median)")


def _instead(values: FloatArray, better: FloatArray) -> FloatArray:
    return np.where(np.isfinite(better) & (better > 0), better, values)


def _fit_levels(script: Scan) -> None:
    """Fit the light of every level: gain, crosstalk and noise from several levels together, then one number a level."""
    from firstlight.run.finished import derive_again

    path = script.histogram_path
    _, dark = _inputs(script)
    steps = ("gain", "levels", "led", "calibration")
    table = None if dark is None else fit_files.dark_table(dark)
    known = table is not None and table.frame["rate"].is_not_null().any()
    if known:
        script.say("  with dark counts inside of the spectra, at their rate in the dark")
    else:
        script.say(
            "  no rate of dark counts is known: none are inside of the spectra, light is found too high"
        )
    run = run_of(path)
    if run is None:
        products, reference = scan_files.scan_products(path, script.levels, _light(script))
        if known and table is not None:
            products["dark/pixels"] = table
        configuration = {"kind": "led", **script.parameters}
        run = run_imported(script, path, products, reference, configuration, steps)
    else:
        if known and table is not None and dark is not None:
            _put(run, "dark/pixels", table, dark.path)
        run = derive_again(run, script.parameters, script.settings, steps=steps)
    if "levels/light" not in run:
        what = "no level has light from which a gain could be told"
        raise InputError(what, where=path, hint="levels of 0.2 to 8 photo-electrons are needed")
    from firstlight.run.chain import Products

    wanted = np.asarray(script.levels) if script.levels else None
    have = run["light/levels"].to_polars()["level"].to_numpy()
    if wanted is None or not np.isin(have, wanted).all():
        wanted = have
    values, errors, beside = fit_files.mpe_arrays(Products(run), wanted)
    fit_files.write_fit(script.fit_path, fit_files.MPE, values, errors, beside)
    script.wrote(script.fit_path, f"mpe_fit_result {(*values.shape, 2)}")
    _compare_gains(script, values)


def _light(script: Scan) -> Any:
    from firstlight.detectors.digicam.options import LightParameters
    from firstlight.run.config import build

    return build(LightParameters, own_parameters(script, "light"))


def _compare_gains(script: Scan, values: FloatArray) -> None:
    """Tell how far the gains of the simultaneous fit and of the comb are apart."""
    with np.errstate(all="ignore"):
        gain = np.nanmax(np.nan_to_num(values[..., 2], nan=-np.inf), axis=0)
    gain = np.where(gain > 0, gain, np.nan)
    if np.isfinite(gain).any():
        script.say(f"  gain       {np.nanmedian(gain):.4g} LSB/p.e. (median)")
    if not script.full_fit_path.is_file():
        return
    comb = fit_files.read_fit(script.full_fit_path, fit_files.FULL).values[:, 1]
    ratio = comb / gain
    if np.isfinite(ratio).any():
        script.say(f"  the comb of all levels (-g) has {100 * (np.nanmedian(ratio) - 1):+.2f} % of that gain")


def _put(run: Run, name: str, table: Any, path: Path) -> None:
    """Add a product that was made elsewhere to a finished run."""
    from firstlight.files import locked
    from firstlight.run.chain import IMPORTED
    from firstlight.run.provenance import digest_file, product_key

    step = name.split("/")[0]
    key = product_key(step, IMPORTED, [path.name], [digest_file(path)])
    with locked(run.folder):
        run.put(name, table, {"key": key, "wasGeneratedBy": f"import of {path.name}", "used": ["inputs"]})
        run.record["steps"][step] = {"version": IMPORTED, "key": key, "parameters": {}, "products": [name]}
        run.save()


def _fit_led(script: Scan) -> None:
    """Fit a polynomial of degree 4 to the light against the level."""
    from firstlight.detectors.digicam.legacy.npz import write_npz
    from firstlight.detectors.digicam.light_curve import fit_polynomials

    found = fit_files.read_fit(script.fit_path, fit_files.MPE)
    levels = np.asarray(found.beside.get("levels", script.levels), dtype=np.float64)
    if levels.shape != (found.values.shape[0],):
        what = f"the fit file has {found.values.shape[0]} levels, {levels.size} are given"
        raise InputError(what, where=script.fit_path, hint="--scan_level as for the histogram")
    light, error = found.value("mu").T, found.error("mu").T
    order = np.argsort(levels)
    light, error = light[:, order], error[:, order]
    parameters = fit_polynomials(levels[order], light, error, np.isfinite(light))
    done = int(np.isfinite(parameters[:, 0, 0]).sum())
    write_npz(script.led_path, {"parameters": parameters, "levels": levels})
    script.wrote(script.led_path, f"parameters (1296, 5, 7), {done} pixels")
    if not done:
        script.say("  a polynomial of degree 4 needs light at 5 levels or more: no pixel has that")
