"""Files of the camera: numbers of real ones, files that are written and read again, and files that are damaged."""

from __future__ import annotations

import heapq
import importlib.resources
import re
import struct
import sys
import zlib
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.detectors.digicam.camera import N_PIXELS, read_out_order
from firstlight.detectors.digicam.readout import blocks, zfits_table, zfits_writer
from firstlight.detectors.digicam.readout.arrays import ArrayEvents
from firstlight.detectors.digicam.readout.batch import NO_TIME, NO_TYPE, EventBatch
from firstlight.detectors.digicam.readout.fits_units import FULL, add_sums, read_units, sum_of
from firstlight.detectors.digicam.readout.library import Library
from firstlight.detectors.digicam.readout.toy import ToyEvents, write_toy
from firstlight.detectors.digicam.readout.zfits import ZfitsEvents
from firstlight.detectors.digicam.readout.zfits_table import BASELINES, ORDER, SAMPLES, EventTable
from firstlight.detectors.digicam.readout.zfits_writer import write_zfits
from firstlight.errors import InputError, MissingExtraError, SchemaError, UsageError

PIXELS = [0, 1, 100, 425, 700, 1000, 1295]
COLUMNS = [
    "telescopeID", "eventNumber", SAMPLES, ORDER, BASELINES, "local_time_nanosec", "local_time_sec", "event_type",
]  # fmt: skip


@pytest.fixture
def real(sample_data):
    """Return the folder of real zfits files."""
    return sample_data / "digicam" / "zfits"


@pytest.fixture(scope="module")
def shipped():
    """Return the folder of files that come with protozfits."""
    pytest.importorskip("protozfits")
    return Path(str(importlib.resources.files("protozfits") / "tests" / "resources"))


def events_of(path, size=1000, **options):
    """Return all events of a file."""
    with ZfitsEvents(path, **options) as events:
        events.verify()
        return EventBatch.concatenate(events.batches(size=size))


