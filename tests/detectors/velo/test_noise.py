"""Noise scans: decoding, moments, and the fit against simulated truth and the real scan."""

from __future__ import annotations

import lzma
import math

import numpy as np
import pytest

from firstlight.detectors.velo import noise_fit
from firstlight.detectors.velo.noise import (
    FITS,
    GROUPS,
    POINT_BYTES,
    NoiseScan,
    decode,
    fit_noise,
    moments,
    parse_name,
    width_groups,
)
from firstlight.detectors.velo.noise_kernels import counter_table
from firstlight.errors import InputError, UsageError

FIRST, STEP, POINTS = 1360, 2, 55
THRESHOLDS = FIRST - STEP * np.arange(POINTS)
REAL = "velo/velopix_noise_scan/ECS_Scan_Trim0_1360_2_55_repeatA.dat.xz"


def states():
    """Return the state of the counter after 0 ... 63 hits, shifted bit by bit as the hardware does."""
    found, bits = [0], [0, 0, 0, 0, 0, 1]
    for _ in range(63):
        found.append(int("".join(map(str, bits)), 2))
        bits = [*bits[1:], bits[0] ^ bits[1]]
    return np.array(found, dtype=np.uint32)


def encode(counts):
    """Return the raw bytes of counts (n_points, 256, 256)."""
    field = states()[counts].transpose(0, 2, 1).reshape(len(counts), 256, 64, 4)
    word = (field[..., 0] << 18) | (field[..., 1] << 12) | (field[..., 2] << 6) | field[..., 3]
    parts = np.stack([word >> 16, (word >> 8) & 255, word & 255], axis=-1)
    return parts.astype(np.uint8).tobytes()


def scan_of(counts, thresholds=THRESHOLDS):
    points = len(thresholds)
    name = parse_name(f"Module0_VP1-2_ECS_Scan_Trim0_{thresholds[0]}_{STEP}_{points}_1of1.dat")
    return NoiseScan(name, np.asarray(thresholds), np.ascontiguousarray(counts.reshape(points, 256, 256)))


def simulate(rng, mean, width, amplitude):
    x = (THRESHOLDS[:, np.newaxis] - mean) / width
    return np.minimum(rng.poisson(amplitude * np.exp(-0.5 * x * x)), 63).astype(np.uint8)


def core(values):
    return np.diff(np.quantile(values, [0.1587, 0.8413]))[0] / 2


@pytest.fixture(scope="module")
def truth():
    """Return means, widths and amplitudes like those of the real scan; every eighth pixel does not saturate."""
    rng = np.random.default_rng(20240611)
    n = 65536
    amplitude = np.exp(rng.normal(np.log(90), 0.15, n))
    amplitude[::8] = rng.uniform(15, 40, n // 8)
    return rng.normal(1298, 28.7, n), np.clip(rng.normal(8.1, 0.65, n), 5, None), amplitude


@pytest.fixture(scope="module")
def simulated(truth):
    """Return two repeats of one scan with their fits."""
    rng = np.random.default_rng(77)
    scans = [scan_of(simulate(rng, *truth)) for _ in range(2)]
    return [(scan, fit_noise(scan)) for scan in scans]


@pytest.fixture(scope="module")
def real(sample_data):
    scan = decode(sample_data / REAL)
    return scan, fit_noise(scan)


# --- decoding


def test_the_counter_table_follows_from_the_shift_register():
    table = counter_table()
    assert [int(np.flatnonzero(table == hits)[0]) for hits in range(9)] == [0, 1, 2, 4, 8, 16, 33, 3, 6]
    assert sorted(table) == list(range(64))
    np.testing.assert_array_equal(table[states()], np.arange(64))


@pytest.mark.parametrize("packed", [False, True])
def test_a_scan_that_was_written_is_read_again(tmp_path, packed):
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 64, (3, 256, 256), dtype=np.uint8)
    content = encode(counts)
    path = tmp_path / f"Module1_VP0-0_ECS_Scan_TrimF_1610_3_3_1of1.dat{'.xz' if packed else ''}"
    path.write_bytes(lzma.compress(content, preset=0) if packed else content)
    scan = decode(path)
    np.testing.assert_array_equal(scan.counts, counts)
    np.testing.assert_array_equal(scan.thresholds, [1610, 1607, 1604])
    assert scan.total == counts.sum(dtype=np.int64)
    assert scan.n_saturated == (counts == 63).sum()
    assert scan.n_silent == (counts.sum(axis=0, dtype=np.int64) == 0).sum()
    assert scan.files == (path.name,)
    assert "3 thresholds 1610 to 1604 DAC" in repr(scan)


