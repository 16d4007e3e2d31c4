"""The verbs `noise decode`, `noise fit` and `equalise`."""

from __future__ import annotations

import json
import lzma

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from PIL import Image

from firstlight.detectors.velo.commands_noise import equalise, noise
from firstlight.detectors.velo.equalisation import (
    choose,
    predict,
    read_equalisation,
    read_matrix,
    write_matrix,
)
from firstlight.detectors.velo.noise import FITS, decode, fit_noise, moments
from firstlight.detectors.velo.noise_kernels import counter_table
from firstlight.detectors.velo.trims import trim_law
from firstlight.detectors.velo.views_noise import noise_overview, typical_pixel
from firstlight.errors import InputError, InputsRefusedError, UsageError

CHIP = "Module2_VP1-0"
N = 65536


def write_scan(path, mean, seed, *, step=4, points=60, width=8.0):
    """Write a raw noise scan with hits in a corner of the chip, and return its counts."""
    rng = np.random.default_rng(seed)
    first = int(path.name.split("_Scan_")[1].split("_")[1])
    thresholds = first - step * np.arange(points)
    counts = np.zeros((points, 256, 256), dtype=np.uint8)
    side = mean.shape[0]
    rate = 85 * np.exp(-0.5 * ((thresholds[:, None, None] - mean) / width) ** 2)
    counts[:, :side, :side] = np.minimum(rng.poisson(rate), 63)
    state = (
        np.argsort(counter_table()).astype(np.uint32)[counts].transpose(0, 2, 1).reshape(points, 256, 64, 4)
    )
    word = (state[..., 0] << 18) | (state[..., 1] << 12) | (state[..., 2] << 6) | state[..., 3]
    content = np.stack([word >> 16, word >> 8 & 255, word & 255], axis=-1).astype(np.uint8).tobytes()
    path.write_bytes(lzma.compress(content, preset=0) if path.suffix == ".xz" else content)
    return counts


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Return scans at trim 0 and trim 15 of a chip that obeys the cubic law, and its true means."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(41)
    low = rng.normal(1298, 18, (64, 64))
    high = low + rng.normal(232.5, 6, low.shape)
    trim0 = folder / f"{CHIP}_ECS_Scan_Trim0_1420_4_60_1of1.dat"
    trim15 = folder / f"{CHIP}_ECS_Scan_TrimF_1650_4_60_1of1.dat.xz"
    counts = write_scan(trim0, low, 1), write_scan(trim15, high, 2)
    return {"trim0": trim0, "trimF": trim15, "low": low, "high": high, "counts": counts}


def run(command, *arguments):
    """Return the outcome of a command that ends well."""
    outcome = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert outcome.exception is None, outcome.output + repr(outcome.exception)
    return outcome


def refused(command, *arguments):
    """Return the error of a command that is refused."""
    outcome = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert outcome.exception is not None
    return outcome.exception


def test_decode_writes_what_the_original_writes(scans, tmp_path):
    outcome = run(noise, "decode", scans["trim0"], "-o", tmp_path)
    counts = scans["counts"][0]
    assert f"hits                   {counts.sum(dtype=np.int64):,}" in outcome.output
    assert f"pixels without a hit   {N - 64 * 64:,}" in outcome.output
    assert f"readings at 63         {(counts == 63).sum():,}" in outcome.output
    found = moments(decode(scans["trim0"]))
    name = f"{CHIP}_Trim0"
    mean = (tmp_path / f"{name}_Noise_Mean.csv").read_text()
    assert mean.startswith(f"{found.whole_mean[0]:04d}, {found.whole_mean[1]:04d}, ")
    np.testing.assert_array_equal(read_matrix(tmp_path / f"{name}_Noise_Mean.csv"), found.whole_mean)
    width = (tmp_path / f"{name}_Noise_Width.csv").read_text()
    assert width.startswith(f"{found.whole_width[0]:05.2f}, ")
    with np.load(tmp_path / f"{name}_counts.npz") as content:
        np.testing.assert_array_equal(content["counts"], counts)
        assert content["thresholds"][[0, -1]].tolist() == [1420, 1184]
    # twice the same: the same bytes
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run(noise, "decode", scans["trim0"], "-o", tmp_path, "-q")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_decode_of_several_files_names_what_was_refused(scans, tmp_path):
    bad = tmp_path / "Module2_VP1-0_ECS_Scan_Trim5_1420_4_60_1of1.dat"
    bad.write_bytes(b"short")
    arguments = ("decode", scans["trim0"], bad, scans["trimF"], "-o", tmp_path / "out", "--json")
    outcome = CliRunner().invoke(noise, [str(argument) for argument in arguments])
    assert isinstance(outcome.exception, InputsRefusedError)
    assert outcome.exception.exit_status == 3
    assert "none is complete" in str(outcome.exception)
    told = json.loads(outcome.output)
    assert [entry["name"] for entry in told["scans"]] == [f"{CHIP}_Trim0", f"{CHIP}_TrimF"]
    assert told["scans"][0]["hits"] == scans["counts"][0].sum(dtype=np.int64)
    assert told["scans"][0]["silent_pixels"] == N - 64 * 64
    assert told["scans"][0]["moment_mean"] == pytest.approx(scans["low"].mean(), abs=0.1)
    assert told["refused"][0]["file"] == str(bad)
    assert (tmp_path / "out" / f"{CHIP}_TrimF_Noise_Mean.csv").is_file()
    run(noise, *arguments, "--allow-bad", 1)
    error = refused(noise, "decode", bad)
    assert isinstance(error, InputError)
    assert error.where == str(bad)