def some_events(n_events, n_samples=50, seed=1, baselines=True):
    """Return events with every kind of number in them that the format can hold."""
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 2**62, n_events)
    number = rng.integers(0, 2**32, n_events)
    event_type = rng.integers(-1, 129, n_events)
    if n_events:
        time[-1], number[0], number[-1] = NO_TIME, 2**32 - 1, 0
    level = rng.integers(200 * 16, 300 * 16, (n_events, N_PIXELS)) / 16
    samples = rng.integers(0, 4096, (n_events, N_PIXELS, n_samples), dtype=np.uint16)
    # so that the scale of baselines can be told
    samples[:, :, : n_samples // 2 + 1] = np.rint(level)[:, :, None]
    return EventBatch.of(samples, number, time, event_type, level if baselines else None)


def assert_same(one, other):
    assert len(one) == len(other)
    for name in ("samples", "number", "time", "event_type"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_array_equal(one.known_baselines(), other.known_baselines())


# -- real files -----------------------------------------------------------------------------------------------


def test_on_sky_events_of_2017(real):
    batch = events_of(real / "example_10_evts.000.fits.fz")
    samples = batch.samples
    assert samples.shape == (10, N_PIXELS, 50)
    assert samples.sum(dtype=np.int64) == 200_889_761
    assert samples.mean() == pytest.approx(310.015063, abs=1e-6)
    assert (samples.min(), samples.max()) == (0, 4095)
    assert batch.number.tolist() == list(range(97_750_287, 97_750_297))
    assert Counter(batch.event_type.tolist()) == {1: 9, 8: 1}
    # floats would have lost the last digits
    assert batch.time[0] == 1_509_415_494_406_789_700
    assert batch.time[-1] - batch.time[0] == 38_500_468
    of_pixel = samples[:, PIXELS].transpose(1, 0, 2).reshape(len(PIXELS), -1)
    means = [247.346, 252.386, 211.6, 236.28, 242.042, 272.486, 237.24]
    np.testing.assert_allclose(of_pixel.mean(axis=1), means, atol=1e-4)
    spreads = [9.3399, 8.0086, 10.4315, 8.6687, 10.3112, 7.2994, 8.9607]
    np.testing.assert_allclose(of_pixel.std(axis=1), spreads, atol=1e-4)
    counts = np.bincount(of_pixel[0])
    assert (counts.sum(), np.flatnonzero(counts)[0], np.flatnonzero(counts)[-1]) == (500, 228, 280)
    assert (counts.argmax(), counts[239]) == (239, 32)
    event, pixel, _ = np.nonzero(samples == 4095)
    assert event.size == 7
    assert set(pixel.tolist()) == {1120, 1178, 1180, 1226}
    mean = samples.mean(axis=(0, 2))
    assert (mean > 1000).sum() == 59
    assert np.flatnonzero(mean < 50).tolist() == [167, 958]


def test_baselines_of_2017_are_in_lsb(real):
    with ZfitsEvents(real / "example_10_evts.000.fits.fz") as events:
        assert events.baseline_scale == 1
        assert events.notes == ()
        facts = events.facts()
    assert facts["first_time"] == "2017-10-31T02:04:54.406789700 UTC"
    assert (facts["telescope_id"], facts["first_number"], facts["event_types"]) == (1, 97_750_287, (1, 8))
    assert "run_type" not in facts


def test_dark_run_of_2018(real):
    path = real / "SST1M_01_20180822_001.fits.fz"
    batch = events_of(path)
    assert batch.samples.shape == (1, N_PIXELS, 50)
    assert batch.samples.sum(dtype=np.int64) == 18_555_097
    assert (batch.samples.min(), batch.samples.max()) == (211, 326)
    assert (batch.number[0], batch.event_type[0]) == (60_636, 8)
    assert batch.baselines is not None
    assert batch.baselines.mean(dtype=np.float64) == pytest.approx(4580.697531 / 16, abs=1e-6)
    residual = batch.samples - batch.baselines[:, :, None].astype(np.float64)
    assert residual.mean() == pytest.approx(0.050494, abs=1e-6)
    assert residual.std() == pytest.approx(1.397321, abs=1e-6)
    means = batch.samples[0, [0, 700, 1295]].mean(axis=1)
    np.testing.assert_allclose(means, [285.78, 283.28, 286.2])
    with ZfitsEvents(path) as events:
        assert events.facts()["run_type"] == "darkrun"
        assert events.baseline_scale == 16
    raw = events_of(path, baseline_scale=1).baselines
    np.testing.assert_array_equal(raw, batch.baselines * 16)


def test_hundred_events_of_2017(shipped):
    batch = events_of(shipped / "example_100evts.fits.fz", size=33)
    assert len(batch) == 100
    assert batch.samples.sum(dtype=np.int64) == 2_009_955_142
    assert Counter(batch.event_type.tolist()) == {1: 92, 8: 8}
    assert batch.time[-1] - batch.time[0] == 404_151_196
    assert batch.samples[:, 700].mean() == pytest.approx(240.286)


def test_science_run_of_2018_has_the_numbers_of_its_header(shipped):
    path = shipped / "example_SST1M_20180822.fits.fz"
    batch = events_of(path)
    with ZfitsEvents(path) as events:
        cards = events.cards
    first, last = cards["TSTARTS"] * 10**9 + cards["TSTARTNS"], cards["TSTOPS"] * 10**9 + cards["TSTOPNS"]
    assert (batch.time.min(), batch.time.max()) == (first, last)
    assert (batch.event_type == 8).sum() == cards["NTRIGEXT"]
    assert (batch.event_type == 1).sum() == cards["NTRIGINT"]


@pytest.mark.parametrize("name", ["example_10evts", "example_100evts", "example_SST1M_20180822"])
def test_every_value_is_what_the_library_reads(shipped, name):
    path = shipped / f"{name}.fits.fz"
    library = Library(path, "test")
    with EventTable(path) as table:
        own = table.tile(0, COLUMNS)
        theirs = library.rows(0, table.n_events, COLUMNS)
    library.close()
    assert set(own) == set(theirs) == set(COLUMNS)
    for column in COLUMNS:
        np.testing.assert_array_equal(np.asarray(own[column]), np.asarray(theirs[column]), err_msg=column)
    np.testing.assert_array_equal(own[ORDER][0], read_out_order())


def test_unknown_codecs_go_through_the_library(real, monkeypatch):
    pytest.importorskip("protozfits")
    path = real / "example_10_evts.000.fits.fz"
    own = events_of(path)
    monkeypatch.setattr(blocks, "CODECS", (0, 5, 7))
    read = []
    rows = Library.rows
    monkeypatch.setattr(Library, "rows", lambda *given: read.append(given[1:3]) or rows(*given))
    assert_same(events_of(path, size=3), own)
    # once for the numbers of all events, once with waveforms
    assert set(read) == {(0, 10)}


def test_without_the_library_unknown_codecs_name_the_extra(real, monkeypatch):
    monkeypatch.setattr(blocks, "CODECS", (0, 5, 7))
    monkeypatch.setitem(sys.modules, "protozfits", None)
    monkeypatch.setitem(sys.modules, "protozfits.rawzfits", None)
    with pytest.raises(MissingExtraError, match="protozfits is not installed") as caught:
        events_of(real / "example_10_evts.000.fits.fz")
    assert "firstlight[digicam]" in str(caught.value)


def test_the_library_is_not_needed_otherwise(real, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "protozfits", None)
    assert len(events_of(real / "example_10_evts.000.fits.fz")) == 10
    assert len(events_of(write_zfits(tmp_path / "own.fits.fz", some_events(3)))) == 3


# -- codecs ---------------------------------------------------------------------------------------------------


def huffman(words):
    """Return a Huffman code of words as its writers make it."""
    counts = Counter(words.tolist())
    heap = [(count, number, [symbol]) for number, (symbol, count) in enumerate(counts.items())]
    codes = dict.fromkeys(counts, "") if len(counts) > 1 else dict.fromkeys(counts, "0")
    heapq.heapify(heap)
    while len(heap) > 1:
        (one, _, left), (other, number, right) = heapq.heappop(heap), heapq.heappop(heap)
        for digit, symbols in (("0", left), ("1", right)):
            for symbol in symbols:
                codes[symbol] = digit + codes[symbol]
        heapq.heappush(heap, (one + other, number, left + right))
    table = struct.pack("<QQ", words.size, len(codes))
    for symbol, code in codes.items():
        # the first bit is the lowest
        value = int(code[::-1], 2)
        table += struct.pack("<HB", symbol & 0xFFFF, len(code)) + value.to_bytes(-(-len(code) // 8), "little")
    bits = "".join(codes[symbol] for symbol in words.tolist())
    return table + b"".join(
        int(bits[at : at + 8][::-1], 2).to_bytes(1, "little") for at in range(0, len(bits), 8)
    )


def applied(codec, content):
    """Return what a codec makes of some bytes."""
    if codec == 7:
        return zlib.compress(content)
    words = np.frombuffer(content, dtype="<i2")
    if codec == 2:
        code = huffman(words)
        return struct.pack("<I", len(code)) + code
    if codec == 12:
        halves = [huffman(half) for half in np.split(words, 2)]
        return struct.pack("<II", *map(len, halves)) + b"".join(halves)
    if codec == 5:
        return bytes(content[0::2]) + bytes(content[1::2])
    if codec == 1:
        found = words.copy()
        for at in range(words.size - 1, 1, -1):
            # the mean, towards zero
            found[at] -= int((int(words[at - 1]) + int(words[at - 2])) / 2)
        return found.tobytes()
    if codec == 3:
        return np.diff(words, prepend=np.int16(0)).tobytes()
    if codec == 16:
        return (words + np.int16(128)).tobytes()
    return content


def block(codecs, content):
    for codec in codecs:
        content = applied(codec, content)
    head = struct.pack("<QcB", 10 + 2 * len(codecs) + len(content), b"C", len(codecs))
    return np.frombuffer(head + struct.pack(f"<{len(codecs)}H", *codecs) + content, dtype=np.uint8)


@settings(max_examples=60)
@given(
    st.sampled_from([(0,), (7,), (5, 7), (3, 2), (2,), (5, 1, 12), (3, 16, 5, 7), (1, 2), (3, 5, 7), ()]),
    st.integers(1, 300),
    st.sampled_from([1, 3, 40, 400, 32767]),
    st.integers(0, 2**32 - 1),
)
def test_codecs_are_undone(codecs, n_pairs, width, seed):
    rng = np.random.default_rng(seed)
    # a steep distribution has codes from one bit to more than are looked up at once
    words = (rng.geometric(0.5, 2 * n_pairs) * rng.integers(1, 1 + width, 2 * n_pairs)).astype(np.int16)
    with np.errstate(over="ignore"):
        packed = block(codecs, words.tobytes())
    assert blocks.decode(packed, words.nbytes).tobytes() == words.tobytes()


def test_long_codes_are_undone():
    # Fibonacci numbers of words make the longest codes
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    words = np.repeat(np.arange(len(fibonacci), dtype=np.int16) * 37, fibonacci)
    np.random.default_rng(1).shuffle(words)
    packed = block((3, 2), words.tobytes())
    assert blocks.decode(block((2,), words.tobytes()), words.nbytes).tobytes() == words.tobytes()
    assert blocks.decode(packed, words.nbytes).tobytes() == words.tobytes()


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"\x00" * 4, "header alone"),
        (struct.pack("<QcBH", 13, b"C", 1, 0), "tells 13 bytes"),
        (struct.pack("<QcBH", 12, b"R", 1, 0), "order b'R'"),
        (struct.pack("<QcBH", 12, b"C", 1, 23), "codec 23"),
        (struct.pack("<QcBH", 12, b"C", 9, 0), "9 codecs"),
        (struct.pack("<QcBH", 15, b"C", 1, 7) + b"abc", "zlib"),
        (struct.pack("<QcBH", 15, b"C", 1, 5) + b"abc", "no words"),
        (struct.pack("<QcBH", 14, b"C", 1, 2) + b"ab", "without a size"),
        (struct.pack("<QcBHI", 16, b"C", 1, 2, 0), "without a table"),
        (struct.pack("<QcBHIQQ", 32, b"C", 1, 2, 16, 1 << 40, 1), "1099511627776 words"),
        (struct.pack("<QcBHIQQ", 32, b"C", 1, 2, 16, 5, 0), "cut off"),
        (struct.pack("<QcBHIQQHBB", 36, b"C", 1, 2, 20, 5, 1, 7, 1, 2), "none"),
        (struct.pack("<QcBHII", 20, b"C", 1, 12, 1, 2), "tell 1 and 2"),
    ],
)  # fmt: skip
def test_blocks_that_are_none(packed, reason):
    with pytest.raises(blocks.BlockError, match=reason):
        blocks.decode(np.frombuffer(packed, dtype=np.uint8), 100)


def test_a_block_cannot_fill_the_memory():
    bomb = block((7,), bytes(1 << 22))
    with pytest.raises(blocks.BlockError, match="far too long"):
        blocks.decode(bomb, 1000)


# -- written files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_events", [0, 1, 99, 100, 101, 250])
@pytest.mark.parametrize("n_samples", [50, 92])
def test_written_events_are_read_again(tmp_path, n_events, n_samples):
    batch = some_events(n_events, n_samples, seed=n_events)
    path = write_zfits(tmp_path / "own.fits.fz", [batch[:7], batch[7:130], batch[130:]])
    found = events_of(path, size=77)
    if n_events:
        assert_same(found, batch)
    assert len(found) == n_events
    with path.open("rb") as stream:
        content = np.frombuffer(stream.read(), dtype=np.uint8)
        units = read_units(stream, path)
    assert [unit.name for unit in units] == ["", "Events"]
    # every unit adds up to all bits set, as the standard wants it
    start = 0
    for unit in units:
        assert sum_of(content[start : unit.end]) == FULL
        start = unit.end
    assert start == content.size


@settings(max_examples=15)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 130),
    st.integers(1, 9),
    st.sampled_from([1, 16]),
    st.booleans(),
    st.integers(1, 150),
)
def test_any_order_of_pixels_and_any_batches(
    tmp_path_factory, seed, n_events, n_samples, scale, trigger, size
):
    batch = some_events(n_events, n_samples, seed)
    if scale == 1:
        batch = EventBatch.of(
            batch.samples, batch.number, batch.time, batch.event_type, np.rint(batch.baselines)
        )
    order = np.random.default_rng(seed).permutation(N_PIXELS)
    path = tmp_path_factory.mktemp("any") / "own.fits.fz"
    write_zfits(
        path, (batch[at : at + size] for at in range(0, n_events, size)), pixel_order=order, baseline_scale=scale,
        trigger=trigger,
    )  # fmt: skip
    assert_same(events_of(path, size), batch)