def test_the_real_scan_has_its_check_numbers(real):
    scan, _ = real
    assert scan.total == 43_242_739
    assert scan.n_silent == 1_409
    assert scan.n_saturated == 395_097
    start = [0] * 11 + [2, 2, 4, 13, 18, 24, 43, 58] + [63] * 7 + [48, 31]
    assert scan.counts[: len(start), 10, 20].tolist() == start
    found = moments(scan)
    assert np.nanmean(found.mean) == pytest.approx(1298.461, abs=5e-4)
    assert np.nanstd(found.mean) == pytest.approx(28.720, abs=5e-4)
    assert found.truncated_low.mean() == pytest.approx(0.317, abs=5e-4)


def test_names_say_what_a_file_holds():
    name = parse_name("Module1_VP0-0_ECS_Scan_Trim0_1360_2_55_1of2.dat")
    assert (name.chip, name.trim, name.first, name.step, name.points) == (
        "Module1_VP0-0",
        "Trim0",
        1360,
        2,
        55,
    )
    assert (name.part, name.parts, name.short) == (1, 2, "Module1_VP0-0_Trim0")
    name = parse_name("ECS_Scan_TrimF_1360_2_55_repeatA.dat.xz")
    assert (name.chip, name.trim, name.label, name.parts) == ("", "TrimF", "repeatA", 1)
    assert name.short == name.full == "ECS_Scan_TrimF_1360_2_55_repeatA"
    assert parse_name("Module1_VP0-0_ECS_Scan_Trim0_1360_2_55.dat").part == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("noise.dat", "does not say which thresholds"),
        ("Module1_VP0-0_ECS_Scan_Trim0_1360_2_55_1of1.txt", "does not say which thresholds"),
        ("Module1_VP0-0_ECS_Scan_Trim0_1360_0_55_1of1.dat", "steps of 0"),
        ("Module1_VP0-0_ECS_Scan_Trim0_100_2_55_1of1.dat", "below 0"),
        ("Module1_VP0-0_ECS_Scan_Trim0_1360_2_55_3of2.dat", "part 3 of 2"),
    ],
)
def test_names_that_make_no_sense_are_refused(tmp_path, name, says):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=says) as caught:
        decode(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert "Scan_Trim0_1360_2_55_1of1.dat" in caught.value.known[0]


def write_parts(folder, *parts):
    paths = []
    for number, counts in enumerate(parts, 1):
        path = folder / f"Module1_VP0-0_ECS_Scan_Trim0_1360_2_{len(counts)}_{number}of{len(parts)}.dat"
        path.write_bytes(encode(counts))
        paths.append(path)
    return paths


def test_parts_are_added(tmp_path):
    rng = np.random.default_rng(6)
    counts = rng.integers(1, 64, (4, 256, 256), dtype=np.uint8)
    chess = np.indices((256, 256)).sum(axis=0) % 2 == 0
    first, second = np.where(chess, counts, 0).astype(np.uint8), np.where(chess, 0, counts).astype(np.uint8)
    paths = write_parts(tmp_path, first, second)
    for path in paths:
        scan = decode(path)
        np.testing.assert_array_equal(scan.counts, counts)
        assert scan.files == tuple(part.name for part in paths)
        assert scan.notes == ()
    second[0, 3, 5] = second[0, 4, 4] = 63
    write_parts(tmp_path, first, second)
    scan = decode(paths[1])
    assert scan.counts[0, 3, 5] == 63
    assert scan.notes == ("2 pixels have hits in more than one part; their readings were added",)


def test_a_missing_part_is_named(tmp_path):
    counts = np.zeros((3, 256, 256), dtype=np.uint8)
    paths = write_parts(tmp_path, counts, counts, counts)
    paths[1].unlink()
    with pytest.raises(InputError, match=r"1 of 3 parts of the scan are missing: .*_2of3\.dat") as caught:
        decode(paths[0])
    assert caught.value.known == [paths[0].name, paths[2].name]


def test_a_file_of_the_wrong_size_says_what_is_complete(tmp_path):
    path = tmp_path / "Module1_VP0-0_ECS_Scan_Trim0_1360_2_4_1of1.dat"
    content = encode(np.ones((4, 256, 256), dtype=np.uint8))
    path.write_bytes(content[: 3 * POINT_BYTES + 17])
    with pytest.raises(
        InputError,
        match=r"4 thresholds, 196,608 bytes, and there are 147,473: 3 are complete, 1360 to 1356 DAC",
    ):
        decode(path)
    path.write_bytes(content[:100])
    with pytest.raises(InputError, match="there are 100: none is complete"):
        decode(path)
    path.write_bytes(content + b"more")
    with pytest.raises(InputError, match="and there are 196,612"):
        decode(path)
    packed = path.with_name(path.name + ".xz")
    whole = lzma.compress(np.random.default_rng(1).bytes(4 * POINT_BYTES))
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"the compressed file ends early: .* 1 are complete|ends early"):
        decode(packed)
    packed.write_bytes(lzma.compress(content + content))
    with pytest.raises(InputError, match="and there are more"):
        decode(packed)
    packed.write_bytes(b"this is not xz")
    with pytest.raises(InputError, match="cannot be unpacked"):
        decode(packed)


