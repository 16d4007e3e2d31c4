"""Codes to times: the formula, and what CAL is averaged over."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from firstlight.detectors.etroc import times
from firstlight.detectors.etroc.tables import CALIBRATION, TIMED
from firstlight.errors import InputError, UsageError


def hits(event, board, cal, *, channel=None, col=None, toa=None, tot=None):
    size = len(cal)
    return pl.DataFrame(
        {
            "event": np.asarray(event, dtype=np.uint32),
            "board": np.broadcast_to(board, size).astype(np.uint8),
            "channel": np.broadcast_to(0 if channel is None else channel, size).astype(np.int32),
            "file": np.zeros(size, dtype=np.uint16),
            "col": np.broadcast_to(0 if col is None else col, size).astype(np.uint8),
            "toa": np.broadcast_to(148 if toa is None else toa, size).astype(np.uint16),
            "tot": np.broadcast_to(99 if tot is None else tot, size).astype(np.uint16),
            "cal": np.asarray(cal, dtype=np.uint16),
        }
    )


@pytest.mark.parametrize("cal", times.CALIBRATIONS)
def test_the_formula(cal):
    frame = hits(np.arange(40), 0, np.full(40, 140), tot=np.tile([99, 31, 32, 64], 10))
    found, calibration = times.convert_times(frame, np.ones(40, dtype=bool), cal=cal)
    TIMED.validate(found)
    CALIBRATION.validate(calibration)
    width = 3.125 / 140
    assert found["toa_ns"].to_list() == pytest.approx([12.5 - 148 * width] * 40)
    assert found["toa_ns"][0] == pytest.approx(9.196, abs=5e-4)
    assert found["tot_ns"].to_list() == pytest.approx([195 * width, 62 * width, 63 * width, 126 * width] * 10)
    assert found["tot_ns"][0] == pytest.approx(4.353, abs=5e-4)
    assert calibration["cal"].to_list() == [140]


def test_all_codes_by_loop():
    tot = np.arange(512)
    _, over = times.convert(tot, tot, 1.0)
    assert over.tolist() == [2 * code - code // 32 for code in range(512)]


def test_mean_and_median_are_over_accepted_hits_and_convert_all():
    frame = hits([0, 1, 2, 3], [0, 0, 0, 0], [100, 110, 150, 900])
    accepted = np.array([True, True, True, False])
    for cal, expected in (("mean", 120.0), ("median", 110.0)):
        found, calibration = times.convert_times(frame, accepted, cal=cal)
        assert calibration["cal"].to_list() == [expected]
        assert calibration["hits"].to_list() == [3]
        assert found["bin_ns"].to_list() == [3.125 / expected] * 4
    assert calibration["cal_std"][0] == pytest.approx(np.std([100, 110, 150], ddof=1))


def test_a_code_of_0_gives_no_time_and_moves_no_average():
    frame = hits(np.arange(50), 0, [0] * 10 + [140] * 40)
    accepted = np.ones(50, dtype=bool)
    found, _ = times.convert_times(frame, accepted, cal="event")
    assert found["toa_ns"].null_count() == found["bin_ns"].null_count() == found["tot_ns"].null_count() == 10
    for cal in ("robust", "mean", "board", "median"):
        _, calibration = times.convert_times(frame, accepted, cal=cal)
        assert calibration["cal"].to_list() == [140]


def test_robust_mean_is_over_codes_beside_the_most_frequent_one():
    rng = np.random.default_rng(2)
    cal = np.rint(rng.normal(170.3, 0.6, 5000)).astype(int)
    cal[::20] = rng.integers(20, 900, 250)
    frame = hits(np.arange(5000), 0, cal)
    _, calibration = times.convert_times(frame, np.ones(5000, dtype=bool), events_per_slice=5000)
    mode = np.bincount(cal).argmax()
    core = cal[abs(cal - mode) <= 3]
    assert calibration["cal"][0] == pytest.approx(core.mean(), abs=1e-9)
    assert calibration["cal_std"][0] == pytest.approx(core.std(ddof=1), abs=1e-9)
    assert calibration["cal_error"][0] == pytest.approx(core.std(ddof=1) / np.sqrt(core.size), abs=1e-9)
    assert calibration["hits"][0] == core.size
    assert abs(calibration["cal"][0] - 170.3) < 5 * calibration["cal_error"][0]
    assert abs(cal.mean() - 170.3) > 5


def test_pixels_and_slices_have_their_own_calibration():
    rng = np.random.default_rng(4)
    size, events = 40000, 10000
    event = np.sort(rng.integers(0, events, size))
    channel = rng.integers(0, 4, size)
    truth = np.array([170.0, 171.0, 179.0, 178.0])[channel] + 4.0 * event / events
    frame = hits(event, channel // 2, np.rint(rng.normal(truth, 0.5)), channel=channel, col=4 * channel)
    accepted = np.ones(events, dtype=bool)
    found, calibration = times.convert_times(frame, accepted)
    n_slices = calibration["slice"].n_unique()
    assert n_slices == 10000 // 2000
    assert calibration.height == 4 * n_slices
    assert calibration["first_event"].unique().sort().to_list() == [0, 2000, 4000, 6000, 8000]
    got = 3.125 / found["bin_ns"].to_numpy()
    # within a slice CAL moves by 0.8
    assert np.abs(got - truth).max() < 0.5
    shuffled = rng.permutation(size)
    again, _ = times.convert_times(frame[shuffled], accepted)
    np.testing.assert_array_equal(again["bin_ns"].to_numpy(), found["bin_ns"].to_numpy()[shuffled])
    halves, _ = times.convert_times(frame, accepted, events_per_slice=5000)
    assert halves["bin_ns"].n_unique() == 8


def test_few_hits_fall_back_to_run_half_and_board():
    # channel 0: 100 hits, but 3 in the second slice; 1: 2 hits, same half; 2: 2 hits, other half with 60 hits of channel 3;
    # board 1: channel 4 has 2 hits in half 0 and channel 5 60 hits in half 1
    parts = [
        (np.r_[np.arange(97), 150, 151, 152], 0, 0, 0, 170),
        (np.array([5, 6]), 0, 1, 7, 175),
        (np.array([5, 6]), 0, 2, 8, 185),
        (np.r_[np.arange(30), np.arange(100, 130)], 0, 3, 15, 180),
        (np.array([5, 6]), 1, 4, 0, 150),
        (np.r_[np.arange(30), np.arange(100, 130)], 1, 5, 9, 160),
    ]
    frame = pl.concat(
        hits(event, board, np.full(event.size, cal), channel=channel, col=col)
        for event, board, channel, col, cal in parts
    )
    found, calibration = times.convert_times(frame, np.ones(200, dtype=bool), events_per_slice=100)
    used = dict(zip(frame["channel"].to_list(), (3.125 / found["bin_ns"]).round(9).to_list(), strict=True))
    assert used == {0: 170, 1: 170, 2: 180, 3: 180, 4: 160, 5: 160}
    by_row = {(row["channel"], row["slice"]): row["hits"] for row in calibration.iter_rows(named=True)}
    assert by_row[0, 0] == 97
    assert by_row[0, 1] == 100
    assert by_row[2, 0] == 60


def test_a_board_without_accepted_hits_has_no_times():
    frame = hits([0, 1] * 30, [0, 1] * 30, [140] * 60)
    for cal in ("robust", "board", "mean", "median"):
        found, calibration = times.convert_times(frame, np.array([True, False]), cal=cal)
        assert found.filter(pl.col("board") == 1)["toa_ns"].null_count() == 30
        assert found.filter(pl.col("board") == 0)["toa_ns"].null_count() == 0
        assert calibration.filter(pl.col("board") == 1)["cal"].to_list() == [None]


@pytest.mark.parametrize("cal", times.CALIBRATIONS)
def test_no_hits(cal):
    found, calibration = times.convert_times(hits([], 0, []), np.ones(3, dtype=bool), cal=cal)
    assert found.height == calibration.height == 0
    TIMED.validate(found)
    CALIBRATION.validate(calibration)


def test_wrong_calls_are_refused():
    frame = hits([0, 5], 0, [140, 140])
    with pytest.raises(UsageError, match="robust"):
        times.convert_times(frame, np.ones(6, dtype=bool), cal="pixels")
    with pytest.raises(UsageError):
        times.convert_times(frame, np.ones(6, dtype=bool), min_hits=0)
    with pytest.raises(InputError, match="event 5"):
        times.convert_times(frame, np.ones(5, dtype=bool))
