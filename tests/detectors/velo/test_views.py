"""Figures of the VELO: what they show is what the products hold, and everything can be drawn whatever is missing."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from firstlight.data.schema import Block, Table, TableSchema
from firstlight.detectors.velo.channels import N_PIXELS, channel_map
from firstlight.detectors.velo.flags import Flag
from firstlight.detectors.velo.options import FitParameters, Options
from firstlight.detectors.velo.views import (
    collection,
    curves,
    distributions,
    figures,
    maps,
    pages,
    scan,
    tables,
)
from firstlight.detectors.velo.views.scene import Scene, groups_of
from firstlight.errors import InputError, UsageError
from firstlight.steps.step import Context
from firstlight.view.style import styled

SHAPE = (256, 256)
PAIRS = 5895 / 3.69
SHUTTER = 2.621


class OptionsOfRun(Options):
    """Options with those of the fit, as a run has them."""

    fit: FitParameters = FitParameters()


def table(name, frame):
    return Table(frame, TableSchema(name, ()))


def simulated(seed=20, n_acquisitions=8):
    """Return a truth like that of the sample data: an illuminated spot, pixels that differ, counts."""
    random = np.random.default_rng(seed)
    row, column = np.indices(SHAPE)
    light = 1 / (1 + (np.hypot(row - 125, column - 150) / 105) ** 6) + 0.01
    base = random.normal(1420, 4.5, SHAPE)
    gain = 13.2 * random.normal(1, 0.033, SHAPE)
    mask = np.zeros(SHAPE, dtype=np.int8)
    mask.ravel()[random.choice(N_PIXELS, 184, replace=False)] = 1
    found = {
        "base": base, "gain": gain, "target": PAIRS / gain, "E0": base + PAIRS / gain,
        "sigma": np.clip(random.normal(4.5, 0.5, SHAPE), 2.5, None), "N": 0.45 * light * random.normal(1, 0.05, SHAPE),
        "C": 0.008 * light * random.normal(1, 0.05, SHAPE), "mask": mask,
        "thresholds": np.arange(1480, 1601, 5), "good_acq": np.full(25, n_acquisitions),
    }  # fmt: skip
    found["good_acq"][[0, 7, 13]] = 0, n_acquisitions - 1, n_acquisitions - 2
    silent = random.choice(N_PIXELS, 30, replace=False)
    found["N"].ravel()[silent] = found["C"].ravel()[silent] = 0
    cube = [
        random.poisson(
            curves.expected_rate(t, found["C"] * 0 + found["N"], found["C"], found["sigma"], found["E0"])
            * g
            * SHUTTER
        )
        for t, g in zip(found["thresholds"], found["good_acq"], strict=True)
    ]
    return {**found, "counts_sum": np.array(cube, dtype=np.int32), "silent": silent}


def make(truth, seed=21):
    """Return products like those of a run, with small errors on the true values."""
    random = np.random.default_rng(seed)
    masked = np.asarray(truth["mask"]).ravel() > 0
    counts, live = truth["counts_sum"], truth["good_acq"] * SHUTTER
    total = counts.sum(axis=0).ravel()
    fitted = ~masked & (total >= 50)
    scale = 1 / np.sqrt(np.maximum(total, 1.0))
    frame = {"channel": np.arange(N_PIXELS), "row": np.arange(N_PIXELS) // 256, "column": np.arange(N_PIXELS) % 256,
             "masked": masked, "counts": total}  # fmt: skip
    for name, key, relative in (
        ("step", "N", 1.3),
        ("slope", "C", 3.0),
        ("width", "sigma", 2.0),
        ("position", "E0", 0.008),
    ):
        value = np.asarray(truth[key], dtype=float).ravel()
        error = relative * scale * value
        frame[name] = np.where(fitted, random.normal(value, np.maximum(error, 1e-12)), np.nan)
        frame[f"{name}_error"] = np.where(fitted, error, np.nan)
    p_value = np.where(fitted, random.random(N_PIXELS), np.nan)
    flags = np.zeros(N_PIXELS, dtype=np.uint32)
    flags[masked] |= np.uint32(Flag.MASKED)
    flags[fitted & (p_value < 0.01)] |= np.uint32(Flag.POOR_FIT)
    flags[~masked & ~fitted] |= np.uint32(Flag.LOW_STATISTICS)
    flags[truth["silent"]] |= np.uint32(Flag.DEAD)
    good = fitted & (p_value >= 0.01)
    frame |= {"deviance": np.where(fitted, random.chisquare(20, N_PIXELS), np.nan), "ndf": np.where(fitted, 20, 0),
              "p_value": p_value, "status": pl.Series([("ok" if one else None) for one in fitted.tolist()], dtype=pl.String), "flags": flags, "good": good}  # fmt: skip
    kind = np.where(good, 1, np.where(fitted, 0, -2))
    pixels = pl.DataFrame(frame).with_columns(
        pl.Series("fit_type", kind).set(pl.Series(masked), None), pl.col(pl.Float64).fill_nan(None)
    )
    base = np.asarray(truth["base"], dtype=float).ravel()
    baseline = np.where(masked, np.nan, random.normal(base, 0.35))
    target = frame["position"] - baseline
    gain = PAIRS / target
    calibration = pl.DataFrame({
        "channel": np.arange(N_PIXELS), "baseline": baseline, "baseline_error": np.full(N_PIXELS, 0.35), "target": target,
        "target_error": frame["position_error"], "gain": gain, "gain_statistical": gain / target * frame["position_error"],
        "gain_baseline": gain / target * 0.35, "good": good,
    }).with_columns(pl.col(pl.Float64).fill_nan(None))  # fmt: skip
    rules = {"control": baseline, "cubic": baseline + random.normal(0.4, 1.1, N_PIXELS),
             "linear15": baseline + random.normal(-2.6, 1.2, N_PIXELS), "legacy16": baseline + random.normal(-10.7, 1.6, N_PIXELS),
             "predicted": np.round(baseline + random.normal(-10.7, 1.6, N_PIXELS))}  # fmt: skip
    baselines = pl.DataFrame({"channel": np.arange(N_PIXELS), "baseline": baseline, **rules}).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )
    parts = {"all": ~masked, "good": good}
    parts |= {name: groups_of()[words].ravel() & ~masked for name, words in
              (("even", "even columns"), ("odd", "odd columns"), ("rows", "rows 0, 15 mod 16"))}  # fmt: skip
    selections = [
        selection(name, where, good, target, gain, baseline, frame["position"])
        for name, where in parts.items()
    ]
    fits, lines = [], []
    for name, where in parts.items():
        values = {
            "step": np.mean(truth["N"]),
            "slope": np.mean(truth["C"]),
            "width": 7.9,
            "position": np.nanmean(frame["position"][good]),
        }
        for parameter, value in values.items():
            fits.append({"selection": name, "parameter": parameter, "value": value, "uncertainty": 0.01 * value,
                         "unit": "", "deviance": 300.0, "ndf": 21, "status": "ok"})  # fmt: skip
        n = int(where.sum())
        number = counts.reshape(len(live), -1)[:, where].sum(axis=1)
        exposure = np.where(live > 0, live * n, np.nan)
        lines.append(pl.DataFrame({
            "selection": [name] * len(live), "threshold": truth["thresholds"], "n_pixels": [n] * len(live), "counts": number,
            "rate": number / exposure, "rate_error": np.sqrt(number) / exposure,
            "fitted": np.where(live > 0, curves.expected_rate(truth["thresholds"], **values), np.nan),
        }).with_columns(pl.col(pl.Float64).fill_nan(None)))  # fmt: skip
    return {
        "scan/counts": Block(counts, ("threshold", "row", "column"), coordinates={"threshold": truth["thresholds"]}),
        "scan/points": table("points", pl.DataFrame({"threshold": truth["thresholds"], "live_time": live,
                                                     "n_good": truth["good_acq"], "counts": counts.sum(axis=(1, 2))})),
        "scan/frames": table("frames", frames_of(truth, random)),
        "scan/pixels": table("pixels", pl.DataFrame({"channel": np.arange(N_PIXELS), "counts": total,
                                                     "n_saturated": np.where(np.arange(N_PIXELS) < 3, 5, 0)})),
        "fit/pixels": table("pixels", pixels), "fit/selections": table("selections", pl.DataFrame(fits)),
        "fit/curves": table("curves", pl.concat(lines)), "calibration/pixels": table("pixels", calibration),
        "calibration/selections": table("selections", pl.DataFrame(selections)),
        "baseline/pixels": table("pixels", baselines),
        "baseline/rules": table("rules", pl.DataFrame({"rule": list(rules), "bias": [None, 0.4, -2.6, -10.7, -10.7]})),
    }  # fmt: skip


def selection(name, where, good, target, gain, baseline, position):
    use = where & good
    n = int(use.sum())
    mean = float(np.nanmean(target[use]))
    return {
        "selection": name, "n_pixels": int(where.sum()), "n_good": n, "electrons": PAIRS, "target_mean": mean,
        "target_spread": float(target[use].std()), "gain_mean": float(gain[use].mean()), "gain_spread": float(gain[use].std()),
        "gain_statistical": 0.05 / np.sqrt(n), "gain_baseline": 0.037, "gain_common": 0.03 * float(gain[use].mean()),
        "gain_asic": PAIRS / mean, "gain_asic_error": 0.004, "target_asic": mean, "target_asic_error": 0.04,
        "position_asic": float(np.nanmean(position[use])), "baseline_mean": float(np.nanmean(baseline[where])),
    }  # fmt: skip


def frames_of(truth, random):
    """Return the frames of a scan in which those that the truth does not count are left out for some reason."""
    rows = []
    n = int(np.max(truth["good_acq"]))
    reasons = ("excluded", "missing", "empty", "truncated")
    for index, (threshold, good) in enumerate(zip(truth["thresholds"], truth["good_acq"], strict=True)):
        mean = truth["counts_sum"][index].sum() / max(good, 1)
        for acquisition in range(n):
            status = (
                "good"
                if acquisition < good
                else ("bad pattern" if good == 0 else reasons[(index + acquisition) % 4])
            )
            total = {"missing": None, "truncated": None, "empty": 0}.get(
                status, random.poisson(mean) if good else 45000
            )
            rows.append({"threshold": threshold, "acquisition": acquisition, "shutter_time": SHUTTER, "total": total,
                         "status": status, "reason": "", "file": "f.csv", "last_column_mean": 1.0})  # fmt: skip
    return pl.DataFrame(rows)


def context_of(truth, label="warm", **fit):
    channels = channel_map("Module0_VP3-1")
    mask = pl.Series("mask", np.asarray(truth["mask"]).ravel(), dtype=pl.Int8)
    channels = replace(channels, frame=channels.frame.with_columns(mask))
    return Context(channels, OptionsOfRun(label=label, fit=FitParameters(**fit)), ("scan",))


@pytest.fixture(scope="module")
def run():
    truth = simulated()
    return truth, make(truth), context_of(truth)


@pytest.fixture
def scene(run):
    return Scene(run[1], run[2])


def picture(canvas, dpi=60):
    """Return the drawn figure, of shape (height, width, 3)."""
    canvas.set_dpi(dpi)
    drawn = FigureCanvasAgg(canvas)
    drawn.draw()
    return np.asarray(drawn.buffer_rgba())[..., :3]


# -- all figures of a run --------------------------------------------------------------------------------------


def test_figures_come_in_the_order_of_the_report_with_names_of_their_own(run):
    found = figures(run[1], run[2])
    names = [figure.name for figure in found]
    assert len(set(names)) == len(names)
    sections = list(dict.fromkeys(figure.section for figure in found))
    assert sections == ["Result", "Maps", "Curves", "Quality", "Scan", "Baseline"]
    assert [figure.section for figure in found] == sorted((f.section for f in found), key=sections.index)
    wanted = {
        "K", "target", "map_E0", "map_N", "map_C", "map_sigma", "map_target", "map_K", "map_fit_type", "map_p-value",
        "map_totalflux", "map_saturated", "flux_ASIC", "flux_ASICgood", "flux_area", "flux_pixel", "gallery", "fit_quality",
        "flags", "discrepancy_K", "QQ", "groups_K", "profiles_K", "frame_status", "timeline", "baseline_rules",
    }  # fmt: skip
    assert wanted <= set(names)
    assert all(figure.caption and figure.title for figure in found)
    assert {table.product for table in tables(run[1], run[2])} <= set(run[1])


def test_every_figure_can_be_drawn_also_in_another_process(run):
    with styled():
        for figure in figures(run[1], run[2]):
            canvas = (
                pickle.loads(pickle.dumps(figure.draw))()  # noqa: S301
                if figure.name in ("map_K", "flux_pixel")
                else figure.draw()
            )
            drawn = picture(canvas, 30)
            # more than a frame on white paper
            assert (drawn < 200).any(axis=2).mean() > 0.005, figure.name


@pytest.mark.parametrize("missing", ["scan", "fit", "baseline", "calibration"])
def test_figures_are_left_out_only_where_their_product_is_missing(run, missing):
    rest = {name: product for name, product in run[1].items() if not name.startswith(missing)}
    names = {figure.name for figure in figures(rest, run[2])}
    all_names = {figure.name for figure in figures(run[1], run[2])}
    gone = {
        "scan": {"map_totalflux", "map_saturated", "flux_area", "flux_pixel", "gallery", "frame_status", "timeline"},
        "fit": {name for name in all_names if name.startswith(("distribution_", "flux_ASIC", "map_"))}
        - {"map_K", "map_target", "map_totalflux", "map_saturated", "map_baseline", "distribution_baseline"}
        | {"gallery", "fit_quality", "flags"},
        "baseline": {"baseline_rules", "map_baseline", "distribution_baseline"},
        "calibration": {"K", "target", "K_of_groups", "map_K", "map_target", "QQ", "profiles_K", "groups_K", "groups_target",
                        "discrepancy_K", "discrepancy_target"},
    }[missing]  # fmt: skip
    assert all_names - names == gone
    with styled():
        for figure in figures(rest, run[2]):
            if figure.name in ("flux_pixel", "flux_area", "fit_quality", "K", "baseline_rules"):
                figure.draw()


def test_nothing_at_all_gives_no_figure(run):
    assert figures({}, run[2]) == []
    assert tables({}, run[2]) == []


def test_a_chip_without_any_good_pixel_is_drawn(run):
    products = dict(run[1])
    fits = products["fit/pixels"].frame.with_columns(
        pl.lit(False).alias("good"), pl.lit(None, dtype=pl.Int8).alias("fit_type"),
        *[pl.lit(None, dtype=pl.Float64).alias(name) for name in ("step", "slope", "width", "position", "p_value")],
    )  # fmt: skip
    values = products["calibration/pixels"].frame.with_columns(
        *[pl.lit(None, dtype=pl.Float64).alias(name) for name in ("target", "gain", "target_error", "gain_statistical")],
        pl.lit(False).alias("good"),
    )  # fmt: skip
    products |= {"fit/pixels": table("p", fits), "calibration/pixels": table("c", values)}
    with styled():
        for figure in figures(products, run[2]):
            figure.draw()


# -- maps ------------------------------------------------------------------------------------------------------


def at(canvas, row, column, dpi=120):
    """Return the colour of a pixel of the chip in a drawn map."""
    drawn = picture(canvas, dpi)
    ax = canvas.axes[0]
    x, y = ax.transData.transform((column, row))
    return tuple(int(part) for part in drawn[drawn.shape[0] - 1 - int(y), int(x)])


def byte(colour):
    return tuple(round(255 * part) for part in to_rgb(colour))


def test_maps_have_row_0_at_the_bottom_and_columns_to_the_right():
    values = np.zeros(SHAPE)
    values[2, 250] = 1
    canvas = maps.draw_parameter_map(values, title="x", label="x", limits=(0, 1))
    ax = canvas.axes[0]
    assert ax.images[0].get_extent() == [-0.5, 255.5, -0.5, 255.5]
    assert ax.get_ylim() == (-0.5, 255.5)
    assert at(canvas, 2, 250) != at(canvas, 250, 2) == at(canvas, 128, 128)


def test_dead_masked_and_poor_pixels_have_colours_of_their_own_and_are_counted():
    values = np.random.default_rng(3).normal(13.2, 0.4, SHAPE)
    masked, dead, good = (np.zeros(SHAPE, dtype=bool) for _ in range(3))
    masked[10, 20], dead[30:32, 40] = True, True
    good[:] = True
    good[[10, 50, 51], [20, 60, 60]] = False
    canvas = maps.draw_parameter_map(values, title="K", label="K", masked=masked, good=good, dead=dead)
    assert at(canvas, 10, 20) == byte(maps.MASKED)
    assert at(canvas, 31, 40) == (255, 255, 255)
    assert at(canvas, 50, 60) == byte(maps.NOT_GOOD)
    key = [text.get_text() for text in canvas.axes[0].get_legend().get_texts()]
    assert key == ["no good fit 2", "dead 2", "masked 1"]
    masked_patch = canvas.axes[0].get_legend().legend_handles[-1]
    assert masked_patch.get_hatch()


def test_outliers_do_not_stretch_the_colours_and_are_counted():
    values = np.random.default_rng(4).normal(120, 5, SHAPE)
    values[0, :7], values[1, :3] = 1e6, -1e6
    canvas = maps.draw_parameter_map(values, title="t", label="t")
    bar = canvas.axes[1]
    low, high = bar.get_ylim()
    assert 95 < low < high < 145
    above, below = (int(text.get_text().split(": ")[1].replace(",", "")) for text in bar.texts)
    finite = values.ravel()
    assert above == (finite > high).sum() >= 7
    assert below == (finite < low).sum() >= 3


def test_fit_types_have_the_colours_of_the_original_and_add_up(run, scene):
    kinds = scene.image("fit/pixels", "fit_type")
    canvas = maps.draw_fit_types(kinds, masked=scene.masked, dead=scene.dead)
    counts = [
        int(text.get_text().rsplit(" ", 1)[1].replace(",", ""))
        for text in canvas.axes[0].get_legend().get_texts()
    ]
    assert sum(counts) == N_PIXELS
    assert counts[0] == scene.good.sum()
    assert counts[-1] == (run[0]["mask"] > 0).sum()
    for code, name in ((1, "good"), (0, "bad")):
        places = np.argwhere((kinds == code) & ~scene.dead & ~scene.masked)
        assert at(canvas, *places[len(places) // 2]) == byte(maps.FIT_TYPES[code][1]), name


def test_total_flux_is_hits_over_live_time_and_masked_pixels_have_none(run, scene):
    truth = run[0]
    flux = scene.quantity("totalflux")
    live = truth["good_acq"].sum() * SHUTTER
    open_pixels = truth["mask"] == 0
    np.testing.assert_allclose(flux[open_pixels], truth["counts_sum"].sum(axis=0)[open_pixels] / live)
    assert np.isnan(flux[~open_pixels]).all()


# -- curves ----------------------------------------------------------------------------------------------------


def test_expected_rate_is_the_photopeak_formula():
    # far below the edge: N + C (E0 - t); far above: nothing; at the edge: N / 2 + C s phi(0)
    assert curves.expected_rate(1400, 0.45, 0.008, 4.5, 1545) == pytest.approx(0.45 + 0.008 * 145)
    assert curves.expected_rate(1600, 0.45, 0.008, 4.5, 1545) == pytest.approx(0, abs=1e-12)
    assert curves.expected_rate(1545, 0.45, 0.008, 4.5, 1545) == pytest.approx(
        0.225 + 0.008 * 4.5 / np.sqrt(2 * np.pi)
    )
    # minus its derivative is the spectrum: a Gaussian of area N on a shelf of height C
    t = np.linspace(1380, 1600, 20001)
    spectrum = -np.gradient(curves.expected_rate(t, 0.45, 0.008, 4.5, 1545), t)
    assert spectrum[10] == pytest.approx(0.008, rel=1e-4)
    line = spectrum - 0.008 * (t < 1545)
    assert np.trapezoid(line, t) == pytest.approx(0.45, rel=1e-3)


def test_curve_of_a_pixel_is_counts_over_live_time_with_the_parameters_of_the_table(run, scene):
    truth = run[0]
    row, column = 120, 150
    curve = curves.curve_of_pixel(scene, row, column)
    used = truth["good_acq"] > 0
    np.testing.assert_array_equal(curve.threshold, truth["thresholds"][used])
    np.testing.assert_allclose(
        curve.rate, truth["counts_sum"][used, row, column] / (truth["good_acq"][used] * SHUTTER)
    )
    fit = run[1]["fit/pixels"].frame.row(row * 256 + column, named=True)
    expected = curves.expected_rate(curve.threshold, fit["step"], fit["slope"], fit["width"], fit["position"])
    np.testing.assert_allclose(curve.fitted, expected)
    # Poisson intervals: none reaches below 0, and no count is without one
    assert (curve.rate - curve.error[0] >= -1e-12).all()
    assert (curve.error[1] > 0).all()
    assert curve.electrons == pytest.approx(
        (scene.quantity("K")[row, column], scene.quantity("baseline")[row, column])
    )


def test_pulls_of_points_have_unit_width_where_the_truth_is_drawn(run):
    truth, products, here = run
    frame = products["fit/pixels"].frame
    true = {name: pl.Series(name, np.where(frame["step"].is_null().to_numpy(), np.nan, truth[key].ravel())).fill_nan(None)
            for name, key in (("step", "N"), ("slope", "C"), ("width", "sigma"), ("position", "E0"))}  # fmt: skip
    scene = Scene({**products, "fit/pixels": table("p", frame.with_columns(*true.values()))}, here)
    pulls = curves.point_pulls(scene)
    assert pulls.size > 5000
    assert abs(pulls.mean()) < 5 / np.sqrt(pulls.size)
    assert pulls.std() == pytest.approx(1, abs=0.02)


def test_curve_of_an_area_is_the_mean_over_its_pixels_without_masked_ones(run, scene):
    truth = run[0]
    row, column = (int(value) for value in np.argwhere(truth["mask"] > 0)[90])
    curve = curves.curve_of_area(scene, row, column, 2)
    rows, columns = np.indices(SHAPE)
    area = ((rows - row) ** 2 + (columns - column) ** 2 <= 4) & (truth["mask"] == 0)
    area &= np.isfinite(scene.image("fit/pixels", "position"))
    used = truth["good_acq"] > 0
    mean = truth["counts_sum"][used][:, area].mean(axis=1) / (truth["good_acq"][used] * SHUTTER)
    np.testing.assert_allclose(curve.rate, mean)
    assert f"{area.sum()} pixels" in curve.title
    with pytest.raises(UsageError, match="masked"):
        curves.curve_of_area(scene, row, column, 0)


def test_pixels_and_selections_that_do_not_exist_are_named(scene):
    with pytest.raises(UsageError, match="row 256"):
        curves.curve_of_pixel(scene, 256, 0)
    with pytest.raises(InputError, match="selection"):
        curves.curve_of_selection(scene, "godo")


def test_a_masked_pixel_has_points_and_no_fit(run, scene):
    row, column = (int(value) for value in np.argwhere(run[0]["mask"] > 0)[0])
    curve = curves.curve_of_pixel(scene, row, column)
    assert curve.fitted is None
    assert curve.notes[0] == "masked"
    with styled():
        canvas = curves.draw_flux_curve(curve, residuals=True, pulls=True)
    assert len(canvas.axes) == 1


def test_panels_and_electrons_axis_are_drawn_where_they_are_asked_for(scene):
    curve = curves.curve_of_pixel(scene, 120, 150)
    with styled():
        canvas = curves.draw_flux_curve(curve, residuals=True, pulls=True)
        assert len(canvas.axes) == 3
        above = canvas.axes[0].child_axes[0]
        canvas.draw_without_rendering()
        gain, baseline = curve.electrons
        assert above.get_xlim() == pytest.approx([gain * (x - baseline) for x in canvas.axes[0].get_xlim()])
        assert len(curves.draw_flux_curve(replace(curve, electrons=None), pulls=True).axes[0].child_axes) == 0


@pytest.mark.parametrize("model", ["legacy", "two_line", "physical_background"])
def test_other_flux_equations_are_drawn_as_they_were_fitted(run, model):
    truth, products, _ = run
    frame = products["fit/pixels"].frame
    n, c, s = (frame[name] for name in ("step", "slope", "width"))
    if model == "legacy":
        # f A = C and (1 - f) A = sqrt(2 pi) s N; widths differ by sqrt 2 in the two terms
        a = c + n * s * np.sqrt(2 * np.pi)
        frame = frame.with_columns(
            (c / a).alias("f"), a.alias("A"), *[pl.lit(0.1).alias(f"{x}_error") for x in "fA"]
        )
    if model == "physical_background":
        frame = frame.with_columns(pl.lit(0.5).alias("background"), pl.lit(0.1).alias("background_error"))
    scene = Scene({**products, "fit/pixels": table("p", frame)}, context_of(truth, model=model))
    curve = curves.curve_of_pixel(scene, 120, 150)
    index = 120 * 256 + 150
    fit = [frame[name][index] for name in ("step", "slope", "width", "position")]
    plain = curves.expected_rate(curve.threshold, *fit)
    if model == "physical_background":
        np.testing.assert_allclose(curve.fitted, plain + 0.5)
    elif model == "two_line":
        baseline = products["baseline/pixels"].frame["baseline"][index]
        second = baseline + (fit[3] - baseline) * 6490 / 5895
        lines = FitParameters().lines
        expected = lines[0].weight * plain + lines[1].weight * curves.expected_rate(
            curve.threshold, *fit[:3], second
        )
        assert lines[1].energy == pytest.approx(6490, rel=0.002)
        np.testing.assert_allclose(curve.fitted, expected, rtol=0.02, atol=2e-3 * expected.max())
    else:
        # the step of the original falls like erfc((E - E0) / (sqrt 2 s)) / 2, up to a factor its amplitude has
        x = (curve.threshold - fit[3]) / fit[2]
        from scipy.special import erfc

        f, a = frame["f"][index], frame["A"][index]
        flat = (f * a / 2) * (fit[2] / np.sqrt(np.pi) * np.exp(-x * x) - fit[2] * x * erfc(x))
        step = (1 - f) * a / (2 * np.sqrt(2 * np.pi) * fit[2]) * erfc(x / np.sqrt(2))
        np.testing.assert_allclose(curve.fitted, flat + step)


def test_gallery_shows_one_pixel_of_each_kind(run, scene):
    found = dict(pages.gallery(scene))
    assert {"good, most hits", "good, typical", "poorest fit", "dead", "too few hits", "masked"} <= set(found)
    assert scene.good[found["good, typical"]]
    assert scene.masked[found["masked"]]
    assert run[0]["counts_sum"][:, *found["dead"]].sum() == 0
    assert scene.image("fit/pixels", "fit_type")[found["too few hits"]] == -2


# -- distributions ---------------------------------------------------------------------------------------------


def texts(canvas):
    return "\n".join(text.get_text() for ax in canvas.axes for text in ax.texts)


def test_discrepancy_counts_shares_of_all_and_of_good_pixels():
    values = np.r_[np.full(60, 10.0), np.full(30, 12.0), np.full(10, 1000.0), np.nan]
    errors = np.full(101, 0.3)
    good = np.r_[np.ones(60, bool), np.zeros(41, bool)]
    # (12 - 10) / sqrt(0.3^2 + 0.4^2) = 4
    canvas = distributions.draw_discrepancy(values, errors, 10.0, 0.4, good=good, title="t")
    written = texts(canvas)
    assert "n 100" in written
    assert "within 3σ: 60.0 %" in written
    assert "of good fits: 100.0 %" in written
    assert "beyond ±10: 10" in written
    heights = canvas.axes[0].patches[0].get_data()
    assert len(heights.values) == 20
    assert (heights.edges[0], heights.edges[-1]) == (-10, 10)
    assert heights.values[14] == 30


def test_probability_plot_gives_mean_and_width_of_normal_values():
    from firstlight.view import draw
    from firstlight.view.draw_fits import draw_quantiles

    random = np.random.default_rng(17)
    line = draw_quantiles(draw.place(draw.sheet(6, 5), 0.8, 0.8, 0.2, 0.3), random.normal(120, 5, 40_000))
    assert line.mean == pytest.approx(120, abs=0.1)
    assert line.sigma == pytest.approx(5, rel=0.02)
    assert line.correlation > 0.9995
    tailed = draw_quantiles(draw.place(draw.sheet(6, 5), 0.8, 0.8, 0.2, 0.3), random.standard_t(2, 40_000))
    assert tailed.correlation < 0.95


def test_distribution_writes_mean_spread_and_number_and_has_electrons_above():
    random = np.random.default_rng(5)
    values, good = random.normal(121, 4, 10_000), np.arange(10_000) < 8000
    with styled():
        canvas = distributions.draw_distribution(
            values, label="target [DAC]", title="Target", good=good, lines={"ASIC": (121.3, 0.12), "none": (np.nan, 1.0)},
            electrons_per_dac=13.2,
        )  # fmt: skip
        canvas.draw_without_rendering()
    written = texts(canvas)
    assert "good fit: 8,000" in written
    assert "all fitted: 10,000" in written
    assert f"spread {values[good].std(ddof=1):.3g}" in written
    names = [text.get_text() for text in canvas.axes[0].get_legend().get_texts()]
    assert "ASIC 121.30 ± 0.12" in names
    assert not any("none" in name for name in names)
    above = canvas.axes[0].child_axes[0]
    assert above.get_xlim() == pytest.approx([13.2 * x for x in canvas.axes[0].get_xlim()])


def test_common_uncertainty_is_drawn_apart_from_the_statistical_one():
    gain = np.random.default_rng(6).normal(13.2, 0.44, 5000)
    parts = {"statistical": 0.002, "baseline": 0.04, "common": 0.39}
    with styled():
        canvas = distributions.draw_gain(gain, parts=parts)
    lower = canvas.axes[1]
    widths = sorted(
        float(np.ptp(bar.get_segments()[0][:, 0])) / 2
        for bar in lower.collections
        if hasattr(bar, "get_segments")
    )
    assert widths == pytest.approx([0.002, 0.04, 0.39])
    names = [text.get_text() for text in lower.get_legend().get_texts()]
    assert {"statistical ±0.002", "baseline ±0.04", "common ±0.39", "expected 15.45 ± 0.51"} <= set(names)


def test_groups_tell_even_from_odd_columns():
    random = np.random.default_rng(7)
    column = np.indices(SHAPE)[1]
    same, apart = random.normal(13.2, 0.4, SHAPE), random.normal(13.2 + 0.1 * (column % 2), 0.4, SHAPE)
    found = []
    for values in (same, apart):
        canvas = distributions.draw_groups(values, label="K", title="K")
        words = canvas.axes[1].texts[0].get_text().split()
        found.append(float(words[1]) / float(words[3]))
    assert found[0] < 2
    assert found[1] > 10
    sizes = [where.sum() for where in groups_of().values()]
    assert sum(sizes) == N_PIXELS
    assert sizes[2] == 32 * 256


def test_p_values_below_the_limit_are_compared_with_what_is_expected():
    p_values = (np.arange(20_000) + 0.5) / 20_000
    written = texts(distributions.draw_fit_quality(p_values))
    assert "below 0.05: 5.00 %" in written
    assert "expected 5 ± 0.15 %" in written
    worse = np.r_[p_values, np.zeros(1000)]
    assert "below 0.05: 9.52 %" in texts(distributions.draw_fit_quality(worse))


# -- scan, baseline, several datasets --------------------------------------------------------------------------


def test_frame_status_has_the_colour_of_each_frame_at_its_place(run):
    frames = run[1]["scan/frames"].frame
    canvas = scan.draw_frame_status(frames)
    image = canvas.axes[1].images[0].get_array()
    thresholds = sorted(set(frames["threshold"]))
    for row in frames.iter_rows(named=True):
        colour = image[row["acquisition"], thresholds.index(row["threshold"])][:3]
        assert tuple(np.round(colour, 6)) == tuple(np.round(to_rgb(scan.STATUS_COLOURS[row["status"]]), 6))
    key = [text.get_text() for text in canvas.axes[1].get_legend().get_texts()]
    assert sum(int(words.rsplit(" ", 1)[1]) for words in key) == frames.height


def test_folders_of_a_scan_in_parts_stand_one_above_the_other(run):
    frames = run[1]["scan/frames"].frame
    both = pl.concat([frames.with_columns(pl.lit(name).alias("input")) for name in ("a", "b")])
    canvas = scan.draw_frame_status(both)
    assert canvas.axes[1].images[0].get_array().shape[0] == 16
    scan.draw_timeline(both)


def test_frames_that_no_table_foresaw_have_colours_of_their_own(run):
    frames = run[1]["scan/frames"].frame.with_columns(
        pl.when(pl.col("acquisition") == 1).then(pl.lit("struck by lightning")).when(pl.col("acquisition") == 2)
        .then(pl.lit("empty file")).otherwise(pl.col("status")).alias("status")
    )  # fmt: skip
    canvas = scan.draw_frame_status(frames)
    colours = [tuple(patch.get_facecolor()) for patch in canvas.axes[1].get_legend().legend_handles]
    assert len(set(colours)) == len(colours) == frames["status"].n_unique()


def test_timeline_shows_a_drift_within_a_threshold(run):
    frames = run[1]["scan/frames"].frame.filter(pl.col("status") == "good")
    canvas = scan.draw_timeline(frames)
    flat = np.concatenate([line.get_ydata() for line in canvas.axes[1].lines if line.get_marker() == "."])
    drift = frames.with_columns((pl.col("total") * (1 + 0.02 * (pl.col("acquisition") - 3))).cast(pl.Int64))
    drifted = scan.draw_timeline(drift)
    beyond = [line for line in drifted.axes[1].lines if line.get_marker() == "^"]
    assert np.abs(flat).max() < 5
    assert sum(len(line.get_xdata()) for line in beyond) > 30


def test_baseline_rules_say_by_how_much_the_gain_moves():
    random = np.random.default_rng(8)
    canvas = scan.draw_baseline_comparison({"16 steps": random.normal(-10.7, 1.5, 5000)}, target=121.0)
    words = canvas.axes[0].get_legend().get_texts()[0].get_text()
    # a target too large by 10.7 of 121: 121 / 131.7
    assert "−10.7" in words
    assert "K −8.1 %" in words


def test_summary_has_a_bar_for_each_part_and_survives_unknown_numbers():
    results = pl.DataFrame({
        "dataset": ["calibration", "calibration", "old"], "label": ["warm", "cold", ""], "gain_mean": [13.2, 14.2, 13.6],
        "gain_statistical": [0.002, 0.003, None], "gain_baseline": [0.04, 0.05, None], "gain_common": [0.39, 0.42, None],
        "gain_asic": [13.3, 14.3, None], "gain_asicgood": [13.25, None, None], "n_pixels": [65410, 65410, 65410],
        "n_good": [60000, 30000, None],
    })  # fmt: skip
    with styled():
        canvas = collection.draw_gain_summary(results)
        good = collection.draw_good_pixels(results)
        empty = collection.draw_gain_summary(results.head(0))
    labels = [label.get_text() for label in canvas.axes[0].get_yticklabels()]
    assert labels == ["old", "calibration, cold", "calibration, warm"]
    written = texts(canvas)
    assert "13.20 ± 0.39" in written
    bars = [bar for bar in canvas.axes[0].collections if hasattr(bar, "get_segments")]
    assert len(bars) == 6
    assert "91.73 %" in texts(good)
    assert "not known" in texts(good)
    assert "no data" in texts(empty)


def test_straight_line_through_several_lines_gives_the_gain_without_a_baseline():
    energies = np.array([5895.0, 6400.0, 8040.0])
    targets = energies / 3.69 / 13.2 + 2.0
    canvas = collection.draw_energy(
        energies,
        targets,
        np.full(3, 0.1),
        pair_energy=3.69,
        names=["Mn Kα", "Fe Kα", "Cu Kα"],
        labels=["warm"] * 3,
    )
    words = canvas.axes[0].get_legend().get_texts()[0].get_text()
    assert "K 13.20" in words
    assert "offset 2.00" in words
    one = collection.draw_energy([5895.0], [121.0], [0.1], pair_energy=3.69, labels=["cold"])
    assert f"K {5895 / 3.69 / 121:.2f}" in one.axes[0].get_legend().get_texts()[0].get_text()


def test_correlation_of_two_scans_is_written():
    random = np.random.default_rng(9)
    warm = random.normal(13.2, 0.4, SHAPE)
    cold = 1.08 * warm + random.normal(0, 0.1, SHAPE)
    cold[0, 0] = np.nan
    with styled():
        canvas = collection.draw_correlation(warm, cold, labels=("warm", "cold"), title="K")
    written = texts(canvas)
    assert f"n {N_PIXELS - 1:,}" in written
    ratio = float(canvas.axes[0].get_legend().get_texts()[-1].get_text().rsplit(" ", 1)[1])
    assert ratio == pytest.approx(1.08, abs=1e-3)
    correlation = float(written.split("correlation ")[1].split()[0])
    assert correlation == pytest.approx(np.corrcoef(warm.ravel()[1:], cold.ravel()[1:])[0, 1], abs=0.01)


# -- the sample scan -------------------------------------------------------------------------------------------


def test_figures_of_the_sample_scan_can_be_drawn(sample_data):
    path = sample_data / "velo" / "synthetic_fe55_scan_dev_truth.npz"
    if not path.is_file():
        pytest.skip("no sample scan")
    with np.load(path) as stored:
        truth = {name: stored[name] for name in stored.files}
    products, here = make(truth), context_of(truth)
    found = {figure.name: figure for figure in figures(products, here)}
    scene = Scene(products, here)
    # gain and target of the truth: README of the sample data
    assert np.median(scene.quantity("K")[scene.good]) == pytest.approx(13.204, abs=0.02)
    assert scene.masked.sum() == (truth["mask"] > 0).sum()
    with styled():
        for name in ("map_K", "map_totalflux", "flux_ASIC", "flux_area", "gallery", "frame_status"):
            picture(found[name].draw(), 30)


def test_figures_of_one_quantity_are_made_for_the_command_line(run, scene):
    _, products, here = run
    found = pages.discrepancy_figure(scene, "E0", "all")
    assert "ASIC" in found.title
    assert "ASICgood" not in found.caption
    value, error = pages.reference_of(scene, "E0", "all")
    row = products["fit/selections"].frame.filter(
        (pl.col("selection") == "all") & (pl.col("parameter") == "position")
    )
    assert (value, error) == (row["value"][0], row["uncertainty"][0])
    with styled():
        canvas = found.draw()
        assert pages.distribution_figure(scene, "E0", (1500, 1590)).draw().axes[0].get_xlim() == (1500, 1590)
    good = scene.good & np.isfinite(scene.quantity("E0"))
    error_of_pixel = np.hypot(scene.error("E0"), error)
    inside = np.abs((scene.quantity("E0") - value) / error_of_pixel)[good] < 3
    assert f"of good fits: {100 * inside.mean():.1f} %" in texts(canvas)
    assert pages.map_figure(scene, "f") is None
    assert pages.distribution_figure(Scene({}, here), "K") is None