def test_what_is_not_there_is_refused_with_what_is(tmp_path):
    other = tmp_path / "Module1_VP0-0_ECS_Scan_Trim0_1360_2_55_1of1.dat"
    other.write_bytes(b"")
    with pytest.raises(InputError, match="does not exist") as caught:
        decode(tmp_path / "Module1_VP0-0_ECS_Scan_TrimF_1360_2_55_1of1.dat")
    assert caught.value.known == [other.name]
    folder = tmp_path / "x_1360_2_55.dat"
    folder.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        decode(folder)


# --- moments


def test_moments_are_exact_and_cut_as_in_the_original():
    rng = np.random.default_rng(8)
    counts = np.zeros((POINTS, 65536), dtype=np.uint8)
    counts[:, 2:] = simulate(rng, rng.normal(1300, 30, 65534), 8.0, 80.0)
    counts[10, 1] = 1
    found = moments(scan_of(counts))
    pixels = rng.integers(2, 65536, 300)
    for pixel in pixels[counts[:, pixels].sum(axis=0, dtype=np.int64) > 1]:
        values = np.repeat(THRESHOLDS, counts[:, pixel]).astype(np.float64)
        assert found.hits[pixel] == values.size
        assert found.mean[pixel] == pytest.approx(values.mean(), abs=1e-9)
        assert found.width[pixel] == pytest.approx(values.std(ddof=1), abs=1e-9)
        assert found.whole_mean[pixel] == int(values.mean())
        squares = ((values - int(values.mean())) ** 2).sum()
        assert found.whole_width[pixel] == pytest.approx(math.sqrt(squares / (values.size - 1)), abs=1e-9)
    assert (found.hits[0], found.whole_mean[0], found.whole_width[0]) == (0, 0, 0.0)
    assert np.isnan(found.mean[0])
    assert (found.hits[1], found.whole_mean[1], found.mean[1]) == (1, 1340, 1340.0)
    assert np.isnan(found.whole_width[1])
    assert np.isnan(found.width[1])
    np.testing.assert_array_equal(found.truncated_low, counts[-1] > 0)
    np.testing.assert_array_equal(found.truncated_high, counts[0] > 0)
    np.testing.assert_array_equal(found.truncated, (counts[0] > 0) | (counts[-1] > 0))


def test_a_mean_that_is_a_whole_number_is_not_cut():
    counts = np.zeros((POINTS, 65536), dtype=np.uint8)
    # means 1311 and 1310.67 from three hits each
    counts[[23, 24, 26], 0] = 1
    counts[[24, 25], 1] = [1, 2]
    found = moments(scan_of(counts))
    means = [np.average(THRESHOLDS, weights=counts[:, pixel]) for pixel in (0, 1)]
    assert found.whole_mean[:2].tolist() == [math.floor(round(mean, 9)) for mean in means]


# --- fit


