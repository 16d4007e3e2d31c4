"""Corrupt frames: those planted in the sample, and toys of many kinds, rates and numbers of acquisitions."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest

from firstlight.detectors.velo.bad_frames import judge, plausibly_empty
from firstlight.detectors.velo.conditions import parse_condition
from firstlight.detectors.velo.frames import list_frames, read_frames
from firstlight.detectors.velo.options import BadFrame
from firstlight.errors import ConfigError, UsageError

SIZE = 256


class Toy:
    """Frames of one threshold: illumination, masked, hot, noisy and blinking pixels, wide columns at the edges."""

    def __init__(
        self, seed: int, n: int, rate: float, *, drift: float = 0.0, edge: bool = False, wide: bool = False
    ):
        rng = np.random.default_rng([20, seed])
        row, column = np.mgrid[:SIZE, :SIZE]
        mean = rate * (1 / (1 + (np.hypot(row - 125, column - 150) / 105) ** 6) + 0.01)
        # half-way up the edge of the peak the rates of pixels differ by as much as they are
        mean *= np.clip(rng.normal(1, 0.5 if edge else 0.05, mean.shape), 0.02, None)
        if wide:
            mean[:, [0, -1]] *= 2.5
            mean[[0, -1]] *= 2.5
        noisy, hot, blinking = (tuple(rng.integers(0, SIZE, (2, number))) for number in (40, 5, 6))
        self.mean = mean
        self.mask = rng.random(mean.shape) < 0.003
        self.frames = np.empty((n, SIZE, SIZE), dtype=np.uint8)
        for index in range(n):
            expected = mean * (1 + drift * (index / max(n - 1, 1) - 0.5))
            expected[noisy] += np.linspace(0.5, 40, 40)
            expected[hot] = 200
            expected[blinking] += np.linspace(5, 80, 6) * (rng.random(6) < 0.3)
            self.frames[index] = np.minimum(rng.poisson(expected), 63)
        self.rng = rng

    def judge(self, **options):
        self.frames[:, self.mask] = 0
        return judge(self.frames, ["read"] * len(self.frames), self.mask, **options)

    def corrupt(self, kind: str, index: int) -> None:  # noqa: C901
        frame, rng = self.frames[index], self.rng
        if kind == "fingerprint":
            frame[:, -1] = 18
            frame[:89, -1] = 19
        elif kind == "random column":
            frame[:, -1] = rng.integers(8, 64, SIZE)
        elif kind == "row":
            frame[77] = rng.integers(0, 64, SIZE)
        elif kind == "row without hits":
            frame[120] = 0
        elif kind == "half without hits":
            frame[128:] = 0
        elif kind == "half full":
            frame[:, :128] = 63
        elif kind == "region without hits":
            frame[128:192, 128:192] = 0
        elif kind == "empty":
            frame[:] = 0
        elif kind == "light leak":
            frame[:] = np.minimum(frame + rng.poisson(0.3 * self.mean + 0.02 * self.mean.max()), 63)
        elif kind == "bits shifted":
            frame[:] = (frame.astype(int) * 2) & 63
        elif kind == "burst":
            row, column = rng.integers(0, 250, 2)
            frame[row : row + 4, column : column + 2] = 63
        elif kind == "track":
            frame[100 + np.arange(40), 60 + np.arange(40) // 8] += 1
        else:
            raise ValueError(kind)


# ---------------------------------------------------------------- the sample


@pytest.fixture(scope="module")
def sample(sample_data, tmp_path_factory):
    """Return the frames of the simulated scan, what became of them, and the truth."""
    folder = tmp_path_factory.mktemp("scan")
    with tarfile.open(sample_data / "velo" / "synthetic_fe55_scan_dev.tar.xz") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            if member.isfile() and "_THR_" in name:
                (folder / name).write_bytes(archive.extractfile(member).read())
    frames = list_frames(folder)
    images, records = read_frames([folder / name for name in frames.names])
    with np.load(sample_data / "velo" / "synthetic_fe55_scan_dev_truth.npz") as content:
        truth = {name: content[name] for name in ("mask", "counts_sum", "good_acq", "thresholds", "events")}
    events = json.loads(str(truth["events"]))
    return frames, images, records, truth, events


def judged(sample, rule, condition):
    frames, images, records, truth, _ = sample
    excluded = parse_condition(condition).matches(frames.threshold, frames.acquisition)
    found: dict[str, list[list[int]]] = {}
    sums, numbers, results = [], [], {}
    for threshold in truth["thresholds"]:
        rows = np.flatnonzero(frames.threshold == threshold)
        statuses = ["excluded" if excluded[row] else records[row].status for row in rows]
        result = judge(images[rows], statuses, truth["mask"] > 0, rule)
        for row, status in zip(rows, result.status, strict=True):
            found.setdefault(status, []).append([int(threshold), int(frames.acquisition[row])])
        good = np.array([status == "good" for status in result.status])
        sums.append(images[rows][good].sum(axis=0, dtype=np.int32).reshape(SIZE, SIZE))
        numbers.append(int(good.sum()))
        results[int(threshold)] = result
    return found, np.array(sums), numbers, results


CONDITION = "(thr == 1485 and acq == 4) or (thr == 1515 and acq == 2)"


def test_the_planted_frames_are_found_by_their_fingerprint(sample):
    found, sums, numbers, results = judged(sample, BadFrame(value=18.34765625), CONDITION)
    truth, events = sample[3:]
    assert found["bad pattern"] == events["bad"]
    assert found["empty"] == events["empty"]
    assert found["truncated"] == events["truncated"]
    assert found["excluded"] == events["condition"]
    assert len(found["good"]) == 200 - 14 - 3 - 2 - 1 - 2
    assert np.array_equal(sums, truth["counts_sum"])
    assert numbers == truth["good_acq"].tolist()
    assert results[1480].last_column_mean == pytest.approx(np.full(8, 18.34765625), abs=1e-12)
    assert results[1480].reason[0] == "mean of column 255 is 18.347656, the fingerprint 18.347656"


def test_and_without_knowing_anything_of_them(sample):
    found, sums, numbers, results = judged(sample, None, "False")
    truth, events = sample[3:]
    assert found["bad pattern"] == events["bad"]
    assert found["empty"] == events["empty"]
    assert found["truncated"] == events["truncated"]
    # what the original needs a condition for: three times as many hits
    assert found["outlier"] == events["condition"]
    assert np.array_equal(sums, truth["counts_sum"])
    assert numbers == truth["good_acq"].tolist()
    for threshold, index, ratio in ((1485, 4, 3.227), (1515, 2, 3.323)):
        total = results[threshold].total
        assert total[index] / np.median(total) == pytest.approx(ratio, abs=0.001)
        assert results[threshold].relative[index] > 3
        assert results[threshold].deviation[index] > 20
    reason = results[1485].reason[results[1485].status.index("outlier")]
    assert reason.startswith("1737780 hits, 538470 are usual in acquisitions around it: +")
    assert "column 255 has (almost) the same reading in all pixels: mean 18.35" in results[1480].reason[0]


def test_without_a_rule_all_frames_that_were_read_are_good(sample):
    found, *_ = judged(sample, BadFrame(rule="none"), "False")
    assert {status: len(each) for status, each in found.items()} == {"good": 196, "truncated": 1}


def test_the_original_loses_good_frames_where_hits_are_rare(sample):
    """At the highest thresholds no hit in the last column is the rule."""
    frames, images, _, truth, _ = sample
    rows = np.flatnonzero(frames.threshold == 1595)
    rule = BadFrame(value=18.34765625)
    mask = truth["mask"] > 0
    assert judge(images[rows], ["read"] * 8, mask, rule).status == ["good"] * 8
    legacy = judge(images[rows], ["read"] * 8, mask, rule, legacy_empty=True)
    assert legacy.status == ["empty" if mean == 0 else "good" for mean in legacy.last_column_mean]
    assert legacy.status.count("empty") == 8


# ---------------------------------------------------------------- toys


@pytest.mark.parametrize(
    ("n", "rate", "drift"),
    [(1, 0.01, 0), (1, 2.0, 0), (2, 0.01, 0), (2, 2.0, 0.02), (3, 0.01, 0.02), (3, 2.0, 0.02), (8, 1e-4, 0.0),
     (8, 0.01, 0.3), (8, 0.5, 0.3), (8, 2.0, 0.1), (8, 20.0, 0.3), (60, 0.3, 0.3)],
)  # fmt: skip
@pytest.mark.parametrize("seed", [101, 102])
def test_no_good_frame_is_rejected(n, rate, drift, seed):
    found = Toy(seed, n, rate, drift=drift, edge=seed % 2 == 1, wide=seed % 2 == 0).judge()
    assert found.status == ["good"] * n, found.reason
    assert found.reason == [""] * n


ALWAYS = [0.01, 0.3, 2.0, 8.0]
# kind of corruption, numbers of acquisitions and rates [hits per pixel and frame] at which it must be found
FOUND = [
    ("fingerprint", (1, 2, 3, 8), ALWAYS),
    ("random column", (2, 3, 8), ALWAYS),
    ("row", (2, 3, 8), ALWAYS),
    ("empty", (1, 2, 3, 8), ALWAYS),
    ("half full", (2, 3, 8), ALWAYS),
    ("row without hits", (3, 8), [2.0, 8.0]),
    ("half without hits", (2, 3, 8), [0.3, 2.0, 8.0]),
    ("region without hits", (3, 8), [0.3, 2.0, 8.0]),
    ("light leak", (3, 8), [2.0, 8.0]),
    ("bits shifted", (3, 8), [2.0, 8.0]),
]


@pytest.mark.parametrize(
    ("kind", "n", "rate"),
    [(kind, n, rate) for kind, numbers, rates in FOUND for n in numbers for rate in rates],
)
def test_the_corrupt_frame_is_found_and_no_other(kind, n, rate):
    seed = 1000 + len(kind) + 17 * n
    toy = Toy(seed, n, rate, edge=n % 2 == 0, wide=n == 3)
    bad = seed % n
    toy.corrupt(kind, bad)
    found = toy.judge()
    expected = {"empty": ("empty",), "light leak": ("outlier",), "bits shifted": ("outlier", "bad pattern")}
    assert found.status[bad] in expected.get(kind, ("bad pattern", "outlier")), found.reason
    assert [status for index, status in enumerate(found.status) if index != bad] == ["good"] * (n - 1)
    assert found.reason[bad] != ""


@pytest.mark.parametrize("rate", ALWAYS)
@pytest.mark.parametrize("kind", ["burst", "track"])
@pytest.mark.parametrize("n", [3, 8])
def test_few_pixels_make_no_frame_bad(kind, rate, n):
    toy = Toy(7 * n + len(kind), n, rate)
    toy.corrupt(kind, 1)
    assert toy.judge().status == ["good"] * n


@pytest.mark.parametrize("n", [1, 2, 8])
@pytest.mark.parametrize("rate", [0.01, 2.0])
def test_what_is_always_there_makes_no_frame_bad(n, rate):
    toy = Toy(55 + n, n, rate)
    toy.frames[:, :, 40] = 0
    toy.frames[:, :, 255] = 0
    toy.frames[:, 200] = 63
    if n > 1:
        toy.frames[:, :, 90] = np.minimum(toy.rng.poisson(12, (n, SIZE)), 63)
    assert toy.judge().status == ["good"] * n


@pytest.mark.parametrize("rate", [0.01, 0.5, 2.0])
@pytest.mark.parametrize(
    ("kind", "n_bad"),
    [
        (kind, n)
        for kind, numbers in (("fingerprint", (4, 5, 7, 8)), ("random column", (4, 5, 8)))
        for n in numbers
    ],
)
def test_most_or_all_frames_corrupt(kind, rate, n_bad):
    toy = Toy(31 + n_bad, 8, rate)
    for index in range(n_bad):
        toy.corrupt(kind, index)
    assert toy.judge().status == ["bad pattern"] * n_bad + ["good"] * (8 - n_bad)


@pytest.mark.parametrize("kind", ["fingerprint", "random column"])
@pytest.mark.parametrize("rate", [0.3, 2.0, 8.0])
@pytest.mark.parametrize("n", [3, 4, 8])
def test_a_dead_column_that_has_hits_in_a_corrupt_frame(n, rate, kind):
    toy = Toy(65 + n, n, rate)
    toy.frames[:, :, -1] = 0
    toy.corrupt(kind, 1)
    assert toy.judge().status == ["good", "bad pattern"] + ["good"] * (n - 2)


def test_the_same_pattern_in_all_frames():
    """Readings differ from pixel to pixel, and are the same in all frames: not counted, either."""
    toy = Toy(77, 8, 1.0)
    toy.frames[:, :, 100] = toy.rng.integers(10, 60, SIZE)
    found = toy.judge()
    assert found.status == ["bad pattern"] * 8
    assert "column 100 has a mean of 3" in found.reason[0]


def test_a_single_frame_with_a_column_far_above_its_neighbours():
    toy = Toy(78, 1, 1.0)
    toy.corrupt("random column", 0)
    assert toy.judge().status == ["bad pattern"]


def test_test_pulses_are_no_corruption():
    """Every pixel of the chip has the same number of pulses."""
    frames = np.full((4, SIZE, SIZE), 10, dtype=np.uint8)
    assert judge(frames, ["read"] * 4, np.zeros((SIZE, SIZE), dtype=bool)).status == ["good"] * 4


def test_a_frame_in_a_scan_of_a_hundred_that_drifts():
    toy = Toy(90, 100, 0.3, drift=0.3)
    for kind, index in (("fingerprint", 3), ("light leak", 50), ("empty", 70), ("random column", 99)):
        toy.corrupt(kind, index)
    found = toy.judge()
    expected = ["good"] * 100
    expected[3] = expected[99] = "bad pattern"
    expected[50], expected[70] = "outlier", "empty"
    assert found.status == expected
    ratio = found.relative[[0, 40, 98]]
    assert ratio == pytest.approx(1, abs=0.05)
    assert found.relative[50] > 1.2
    assert found.deviation[50] > 7
    assert np.isnan(found.relative[[3, 70]]).all()


def test_two_frames_of_which_one_must_be_wrong_are_both_kept_and_told():
    toy = Toy(91, 2, 2.0)
    toy.frames[1] = np.minimum(3 * toy.frames[1].astype(int), 63)
    found = toy.judge()
    assert found.status == ["good", "good"]
    assert all("in the only other frame: one is wrong" in reason for reason in found.reason)


# ---------------------------------------------------------------- frames without hits, masks, arguments


OPEN = np.zeros((8, 8), dtype=bool)


def small(*totals: int) -> np.ndarray:
    frames = np.zeros((len(totals), 64), dtype=np.uint8)
    for frame, total in zip(frames, totals, strict=True):
        frame[:] = np.bincount(np.random.default_rng(total).integers(0, 64, total), minlength=64)
    return frames


def statuses_of(*totals: int, **options) -> list[str]:
    return judge(small(*totals), ["read"] * len(totals), OPEN, **options).status


def test_frames_without_hits():
    assert statuses_of(300, 0, 310, 290) == ["good", "empty", "good", "good"]
    # so few hits that none is no surprise
    assert statuses_of(3, 0, 1, 2) == ["good"] * 4
    # nothing at all: not known, unless somebody says what to expect
    assert statuses_of(0, 0, 0) == ["empty"] * 3
    assert statuses_of(0, 0, 0, expected=0.5) == ["good"] * 3
    assert statuses_of(0, 0, 0, expected=500.0) == ["empty"] * 3
    # one frame with hits among many without: neither can be believed
    assert statuses_of(*[0] * 9, 300) == ["empty"] * 9 + ["outlier"]
    assert statuses_of(0, 300, rule=BadFrame(value=20, column=7)) == ["empty", "good"]
    assert statuses_of(0, 300, rule=BadFrame(rule="none")) == ["good", "good"]
    assert plausibly_empty([0, 0], 3.0)
    assert not plausibly_empty([0, 0], 30.0)
    assert not plausibly_empty([0, 1], 3.0)


def test_masked_pixels_do_not_count():
    frames = np.zeros((2, 8, 8), dtype=np.uint8)
    frames[:, :, 7] = 10
    frames[1, :4, 7] = 63
    mask = OPEN.copy()
    mask[:4, 7] = True
    found = judge(frames, ["read", "read"], mask, BadFrame(value=10.0, column=7))
    assert found.status == ["bad pattern", "bad pattern"]
    assert found.last_column_mean.tolist() == [10.0, 10.0]
    assert found.total.tolist() == [40, 40]
    assert judge(frames, ["read", "read"], OPEN, BadFrame(value=10.0, column=7)).status == [
        "bad pattern",
        "good",
    ]


def test_frames_that_were_not_read_take_no_part():
    frames = small(300, 0, 310, 5, 305)
    statuses = ["read", "truncated", "read", "excluded", "read"]
    found = judge(frames, statuses, OPEN)
    assert found.status == ["good", "truncated", "good", "excluded", "good"]
    assert np.isnan(found.last_column_mean).tolist() == [False, True, False, False, False]
    assert found.total.tolist() == [300, 0, 310, 5, 305]
    nothing = judge(frames[:0], [], OPEN)
    assert nothing.status == []
    assert nothing.total.shape == (0,)


def test_wrong_arguments():
    frames = small(10, 20)
    with pytest.raises(UsageError, match="do not go with"):
        judge(frames, ["read"], OPEN)
    with pytest.raises(UsageError, match="do not go with"):
        judge(frames, ["read"] * 2, np.zeros(64, dtype=bool))
    with pytest.raises(ConfigError, match="there are 8 columns"):
        judge(frames, ["read"] * 2, OPEN, BadFrame(value=3))
    mask = OPEN.copy()
    mask[:, 5] = True
    with pytest.raises(ConfigError, match="all its pixels are masked"):
        judge(frames, ["read"] * 2, mask, BadFrame(value=3, column=5))


def test_a_chip_that_is_masked_whole():
    found = judge(small(10, 20), ["read"] * 2, ~OPEN)
    assert found.total.tolist() == [0, 0]
    assert np.isnan(found.last_column_mean).all()
