"""Two scans of a chip held against each other: halves agree, what was planted is found."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import firstlight
from firstlight.cli.main import cli
from firstlight.data.schema import Table
from firstlight.detectors.velo.simulate import simulate
from firstlight.run.chain import Settings
from firstlight.run.comparison import compare_runs
from firstlight.run.progress import silent
from firstlight.run.store import open_run

QUIET = Settings(progress=silent(), plots=False)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Return the scan and the runs of its odd and of its even acquisitions: independent counts of the same chip."""
    folder = tmp_path_factory.mktemp("repeated")
    (scan,) = simulate(folder, seed=2071, step=4, acquisitions=12, rate=5.0, faults=("masked", "silent"))
    runs = []
    for number in (0, 1):
        exclude = {"scan": {"exclude": f"acq % 2 == {number}"}}
        runs.append(
            firstlight.process(scan, folder / f"run{number}", configuration=exclude, plots=False, quiet=True)
        )
    return scan, *runs


def copied(run, folder, change):
    """Return a copy of a run whose calibrated pixels were changed."""
    shutil.copytree(run.folder, folder)
    copy = open_run(folder)
    entry = copy["calibration/pixels"]
    frame = change(entry.to_polars())
    copy.put("calibration/pixels", Table(frame, entry.value.schema), dict(entry.provenance))
    copy.save()
    return copy


def attention(run):
    return {
        (check["name"], check["subject"])
        for check in run.record["checks"]
        if check["verdict"] in ("warn", "bad")
    }


def test_halves_of_a_scan_agree(halves, tmp_path):
    _, new, old = halves
    found = CliRunner().invoke(
        cli, ["compare", str(new.folder), str(old.folder), "-o", str(tmp_path / "c"), "--fail-on", "warn"]
    )
    assert found.exit_code == 0, (found.output, found.exception)
    run = open_run(tmp_path / "c")
    assert attention(run) == set()
    columns = {row["column"]: row for row in run["constants/columns"].to_polars().iter_rows(named=True)
               if row["product"] != "baseline/pixels"}  # fmt: skip
    assert set(columns) == {"step", "slope", "width", "position", "baseline", "target", "gain"}
    # one equalisation for both
    assert columns.pop("baseline")["state"] == "identical"
    for row in columns.values():
        assert row["n_compared"] > 58_000
        assert row["n_changed"] == 0
        assert row["pull_width"] == pytest.approx(1.0, abs=0.05)
        assert abs(row["mean_difference"]) < 4 * row["mean_error"]
    assert columns["gain"]["mean_error"] < 0.002
    regions = run["constants/regions"].to_polars()
    assert regions.height == 6 * 256
    for _, part in regions.group_by("column"):
        assert part["pull"].std() == pytest.approx(1.0, abs=0.15)
    assert [figure["name"] for figure in run.record["figures"]] == [
        "constants_differences", "constants_map", "constants_old_and_new",
    ]  # fmt: skip


def test_gains_of_a_block_that_changed_are_found(halves, tmp_path):
    _, new, old = halves

    def five_percent(frame):
        inside = pl.col("row").is_between(96, 111) & pl.col("column").is_between(128, 143)
        return frame.with_columns(gain=pl.when(inside).then(pl.col("gain") * 1.05).otherwise(pl.col("gain")))

    run = compare_runs(copied(new, tmp_path / "planted", five_percent), old, tmp_path / "c", settings=QUIET)
    assert ("regions changed", "calibration/pixels: gain") in attention(run)
    (region,) = run["constants/regions"].to_polars().filter(state="changed").iter_rows(named=True)
    assert (region["column"], region["region"]) == ("gain", "row 96-111, column 128-143")
    before = old["calibration/pixels"].to_polars()
    inside = before.filter(
        pl.col("row").is_between(96, 111) & pl.col("column").is_between(128, 143), pl.col("good")
    )
    assert region["difference"] == pytest.approx(0.05 * inside["gain"].mean(), rel=0.1)
    changed = run["constants/channels"].to_polars().filter(state="changed")
    assert changed.height > 20
    row, column = np.divmod(changed["channel"].to_numpy(), 256)
    assert set(row // 16) == {6}
    assert set(column // 16) == {8}


def test_pixels_that_are_good_no_more_are_lost(halves, tmp_path):
    _, new, old = halves

    def rows_lost(frame):
        return frame.with_columns(good=pl.col("good") & ~pl.col("row").is_between(100, 105))

    run = compare_runs(copied(new, tmp_path / "planted", rows_lost), old, tmp_path / "c", settings=QUIET)
    assert attention(run) == {("channels lost", "calibration/pixels")}
    lost = run["constants/channels"].to_polars().filter(product="calibration/pixels", state="lost")
    assert np.isin(lost["channel"].to_numpy() // 256, np.arange(100, 106)).sum() > 1450


def test_another_rule_of_the_baseline_shifts_targets_and_gains(halves, tmp_path):
    scan, run, _ = halves
    shutil.copytree(run.folder, tmp_path / "legacy")
    configuration = {"scan": {"exclude": "acq % 2 == 0"}, "baseline": {"choice": "legacy16"}}
    legacy = firstlight.process(
        scan, tmp_path / "legacy", configuration=configuration, plots=False, quiet=True
    )
    found = compare_runs(legacy, run, tmp_path / "c", settings=QUIET)
    shifted = {subject for name, subject in attention(found) if name == "mean of the constants"}
    assert {"calibration/pixels: target", "calibration/pixels: gain"} <= shifted
    rows = {
        (row["product"], row["column"]): row
        for row in found["constants/columns"].to_polars().iter_rows(named=True)
    }
    assert rows["fit/pixels", "position"]["state"] == "identical"
    assert rows["calibration/pixels", "gain"]["relative_shift"] == pytest.approx(-0.08, abs=0.01)
    assert rows["calibration/pixels", "target"]["mean_difference"] == pytest.approx(
        -rows["calibration/pixels", "baseline"]["mean_difference"], rel=1e-6
    )