def test_written_files_are_read_by_the_library(tmp_path):
    protozfits = pytest.importorskip("protozfits")
    batch = some_events(250)
    path = tmp_path / "own.fits.fz"
    write_zfits(path, batch, trigger=True, run_type="darkrun", telescope=22, cards={"LEVEL": 250})
    order = read_out_order()
    with protozfits.File(str(path)) as file:
        assert file.Events.header["RUNTYPE"] == "darkrun"
        assert len(file.Events) == 250
        for row, event in enumerate(file.Events):
            waveforms = event.hiGain.waveforms
            assert event.telescopeID == 22
            assert event.eventNumber == batch.number[row]
            assert event.event_type == batch.event_type[row].astype(np.uint32)
            time = event.local_time_sec * 10**9 + event.local_time_nanosec
            assert time == max(batch.time[row], 0)
            np.testing.assert_array_equal(waveforms.pixelsIndices, order)
            np.testing.assert_array_equal(waveforms.samples.reshape(N_PIXELS, 50), batch.samples[row, order])
            np.testing.assert_array_equal(waveforms.baselines, 16 * batch.baselines[row, order])
            assert (event.pixels_flags == 1).all()
            assert (event.trigger_input_traces.size, event.trigger_output_patch7.size) == (28_800, 2_700)