def test_scans_of_one_name_do_not_overwrite_each_other(scans, tmp_path):
    other = tmp_path / f"{CHIP}_ECS_Scan_Trim0_1424_4_60_1of1.dat"
    write_scan(other, scans["low"][:4, :4], 9)
    copy = tmp_path / scans["trim0"].name
    copy.write_bytes(scans["trim0"].read_bytes())
    outcome = run(noise, "decode", scans["trim0"], other, copy, "-o", tmp_path / "out", "--json")
    names = [entry["name"] for entry in json.loads(outcome.output)["scans"]]
    assert names == [f"{CHIP}_Trim0", f"{CHIP}_ECS_Scan_Trim0_1424_4_60", f"{CHIP}_ECS_Scan_Trim0_1420_4_60"]
    assert len(list((tmp_path / "out").glob("*_counts.npz"))) == 3


def test_fit_writes_a_table_groups_and_a_picture(scans, tmp_path):
    outcome = run(noise, "fit", scans["trim0"], "-o", tmp_path, "--pixel", 3, 5, "--threads", 1, "--json")
    told = json.loads(outcome.output)["scans"][0]
    assert told["status"] == {"no hits": N - 4096, "ok": 4096}
    assert told["width_median"] == pytest.approx(8.0, abs=0.05)
    assert told["mean_median"] == pytest.approx(np.median(scans["low"]), abs=1.0)
    frame = pl.read_parquet(tmp_path / f"{CHIP}_Trim0_noise_fits.parquet")
    FITS.validate(frame)
    assert frame.equals(fit_noise(decode(scans["trim0"])).frame)
    good = frame.filter(pl.col("status") == "ok")
    true = scans["low"][good["row"].to_numpy(), good["column"].to_numpy()]
    pull = (good["mean"].to_numpy() - true) / good["mean_error"].to_numpy()
    assert abs(pull.mean()) < 0.06
    assert 0.95 < pull.std() < 1.06
    groups = pl.read_csv(tmp_path / f"{CHIP}_Trim0_noise_groups.csv")
    assert groups.filter(pl.col("group") == "all")["n_pixels"].to_list() == [4096]
    with Image.open(tmp_path / f"{CHIP}_Trim0_noise.png") as picture:
        assert picture.size == (1650, 946)
        assert np.unique(np.asarray(picture).reshape(-1, 3), axis=0).shape[0] > 100
    assert set(told["files"]) == {path.name for path in tmp_path.iterdir()}
    outcome = run(noise, "fit", scans["trim0"], "-o", tmp_path / "plain", "--no-plots")
    assert "4,096 ok" in outcome.output
    assert not list((tmp_path / "plain").glob("*.png"))


def test_the_real_scan_has_its_check_numbers(sample_data, tmp_path):
    path = sample_data / "velo/velopix_noise_scan/ECS_Scan_Trim0_1360_2_55_repeatA.dat.xz"
    outcome = run(noise, "decode", path, "-o", tmp_path)
    for number in ("43,242,739", "1,409", "395,097", "20,775 at the lowest", "1298.461 ± 28.720 DAC"):
        assert number in outcome.output


def test_a_scan_without_any_hit_can_be_drawn(tmp_path):
    path = tmp_path / f"{CHIP}_ECS_Scan_Trim0_1420_4_60_1of1.dat"
    write_scan(path, np.zeros((1, 1)), 1)
    outcome = run(noise, "fit", path, "-o", tmp_path / "out")
    assert "65,536 no hits" in outcome.output
    assert (tmp_path / "out" / f"{CHIP}_Trim0_noise.png").is_file()
    run(noise, "fit", path, "-o", tmp_path / "out", "--json")


def test_a_pixel_that_does_not_exist_is_refused(scans):
    scan = decode(scans["trim0"])
    fits = fit_noise(scan)
    row, column = typical_pixel(fits)
    assert max(row, column) < 64
    with pytest.raises(UsageError, match="no pixel in row 3, column 256"):
        noise_overview(scan, fits, (3, 256))


def test_mistyped_verbs_are_guessed():
    outcome = CliRunner().invoke(noise, ["decde"])
    assert outcome.exit_code == 2
    assert "Did you mean decode?" in outcome.output


# --- equalise


