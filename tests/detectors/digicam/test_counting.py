"""Waveforms to counts: nothing is lost, nothing depends on batches, and the numbers are those of the sample files."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from digicam_helpers import chunk_of, context_of, go, waveforms

from firstlight.detectors.digicam import counting, flashes, kernels
from firstlight.detectors.digicam.options import (
    EXTRACTORS,
    LightParameters,
    Options,
    PeakParameters,
    SampleParameters,
)
from firstlight.testing.equality import product_difference

DARK = {"kind": "dark"}


def counted(samples, context, batch, parameters=SampleParameters(), step=counting.samples):  # noqa: B008
    total = None
    for start in range(0, samples.shape[0], batch):
        part = step.map(chunk_of(samples[start : start + batch], start), parameters, context)
        total = part if total is None else step.merge(total, part)
    return step.finish(total, parameters, context)


@pytest.mark.parametrize("batch", [1, 7, 20, 300])
def test_every_sample_is_counted_whatever_the_batch(batch):
    samples = waveforms(20, seed=1)
    context = context_of(DARK)
    products = counted(samples, context, batch)
    cube = products["dark"]
    assert cube.total == samples.size
    for pixel in (0, 3, 700, 1295):
        expected = np.bincount(samples[:, pixel].ravel(), minlength=4096)
        assert cube.values[pixel].tolist() == expected[:4095].tolist()
        assert cube.counts[pixel, -1] == expected[4095]
    whole = counted(samples, context, 1000)
    assert {name: product_difference(products[name], whole[name]) for name in whole} == dict.fromkeys(
        whole, ""
    )


def test_groups_of_events_add_up_to_the_histogram_near_the_reference():
    samples = waveforms(60, seed=2)
    context = context_of(DARK)
    products = counted(samples, context, 13, SampleParameters(block_events=5, blocks=6))
    groups = products["dark_groups"]
    assert groups.values.shape[1] == 6
    reference = context.channels.column("reference")
    bins = np.asarray(groups.coordinates["bin"])
    for pixel in (1, 640):
        near = products["dark"].values[pixel, reference[pixel] + bins]
        assert groups.values[pixel].sum(axis=0).tolist() == near.tolist()
    # five events in a row are a group: events 0 to 4 and 30 to 34
    first = np.concatenate([samples[:5, 640].ravel(), samples[30:35, 640].ravel()]).astype(int)
    first = first[np.isin(first - reference[640], bins)]
    assert groups.values[640, 0].sum() == first.size


def test_light_of_a_known_time_is_no_dark_sample():
    assert counted(waveforms(3, seed=3), context_of({"kind": "led", "level": 1.0}), 3) == {}


def test_kernels_of_empty_batches_do_nothing():
    empty = np.empty((0, 1296, 50), dtype=np.uint16)
    context = context_of(DARK)
    assert counting.count_samples(chunk_of(empty, 0), SampleParameters(), context) == counting.Samples()
    found = counting.count_pulses(chunk_of(empty, 0), PeakParameters(), context)
    assert found.n_events == 0
    assert counting.finish_pulses(found, PeakParameters(), context) == {}


def _charge(trace, reference, light, method, p):
    """Return the charge of a trace, written as the definition says."""
    trace, n = trace.astype(int) - reference, trace.size
    near = range(max(light - p.search, 0), min(light + p.search + 1, n))
    if method == "fixed_max":
        return trace[light]
    if method == "global_max":
        return trace.max()
    if method == "local_max":
        threes = [sum(trace[max(k - 1, 0) : k + 2] + reference) for k in near]
        return trace[list(near)[int(np.argmax(threes))]]
    peak = max(near, key=lambda k: (trace[k], -k))
    if method == "integration_sat" and trace[peak] > p.threshold_sat:
        low = high = peak
        while low > 0 and trace[low - 1] > 0:
            low -= 1
        while high + 1 < n and trace[high + 1] > 0:
            high += 1
        return trace[low : high + 1].sum()
    begin = min(max(peak - p.window_start, 0), n - p.window_width)
    return trace[begin : begin + p.window_width].sum()


@pytest.mark.parametrize("method", EXTRACTORS)
@pytest.mark.parametrize("light", [0, 20, 49])
def test_charges_are_as_defined(method, light):
    samples = waveforms(6, seed=4, flash=60)
    samples[:, 5:9, 18:24] = 4000
    parameters = LightParameters(extractor=method, search=2)
    reference = np.full(1296, 284, dtype=np.int32)
    charge, peak = (np.empty((6, 1296), dtype=np.int32) for _ in range(2))
    kernels.measure_flashes(
        samples, reference, np.full(1296, light, dtype=np.int32), EXTRACTORS.index(method),
        parameters.window_width, parameters.window_start, parameters.search, parameters.threshold_sat, charge, peak,
    )  # fmt: skip
    for event in range(6):
        for pixel in (0, 5, 8, 444, 1295):
            trace = samples[event, pixel]
            assert charge[event, pixel] == _charge(trace, 284, light, method, parameters)
            assert peak[event, pixel] == trace.argmax()


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_flashes_are_all_counted_whatever_the_batch(batch):
    samples = waveforms(24, seed=5, flash=40)
    samples[3, 9] = 0  # far below the first bin
    options = Options(scan_levels=(0, 5, 10), events_per_level=7)
    context = context_of({"kind": "led", "first_number": 0}, options)
    products = counted(samples, context, batch, LightParameters(), flashes.light)
    cube, levels = products["charge"], products["levels"].frame
    assert levels["level"].to_list() == [0, 5, 10]
    assert levels["n_events"].to_list() == [7, 7, 7]
    # three events come after the last level
    assert levels["n_after"].sum() == 3
    assert cube.total == 21 * 1296
    assert cube.counts[9, 0, 0] == 1
    expected = samples[7:14, 50, 20].astype(int) - 284
    counts = cube.counts[50, 1, 1:-1]
    assert np.repeat(np.arange(-64, -64 + counts.size), counts).tolist() == np.sort(expected).tolist()
    assert products["peak"].total == 21 * 1296
    waveform = products["waveform"].values[50, 1]
    assert waveform.tolist() == (samples[7:14, 50].astype(int) - 284).sum(axis=0).tolist()
    whole = counted(samples, context, 1000, LightParameters(), flashes.light)
    assert {name: product_difference(products[name], whole[name]) for name in whole} == dict.fromkeys(
        whole, ""
    )


def test_lost_events_shift_no_level():
    samples = waveforms(20, seed=6, flash=40)
    options = Options(scan_levels=(1, 2), events_per_level=10)
    context = context_of({"kind": "led", "first_number": 0}, options)
    # the last event of the first level and the first two of the second are lost
    keep = np.setdiff1d(np.arange(20), [9, 10, 11])
    chunk = chunk_of(samples[keep], 0, number=keep)
    total = flashes.count_flashes(chunk, LightParameters(), context)
    assert {level: own.n_events for level, own in total.levels.items()} == {1.0: 9, 2.0: 8}


def test_continuous_light_has_mean_and_variance_of_its_samples():
    samples = waveforms(30, seed=7)
    context = context_of({"kind": "dc", "level": 300.0})
    parameters = flashes.ContinuousParameters()
    products = counted(samples, context, 7, parameters, flashes.continuous)
    moments = products["moments"]
    own = samples[:, 100].astype(float) - 284
    assert moments.select(quantity="mean")[100, 0] == pytest.approx(own.mean(), rel=1e-12)
    assert moments.select(quantity="variance")[100, 0] == pytest.approx(own.var(), rel=1e-9)
    # independent samples: the spread of groups gives the usual error
    expected = own.std() / np.sqrt(own.size)
    ratio = moments.select(quantity="mean_error")[:, 0] / expected
    assert np.median(ratio) == pytest.approx(1, abs=0.15)


def test_pulses_are_found_where_they_are():
    samples = np.full((4, 1296, 50), 284, dtype=np.uint16)
    pulse = np.array([1, 3, 5, 6, 5, 3, 2, 1, 1])
    samples[0, 7, 10:19] += pulse.astype(np.uint16)
    samples[1, 7, 10:19] += pulse.astype(np.uint16)
    samples[1, 7, 30:39] += 2 * pulse.astype(np.uint16)
    context = context_of(DARK)
    products = counted(samples, context, 3, PeakParameters(), counting.pulses)
    pixels = products["pixels"].frame
    assert pixels["n_pulses"][7] == 3
    assert pixels["n_pulses"].sum() == 3
    assert pixels["n_samples"][7] == 4 * 40
    assert pixels["rate"][7] == pytest.approx(3 / (160 * 4e-3))
    charge = products["charge"].values[7]
    found = np.repeat(products["charge"].axes[1].centers, charge)
    window = pulse[:7].sum()
    assert np.sort(found).tolist() == [window, window, 2 * window]


def test_the_table_of_files_counts_events_numbers_and_types():
    context = context_of({"kind": "dark", "kind_from": "name"})
    frame = pl.DataFrame(
        {"number": [5, 6, 9], "time": [1_000_000_000, 2_000_000_000, 4_000_000_000], "event_type": [8, 8, 1]},
        schema={"number": pl.Int64, "time": pl.Int64, "event_type": pl.Int32},
    )
    one, other = (chunk_of(None, 0, events=part) for part in (frame[:1], frame[1:]))
    total = counting.events.merge(
        counting.count_events(one, SampleParameters(), context),
        counting.count_events(other, SampleParameters(), context),
    )
    row = counting.finish_events(total, SampleParameters(), context)["files"].frame.row(0, named=True)
    assert row["n_events"] == 3
    assert row["n_missing"] == 2
    assert row["n_clocked"] == 2
    assert row["duration"] == 3.0
    assert row["rate"] == pytest.approx(2 / 3)


# ---------------------------------------------------------------- the sample files


def test_real_triggered_events_have_the_independently_computed_counts(digicam_data, tmp_path):
    run = go([digicam_data / "zfits" / "example_10_evts.000.fits.fz"], tmp_path / "run")
    cube = run["samples/sky"].value
    assert cube.total == 10 * 1296 * 50
    counts, centres = cube.counts[:, 1:], np.append(cube.axes[1].centers, 4095)
    assert int((counts @ centres).sum()) == 200889761
    assert cube.counts[0, 1:].sum() == 500
    assert np.flatnonzero(cube.values[0])[0] == 228
    assert cube.values[0, 239] == 32
    means = counts @ centres / 500
    assert means[[0, 700, 1295]] == pytest.approx([247.3460, 242.0420, 237.2400], abs=1e-4)
    # saturation is no value
    assert cube.counts[:, -1].sum() == 7
    assert np.count_nonzero(means > 1000) == 59
    files = run["events/files"].to_polars().row(0, named=True)
    assert files["kind"] == "sky"
    assert files["n_clocked"] == 1
    assert files["first_time"] == 1509415494406789700
    assert files["duration"] == pytest.approx(38.500468e-3, abs=1e-9)


def test_the_real_dark_event_has_the_independently_computed_residuals(digicam_data, tmp_path):
    run = go([digicam_data / "zfits" / "SST1M_01_20180822_001.fits.fz"], tmp_path / "run")
    assert run["samples/dark"].value.total == 64800
    residual = run["samples/dark_residual"].value
    centres = residual.axes[0].centers
    mean = residual.values @ centres / residual.values.sum()
    width = np.sqrt(residual.values @ centres**2 / residual.values.sum() - mean**2)
    assert mean == pytest.approx(0.050494, abs=1e-6)
    assert width == pytest.approx(1.397321, abs=1e-6)