def test_astropy_finds_no_fault(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    path = write_zfits(
        tmp_path / "own.fits.fz", some_events(130, 20), cards={"NOTE": "it's", "GAIN": 5.1, "ON": True}
    )
    # a wrong checksum is a warning, which is an error here
    with fits.open(path, checksum=True, disable_image_compression=True) as units:
        units.verify("exception")
        header = units["Events"].header
    assert (header["NOTE"], header["GAIN"], header["ON"], header["ZNAXIS2"]) == ("it's", 5.1, True, 130)


def test_more_tiles_than_there_was_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(zfits_writer, "_CATALOGUE", 2)
    monkeypatch.setattr(zfits_writer, "_PIECE", 1 << 20)
    batch = some_events(950, 2)
    path = write_zfits(tmp_path / "own.fits.fz", (batch[at : at + 60] for at in range(0, 950, 60)))
    assert_same(events_of(path), batch)


def test_header_cards_are_facts(tmp_path):
    cards = {"LEVEL": 250, "note": "it's", "SEED": np.int64(7)}
    path = write_zfits(
        tmp_path / "own.fits.fz", some_events(3), run_type="led", date="2018-08-22T21:11:41", cards=cards
    )
    with ZfitsEvents(path) as events:
        facts = events.facts()
    assert (facts["level"], facts["note"], facts["seed"]) == (250, "it's", 7)
    assert (facts["run_type"], facts["written"]) == ("led", "2018-08-22T21:11:41")


def test_the_same_events_give_the_same_file(tmp_path):
    one, other = (write_zfits(tmp_path / name, some_events(5)) for name in ("one.fits.fz", "other.fits.fz"))
    assert one.read_bytes() == other.read_bytes()


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = write_zfits(tmp_path / "own.fits.fz", some_events(2))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="one length"):
        write_zfits(path, [some_events(120, 50), some_events(1, 92)])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["own.fits.fz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": [2**32]}, "number from 4294967296"),
        ({"number": [-1]}, "number from -1"),
        ({"samples": np.full((1, N_PIXELS, 4), 40_000)}, "samples from 40000"),
        ({"baselines": np.full(N_PIXELS, 2049.0)}, "at most 2047.94"),
        ({"baselines": np.full(N_PIXELS, np.nan)}, "baselines from nan"),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path, change, message):
    given_ = {"samples": np.full((1, N_PIXELS, 4), 300), **change}
    with pytest.raises(UsageError, match=message):
        write_zfits(tmp_path / "own.fits.fz", EventBatch.of(**given_))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline_scale": 8}, "1 or 16"),
        ({"pixel_order": np.zeros(N_PIXELS)}, "once"),
        ({"cards": {"TOO LONG A NAME": 1}}, "8 letters"),
        ({"cards": {"NAXIS1": 1}}, "of the format itself"),
        ({"cards": {"ZFORM3": "1J"}}, "of the format itself"),
        ({"cards": {"LEVEL": [1]}}, "no printable text"),
        ({"cards": {"LEVEL": float("nan")}}, "finite"),
        ({"cards": {"NOTE": 70 * "x"}}, "too long"),
    ],
)
def test_options_that_cannot_be_written(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        write_zfits(tmp_path / "own.fits.fz", some_events(1, 2), **options)


def test_events_with_and_without_baselines_do_not_mix(tmp_path):
    with pytest.raises(UsageError, match="with and without baselines"):
        write_zfits(tmp_path / "own.fits.fz", [some_events(1, 2), some_events(1, 2, baselines=False)])


def test_files_without_baselines(tmp_path):
    path = write_zfits(tmp_path / "own.fits.fz", some_events(3, baselines=False))
    with ZfitsEvents(path) as events:
        assert events.baseline_scale is None
        assert events.notes == ()
    assert events_of(path).baselines is None


# -- the scale of baselines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "scale", "note"),
    [
        (1, 1, ""),
        (16, 16, ""),
        (15, 16, ""),
        (1 / 16, None, "16 times too small"),
        (4, None, "4 times the samples"),
        (0, None, "they are zero"),
    ],
)
def test_the_scale_is_found_from_the_samples(tmp_path, factor, scale, note):
    rng = np.random.default_rng(2)
    level = rng.normal(284, 6, N_PIXELS)
    samples = np.rint(level[None, :, None] + rng.normal(0, 1, (12, N_PIXELS, 50)))
    # some pixels are dead, saturated, or see much light
    samples[:, :40], samples[:, 40:80] = 0, 4095
    samples[:, 80:400, 20:25] += 800
    batch = EventBatch.of(np.clip(samples, 0, 4095), baselines=np.rint(level * factor))
    path = write_zfits(tmp_path / "own.fits.fz", batch, baseline_scale=1)
    with ZfitsEvents(path) as events:
        assert events.baseline_scale == scale
        assert len(events.notes) == (1 if note else 0)
        assert note in "".join(events.notes)
        found = next(events.batches(size=12))
    if scale is None:
        assert found.baselines is None
    else:
        np.testing.assert_array_equal(
            found.baselines, np.rint(level * factor)[None] / scale * np.ones((12, 1))
        )


# -- damaged files and files of others ------------------------------------------------------------------------


