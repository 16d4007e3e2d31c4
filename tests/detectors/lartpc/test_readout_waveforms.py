"""Tiles that trigger themselves, waveforms, dead time, and truth fractions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from firstlight.detectors.lartpc.drift import Drifted, drift
from firstlight.detectors.lartpc.medium import PRESETS
from firstlight.detectors.lartpc.readout.designs import design
from firstlight.detectors.lartpc.readout.waveforms import OTHERS, Clock, read_waveforms
from firstlight.errors import InputError, UsageError

MEDIUM = PRESETS["dune87K"]
SILENT = design("GAMPixD", {"pixels.noise": 1e-9, "coarse_tiles.noise": 1e-9})
# thresholds as of the design, noise none
QUIET = design(SILENT, {"pixels.threshold_sigma": 2e11, "coarse_tiles.threshold_sigma": 2.5e11})


def arrived(time, num_e, x=0.0, y=0.0):
    """Return charge that arrives at given times [us]."""
    time, num_e = np.asarray(time, dtype=float), np.asarray(num_e)
    positions = np.stack(
        [np.broadcast_to(x, time.shape), np.broadcast_to(y, time.shape), np.zeros(time.shape)]
    )
    return Drifted(positions.astype(float), num_e, time, np.arange(time.size), MEDIUM, 0.0, 0.0, 1.0)


def test_waveform_begins_three_ticks_before_its_trigger():
    read = read_waveforms(arrived([100.2, 101.3, 105.0], [100, 400, 300]), QUIET, 1)
    # 100 electrons alone are below 250; with those that follow the window is not, but the tick is
    assert read.tiles.time.tolist() == [101.0 - 1.5]
    assert read.tiles.charge_true.tolist() == [[0, 100, 0, 400] + [0] * 7 + [300] + [0] * 8]
    assert read.tiles.charge == pytest.approx(read.tiles.charge_true, abs=1e-6)
    assert read.pixels.charge_true.tolist() == read.tiles.charge_true.tolist()
    assert read.tiles.index.tolist() == [[0], [0]]
    assert (read.unread, read.below, read.drifted) == (0, 0, 800)


def test_tick_and_window_must_both_be_above_threshold():
    # 20 ticks of 100 electrons: the window has 2000, no tick has 250
    slow = arrived(50 + 0.5 * np.arange(20), np.full(20, 100))
    read = read_waveforms(slow, QUIET, 1)
    assert len(read.tiles) == len(read.pixels) == 0
    assert read.unread == 2000
    assert read.tiles.charge.shape == (0, 20)
    assert len(read_waveforms(slow, QUIET, 1, clock=Clock(interval=2.0)).tiles) == 1


def test_long_signals_are_cut_into_waveforms_and_dead_time_loses_charge():
    times = 50.25 + 0.5 * np.arange(60)
    long = arrived(times, np.full(60, 1000))
    read = read_waveforms(long, QUIET, 1)
    # three ticks before the first trigger, and no gap after a waveform
    assert read.tiles.time.tolist() == [48.5, 58.5, 68.5, 78.5]
    assert read.tiles.charge_true.sum(axis=1).tolist() == [17_000, 20_000, 20_000, 3000]
    assert read.unread == 0
    dead = read_waveforms(long, QUIET, 1, clock=Clock(dead_time=2.0))
    assert dead.tiles.time.tolist() == [48.5, 60.5, 72.5]
    assert dead.unread == 2 * 4 * 1000
    assert dead.unread + dead.below + int(dead.pixels.charge_true.sum()) == 60_000


def test_pixels_below_threshold_are_not_kept():
    drifted = arrived([100, 100, 100], [4000, 150, 260], x=np.array([0.0, 10e-3, 20e-3]))
    read = read_waveforms(drifted, QUIET, 1)
    assert read.tiles.charge_true.sum() == 4410
    assert read.pixels.charge_true.sum(axis=1).tolist() == [4000, 260]
    assert read.pixels.positions[0] == pytest.approx([0.0, 20e-3])
    assert read.pixels.tile.tolist() == [0, 0]
    assert read.below == 150


def test_tiles_trigger_by_themselves():
    drifted = arrived([100, 250, 100], [4000, 4000, 4000], x=np.array([0.0, 0.0, 0.11]))
    read = read_waveforms(drifted, QUIET, 1)
    assert read.tiles.index[0].tolist() == [0, 0, 1]
    assert read.tiles.time.tolist() == [98.5, 248.5, 98.5]
    assert read.pixels.tile.tolist() == [0, 1, 2]
    assert read.pixels.time.tolist() == [98.5, 248.5, 98.5]
    # the tile of 20 pixels begins ten and a half pixels below zero
    assert read.tiles.positions[0] == pytest.approx([-2.5e-3, -2.5e-3, 97.5e-3])


def test_truth_fractions():
    drifted = arrived([100.1, 100.2, 100.3, 103.0], [3000, 1000, 500, 400])
    read = read_waveforms(drifted, QUIET, 1, labels=[11, 22, 22, 7])
    assert read.labels.tolist() == [11, 22, 7]
    assert read.tiles.fraction[0, 3] == pytest.approx([3 / 4.5, 1.5 / 4.5, 0])
    assert read.tiles.fraction[0, 9] == pytest.approx([0, 0, 1])
    filled = read.tiles.charge_true > 0
    assert read.tiles.fraction.sum(axis=2)[filled] == pytest.approx(1.0)
    assert (read.tiles.fraction[~filled] == 0).all()
    few = read_waveforms(drifted, QUIET, 1, labels=[11, 22, 22, 7], n_labels=2)
    assert few.labels.tolist() == [11, OTHERS]
    assert few.tiles.fraction[0, 3] == pytest.approx([3 / 4.5, 1.5 / 4.5])
    assert few.tiles.fraction[0, 9] == pytest.approx([0, 1])


def test_start_times_are_added():
    drifted = arrived([100.1, 100.1], [3000, 3000])
    read = read_waveforms(drifted, QUIET, 1, start=[0.0, 1000.0])
    assert read.tiles.time.tolist() == [98.5, 1098.5]
    # times of points whose charge was lost are not asked for
    assert len(read_waveforms(drifted, QUIET, 1, start=np.zeros(9)).tiles) == 1
    with pytest.raises(InputError, match="1 times, but charge of point 1"):
        read_waveforms(drifted, QUIET, 1, start=[0.0])


def test_noise_is_on_all_samples_and_decides_only_where_asked_for():
    drifted = arrived([100.1], [3000])
    tiles, pixels = [], []
    for seed in range(300):
        read = read_waveforms(drifted, "GAMPixD", seed)
        tiles.append(read.tiles.charge - read.tiles.charge_true)
        pixels.append(read.pixels.charge - read.pixels.charge_true)
    for values in (np.concatenate(tiles), np.concatenate(pixels)):
        assert values.size == 6000
        assert values.std() == pytest.approx(50, rel=3.5 / math.sqrt(2 * 6000))
        assert abs(values.mean()) < 3.5 * 50 / math.sqrt(6000)
    # 250 electrons are at the threshold of a tile: noise lets half of them pass
    edge = arrived([100.1], [250])
    assert len(read_waveforms(edge, "GAMPixD", 1).tiles) == 0
    passed = sum(
        len(read_waveforms(edge, "GAMPixD", seed, discriminator_noise=True).tiles) for seed in range(400)
    )
    assert abs(passed - 200) < 3.5 * 10


def test_noise_of_the_window_vetoes_where_triggers_are_noisy():
    # 300 electrons in a tick, and an electron 19 ticks later: noise of 20 ticks is in the window
    drifted = arrived([100.1, 109.6], [300, 1])
    n = 400
    passed = sum(
        len(read_waveforms(drifted, "GAMPixD", seed, discriminator_noise=True).tiles) > 0 for seed in range(n)
    )
    tick, rest = np.meshgrid(*[np.linspace(-5, 5, 1001)] * 2)
    weight = np.exp(-(tick**2 + rest**2) / 2)
    both = (300 + 50 * tick > 250) & (301 + 50 * tick + 50 * math.sqrt(19) * rest > 250)
    share = float(weight[both].sum() / weight.sum())
    assert share == pytest.approx(0.52, abs=0.01)
    assert abs(passed - n * share) < 3.5 * math.sqrt(n * share * (1 - share))


@pytest.mark.parametrize("name", ["GAMPixG", "GAMPixD"])
def test_every_electron_is_in_a_waveform_or_accounted_for(name):
    rng = np.random.default_rng(1)
    positions, num_e = rng.normal(0, 0.02, (3, 3000)), rng.integers(1, 60, 3000)
    drifted = drift(positions, num_e, MEDIUM, 2, anode=0.2, depth=0.3)
    read = read_waveforms(drifted, name, 3, labels=np.arange(3000) % 5)
    assert read.unread + read.below + read.pixels.charge_true.sum() == drifted.charge == read.drifted
    assert read.tiles.charge_true.sum() == drifted.charge - read.unread
    by_tile = np.bincount(
        read.pixels.tile, weights=read.pixels.charge_true.sum(axis=1), minlength=len(read.tiles)
    )
    assert (by_tile <= read.tiles.charge_true.sum(axis=1)).all()
    again = read_waveforms(drifted, name, 3, labels=np.arange(3000) % 5)
    assert np.array_equal(read.pixels.charge, again.pixels.charge)
    # no two waveforms of a tile overlap
    order = np.lexsort((read.tiles.time, *read.tiles.index))
    same = (np.diff(read.tiles.index[:, order], axis=1) == 0).all(axis=0)
    assert (np.diff(read.tiles.time[order])[same] >= 10.0).all()


def test_nothing_arrived_gives_no_waveforms():
    read = read_waveforms(arrived([], np.zeros(0, dtype=int)), "GAMPixD", 1, labels=np.zeros(4, dtype=int))
    assert len(read.tiles) == len(read.pixels) == read.drifted == read.unread == read.below == 0


def test_wrong_arguments():
    drifted = arrived([100.0], [1000])
    with pytest.raises(UsageError, match="no tiles") as caught:
        read_waveforms(drifted, "LArPix", 1)
    assert "GAMPixD" in caught.value.known
    with pytest.raises(InputError, match="0 labels, but charge of point 0"):
        read_waveforms(drifted, QUIET, 1, labels=np.zeros(0, dtype=int))
    with pytest.raises(InputError, match="float64"):
        read_waveforms(drifted, QUIET, 1, labels=[0.5])
    for changes in ({"interval": 0.0}, {"samples": 0}, {"before": 20}, {"dead_time": -1.0}):
        with pytest.raises(UsageError):
            Clock(**changes)