def test_pulls_of_the_fit_are_standard_normal(truth, simulated):
    mean, width, amplitude = truth
    scan, fits = simulated[0]
    FITS.validate(fits.frame)
    ok = fits.array("status") == "ok"
    saturated = fits.array("n_saturated") > 0
    low = fits.array("truncated_low")
    inside = (mean > 1280) & (mean < 1332)
    assert ok[inside].all()
    groups = {
        "saturated": inside & saturated,
        "not saturated": inside & ~saturated,
        # the peak is one width inside the scan or more, a part of the noise lies outside
        "clipped": low & (mean > 1252 + 1.05 * width),
    }
    assert ok[groups["clipped"]].mean() > 0.99
    groups["clipped"] &= ok
    for name, chosen in groups.items():
        assert chosen.sum() > 4000, name
        for quantity, true in (("mean", mean), ("width", width)):
            pull = (fits.array(quantity) - true)[chosen] / fits.array(f"{quantity}_error")[chosen]
            assert abs(pull.mean()) < 0.06, (name, quantity)
            assert 0.96 < core(pull) < 1.04, (name, quantity)
            assert (abs(pull) > 5).mean() < 3e-4, (name, quantity)
    pull = (np.log(fits.array("amplitude") / amplitude) * fits.array("amplitude"))[inside]
    assert 0.96 < core(pull / fits.array("amplitude_error")[inside]) < 1.04
    bias = (fits.array("width") - width)[inside & saturated]
    assert abs(bias.mean()) < 0.006  # maximum likelihood alone is 0.03 DAC low
    assert scan.n_saturated > 300_000


def test_correlations_are_those_of_the_fit(truth, simulated):
    mean, width, _ = truth
    _, fits = simulated[0]
    # one flank is seen: mean and width go together
    chosen = (fits.array("status") == "ok") & (mean > 1261) & (mean < 1265)
    predicted = fits.array("mean_width_covariance") / (fits.array("mean_error") * fits.array("width_error"))
    pulls = [
        (fits.array(name) - true)[chosen] / fits.array(f"{name}_error")[chosen]
        for name, true in (("mean", mean), ("width", width))
    ]
    seen = np.corrcoef(np.clip(pulls, -4, 4))[0, 1]
    assert predicted[chosen].mean() < -0.3
    assert seen == pytest.approx(predicted[chosen].mean(), abs=0.05)


def test_p_values_are_uniform(truth, simulated):
    for _, fits in simulated:
        p = fits.array("p_value")[fits.array("status") == "ok"]
        assert np.isfinite(p).all()
        assert 0.045 < (p < 0.05).mean() < 0.060
        assert 0.007 < (p < 0.01).mean() < 0.012
        assert abs(p.mean() - 0.5) < 0.02


def test_two_repeats_agree_within_their_errors(simulated):
    (_, first), (_, second) = simulated
    both = (first.array("status") == "ok") & (second.array("status") == "ok")
    for quantity in ("mean", "width"):
        error = np.hypot(first.array(f"{quantity}_error"), second.array(f"{quantity}_error"))
        pull = ((first.array(quantity) - second.array(quantity)) / error)[both]
        assert abs(pull.mean()) < 0.02
        assert 0.95 < core(pull) < 1.05
        assert 0.9 < pull.std() < 1.15


def test_truncated_pixels_are_flagged(truth, simulated):
    mean, _, _ = truth
    scan, fits = simulated[0]
    np.testing.assert_array_equal(fits.array("truncated_low"), scan.counts[-1].ravel() > 0)
    np.testing.assert_array_equal(fits.array("truncated_high"), scan.counts[0].ravel() > 0)
    # what truncation does to a hit-weighted mean, and not to the fit
    clipped = fits.array("truncated_low") & (mean > 1261) & (mean < 1266)
    assert (fits.array("status") == "ok")[clipped].mean() > 0.99
    assert (fits.array("moment_mean") - mean)[clipped].mean() > 1.0
    assert abs(np.nanmedian((fits.array("mean") - mean)[clipped])) < 0.04
    # noise that lies below the scan is never given a mean inside as if it were known
    gone = (mean < THRESHOLDS[-1]) | (mean > THRESHOLDS[0])
    assert gone.sum() > 3000
    assert (fits.array("status")[gone] == "ok").mean() < 0.003


def test_one_stray_hit_does_not_move_a_fit():
    rng = np.random.default_rng(12)
    n = 16384
    mean = rng.uniform(1285, 1325, n)
    counts = np.zeros((POINTS, 65536), dtype=np.uint8)
    counts[:, :n] = simulate(rng, mean, 8.0, 90.0)
    stray = counts.copy()
    # more than five widths away
    at = np.where(mean < 1305, rng.integers(0, 5, n), rng.integers(50, 55, n))
    stray[at, np.arange(n)] += 1
    before, after, everything = (
        fit_noise(scan_of(values), window=window).frame[:n]
        for values, window in ((counts, 3.5), (stray, 3.5), (stray, np.inf))
    )
    shift = ((after["mean"] - before["mean"]).abs() / before["mean_error"]).to_numpy()
    assert np.quantile(shift, 0.99) < 1e-6
    assert (after["hits_outside"] - before["hits_outside"]).mean() == pytest.approx(1.0, abs=0.01)
    assert ((everything["width"] - before["width"]) / before["width_error"]).mean() > 0.8