def patched(content, cards, checksums=True):
    """Return a file with other header cards of the table of events; its checksums fit again, or are gone."""
    start = 2880
    end = start + content[start:].index(b"END     ".ljust(80)) + 80
    end += -end % 2880
    header = bytearray(content[start:end])
    for key, text in {**cards, **({} if checksums else {"CHECKSUM": None, "DATASUM": None})}.items():
        at = next(at for at in range(0, len(header), 80) if header[at : at + 8].rstrip() == key.encode())
        header[at : at + 80] = (b"COMMENT" if text is None else f"{key:<8}= {text}".encode()).ljust(80)
    if checksums:
        at = header.index(b"CHECKSUM= '") + 11
        header[at : at + 16] = b"0" * 16
        data = np.frombuffer(content[end:], dtype=np.uint8)
        total = add_sums(sum_of(np.frombuffer(bytes(header), dtype=np.uint8)), sum_of(data))
        header[at : at + 16] = zfits_writer._encoded(FULL - total)
    return content[:start] + bytes(header) + content[end:]


def write_table(path, columns, n_events, message="DataModel.CameraEvent", name="Events"):
    """Write any table as zfits, in one tile: a column is (form, rows); arrays have their size in front."""
    packed = []
    for _, rows in columns.values():
        rows = [np.asarray(row) for row in rows]
        content = b"".join(
            (struct.pack("<I", row.nbytes) if row.ndim else b"") + row.tobytes() for row in rows
        )
        packed.append(blocks.block_of(content.ljust(-(-len(content) // 4) * 4, b"\0")))
    head = struct.pack("<4sIQ", b"TILE", n_events, sum(map(len, packed)))
    places = len(head) + np.concatenate([[0], np.cumsum([len(one) for one in packed])[:-1]])
    catalogue = np.stack([[len(one) for one in packed], places], axis=1).astype(">i8").tobytes()
    data = catalogue + head + b"".join(packed)
    cards = [
        ("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", len(catalogue)), ("NAXIS2", 1),
        ("PCOUNT", len(data) - len(catalogue)), ("GCOUNT", 1), ("TFIELDS", len(columns)), ("EXTNAME", name),
        ("ZTABLE", True), ("ZNAXIS1", 1), ("ZNAXIS2", n_events), ("ZTILELEN", 100), ("ZHEAPPTR", len(catalogue)),
        ("THEAP", len(catalogue)), ("ZSHRINK", 1), ("PBFHEAD", message),
    ]  # fmt: skip
    for number, (column, (form, _)) in enumerate(columns.items(), start=1):
        cards += [(f"TTYPE{number}", column), (f"ZFORM{number}", form)]
    data_sum = sum_of(np.frombuffer(data, dtype=np.uint8))
    first = zfits_writer._header_of([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0)], data_sum=0)
    content = first + zfits_writer._header_of(cards, data_sum=data_sum) + data
    path.write_bytes(content.ljust(-(-len(content) // 2880) * 2880, b"\0"))
    return path


def camera_columns(n_events=3, lengths=(50, 50, 50), order=None, pixels=N_PIXELS):
    samples = [np.full(pixels * length, 300, dtype="<i2") for length in lengths]
    orders = [np.asarray(read_out_order() if order is None else order, dtype="<u2")] * n_events
    return {
        "eventNumber": ("1J", np.arange(n_events, dtype="<u4")),
        SAMPLES: (f"{pixels * max(lengths)}I", samples),
        ORDER: ("1296I", orders),
    }


def refused(path):
    with pytest.raises(InputError) as caught:
        events_of(path)
    assert str(path) == caught.value.where
    return caught.value.what


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((50, 50, 92), "the length of traces changes: event 2 has 92 samples, those before have 50"),
        ((50, 0, 50), "event 1 has 0 samples"),
        ((0, 50, 50), "event 0 has 0 samples"),
    ],
)
def test_traces_have_one_length(tmp_path, lengths, message):
    path = write_table(tmp_path / "own.fits.fz", camera_columns(lengths=lengths), 3)
    assert message in refused(path)


def test_a_length_that_changes_shows_wherever_reading_begins(tmp_path):
    path = write_table(tmp_path / "own.fits.fz", camera_columns(lengths=(50, 92, 92)), 3)
    with ZfitsEvents(path) as events, pytest.raises(InputError, match="event 1 has 92 samples"):
        list(events.batches(1, 3))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (camera_columns(pixels=1295), "64,750 samples, no multiple of 1296 pixels"),
        (camera_columns(order=np.arange(1000)), "event 0 has 1,000 pixel numbers"),
        (camera_columns(order=np.arange(1296) + 1), "pixel number 1296"),
        (camera_columns(order=np.r_[0, 0, 2:1296]), "pixel number 0 2 times"),
        ({**camera_columns(), SAMPLES: ("64800I", [np.full(64_800, -3, "<i2")] * 3)}, "negative samples"),
        ({**camera_columns(), SAMPLES: ("64800J", [np.full(64_800, 3, "<i4")] * 3)}, "samples are int32"),
        ({**camera_columns(), SAMPLES: ("64800I", [np.full(64_800, 3, "<i2")] * 2)}, "row 2 tells 0 bytes|the file is damaged"),
    ],
)  # fmt: skip
def test_events_of_no_use(tmp_path, columns, message):
    path = write_table(tmp_path / "own.fits.fz", columns, 3)
    assert re.search(message, refused(path))


def test_events_without_pixel_numbers_are_of_another_camera(tmp_path, shipped):
    columns = camera_columns()
    del columns[ORDER]
    path = write_table(tmp_path / "own.fits.fz", columns, 3)
    assert refused(path) == f"the events have no column {ORDER}: they are of another camera"
    with pytest.raises(InputError, match="another camera") as caught:
        events_of(shipped / "example_9evts_NectarCAM.fits.fz")
    assert "loGain_waveforms_samples" in caught.value.known


@pytest.mark.parametrize("name", ["10_CTA_R1_dummy_evts", "example_LST_R1_10_evts"])
def test_events_of_other_cameras_are_named(shipped, name):
    what = refused(shipped / f"{name}.fits.fz")
    assert "R1 events, as other cameras" in what
    assert "DataModel.CameraEvent" in what


def test_no_table_of_events(tmp_path):
    path = write_table(tmp_path / "own.fits.fz", camera_columns(), 3, name="RunHeader")
    with pytest.raises(InputError, match="no table Events") as caught:
        events_of(path)
    assert caught.value.known == ["RunHeader (DataModel.CameraEvent)"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"SIMPLE", "not a FITS file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(5000), "not a FITS file"),
        (b"SIMPLE  =                    T".ljust(2880), "has no end"),
        ((b"SIMPLE  =                    T".ljust(80) + b"END").ljust(2880), "does not tell the size"),
    ],
)
def test_files_that_are_no_fits(tmp_path, content, message):
    path = tmp_path / "own.fits.fz"
    path.write_bytes(content)
    assert message in refused(path)


def test_files_that_are_not_there(tmp_path):
    assert "No such file" in refused(tmp_path / "missing.fits.fz")
    (tmp_path / "folder.fits.fz").mkdir()
    assert "directory" in refused(tmp_path / "folder.fits.fz")


@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.9, 0.999])
def test_files_that_are_cut_off_are_refused_unread(real, tmp_path, share):
    written = write_zfits(tmp_path / "written.fits.fz", some_events(3))
    for source in (real / "example_10_evts.000.fits.fz", real / "SST1M_01_20180822_001.fits.fz", written):
        content = source.read_bytes()
        path = tmp_path / "cut.fits.fz"
        # the padding of the last block may go
        path.write_bytes(content[: int(share * (len(content) - 2880))])
        with pytest.raises(InputError, match=r"cut off|not a FITS file|no table Events"):
            ZfitsEvents(path)


