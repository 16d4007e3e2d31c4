"""Figures and tables of the camera: what they show is what the products hold, whatever is missing."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from firstlight.data.cube import HistogramCube
from firstlight.data.schema import Block
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.light_source import lit_pixels
from firstlight.detectors.digicam.options import View
from firstlight.detectors.digicam.overview import camera_numbers, flagged_pixels
from firstlight.detectors.digicam.scene import QUANTITIES, Scene
from firstlight.detectors.digicam.views import (
    continuous,
    figures,
    light,
    maps,
    quality,
    spectra,
    tables,
    timing,
)
from firstlight.view.style import styled

if "digicam_fake_run" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "digicam_fake_run", Path(__file__).with_name("fake_run.py")
    )
    sys.modules["digicam_fake_run"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["digicam_fake_run"])
fake_run = sys.modules["digicam_fake_run"]
changed, dead, judged, make_run = fake_run.changed, fake_run.dead, fake_run.judged, fake_run.make_run

PIXEL = np.arange(N_PIXELS)


def of(*pixels):
    return np.isin(PIXEL, pixels)


@pytest.fixture(scope="module")
def run():
    """A run of everything with a dead module, and dead, noisy and silent pixels."""
    products, context = make_run()
    module = context.channels.column("module")
    products = dead(products, (module == 33) | of(31))
    products = changed(products, "hv_off/pixels", of(97), electronics_noise=4.0)
    products = fake_run.silent(products, of(486))
    return judged(products, context), context


@pytest.fixture(scope="module")
def clean():
    return make_run(seed=2)


@pytest.fixture
def scene(run):
    return Scene(*run)


def picture(canvas, dpi=30):
    """Return the drawn figure, of shape (height, width, 3)."""
    canvas.set_dpi(dpi)
    drawn = FigureCanvasAgg(canvas)
    drawn.draw()
    return np.asarray(drawn.buffer_rgba())[..., :3]


def colour_at(canvas, context, pixel, dpi=130):
    """Return the colour of a pixel in the map of a drawn figure."""
    image = picture(canvas, dpi)
    place = tuple(context.channels.column(name)[pixel] for name in ("x", "y"))
    x, y = canvas.axes[0].transData.transform(place)
    return tuple(int(part) for part in image[image.shape[0] - 1 - int(y), int(x)])


def byte(colour):
    return tuple(round(255 * part) for part in to_rgb(colour))


def words(canvas):
    """Return all that is written in a figure."""
    return "\n".join(text.get_text() for own in (canvas, *canvas.axes) for text in own.texts)


# -- all figures of a run --------------------------------------------------------------------------------------


def test_figures_tell_the_story_in_order(run):
    found = figures(*run)
    names = [figure.name for figure in found]
    assert len(set(names)) == len(names)
    sections = list(dict.fromkeys(figure.section for figure in found))
    assert sections == [
        "Attention",
        "Calibration",
        "Light",
        "Times and shape",
        "Continuous light",
        "Spectra",
        "Quality",
    ]
    assert [figure.section for figure in found] == sorted((f.section for f in found), key=sections.index)
    assert set(names) == {
        "flags", "map_gain", "map_crosstalk", "map_dark_rate", "map_electronics_noise", "map_baseline", "map_gain_smearing",
        "pairs", "light_curve", "map_light", "map_relative_light", "map_time", "highest_samples", "template", "continuous", "map_rate", "spectrum_light_0", "spectrum_light_1", "spectrum_light_2", "spectrum_dark", "spectrum_camera", "spectrum_hv_off",
        "spectrum_pulses", "p_values", "dark_against_flashes", "dark_rates",
    }  # fmt: skip
    assert all(figure.title and len(figure.caption) > 60 for figure in found)


def beyond(canvas):
    """Return what is written beyond the edges of a drawn figure."""
    written = list(canvas.texts)
    for ax in canvas.axes:
        written += [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label]
        written += [] if ax.get_legend() is None else ax.get_legend().get_texts()
    width, height = canvas.get_size_inches() * canvas.dpi
    found = []
    for text in written:
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            if box.x0 < -2 or box.y0 < -2 or box.x1 > width + 2 or box.y1 > height + 2:
                found.append(text.get_text())
    return found


def test_every_figure_is_drawn_and_changes_nothing(run):
    products, context = run
    before = {name: product.frame.clone() for name, product in products.items() if hasattr(product, "frame")}
    sums = {
        name: product.counts.sum() for name, product in products.items() if isinstance(product, HistogramCube)
    }
    with styled():
        for figure in figures(products, context):
            canvas = figure.draw()
            # more than a frame on white paper
            assert (picture(canvas) < 200).any(axis=2).mean() > 0.01, figure.name
            assert beyond(canvas) == [], figure.name
    assert all(products[name].frame.equals(frame) for name, frame in before.items())
    assert all(products[name].counts.sum() == total for name, total in sums.items())


def test_figures_are_drawn_alike_twice_and_in_another_process(run):
    with styled():
        for name in ("map_gain", "light_curve"):
            figure = next(figure for figure in figures(*run) if figure.name == name)
            again = pickle.loads(pickle.dumps(figure.draw))  # noqa: S301
            np.testing.assert_array_equal(picture(figure.draw()), picture(again()))


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        (("hv_off",), {"flags", "map_electronics_noise", "map_baseline", "spectrum_hv_off", "p_values"}),
        (("dark",), {
            "flags", "map_gain", "map_crosstalk", "map_dark_rate", "map_electronics_noise", "map_baseline", "map_gain_smearing",
            "pairs", "spectrum_dark", "spectrum_camera", "spectrum_pulses", "p_values", "dark_rates",
        }),
        (("led",), {
            "flags", "map_gain", "map_crosstalk", "map_electronics_noise", "map_baseline", "map_gain_smearing", "pairs",
            "light_curve", "map_light", "map_relative_light", "map_time", "highest_samples", "template",
            "spectrum_light_0", "spectrum_light_1", "spectrum_light_2", "p_values",
        }),
        (("dc",), {"continuous"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)  # fmt: skip
def test_a_run_of_one_kind_has_the_figures_of_that_kind(kinds, wanted):
    products, context = make_run(kinds, seed=3)
    found = figures(products, context)
    assert {figure.name for figure in found} == wanted
    with styled():
        for figure in found:
            canvas = figure.draw()
            assert (picture(canvas) < 200).any(axis=2).mean() > 0.01, figure.name
            assert beyond(canvas) == [], figure.name


def test_nothing_at_all_gives_no_figure_and_no_table():
    assert figures({}, fake_run.context_of()) == []
    assert tables({}, fake_run.context_of()) == []


def test_products_without_a_calibration_are_drawn(clean):
    """Steps can be made one by one: what is there is drawn."""
    rest = {name: product for name, product in clean[0].items() if not name.startswith("calibration/")}
    found = figures(rest, clean[1])
    assert {"light_curve", "map_time", "spectrum_dark", "p_values", "dark_against_flashes"} <= {
        f.name for f in found
    }
    with styled():
        for figure in found:
            figure.draw()


def test_a_camera_without_any_good_pixel_is_drawn():
    products, context = make_run(("hv_off", "led"), seed=4)
    products = changed(products, "gain/pixels", status="failed", p_value=None)
    products = changed(
        products, "levels/light", photo_electrons=None, photo_electrons_error=None, p_value=None
    )
    products = judged(dead(products, PIXEL >= 0), context)
    with styled():
        for figure in figures(products, context):
            figure.draw()


def test_what_was_held_fixed_has_no_map():
    products, context = make_run(("dark",), seed=6)
    fixed = judged(changed(products, "dark/pixels", gain_smearing=0.45, gain_smearing_error=None), context)
    assert "map_gain_smearing" not in {figure.name for figure in figures(fixed, context)}
    assert "map_gain_smearing" in {figure.name for figure in figures(products, context)}


def test_levels_at_which_nothing_moves_are_drawn():
    """Continuous light that is off: no shift, no rate, no gain from fluctuations."""
    products, context = make_run(("dark", "dc"), seed=5)
    block = products["continuous/moments"]
    still = {
        **products,
        "continuous/moments": Block(0 * block.values - 5.0, block.axes, block.unit, "", block.coordinates),
    }
    still = {name: product for name, product in still.items() if not name.startswith("dc/")}
    with styled():
        canvas = next(figure for figure in figures(still, context) if figure.name == "continuous").draw()
        picture(canvas)
    assert "no level has a value" in words(canvas)


def test_tables_are_those_with_rows(run):
    products, context = run
    bare = {name: value for name, value in products.items() if not name.startswith("calibration/")}
    assert [table.product for table in tables(bare, context)] == [
        "events/files",
        "light/levels",
        "continuous/levels",
    ]
    scene = Scene(*run)
    more = {
        **products,
        "calibration/camera": camera_numbers(scene),
        "calibration/flagged": flagged_pixels(scene),
    }
    shown = tables(more, context)
    assert [table.product for table in shown][:2] == ["calibration/flagged", "calibration/camera"]
    sections = {figure.section for figure in figures(more, context)}
    assert {table.section for table in shown[:2]} <= sections
    assert all(set(table.columns) <= set(more[table.product].frame.columns) for table in shown)
    empty = {**more, "calibration/flagged": flagged_pixels(Scene(*make_run(("hv_off",))))}
    assert "calibration/flagged" not in {table.product for table in tables(empty, context)}


# -- maps ------------------------------------------------------------------------------------------------------


def test_dead_silent_and_flagged_pixels_are_told_from_values(run, scene):
    canvas = maps.draw_quantity(scene, "gain")
    assert colour_at(canvas, run[1], 31) == byte(maps.FLAG_COLOURS["dead"])
    assert colour_at(canvas, run[1], int(PIXEL[run[1].channels.column("module") == 33][5])) == byte(
        maps.FLAG_COLOURS["dead"]
    )
    assert colour_at(canvas, run[1], 486) == byte(maps.FLAG_COLOURS["no_pulses"])
    key = [entry.get_text() for entry in canvas.axes[0].get_legend().get_texts()]
    assert key == ["no pulses 1", "dead 13", "flagged 1"]
    # a flagged pixel keeps the colour of its value
    gain = scene.values("gain")
    alike = int(np.nanargmin(np.where(of(97, 31, 486), np.inf, np.abs(gain - gain[97]))))
    np.testing.assert_allclose(colour_at(canvas, run[1], 97), colour_at(canvas, run[1], alike), atol=6)
    # the noise of a pixel without pulses is a noise
    noise = maps.draw_quantity(scene, "electronics_noise")
    assert [entry.get_text() for entry in noise.axes[0].get_legend().get_texts()] == ["dead 13", "flagged 2"]


def test_distributions_beside_maps_have_the_cuts_of_the_calibration(scene):
    canvas = maps.draw_quantity(scene, "gain")
    low, high = scene.cuts(scene.values("gain"))
    lines = [line for line in canvas.axes[2].lines if line.get_linestyle() == "--"]
    assert sorted(line.get_xdata()[0] for line in lines) == pytest.approx([low, high])
    gain = scene.values("gain")
    good = gain[~scene.flagged & np.isfinite(gain)]
    assert f"median {np.median(good):.3f}"[:12] in words(canvas)
    assert "without a value 14" in words(canvas)
    # the baseline is set, and has no cut
    assert not [
        line for line in maps.draw_quantity(scene, "baseline").axes[2].lines if line.get_linestyle() == "--"
    ]


def test_what_the_light_source_does_not_reach_is_no_value():
    context = fake_run.context_of(sector=1)
    products, _ = make_run(("led",), context=context)
    scene = Scene(products, context)
    lit = lit_pixels(sector=1, version=1)
    canvas = maps.draw_quantity(scene, "gain")
    inside, outside = int(np.flatnonzero(lit)[50]), int(np.flatnonzero(~lit)[50])
    assert (
        colour_at(canvas, context, outside)
        == byte(maps.FLAG_COLOURS["unlit"])
        != colour_at(canvas, context, inside)
    )
    key = [entry.get_text() for entry in canvas.axes[0].get_legend().get_texts()]
    assert key == [f"unlit {int((~lit).sum())}", "light source"]
    assert f"good {int(lit.sum())}" in [entry.get_text() for entry in canvas.axes[2].get_legend().get_texts()]
    with styled():
        for figure in figures(products, context):
            picture(figure.draw())


def test_flags_of_a_map_are_the_most_serious_ones_and_are_counted(run, scene):
    canvas = maps.draw_flags(scene)
    assert colour_at(canvas, run[1], 31) == byte(maps.FLAG_COLOURS["dead"])
    assert colour_at(canvas, run[1], 97) == byte(maps.FLAG_COLOURS["noisy"])
    assert colour_at(canvas, run[1], 486) == byte(maps.FLAG_COLOURS["no_pulses"])
    text = words(canvas)
    assert "13  (1 %)" in text
    assert "module 33" in text
    # single pixels have their number, those of the module not
    assert {"31", "97", "486"} <= set(text.split("\n"))
    module = run[1].channels.column("module")
    assert not {str(pixel) for pixel in PIXEL[module == 33]} & set(text.split("\n"))


# -- light -----------------------------------------------------------------------------------------------------


def test_the_level_that_is_shown(clean):
    products, _ = clean
    assert Scene(*clean).level_shown == 3  # 3 p.e., nearest to 2
    asked = fake_run.context_of(view=View(level=190))
    scene = Scene(products, asked)
    assert scene.levels[scene.level_shown] == 180
    assert "Light at level 180 DAC" in words(light.draw_light_map(scene))


def test_relative_light_is_that_of_the_truth(clean):
    scene = Scene(*clean)
    light_of = scene.light[:, 4] / np.median(scene.light[:, 4])
    # 22 p.e. are known to 0.5 %, the mean of levels better
    np.testing.assert_allclose(scene.relative_light, light_of, rtol=0.06)
    # a level that is missing in one pixel does not move it
    frame = clean[0]["levels/light"].frame
    rows = ((frame["channel"] == 50) & (frame["level"] == 300)).to_numpy()
    gap = Scene(changed(clean[0], "levels/light", rows, photo_electrons=None), clean[1])
    assert gap.relative_light[50] == pytest.approx(scene.relative_light[50], rel=0.02)


def test_the_level_for_a_wanted_light_is_the_inverse(clean):
    curves = light.curves_of_light(Scene(*clean))
    wanted = np.array([0.5, 1.0, 5.0, 20.0, 1e5])
    found = light.levels_for(wanted, curves)
    step = 420 / 999
    for column in range(3):
        exact, _ = curves.level_for(wanted[column])
        known = np.isfinite(exact)
        assert known.sum() > 1200
        np.testing.assert_allclose(found[known, column], exact[known], atol=step)
    assert np.isnan(found[:, 4]).all()
    # and back
    back = curves.light_at(np.nanmedian(found[:, 1]))[:, 0]
    assert np.nanmedian(back) == pytest.approx(1.0, rel=0.02)


def test_the_light_curve_names_typical_brightest_and_darkest_pixel(clean):
    products, context = clean
    canvas = light.draw_light_curve(Scene(products, context))
    names = [entry.get_text() for entry in canvas.axes[0].get_legend().get_texts()]
    relative = Scene(products, context).relative_light
    assert f"pixel {np.argmax(relative)}: brightest" in names
    assert f"pixel {np.argmin(relative)}: darkest" in names
    scene = Scene(products, context)
    told = re.search(r"^10 p\.e\.: (\d+) DAC", words(canvas), re.MULTILINE)
    level, _ = light.curves_of_light(scene).level_for(10.0)
    assert float(told[1]) == pytest.approx(np.nanmedian(level[scene.usable_light]), abs=1)
    chosen = light.draw_light_curve(Scene(products, fake_run.context_of(view=View(pixels=(5, 9)))))
    names = [entry.get_text() for entry in chosen.axes[0].get_legend().get_texts()]
    assert names[-2:] == ["pixel 5", "pixel 9"]


# -- spectra ---------------------------------------------------------------------------------------------------


def exact(products):
    """Return the products with the truth itself in the tables of fits."""
    for name, columns in (("hv_off/pixels", ("baseline", "electronics_noise")), ("dark/pixels", tuple(fake_run.TRUTH)), ("gain/pixels", tuple(fake_run.TRUTH))):  # fmt: skip
        products = changed(products, name, **{column: fake_run.TRUTH[column] for column in columns})
    return products


@pytest.mark.parametrize("kind", ["hv_off", "dark", "light"])
def test_pulls_of_true_spectra_are_normal(clean, kind):
    scene = Scene(exact(clean[0]), clean[1])
    draw = {"hv_off": spectra.hv_off_spectrum, "dark": spectra.dark_spectrum, "light": spectra.light_spectra}[
        kind
    ]
    pixels = range(100, 112)
    found = [draw(scene, pixel) for pixel in pixels]
    flat = [one for part in found for one in (part if isinstance(part, list) else [part])]
    pulls = np.concatenate([one.pulls for one in flat])
    pulls = pulls[np.isfinite(pulls)]
    n = pulls.size
    assert n > 80
    # Poisson counts about their expectation: mean 0, variance 1 (kurtosis of 5 expected: + 0.2)
    assert abs(pulls.mean()) < 4 / np.sqrt(n)
    assert abs(pulls.var() - 1) < 4 * np.sqrt(2.2 / n)
    for one in flat:
        assert one.expected.sum() == pytest.approx(one.counts.sum(), abs=5 * np.sqrt(one.counts.sum()))


def test_the_curve_of_a_spectrum_runs_through_its_bins(clean):
    scene = Scene(exact(clean[0]), clean[1])
    for one in (
        spectra.dark_spectrum(scene, 7),
        *spectra.light_spectra(scene, 7),
        spectra.camera_spectrum(scene),
    ):
        x, height = one.curve
        step = x[1] - x[0]
        places = np.rint((one.x - x[0]) / step).astype(int)
        np.testing.assert_allclose(height[places], one.expected, rtol=1e-6, atol=1e-6)
        assert np.allclose(np.diff(x), step)


def test_samples_are_those_of_the_pixel_and_parameters_are_told(clean):
    products, context = clean
    scene = Scene(products, context)
    one = spectra.dark_spectrum(scene, 12)
    cube = products["samples/dark"]
    np.testing.assert_array_equal(one.counts, cube.values[12, np.rint(one.x).astype(int)])
    assert one.counts.sum() == cube.counts[12].sum()
    row = products["dark/pixels"].frame.row(12, named=True)
    assert f"gain {row['gain']:.3f} ± 0.043 LSB" in " ".join(one.lines)
    assert f"p {row['p_value']:.2g}" in one.lines[-1]
    # peaks stand a gain apart
    np.testing.assert_allclose(np.diff(one.peaks), row["gain"])
    levels = spectra.light_spectra(scene, 12)
    assert [spectrum.title.split()[1] for spectrum in levels] == ["0", "180", "240", "300"]
    charge = products["light/charge"]
    np.testing.assert_array_equal(
        levels[2].counts, charge.values[12, 2, np.rint(levels[2].x - charge.axes[2].centers[0]).astype(int)]
    )


def test_examples_are_a_typical_pixel_the_worst_fit_and_the_largest_outlier(clean):
    products, context = clean
    products = changed(products, "dark/pixels", of(77), p_value=1e-12)
    products = changed(products, "dark/pixels", of(88), rate=3.6)
    products = changed(products, "dark/pixels", of(99), status="failed", rate=900.0, p_value=0.0)
    scene = Scene(judged(products, context), context)
    found = scene.examples("dark/pixels", ("rate", "crosstalk", "gain", "electronics_noise"))
    assert [what for what, _ in found] == ["typical", "smallest p-value", "largest outlier"]
    assert [pixel for _, pixel in found][1:] == [77, 88]
    typical = found[0][1]
    for name in ("rate", "gain", "crosstalk", "electronics_noise"):
        values = scene.column("dark/pixels", name)
        key = {"rate": "rate"}.get(name, name)
        assert abs(values[typical] - np.median(values)) < 1.5 * fake_run.ERRORS[key]
    asked = Scene(products, fake_run.context_of(view=View(pixels=(3, 1295, 5000))))
    assert asked.examples("dark/pixels", ("rate",)) == [("chosen", 3), ("chosen", 1295)]


def test_pulses_over_their_gain_have_peaks_at_whole_numbers(clean):
    canvas = spectra.draw_pulses(Scene(*clean))
    steps = canvas.axes[1].patches[0].get_data()
    centres, counts = 0.5 * (steps.edges[1:] + steps.edges[:-1]), steps.values
    for number in (1, 2):
        near = np.abs(centres - number) < 0.4
        assert centres[near][np.argmax(counts[near])] == pytest.approx(number, abs=0.08)
    assert counts.sum() == pytest.approx(clean[0]["pulses/charge"].values.sum(), rel=0.03)
    assert "P(more than one), median 0.1" in words(canvas)


# -- times, quality --------------------------------------------------------------------------------------------


def test_the_shape_that_is_measured_is_that_of_the_fits(clean):
    canvas = timing.draw_template(Scene(*clean))
    numbers = {
        line.split()[0]: [float(word) for word in re.findall(r"[0-9.]+(?= ns)", line)]
        for line in words(canvas).splitlines()
    }
    measured, used = numbers["width"]
    assert measured == pytest.approx(used, abs=0.1)
    assert used == pytest.approx(16.4, abs=0.1)
    measured, used = numbers["integral"]
    assert measured == pytest.approx(used, abs=0.3)
    assert used == pytest.approx(17.97, abs=0.1)


def test_the_band_of_the_highest_samples_is_where_light_is_measured(clean):
    text = words(timing.draw_highest_samples(Scene(*clean)))
    assert f"at sample {fake_run.SAMPLE}" in text


def test_p_values_leave_out_what_has_nothing_to_fit(run, scene):
    p_value = quality.judged(scene, "dark/pixels")
    left_out = np.flatnonzero(np.isnan(p_value))
    module = run[1].channels.column("module")
    assert set(left_out) == {31, 97, 486, *PIXEL[module == 33]}
    assert quality.fits_of(scene) == [
        "hv_off/pixels",
        "dark/pixels",
        "spe/pixels",
        "gain/pixels",
        "levels/light",
    ]


def test_flashes_are_compared_as_heights_of_the_pulse(clean):
    scene = Scene(*clean)
    gain, error = scene.flash_gain
    frame = clean[0]["calibration/pixels"].frame
    np.testing.assert_allclose(gain, frame["peak_gain"].to_numpy())
    np.testing.assert_allclose(error / gain, (frame["gain_error"] / frame["gain"]).to_numpy())
    text = words(quality.draw_comparison(scene))
    ratio = np.median(gain / scene.column("dark/pixels", "gain"))
    assert f"median ratio {ratio:.4f}" in text


def test_pairs_need_values_of_both(clean):
    assert quality.pairs_of(Scene(*clean)) == [
        ("gain", "crosstalk"),
        ("gain", "dark_rate"),
        ("crosstalk", "dark_rate"),
        ("gain", "light"),
    ]
    assert quality.pairs_of(Scene(*make_run(("hv_off",)))) == []


# -- continuous light ------------------------------------------------------------------------------------------


def test_shift_rate_and_fluctuations_of_continuous_light(clean):
    scene = Scene(*clean)
    np.testing.assert_array_equal(scene.continuous_levels, [0, 240, 280, 320])
    made = 1e-3 * np.array([2.75, 4.5, 22, 215]) * 17.98 * 5.15 / 0.905
    np.testing.assert_allclose(np.median(scene.shift, axis=0), made, rtol=0.01)
    assert np.isnan(scene.relative_gain[:, :2]).all()
    # the calibration has gains 1.3 % larger: the sample stands beside the maximum
    np.testing.assert_allclose(np.nanmedian(scene.relative_gain[:, 2:], axis=0), 1 / 1.013, atol=0.01)
    rate = scene.of_continuous_levels("rate")
    frame = clean[0]["dc/levels"].frame
    np.testing.assert_array_equal(rate[700], frame.filter(channel=700).sort("level")["rate"].to_numpy())
    # 212 MHz is nearer to 100 MHz than 19 is
    assert scene.continuous_levels[continuous.level_shown(scene)] == 320
    # without a dark run the lowest level is the zero
    alone = Scene(*make_run(("dc",)))
    assert np.abs(alone.shift[:, 0]).max() == 0
    assert continuous.level_shown(alone) == -1


def loaded(products, gain):
    """Return the products with the gain lowered at the highest level of continuous light."""
    block = products["continuous/moments"]
    values = block.values.copy()
    base = fake_run.TRUTH["baseline"] - fake_run.REFERENCE
    noise = fake_run.TRUTH["electronics_noise"] ** 2 + 1 / 12
    values[:, 3, 0] = base + gain * (values[:, 3, 0] - base)
    values[:, 3, 2] = noise + gain**2 * (values[:, 3, 2] - noise)
    return {**products, "continuous/moments": Block(values, block.axes, block.unit, "", block.coordinates)}


def test_a_gain_that_drops_under_load_is_seen(clean):
    products, context = clean
    before, after = (
        Scene(products, context).relative_gain,
        Scene(loaded(products, 0.8), context).relative_gain,
    )
    assert np.nanmedian(after[:, 3] / before[:, 3]) == pytest.approx(0.8, abs=0.01)


# -- numbers ---------------------------------------------------------------------------------------------------


def test_the_calibration_in_numbers(run, scene):
    frame = camera_numbers(scene).frame
    rows = {row["quantity"]: row for row in frame.iter_rows(named=True)}
    gain = rows["gain"]
    assert gain["median"] == pytest.approx(5.15, abs=0.006)
    assert gain["spread"] == pytest.approx(0.043, rel=0.15)
    assert gain["relative_spread"] == pytest.approx(100 * gain["spread"] / gain["median"])
    assert (gain["unit"], gain["error"]) == ("LSB/p.e.", pytest.approx(0.043))
    # 1296 less a module, a dead, a noisy and a silent pixel
    assert gain["n_known"] == 1281
    assert gain["origin"] == "flashes 1,281"
    noise = rows["electronics noise of a sample"]
    assert (noise["n_outliers"], noise["origin"]) == (1, "HV off 1,281")
    assert rows["dark rate"]["origin"] == "dark run 1,281"
    assert rows["baseline"]["relative_spread"] is None
    assert rows["crosstalk: probability of at least one"]["median"] == pytest.approx(
        1 - np.exp(-0.095), abs=0.002
    )
    only = camera_numbers(Scene(*make_run(("hv_off",)))).frame
    assert only["quantity"].to_list() == ["electronics noise of a sample", "baseline"]


def test_flagged_pixels_have_their_place_and_values(run, scene):
    frame = flagged_pixels(scene).frame
    assert frame.height == 15
    assert not frame["good"].any()
    row = frame.row(by_predicate=pl.col("channel") == 97, named=True)
    place = run[1].channels.frame.row(97, named=True)
    assert [row[name] for name in ("patch", "module", "sector")] == [
        place[name] for name in ("patch", "module", "sector")
    ]
    assert row["flags"] == "noisy, outlier"
    assert row["electronics_noise"] == 4.0
    assert frame.filter(channel=31)["gain"][0] is None
    # pixels that the light source does not reach are no news, and there are hundreds
    context = fake_run.context_of(sector=2)
    products, _ = make_run(("led",), context=context)
    assert flagged_pixels(Scene(products, context)).frame.height == 0


def test_quantities_have_units_and_places(run):
    for quantity in QUANTITIES.values():
        for product, name in quantity.places:
            assert name in run[0][product].frame.columns
        assert "[" in quantity.label
