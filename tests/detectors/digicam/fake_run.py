"""Products of a run as the steps give them, made of known spectra: nothing is read, nothing is fitted but flags.

All pixels have the same truth; the tables have it with normal errors, so that what is drawn of a pixel fits its spectrum.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Block, Table, TableSchema
from firstlight.detectors.digicam.calibration import calibrate
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.channels import channel_map
from firstlight.detectors.digicam.continuous_light import run_dc
from firstlight.detectors.digicam.counting import FILES, PULSES, RESIDUAL
from firstlight.detectors.digicam.flashes import LEVELS
from firstlight.detectors.digicam.light_fits import LIGHT, SHARED, pulse_model
from firstlight.detectors.digicam.light_source import lit_pixels
from firstlight.detectors.digicam.options import (
    CalibrationParameters,
    DarkParameters,
    GainParameters,
    LightParameters,
    Options,
    SkyParameters,
)
from firstlight.detectors.digicam.pulse import PulseTemplate
from firstlight.detectors.digicam.spectra import CAMERA, SPE, dark_model
from firstlight.detectors.digicam.timing import SHAPE, TIMES
from firstlight.fit.blocks import expected_counts
from firstlight.fit.data import FitData
from firstlight.steps.step import Context

TRUTH = {
    "rate": 2.75, "crosstalk": 0.095, "baseline": 284.25, "gain": 5.15, "electronics_noise": 0.96, "gain_smearing": 0.45,
}  # fmt: skip
ERRORS = {
    "rate": 0.09, "crosstalk": 0.011, "baseline": 0.004, "gain": 0.043, "electronics_noise": 0.003,
    "gain_smearing": 0.02,
}  # fmt: skip
LEVEL, LIGHT_OF = np.array([0.0, 180.0, 240.0, 300.0, 420.0]), np.array([0.0, 0.4, 1.1, 3.0, 22.0])
CHOSEN = np.array([0, 1, 2, 3])
REFERENCE, SAMPLE, TIME = 284, 14, 54.9
N_SAMPLES = {"hv_off": 15_000, "dark": 100_000}
PIXEL = np.arange(N_PIXELS, dtype=np.int32)


class OptionsOfRun(Options):
    """Options with the parameters of steps, as a run has them."""

    light: LightParameters = LightParameters()
    gain: GainParameters = GainParameters()
    dark: DarkParameters = DarkParameters()
    calibration: CalibrationParameters = CalibrationParameters()


def context_of(sector=None, cut=False, **options) -> Context:
    """Return the context of a run; with a sector the light source of 2016 lights only a part of the camera."""
    lit = True if sector is None else lit_pixels(sector=sector, version=1)
    channels = channel_map(REFERENCE, SAMPLE, lit)
    return Context(channels, OptionsOfRun(cts_sector=sector, **options), ("a",), cut)


def expected(model, edges, values) -> np.ndarray:
    """Return the share of each bin."""
    data = FitData(np.zeros((1, edges.size - 1)), edges, np.asarray(1.0), edges=True)
    return expected_counts(model, data, np.asarray([values], dtype=np.float64))[0]


def fits(rng, names=SHARED, **others) -> pl.DataFrame:
    """Return a table of fits: truth with normal errors, p-values spread evenly."""
    columns = {"channel": PIXEL}
    for name in names:
        columns[name] = TRUTH[name] + ERRORS[name] * rng.standard_normal(N_PIXELS)
        columns[f"{name}_error"] = np.full(N_PIXELS, ERRORS[name])
    columns |= others
    columns |= {
        "deviance": rng.chisquare(40, N_PIXELS), "ndf": np.full(N_PIXELS, 40), "p_value": rng.random(N_PIXELS),
        "status": ["ok"] * N_PIXELS, "rung": ["own"] * N_PIXELS, "iterations": np.full(N_PIXELS, 5),
        "total": np.full(N_PIXELS, 1e5),
    }  # fmt: skip
    return pl.DataFrame(columns)


def table(frame, schema=None) -> Table:
    return Table(frame, TableSchema("fits", ())) if schema is None else Table.from_frame(schema, frame)


def adc_cube(shares, first, n_samples, rng) -> HistogramCube:
    """Return a cube of samples of which all pixels have the same spectrum."""
    counts = np.zeros((N_PIXELS, 4097), dtype=np.int64)
    counts[:, first + 1 : first + 1 + shares.size] = rng.poisson(n_samples * shares, (N_PIXELS, shares.size))
    value = Axis("adc", 4095, -0.5, 4094.5, unit="LSB", description="ADC value")
    return HistogramCube((Axis("channel", N_PIXELS, description="pixel"), value), counts)


def of_samples(kind, rng) -> dict:
    """Return the products of a run without high voltage, or of a dark run."""
    first = REFERENCE - 20
    edges = first - 0.5 + np.arange(101.0)
    values = [TRUTH[name] for name in SHARED]
    if kind == "hv_off":
        values[0] = 0.0
    model = dark_model()
    shares = np.maximum(expected(model, edges, [*values, 0.0]), 0)
    cube = adc_cube(shares, first, N_SAMPLES[kind], rng)
    if kind == "hv_off":
        frame = fits(rng, ("baseline", "electronics_noise"), area=np.full(N_PIXELS, float(N_SAMPLES[kind])))
        return {"samples/hv_off": cube, "hv_off/pixels": table(frame)}
    residual = np.zeros(RESIDUAL.extent, dtype=np.int64)
    values[2] = 0.0
    residual[1:-1] = rng.poisson(1e6 * np.maximum(expected(model, RESIDUAL.edges, [*values, 0.0]), 0))
    rows = [
        {
            "parameter": name,
            "value": TRUTH[name] if name != "baseline" else 0.0,
            "error": ERRORS[name],
            "unit": "",
        }
        for name in SHARED
    ]
    rows += [{"parameter": name, "value": value, "error": None, "unit": ""}
             for name, value in (("deviance", 200.0), ("ndf", 190.0), ("p_value", 0.3), ("converged", 1.0))]  # fmt: skip
    return {
        "samples/dark": cube, "dark/pixels": table(fits(rng, photo_electrons=np.zeros(N_PIXELS))),
        "samples/dark_residual": HistogramCube((RESIDUAL,), residual), "dark/camera": Table.from_rows(CAMERA, rows),
        **of_pulses(rng),
    }  # fmt: skip


def of_pulses(rng) -> dict:
    """Return the products of the search for pulses in the dark, and of their fit."""
    axis = Axis("charge", 512, -64.5, 447.5, unit="LSB", description="sum of the window, above the reference")
    shares = sum(
        0.9 * 0.1 ** (n - 1) * np.exp(-0.5 * ((axis.centers - 21.3 * n) / (3 + n)) ** 2) / (3 + n)
        for n in range(1, 5)
    )
    counts = np.zeros((N_PIXELS, axis.extent), dtype=np.int64)
    counts[:, 1:-1] = rng.poisson(800 * shares / shares.sum(), (N_PIXELS, axis.bins))
    n_pulses = counts.sum(axis=1)
    rate = 2.5 + 0.1 * rng.standard_normal(N_PIXELS)
    pulses = {"channel": PIXEL, "n_pulses": n_pulses, "n_samples": np.full(N_PIXELS, 80_000), "rate": rate}
    spe = {
        "channel": PIXEL, "gain": 21.3 + 0.4 * rng.standard_normal(N_PIXELS), "gain_error": np.full(N_PIXELS, 0.4),
        "crosstalk_probability": 0.1 + 0.01 * rng.standard_normal(N_PIXELS), "crosstalk_probability_error": np.full(N_PIXELS, 0.01),
        "rate": 2.75 + 0.1 * rng.standard_normal(N_PIXELS), "rate_error": np.full(N_PIXELS, 0.1),
        "deviance": np.full(N_PIXELS, 60.0), "ndf": np.full(N_PIXELS, 60), "p_value": rng.random(N_PIXELS),
        "status": ["ok"] * N_PIXELS, "total": n_pulses.astype(float),
    }  # fmt: skip
    return {
        "pulses/charge": HistogramCube((Axis("channel", N_PIXELS, description="pixel"), axis), counts),
        "pulses/pixels": Table.from_frame(PULSES, pl.DataFrame(pulses)),
        "spe/pixels": Table.from_frame(SPE, pl.DataFrame(spe)),
    }


def of_light(context, rng, n_events=2000, dark_inside=True) -> dict:
    """Return the products of a scan of flashes."""
    lit = context.channels.column("lit")
    low, n_bins = -64, 320
    edges = low - 0.5 + np.arange(n_bins + 1.0)
    counts = np.zeros((N_PIXELS, LEVEL.size, n_bins + 2), dtype=np.int64)
    model = pulse_model(1, 0.0, LightParameters())
    values = [TRUTH[name] for name in SHARED]
    values[2] -= REFERENCE
    for index, mu in enumerate(LIGHT_OF):
        for where, light in ((lit, mu), (~lit, 0.0)):
            shares = np.maximum(expected(model, edges, [*values, light]), 0)
            counts[where, index, 1:-1] = rng.poisson(n_events * shares, (int(where.sum()), n_bins))
    labels = tuple(f"{level:g}" for level in LEVEL)
    axes = (
        Axis("channel", N_PIXELS, description="pixel"),
        Axis("level", LEVEL.size, labels=labels, unit="DAC", description="level of the light source"),
        Axis("charge", n_bins, low - 0.5, low + n_bins - 0.5, unit="LSB", description="height of the pulse"),
    )
    yields = 1 + 0.2 * rng.standard_normal(N_PIXELS).clip(-2.5, 2.5)
    yields[0] = 1.0
    error = np.sqrt(np.maximum(LIGHT_OF, 0.03) / n_events)
    light = np.where(lit[:, None], yields[:, None] * LIGHT_OF, 0.0)
    light = np.maximum(light + error * rng.standard_normal((N_PIXELS, LEVEL.size)), 0)
    rows = {
        "channel": np.repeat(PIXEL, LEVEL.size), "level": np.tile(LEVEL, N_PIXELS), "photo_electrons": light.ravel(),
        "photo_electrons_error": np.tile(error, N_PIXELS), "scale_error": np.tile(0.002 * LIGHT_OF, N_PIXELS),
        "deviance": np.full(light.size, 60.0), "ndf": np.full(light.size, 60), "p_value": rng.random(light.size),
        "status": ["ok"] * light.size, "mean": 0.25 + 5.15 / 0.905 * light.ravel(), "saturated": np.zeros(light.size),
    }  # fmt: skip
    rate = TRUTH["rate"] if dark_inside else 0.0
    chosen = {}
    for index in CHOSEN:
        chosen[f"light_{LEVEL[index]:g}"] = np.where(lit, LIGHT_OF[index], 0.0)
        chosen[f"light_{LEVEL[index]:g}_error"] = np.full(N_PIXELS, error[index])
    gain = fits(rng, **chosen).with_columns(rate=pl.lit(rate), rate_error=pl.lit(None, dtype=pl.Float64))
    names = [*SHARED, *(f"light_{LEVEL[index]:g}" for index in CHOSEN)]
    covariance = np.tile(
        np.diag([*(ERRORS[name] ** 2 for name in SHARED), *error[CHOSEN] ** 2]), (N_PIXELS, 1, 1)
    )
    levels = {
        "level": LEVEL,
        "n_events": np.full(LEVEL.size, n_events),
        "n_after": np.zeros(LEVEL.size, dtype=int),
    }
    return {
        "light/charge": HistogramCube(axes, counts), "light/levels": Table.from_frame(LEVELS, pl.DataFrame(levels)),
        "levels/light": Table.from_frame(LIGHT, pl.DataFrame(rows)), "gain/pixels": table(gain),
        "gain/covariance": Block(covariance, ("channel", "parameter", "other_parameter"), coordinates={"parameter": names, "other_parameter": names}),
        "gain/chosen": Block(CHOSEN, ("chosen",), coordinates={"chosen": LEVEL[CHOSEN].tolist()}), **of_times(lit, rng),
    }  # fmt: skip


def of_times(lit, rng) -> dict:
    """Return the products of times and shape of the pulses."""
    peaks = np.zeros((N_PIXELS, 52), dtype=np.int64)
    peaks[:, 1:-1] = rng.poisson(20, (N_PIXELS, 50))
    peaks[lit, 1 + SAMPLE] += 5000
    time = np.where(lit, TIME + 0.3 * rng.standard_normal(N_PIXELS).clip(-3, 3), np.nan)
    rows = {
        "channel": PIXEL, "time": time, "time_error": np.where(lit, 0.02, np.nan), "height": np.where(lit, 40.0, np.nan),
        "sample": np.full(N_PIXELS, SAMPLE), "sample_spread": np.full(N_PIXELS, 2.0), "n_events": np.where(lit, 4000, 0),
    }  # fmt: skip
    shape = PulseTemplate.default()
    at = np.arange(-40.5, 90)
    curve = {
        "time": at,
        "amplitude": shape.at(at + shape.peak_time),
        "spread": np.full(at.size, 0.01),
        "entries": np.full(at.size, 300),
    }
    axis = Axis("sample", 50, -0.5, 49.5, description="highest sample of the trace")
    return {
        "light/peak": HistogramCube((Axis("channel", N_PIXELS, description="pixel"), axis), peaks),
        "timing/pixels": Table.from_frame(TIMES, pl.DataFrame(rows)),
        "template/shape": Table.from_frame(SHAPE, pl.DataFrame(curve)),
    }


def of_continuous(rng) -> dict:
    """Return the moments of samples under continuous light of four levels."""
    level, rate = np.array([0.0, 240.0, 280.0, 320.0]), np.array([2.75, 4.5, 22.0, 215.0])
    mean = np.stack([PulseTemplate.default().moments(1e-3 * f, 5.15, 0.45, 0.095).mean for f in rate])
    variance = (
        np.stack([PulseTemplate.default().moments(1e-3 * f, 5.15, 0.45, 0.095).variance for f in rate]) + 1.0
    )
    values = np.zeros((N_PIXELS, level.size, 4))
    values[:, :, 0] = (
        TRUTH["baseline"] - REFERENCE + mean + 0.02 * rng.standard_normal((N_PIXELS, level.size))
    )
    values[:, :, 1], values[:, :, 2] = 0.02, variance
    rows = {"level": level, "n_events": np.full(4, 200), "n_after": np.zeros(4, dtype=int)}
    return {
        "continuous/moments": Block(
            values, ("channel", "level", "quantity"), "LSB",
            coordinates={"level": level.tolist(), "quantity": ["mean", "mean_error", "variance", "saturated"]},
        ),
        "continuous/levels": Table.from_frame(LEVELS, pl.DataFrame(rows)),
    }  # fmt: skip


def files(kinds) -> Table:
    """Return the table of files, one a kind or a level."""
    rows = []
    for kind in kinds:
        for level in LEVEL if kind == "led" else [None]:
            rows.append({
                "file": f"{kind}_{level}.fits.fz", "kind": kind, "kind_from": "name", "level": level, "n_events": 2000,
                "first_number": 1, "last_number": 2000, "n_missing": 0, "n_clocked": 2000, "first_time": 0, "duration": 2.0, "rate": 1000.0,
            })  # fmt: skip
    return Table.from_rows(FILES, rows)


def make_run(kinds=("hv_off", "dark", "led", "dc"), seed=1, context=None, **light):
    """Return products and context of a run without any fault.

    Parameters
    ----------
    kinds : sequence of str
        What the files were taken with.
    seed : int
        Of all noise.
    context : Context, optional
        Of a run of the whole camera by default.
    **light
        Of `of_light`.
    """
    rng = np.random.default_rng(seed)
    context = context_of() if context is None else context
    products = {"events/files": files(kinds)}
    for kind in ("hv_off", "dark"):
        if kind in kinds:
            products |= of_samples(kind, rng)
    if "led" in kinds:
        light = {"dark_inside": "dark" in kinds, **light}
        products |= of_light(context, rng, **light)
    if "dc" in kinds:
        products |= of_continuous(rng)
    products = judged(products, context)
    if "dc" in kinds and "calibration/pixels" in products:
        # the voltage does not drop
        found = run_dc(products, SkyParameters(resistance=0.0), context)
        products |= {f"dc/{name}": product for name, product in found.items()}
    return products, context


def judged(products, context) -> dict:
    """Return the products with the calibration made again: after a change its flags follow."""
    rest = {name: product for name, product in products.items() if not name.startswith("calibration/")}
    found = calibrate(rest, getattr(context.options, "calibration", CalibrationParameters()), context)
    return rest | {f"calibration/{name}": product for name, product in found.items()}


def changed(products, name, where=None, **columns) -> dict:
    """Return the products with columns of one table replaced, in some rows or all."""
    frame = products[name].frame
    chosen = np.ones(frame.height, dtype=bool) if where is None else np.asarray(where)
    new = [
        pl.when(pl.Series(chosen)).then(pl.lit(value) if not isinstance(value, np.ndarray) else pl.Series(value)).otherwise(pl.col(column))
        .cast(frame[column].dtype).alias(column)
        for column, value in columns.items()
    ]  # fmt: skip
    return {**products, name: Table(frame.with_columns(new), products[name].schema)}


def dead(products, where) -> dict:
    """Return the products with some pixels dead: one value only, no light, no pulses."""
    products = dict(products)
    for kind in ("hv_off", "dark"):
        if f"samples/{kind}" in products:
            cube = products[f"samples/{kind}"]
            counts = cube.counts.copy()
            counts[where] = 0
            counts[where, REFERENCE + 1] = N_SAMPLES[kind]
            products[f"samples/{kind}"] = HistogramCube(cube.axes, counts)
            products = changed(
                products, f"{kind}/pixels", where, electronics_noise=0.0, status="not_constrained"
            )
    if "pulses/pixels" in products:
        products = changed(products, "pulses/pixels", where, rate=0.0, n_pulses=0)
    if "levels/light" in products:
        rows = np.isin(products["levels/light"].frame["channel"].to_numpy(), PIXEL[where])
        products = changed(products, "levels/light", rows, photo_electrons=0.0)
        products = changed(products, "gain/pixels", where, status="not_constrained")
    return products


def silent(products, where) -> dict:
    """Return the products with some pixels without high voltage: hardly a pulse in the dark."""
    return changed(products, "pulses/pixels", where, rate=0.02, n_pulses=1)