def test_a_file_that_was_not_closed(tmp_path):
    path = write_zfits(tmp_path / "own.fits.fz", some_events(0))
    path.write_bytes(path.read_bytes() + bytes(28_800))
    assert "the writer did not close the file" in refused(path)


def test_bytes_behind_the_last_table_are_told(tmp_path):
    batch = some_events(2)
    path = write_zfits(tmp_path / "own.fits.fz", batch)
    path.write_bytes(path.read_bytes() + bytes(100))
    assert_same(events_of(path), batch)
    with ZfitsEvents(path) as events:
        assert events.notes == ("100 bytes stand behind the last table",)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"ZNAXIS2": "1234"}, "1234 events in tiles of 100"),
        ({"ZNAXIS2": "'many'"}, "ZNAXIS2 of the table of events is 'many'"),
        ({"ZTILELEN": "0"}, "ZTILELEN"),
        ({"ZFORM3": "'12X'"}, "the type '12X'"),
        ({"TTYPE3": "'other'"}, f"no column {SAMPLES}"),
        ({"ZTABLE": "F"}, "not a zfits file"),
        ({"ZHEAPPTR": "10000000"}, "not in the file"),
        ({"NAXIS1": "100"}, "damaged"),
        ({"PBFHEAD": "'R1v1.Event'"}, "R1 events"),
        ({"PCOUNT": "-5"}, "does not tell the size"),
    ],
)
def test_headers_that_make_no_sense(tmp_path, cards, message):
    path = write_zfits(tmp_path / "own.fits.fz", some_events(3))
    path.write_bytes(patched(path.read_bytes(), cards))
    assert message in refused(path)


def test_a_header_that_was_changed(tmp_path):
    path = write_zfits(tmp_path / "own.fits.fz", some_events(3), run_type="darkrun")
    path.write_bytes(path.read_bytes().replace(b"darkrun", b"hv_runs"))
    assert "the header of Events does not match its checksum" in refused(path)


def test_without_a_checksum_events_are_read_and_a_note_says_so(real, tmp_path, monkeypatch):
    monkeypatch.setattr(Library, "__init__", crash)
    source = real / "example_10_evts.000.fits.fz"
    path = tmp_path / "own.fits.fz"
    path.write_bytes(patched(source.read_bytes(), {}, checksums=False))
    assert_same(events_of(path), events_of(source))
    with ZfitsEvents(path) as events:
        assert "no checksum" in events.notes[0]
    monkeypatch.setattr(blocks, "CODECS", (0, 5, 7))
    assert "(tile 0, eventNumber: codec 1): protozfits could" in refused(path)


def crash(*_):
    """Stand for the library: it ends the process on damaged files."""
    pytest.fail("a file that is not known to be sound was given to protozfits")


def outcome(path):
    """Return the events of a file, or None where it is refused."""
    try:
        return events_of(path)
    except InputError as error:
        told = error
    assert told.where == str(path)
    assert len(told.what) > 8
    return None


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("which", ["real", "written"])
def test_damage_is_told_or_harmless(real, tmp_path, monkeypatch, which, checksums):
    """Bits are turned and ends are cut off anywhere: with checksums nothing wrong is read, without nothing crashes."""
    monkeypatch.setattr(Library, "__init__", crash)
    source = real / "example_10_evts.000.fits.fz"
    if which == "written":
        source = write_zfits(tmp_path / "written.fits.fz", some_events(3))
    good = events_of(source)
    content = source.read_bytes()
    if not checksums:
        content = patched(content, {}, checksums=False)
    start = 2880
    heap = content.index(b"TILE", start)
    # headers, catalogue and heads of blocks are small parts of a file, but where damage does most
    ranges = [(0, len(content)), (start, heap), (heap, heap + 300), (heap, len(content))]
    rng = np.random.default_rng(11)
    path = tmp_path / "spoilt.fits.fz"
    told = 0
    for number in range(160):
        spoilt = bytearray(content)
        if number % 6 == 5:
            spoilt = spoilt[: rng.integers(len(content))]
        else:
            low, high = ranges[number % 4]
            # of more bits than one, some pairs cancel in a sum
            for place in rng.integers(low, high, 1 if checksums else 1 + number % 3):
                spoilt[place] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        found = outcome(path)
        told += found is None
        if found is not None and checksums:
            assert_same(found, good)
        elif found is not None and len(found):
            assert found.samples.shape[1] == N_PIXELS
    # padding and unused cards are the rest
    assert told > (145 if checksums else 50)