def test_equalise_from_raw_scans_reaches_the_target(scans, tmp_path):
    outcome = run(equalise, scans["trim0"], scans["trimF"], "-o", tmp_path, "--rule", "cubic", "--json")
    told = json.loads(outcome.output)
    assert told["means"] == "fit"
    assert told["mask_codes"] == {"1": N - 4096}
    assert told["target"] == pytest.approx((scans["low"].mean() + scans["high"].mean()) / 2, abs=0.05)
    found = read_equalisation(tmp_path, CHIP)
    good = found.mask == 0
    assert good.sum() == 4096
    np.testing.assert_allclose(found.trim0_mean[good], scans["low"].ravel(), atol=2.0)
    true = scans["low"] + trim_law(found.trim.reshape(256, 256)[:64, :64]) * (scans["high"] - scans["low"])
    predicted = found.predicted_mean.reshape(256, 256)[:64, :64]
    assert abs((predicted - true).mean()) < 0.05
    # evenly spread over a step, which is 13.9 DAC in the middle of the cubic law
    assert true.std() == pytest.approx(13.9 / np.sqrt(12), abs=0.15)
    assert (tmp_path / f"{CHIP}_Matrix_TP.csv").is_file()
    np.testing.assert_allclose(choose(found).value[good], found.predicted_mean[good], atol=0.0101)
    # written with two decimals: nothing is added
    assert "0.5 DAC added" not in choose(found, "cubic").source


def test_equalise_legacy_is_that_of_the_original(scans, tmp_path):
    outcome = run(equalise, scans["trim0"], scans["trimF"], "-o", tmp_path, "--rule", "legacy16")
    assert "65,536" not in outcome.output
    assert "no response in either scan" in outcome.output
    found = read_equalisation(tmp_path, CHIP)
    low, high = (moments(decode(scans[name])).whole_mean for name in ("trim0", "trimF"))
    both = (low > 0) & (high > 0)
    np.testing.assert_array_equal(found.trim0_mean[both], low[both])
    target = (int(low[both].mean()) + int(high[both].mean())) // 2
    assert f"target         {target:.1f} DAC" in outcome.output
    trim = np.floor((target - low[both]) / ((high - low)[both] / 16) + 0.5)
    good = (found.mask == 0)[both]
    np.testing.assert_array_equal(found.trim[both][good], trim[good])
    expected = predict(low[both], high[both], trim, "legacy16", whole=True)
    np.testing.assert_array_equal(found.predicted_mean[both][good], expected[good])
    text = (tmp_path / f"{CHIP}_TrimBest_Noise_Predict.csv").read_text()
    assert text.startswith(f"{int(found.predicted_mean[0]):04d}, ")


def test_equalise_from_means_that_were_decoded_before(scans, tmp_path):
    run(noise, "decode", scans["trim0"], scans["trimF"], "-o", tmp_path / "decoded", "-q")
    means = [tmp_path / "decoded" / f"{CHIP}_{trim}_Noise_Mean.csv" for trim in ("Trim0", "TrimF")]
    outcome = run(equalise, *means, "-o", tmp_path / "out", "--target", 1411.5)
    assert "0.5 DAC was added" in outcome.output
    assert "target         1411.5 DAC" in outcome.output
    found = read_equalisation(tmp_path / "out", CHIP)
    assert found.trim0_width is not None
    good = found.mask == 0
    low, high = (read_matrix(path)[good] + 0.5 for path in means)
    np.testing.assert_allclose(
        found.predicted_mean[good], predict(low, high, found.trim[good], "linear15"), atol=0.006
    )
    run(equalise, *means, "-o", tmp_path / "legacy", "--rule", "legacy16", "-q")
    raw = tmp_path / "raw"
    run(equalise, scans["trim0"], scans["trimF"], "-o", raw, "--rule", "legacy16", "-q")
    for path in raw.iterdir():
        assert (tmp_path / "legacy" / path.name).read_bytes() == path.read_bytes(), path.name


def test_equalise_refuses_what_does_not_fit(scans, tmp_path):
    other = tmp_path / scans["trimF"].name.replace(CHIP, "Module3_VP0-1")
    other.write_bytes(scans["trimF"].read_bytes())
    error = refused(equalise, scans["trim0"], other, "-o", tmp_path / "out")
    assert isinstance(error, InputError)
    assert "one scan is of Module2_VP1-0, the other of Module3_VP0-1" in str(error)
    silent = write_matrix(tmp_path / "a_Noise_Mean.csv", np.zeros(N), form="%04d", separator=", ")
    error = refused(equalise, silent, silent, "-o", tmp_path / "out")
    assert isinstance(error, UsageError)
    assert "--prefix" in str(error)
    error = refused(equalise, silent, silent, "-o", tmp_path / "out", "--prefix", CHIP)
    assert isinstance(error, InputError)
    assert "no pixel responds" in str(error)
    error = refused(equalise, tmp_path / "none.csv", silent, "-o", tmp_path / "out")
    assert error.exit_status == 3
    assert not (tmp_path / "out").exists()