def test_the_fit_finds_the_maximum_of_the_likelihood(simulated):
    """An independent likelihood, maximised by scipy from the truth on."""
    from scipy.optimize import minimize
    from scipy.stats import poisson

    scan, _ = simulated[0]
    fits = fit_noise(scan, window=np.inf)
    counts = scan.counts.reshape(POINTS, -1)
    whole = (fits.array("status") == "ok") & ~fits.array("truncated_low") & ~fits.array("truncated_high")
    for pixel in np.random.default_rng(3).choice(np.flatnonzero(whole), 12, replace=False):
        hits = counts[:, pixel]

        def cost(p, hits=hits):
            rate = np.exp(p[0]) * np.exp(-0.5 * ((THRESHOLDS - p[1]) / p[2]) ** 2) + 1e-300
            return -np.where(hits < 63, poisson.logpmf(hits, rate), poisson.logsf(62, rate)).sum()

        row = fits.frame.row(int(pixel), named=True)
        start = [np.log(row["amplitude"]) + 0.1, row["mean"] + 0.2, row["width"] - 0.2]
        best = minimize(
            cost, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000}
        )
        assert np.log(row["amplitude"]) == pytest.approx(best.x[0], abs=2e-5)
        # mean and width have their bias taken off
        assert abs(row["mean"] - best.x[1]) < 0.05 * row["mean_error"]
        assert abs(row["width"] - best.x[2]) < 0.3 * row["width_error"]
        saturated = np.where(hits < 63, poisson.logpmf(hits, np.maximum(hits, 1e-300)), 0.0).sum()
        assert row["deviance"] == pytest.approx(2 * (saturated + best.fun), abs=1e-4)


def test_what_cannot_be_fitted_says_why():
    counts = np.zeros((POINTS, 65536), dtype=np.uint8)
    counts[20, 1] = 1
    counts[20, 2] = 63
    counts[20:23, 3] = 63
    counts[:, 4] = 63
    counts[-3:, 5] = [5, 20, 60]
    counts[:, 6] = 5
    counts[::7, 7] = 1
    counts[20:23, 8] = [10, 30, 10]
    good = 90 * np.exp(-0.5 * ((THRESHOLDS - 1300) / 8.0) ** 2)
    counts[:, 9] = np.minimum(good, 63)
    # three quarters of the flank of a peak below the scan
    counts[:, 10] = np.minimum(50 * np.exp(-0.5 * ((THRESHOLDS - 1249.0) / 20.0) ** 2) + 0.5, 63)
    fits = fit_noise(scan_of(counts))
    status = fits.array("status")[:11].tolist()
    assert status[0] == "no hits"
    assert set(status[1:8]) == {"not constrained"}
    assert status[8:] == ["ok", "ok", "mean at the edge of the scan"]
    assert fits.frame["mean"][:8].null_count() == 8
    assert fits.frame["hits"][:5].to_list() == [0, 1, 63, 189, 63 * POINTS]
    assert fits.frame["mean"][9] == pytest.approx(1300.0, abs=0.1)
    assert fits.frame["mean"][10] < THRESHOLDS[-1]


def test_the_number_of_threads_does_not_change_the_result(simulated):
    counts = simulated[1][0].counts.copy()
    counts[:, 60:200] = 0
    one, many = (fit_noise(scan_of(counts), threads=threads) for threads in (1, 5))
    assert one.frame.equals(many.frame)
    assert one.frame[:15000].equals(simulated[1][1].frame[:15000])


def test_a_window_that_is_too_narrow_is_refused(simulated):
    with pytest.raises(UsageError, match="window of 1 widths"):
        fit_noise(simulated[0][0], window=1.0)


def test_moments_of_the_deviance_are_exact():
    log_mean, expectation, variance = noise_fit.deviance_moments(63)
    peak = expectation[np.exp(log_mean) < 20].argmax()
    assert np.exp(log_mean[peak]) == pytest.approx(1.4, abs=0.1)
    assert expectation[peak] == pytest.approx(1.16, abs=0.01)
    rng = np.random.default_rng(4)
    for mean in (0.3, 3.0, 25.0, 60.0, 80.0):
        from scipy.stats import poisson

        hits = np.minimum(rng.poisson(mean, 400_000), 63)
        best = np.where(hits < 63, poisson.logpmf(hits, np.maximum(hits, 1e-300)), 0.0)
        term = 2 * (best - np.where(hits < 63, poisson.logpmf(hits, mean), poisson.logsf(62, mean)))
        assert np.interp(np.log(mean), log_mean, expectation) == pytest.approx(term.mean(), abs=0.012)
        assert np.interp(np.log(mean), log_mean, variance) == pytest.approx(term.var(), rel=0.04, abs=0.01)