def test_damage_inside_of_blocks_is_survived(real, tmp_path, monkeypatch):
    """Every byte of the compressed columns may be another: each codec must survive what it is given."""
    monkeypatch.setattr(Library, "__init__", crash)
    content = patched((real / "example_10_evts.000.fits.fz").read_bytes(), {}, checksums=False)
    path = tmp_path / "own.fits.fz"
    path.write_bytes(content)
    with EventTable(path) as table:
        catalogue = table._catalogue[0]
        heap = table._unit.data + table.cards["ZHEAPPTR"]
        columns = dict(table.columns)
    rng = np.random.default_rng(12)
    results = Counter()
    for name in COLUMNS:
        size, place = catalogue[columns[name].place].tolist()
        column = columns[name]
        for _ in range(60):
            packed = np.frombuffer(content, dtype=np.uint8)[heap + place : heap + place + size].copy()
            # the first bytes say most
            where = rng.integers(8, min(size, 8 + 200 if rng.random() < 0.7 else size), 3)
            packed[where] = rng.integers(0, 256, 3)
            try:
                zfits_table._rows(blocks.decode(packed, 10 * column.width), column, 10)
                results["values"] += 1
            except blocks.BlockError:
                results["told"] += 1
    assert results["told"] > 100


# -- toys and plain arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_truth", [True, False])
def test_written_toys_are_read_again(tmp_path, with_truth):
    batch = some_events(21, baselines=False)
    charge = np.random.default_rng(3).random((21, N_PIXELS))
    config = {
        "gain": 5,
        "sigma_e": 1.25,
        "gain_nsb": True,
        "date": "today",
        "n_photon": np.ones((N_PIXELS, 1)),
        "level": 250,
    }
    path = write_toy(tmp_path / "toy.hdf5", batch, config, *((charge, charge + 20) if with_truth else ()))
    events = ToyEvents(path)
    found = EventBatch.concatenate(events.batches(size=8))
    np.testing.assert_array_equal(found.samples, batch.samples)
    assert found.number.tolist() == list(range(21))
    assert set(found.event_type.tolist()) == {8}
    assert set(found.time.tolist()) == {NO_TIME}
    assert (events.truth["gain"], events.truth["date"]) == (5, "today")
    facts = events.facts()
    events.close()
    assert (facts["true_gain"], facts["true_gain_nsb"], facts["n_samples"]) == (5, True, 50)
    assert facts["level"] == 250
    assert "true_n_photon" not in facts
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        assert file["data/adc_count"].dtype == np.uint16
        assert set(file["data"]) == ({"adc_count", "charge", "time"} if with_truth else {"adc_count"})
        if with_truth:
            np.testing.assert_array_equal(file["data/charge"][:, :, 0], charge)


def test_toys_with_truth_of_another_shape_are_refused(tmp_path):
    with pytest.raises(UsageError, match="charge has the shape"):
        write_toy(tmp_path / "toy.hdf5", some_events(2), {}, np.zeros((3, N_PIXELS)))
    with pytest.raises(UsageError, match="'odd' cannot be written"):
        write_toy(tmp_path / "toy.hdf5", some_events(2), {"odd": object()})
    assert not list(tmp_path.iterdir())


def test_toys_of_many_levels(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(5)
    levels = {(dc, ac): rng.integers(0, 256, (N_PIXELS, 10, 4)) for dc in range(2) for ac in (0, 1, 10)}
    path = tmp_path / "toy.hdf5"
    with h5py.File(path, "w") as file:
        for (dc, ac), values in levels.items():
            file.create_dataset(f"dc_level_{dc}_ac_level_{ac}/data", data=values, dtype=np.uint8)
        file.create_dataset("simulation_parameters/gain", data=np.full(N_PIXELS, 5.6))
        file.create_dataset("simulation_parameters/sampling_time", data=4)
    events = ToyEvents(path)
    assert events.n_events == 24
    wanted = np.concatenate([np.moveaxis(levels[key], 2, 0) for key in sorted(levels)])
    for size in (1, 5, 100):
        found = EventBatch.concatenate(events.batches(size=size))
        np.testing.assert_array_equal(found.samples, wanted)
        assert found.number.tolist() == list(range(24))
    np.testing.assert_array_equal(next(events.batches(3, 9)).samples, wanted[3:9])
    assert events.facts()["levels"] == 6
    assert "8 bits" in events.notes[0]
    assert events.truth["gain"].shape == (N_PIXELS,)
    events.close()


def test_early_toys_have_events_last(tmp_path):
    h5py = pytest.importorskip("h5py")
    values = np.random.default_rng(5).integers(0, 4096, (N_PIXELS, 50, 3), dtype=np.uint16)
    with h5py.File(tmp_path / "toy.hdf5", "w") as file:
        file.create_dataset("data/adc_count", data=values)
        file.create_dataset("config/time_sampling", data=2)
    events = ToyEvents(tmp_path / "toy.hdf5")
    np.testing.assert_array_equal(next(events.batches()).samples, np.moveaxis(values, 2, 0))
    assert "every 2 ns" in events.notes[0]
    events.close()


@pytest.mark.parametrize("kind", ["npz", "compressed", "h5", "columns first"])
def test_plain_arrays(tmp_path, kind):
    batch = some_events(23, 10)
    arrays = {
        "samples": batch.samples.astype(np.int32), "event_number": batch.number, "event_type": batch.event_type,
        "time": batch.time, "baselines": batch.baselines,
    }  # fmt: skip
    path = tmp_path / ("own.h5" if kind == "h5" else "own.npz")
    if kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values)
    elif kind == "compressed":
        np.savez_compressed(path, **arrays)
    else:
        np.savez(
            path, **({**arrays, "samples": np.asfortranarray(arrays["samples"])} if kind != "npz" else arrays)
        )
    events = ArrayEvents(path)
    for size in (1, 7, 100):
        assert_same(EventBatch.concatenate(events.batches(size=size)), batch)
    assert_same(EventBatch.concatenate(events.batches(5, 17, 4)), batch[5:17])
    facts = events.facts()
    assert (facts["n_samples"], facts["first_number"]) == (10, batch.number[0])
    events.close()