# --- the real scan


def test_widths_of_the_real_scan(real):
    scan, fits = real
    width = moments(scan).whole_width
    # 8.15 +- 0.65 DAC is the hit-weighted width, of pixels between 6 and 10 DAC
    usual = width[(width > 6) & (width < 10)]
    assert usual.mean() == pytest.approx(8.14, abs=0.005)
    assert usual.std() == pytest.approx(0.655, abs=0.002)
    # the counters stop at 63: without this the noise is narrower
    ok = fits.array("status") == "ok"
    whole = ok & ~fits.array("truncated_low") & ~fits.array("truncated_high")
    assert np.median(fits.array("moment_width")[whole]) == pytest.approx(8.35, abs=0.01)
    assert np.median(fits.array("width")[whole]) == pytest.approx(7.74, abs=0.02)
    assert fits.array("mean")[whole].mean() == pytest.approx(fits.array("moment_mean")[whole].mean(), abs=0.1)
    assert np.median(fits.array("mean_error")[whole]) == pytest.approx(0.274, abs=0.003)
    # where all of the noise is in the scan, and there is more than a few hits, there is a fit
    inside = ~(fits.array("truncated_low") | fits.array("truncated_high")) & (fits.array("hits") > 100)
    assert ok[inside].mean() == 1.0
    last = scan.counts[-1].ravel() > 0
    assert fits.array("truncated_low")[last].all()


def test_rows_of_the_real_scan_differ_at_the_edges_only(real):
    scan, fits = real
    width = moments(scan).width.reshape(256, 256)
    by_row = np.array([np.nanmean(width[row::16]) for row in range(16)])
    # rows 0 and 15 of 16 look wider than all others ...
    assert set(np.argsort(by_row)[-2:]) == {0, 15}
    assert by_row[[0, 15]].min() - by_row[1:15].max() > 0.25
    # ... which is all due to the rows 0 and 255 at the edges of the chip
    inner = width.copy()
    inner[[0, 255]] = np.nan
    by_row = np.array([np.nanmean(inner[row::16]) for row in range(16)])
    assert abs(by_row[[0, 15]].mean() - by_row[1:15].mean()) < 0.06
    groups = {row["group"]: row for row in width_groups(fits).frame.iter_rows(named=True)}
    assert groups["edge rows"]["width"] > 15
    assert groups["edge columns"]["width"] > 10
    assert groups["rows 0 and 15 of 16"]["width"] == pytest.approx(groups["other rows"]["width"], abs=0.1)


def test_even_columns_of_the_real_scan_are_quieter(real):
    groups = {row["group"]: row for row in width_groups(real[1]).frame.iter_rows(named=True)}
    even, odd = groups["even columns"], groups["odd columns"]
    assert even["moment_width"] / odd["moment_width"] == pytest.approx(0.978, abs=0.003)
    assert even["width"] / odd["width"] == pytest.approx(0.963, abs=0.004)
    assert even["width_error"] < 0.01


def test_groups_of_simulated_widths(truth):
    rng = np.random.default_rng(31)
    row, column = np.divmod(np.arange(65536), 256)
    width = np.where(column % 2 == 0, 7.5, 8.0) + np.where(np.isin(row % 16, [0, 15]), 0.6, 0.0)
    width[(row == 0) | (row == 255)] = 15.0
    table = width_groups(fit_noise(scan_of(simulate(rng, np.full(65536, 1306.0), width, 80.0))))
    GROUPS.validate(table.frame)
    groups = {row["group"]: row for row in table.frame.iter_rows(named=True)}
    for name, expected in (
        ("even columns", 7.5 + 0.6 * 30 / 254),
        ("odd columns", 8.0 + 0.6 * 30 / 254),
        ("rows 0 and 15 of 16", 8.35),
        ("other rows", 7.75),
        ("edge rows", 15.0),
    ):
        assert abs(groups[name]["width"] - expected) < 4 * groups[name]["width_error"], name
    assert groups["inner"]["n_pixels"] == 254 * 254