def test_arrays_need_samples_only(tmp_path):
    values = np.full((4, N_PIXELS, 6), 300.0)
    np.savez(tmp_path / "own.npz", waveforms=values, baselines=np.full(N_PIXELS, 284.5))
    events = ArrayEvents(tmp_path / "own.npz")
    found = next(events.batches())
    assert found.number.tolist() == [0, 1, 2, 3]
    assert set(found.event_type.tolist()) == {NO_TYPE}
    assert (found.baselines == 284.5).all()
    assert (found.samples == 300).all()
    events.close()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"traces": np.zeros((2, N_PIXELS, 5))}, "no array samples, waveforms or adc_count"),
        ({"samples": np.zeros((2, 1295, 5), int)}, "events, 1296 pixels, samples"),
        ({"samples": np.zeros((2, N_PIXELS), int)}, "must be numbers of shape"),
        ({"samples": np.full((2, N_PIXELS, 5), "a")}, "<U1 of shape"),
        ({"samples": np.full((2, N_PIXELS, 5), 0.5)}, "not whole numbers"),
        ({"samples": np.full((2, N_PIXELS, 5), -1)}, "lie between -1 and -1"),
        ({"samples": np.full((2, N_PIXELS, 5), np.nan)}, "lie between nan"),
        (
            {"samples": np.zeros((2, N_PIXELS, 5), int), "event_number": np.arange(3)},
            "event_number is int64 of shape",
        ),
        ({"samples": np.zeros((2, N_PIXELS, 5), int), "time": np.arange(2.0)}, "whole numbers"),
        ({"samples": np.zeros((2, N_PIXELS, 5), int), "baselines": np.zeros(3)}, "baselines is float64"),
        ({"samples": np.array([object()])}, "Python objects"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as caught:  # noqa: SIM117
        with closing(ArrayEvents(path)) as events:
            list(events.batches())
    assert caught.value.where == str(path)


@pytest.mark.parametrize("kind", ["npz", "compressed", "toy"])
def test_damaged_archives_are_told_or_harmless(tmp_path, kind):
    batch = some_events(3, 10, baselines=False)
    path = tmp_path / ("toy.hdf5" if kind == "toy" else "own.npz")
    if kind == "toy":
        write_toy(path, batch, {"gain": 5.0})
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(path, samples=batch.samples)
    content = path.read_bytes()
    rng = np.random.default_rng(13)
    told = 0
    for number in range(120):
        spoilt = bytearray(content)
        if number % 3 == 0:
            spoilt = spoilt[: rng.integers(len(content))]
        else:
            high = len(content) if number % 3 == 1 else 600
            spoilt[rng.integers(high)] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        try:
            with closing((ToyEvents if kind == "toy" else ArrayEvents)(path)) as events:
                found = EventBatch.concatenate(events.batches(size=2))
        except InputError:
            told += 1
            continue
        if kind != "toy" and len(found) == 3:
            # the checksum of the archive; a toy's header has none
            np.testing.assert_array_equal(found.samples, batch.samples)
    assert told > 60


# -- batches --------------------------------------------------------------------------------------------------


def test_batches_are_cut_and_put_together():
    batch = some_events(10, 4)
    assert_same(EventBatch.concatenate([batch[:3], batch[3:3], batch[3:]]), batch)
    assert np.shares_memory(batch[2:5].samples, batch.samples)
    mixed = EventBatch.concatenate([batch[:2], some_events(1, 4, baselines=False)])
    assert np.isnan(mixed.baselines[2]).all()
    assert not np.isnan(mixed.baselines[:2]).any()
    with pytest.raises(SchemaError, match=r"different lengths: \[4, 5\]"):
        EventBatch.concatenate([batch, some_events(1, 5)])
    with pytest.raises(SchemaError, match="no events"):
        EventBatch.concatenate([])


def test_what_is_not_known_is_filled_in():
    batch = EventBatch.of(np.ones((3, N_PIXELS, 2), np.int8), event_type=8, first_number=7)
    assert batch.number.tolist() == [7, 8, 9]
    assert batch.event_type.tolist() == [8, 8, 8]
    assert batch.time.tolist() == [NO_TIME] * 3
    assert batch.baselines is None
    assert (len(batch), batch.n_samples) == (3, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": np.zeros((3, 1295, 2))}, "must have .events, 1296 pixels"),
        ({"number": [1, 2]}, "beside 3 events"),
        ({"baselines": np.zeros((3, 5))}, "baselines have the shape"),
    ],
)
def test_shapes_must_fit(values, message):
    with pytest.raises(SchemaError, match=message):
        EventBatch.of(**{"samples": np.zeros((3, N_PIXELS, 2)), **values})


def test_types_must_fit():
    batch = some_events(2, 3)
    with pytest.raises(SchemaError, match="number are int32"):
        EventBatch(batch.samples, batch.number.astype(np.int32), batch.time, batch.event_type)
    with pytest.raises(SchemaError, match="2 axes"):
        EventBatch(batch.samples[0], batch.number, batch.time, batch.event_type)
