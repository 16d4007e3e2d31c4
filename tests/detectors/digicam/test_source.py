"""Sources: which files are taken, what is said of them, and that chunks hold the same data however they are cut."""

from __future__ import annotations

import dataclasses
import json
import pickle
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Span
from firstlight.detector import Source
from firstlight.detectors.digicam.camera import N_PIXELS
from firstlight.detectors.digicam.channels import channel_map
from firstlight.detectors.digicam.readout.batch import NO_TIME, EventBatch
from firstlight.detectors.digicam.readout.toy import write_toy
from firstlight.detectors.digicam.readout.zfits_writer import write_zfits
from firstlight.detectors.digicam.source import BLOCKS, EVENTS, SOURCES
from firstlight.errors import InputError, SchemaError

ZFITS, TOY, ARRAYS = SOURCES
BY_NAME = {"zfits": ZFITS, "toy": TOY, "arrays": ARRAYS, "h5": ARRAYS}
ALL = {"events": tuple(EVENTS.names), "waveforms": (), "baselines": ()}
TOYS = {
    "events_digicamtoy_nsb_0_pe_0": (10, 181_439_251),
    "events_digicamtoy_nsb_0_pe_1": (10, 181_755_892),
    "events_digicamtoy_nsb_0_pe_10": (10, 184_615_108),
    "events_digicamtoy_nsb_3_pe_0": (10, 181_626_379),
    "events_digicamtoy_nsb_3_pe_1": (10, 181_944_677),
    "events_digicamtoy_nsb_125_pe_10": (10, 191_390_307),
    "events_digicamtoy_nsb_660_pe_100": (10, 228_296_060),
    "toy_example_20181126_0": (5, 92_366_997),
}


def read(source, path, columns=ALL, start=0, stop=None, chunk_events=None):
    """Return the chunks of a stretch of a file."""
    stop = source.describe(path).n_events if stop is None else stop
    span = Span(str(path), 3, start, stop)
    return list(source.read(span, columns, channel_map(), chunk_events=chunk_events))


def whole(chunks):
    """Return the data of some chunks together."""
    frame = pl.concat([chunk.table("events").frame for chunk in chunks])
    blocks = [np.concatenate([chunk.block(name).values for chunk in chunks]) for name in BLOCKS]
    return frame, *blocks


def assert_same(one, other):
    assert one[0].equals(other[0])
    np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(one[2], other[2])


def events(n_events, seed=1, n_samples=6, baselines=True):
    rng = np.random.default_rng(seed)
    level = rng.integers(270 * 16, 290 * 16, N_PIXELS) / 16
    samples = np.rint(rng.normal(level[:, None], 1, (n_events, N_PIXELS, n_samples)))
    time = 1_534_972_300_662_575_268 + 1_000_001 * np.arange(n_events)
    number = 100 * seed + np.arange(n_events)
    return EventBatch.of(samples, number, time, 8, level if baselines else None)


@pytest.fixture
def files(tmp_path):
    """Return a file of each kind with the same samples."""
    batch = events(250)
    zfits = write_zfits(tmp_path / "led_250_a.fits.fz", batch, run_type="led")
    toy = write_toy(tmp_path / "toy.hdf5", batch, {"gain": 5.0})
    np.savez(
        tmp_path / "own.npz", samples=batch.samples, event_number=batch.number, time=batch.time,
        event_type=batch.event_type, baselines=batch.baselines,
    )  # fmt: skip
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file.create_dataset("waveforms", data=batch.samples)
    return {"zfits": zfits, "toy": toy, "arrays": tmp_path / "own.npz", "h5": tmp_path / "own.h5"}


# -- which files are taken ------------------------------------------------------------------------------------


def test_sources_are_sources():
    for source in SOURCES:
        assert isinstance(source, Source)
        assert set(getattr(source, "common", ())) <= set(source.suffixes)
    # names that many other things have are taken only where they are recognised
    assert ZFITS.suffixes == (".fits.fz",)
    assert set(TOY.common) == set(TOY.suffixes)
    assert set(ARRAYS.common) == set(ARRAYS.suffixes)


def test_every_file_is_taken_by_its_source_alone(files):
    for owner, path in files.items():
        taken = [source.name for source in SOURCES if source.sniff(path)]
        assert taken == ["arrays" if owner == "h5" else owner]


def test_real_files_are_taken(sample_data):
    folder = sample_data / "digicam"
    for path in (folder / "zfits").iterdir():
        assert [source.name for source in SOURCES if source.sniff(path)] == ["zfits"]
    for path in (folder / "toy_hdf5").iterdir():
        assert [source.name for source in SOURCES if source.sniff(path)] == ["toy"]
    # tables of results, histograms of pulses
    others = [*(folder / "calibration").iterdir(), *(folder / "template_scan").iterdir()]
    assert len(others) == 6
    for path in others:
        assert not any(source.sniff(path) for source in SOURCES)


def test_files_of_others_are_not_taken(tmp_path):
    np.savez(tmp_path / "peaks.npz", samples=np.zeros((3, 51)), peaks=np.zeros((N_PIXELS, 51)))
    np.savez(tmp_path / "traces.npz", samples=np.zeros((3, 64, 50), np.uint16))
    with h5py.File(tmp_path / "product.h5", "w") as file:
        file.create_dataset("values", data=np.zeros((3, N_PIXELS, 50)))
        file.create_group("waveforms")
    (tmp_path / "image.fits.fz").write_bytes(b"SIMPLE  =                    T".ljust(80).ljust(2880))
    for ending in (".fits.fz", ".npz", ".hdf5", ".h5"):
        (tmp_path / f"empty{ending}").touch()
        (tmp_path / f"folder{ending}").mkdir()
        (tmp_path / f"noise{ending}").write_bytes(np.random.default_rng(1).bytes(5000))
        (tmp_path / f"begins{ending}").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(300))
        (tmp_path / f"archive{ending}").write_bytes(b"PK\x03\x04" + bytes(300))
    for path in (
        *tmp_path.iterdir(),
        *(tmp_path / f"missing{ending}" for ending in (".fits.fz", ".npz", ".h5")),
    ):
        assert not any(source.sniff(path) for source in SOURCES), path


def test_events_of_other_cameras_are_not_taken():
    protozfits = pytest.importorskip("protozfits")
    folder = Path(protozfits.__file__).parent / "tests" / "resources"
    taken = {path.name.split(".")[0] for path in folder.glob("*.fits.fz") if ZFITS.sniff(path)}
    assert taken == {"example_10evts", "example_100evts", "example_SST1M_20180822"}


def test_a_file_that_is_cut_off_is_still_known(files, tmp_path, sample_data):
    real = sample_data / "digicam" / "zfits" / "SST1M_01_20180822_001.fits.fz"
    for number, path in enumerate((files["zfits"], real)):
        for share in (0.3, 0.5, 0.9):
            cut = tmp_path / f"cut{number}_{share}.fits.fz"
            cut.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
            assert ZFITS.sniff(cut)
            with pytest.raises(InputError, match="cut off"):
                ZFITS.describe(cut)


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        ("CameraDigicam@localhost.localdomain_0_000.124.fits.fz", {"file": 124}),
        ("SST1M_01_20180822_001.fits.fz", {"telescope": 1, "date": 20180822, "file": 1}),
        ("SST1M2_20230302_0136.fits.fz", {"telescope": 2, "date": 20230302, "file": 136}),
        ("led_250.fits.fz", {"level": 250}),
        ("led_0_003.fits.fz", {"level": 0}),
        ("dc_035_x.fits.fz", {"level": 35}),
        ("led_300.5.fits.fz", {"level": 300.5}),
        ("hv_off_01.fits.fz", {}),
        ("dark.fits.fz", {}),
        ("scheduled_7.fits.fz", {}),
    ],
)
def test_names_say_conditions(tmp_path, name, conditions):
    path = write_zfits(tmp_path / name, events(1))
    assert ZFITS.describe(path).conditions == conditions


# -- what is said of them -------------------------------------------------------------------------------------


def test_zfits_are_described(sample_data):
    folder = sample_data / "digicam" / "zfits"
    found = ZFITS.describe(folder / "example_10_evts.000.fits.fz")
    assert (found.n_events, found.source, found.notes) == (10, "zfits", ())
    assert found.tables == {"events": ("number", "time", "event_type")}
    assert found.facts["event_types"] == (1, 8)
    assert found.facts["baseline_scale"] == 1
    dark = ZFITS.describe(folder / "SST1M_01_20180822_001.fits.fz")
    wanted = {
        "run_type": "darkrun", "written": "2018-08-22T21:11:41", "n_samples": 50, "telescope_id": 22, "event_types": (8,),
        "first_number": 60_636, "baseline_scale": 16, "first_time": "2018-08-22T21:11:40.662575268 UTC",
    }  # fmt: skip
    assert {key: dark.facts[key] for key in wanted} == wanted
    json.dumps(dataclasses.asdict(dark))


@pytest.mark.parametrize(("name", "numbers"), TOYS.items())
def test_toys_are_read(sample_data, name, numbers):
    path = sample_data / "digicam" / "toy_hdf5" / f"{name}.hdf5"
    found = TOY.describe(path)
    frame, waveforms, baselines = whole(read(TOY, path, chunk_events=3))
    assert (found.n_events, waveforms.sum(dtype=np.int64)) == numbers
    assert waveforms.shape == (numbers[0], N_PIXELS, 50)
    assert frame["number"].to_list() == list(range(numbers[0]))
    assert frame["time"].null_count() == numbers[0]
    assert np.isnan(baselines).all()
    example = "example" in name
    wanted = {
        "true_gain": 5.05 if example else 5, "true_sigma_e": 1 if example else 1.25, "true_crosstalk": 0.08,
        "true_sigma_1": 1 if example else 0.8, "true_baseline": 285 if example else 280,
    }  # fmt: skip
    assert {key: found.facts[key] for key in wanted} == wanted
    if not example:
        rate, light = (int(part) for part in name.split("_") if part.isdigit())
        assert found.facts["true_nsb_rate"] == pytest.approx(rate / 1000)
        assert found.facts["true_n_photon"] == light
        assert found.facts["true_gain_nsb"] is True


def test_arrays_are_described(files):
    found = ARRAYS.describe(files["arrays"])
    assert found.n_events == 250
    assert found.facts == {
        "n_samples": 6, "event_types": (8,), "first_number": 100, "first_time": "2018-08-22T21:11:40.662575268 UTC",
        "beside": ("number", "event_type", "time", "baselines"),
    }  # fmt: skip
    assert ARRAYS.describe(files["h5"]).facts == {
        "n_samples": 6, "event_types": (), "first_number": 0, "beside": (),
    }  # fmt: skip


@pytest.mark.parametrize("ending", [".fits.fz", ".hdf5", ".npz", ".h5"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, None])
def test_spoilt_files_are_refused(files, tmp_path, ending, share):
    path = tmp_path / f"spoilt{ending}"
    owner = {".fits.fz": "zfits", ".hdf5": "toy", ".npz": "arrays", ".h5": "h5"}[ending]
    whole_file = files[owner]
    if share is not None:
        path.write_bytes(whole_file.read_bytes()[: int(share * whole_file.stat().st_size)])
    source = BY_NAME[owner]
    with pytest.raises(InputError) as caught:
        source.describe(path)
    assert caught.value.where == str(path)
    assert len(caught.value.what) > 8


def test_files_of_other_kinds_are_named(files, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file.create_dataset("table", data=np.zeros(3))
    with pytest.raises(InputError, match="not a file of digicamtoy") as caught:
        TOY.describe(other)
    assert caught.value.known == ["table"]
    with pytest.raises(InputError, match="no array samples") as caught:
        ARRAYS.describe(other)
    assert caught.value.known == ["table float64 (3,)"]
    with pytest.raises(InputError, match="not a FITS file"):
        ZFITS.describe(files["toy"])
    with pytest.raises(InputError, match="not an HDF5 file"):
        TOY.describe(files["zfits"])
    with pytest.raises(InputError, match="npz"):
        ARRAYS.describe(files["zfits"])
    wrong = tmp_path / "wrong.hdf5"
    with h5py.File(wrong, "w") as file:
        file.create_dataset("data/adc_count", data=np.zeros((3, 1000, 50), np.uint16))
    with pytest.raises(InputError, match=r"adc_count is uint16 of shape \(3, 1000, 50\)"):
        TOY.describe(wrong)


# -- chunks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zfits", "toy", "arrays"])
def test_chunks_are_the_same_whatever_their_size(files, kind):
    source, path = BY_NAME[kind], files[kind]
    reference = whole(read(source, path))
    np.testing.assert_array_equal(reference[1], events(250).samples)
    for size in (1, 7, 100, 1000):
        chunks = read(source, path, chunk_events=size)
        edges = [(chunk.span.start, chunk.span.stop) for chunk in chunks]
        assert (edges[0][0], edges[-1][1]) == (0, 250)
        assert all(one[1] == other[0] for one, other in pairwise(edges))
        assert max(stop - start for start, stop in edges) == min(size, 250)
        assert all(chunk.facts["n_samples"] == 6 for chunk in chunks)
        assert {chunk.span.index for chunk in chunks} == {3}
        assert_same(whole(chunks), reference)
    spans = [read(source, path, start=start, stop=min(start + 90, 250)) for start in range(0, 250, 90)]
    assert_same(whole([chunk for span in spans for chunk in span]), reference)


def test_chunks_hold_what_is_asked_for(files):
    for owner, path in files.items():
        source = BY_NAME[owner]
        (chunk,) = read(source, path, {"events": ("event_type",)}, stop=5)
        assert list(chunk.parts) == ["events"]
        assert chunk.table("events").frame.columns == ["event_type"]
        (chunk,) = read(source, path, {"waveforms": ()}, stop=5)
        assert chunk.block("waveforms").axes == ("event", "channel", "sample")
        assert (chunk.block("waveforms").unit, chunk.block("waveforms").values.dtype) == ("LSB", np.uint16)
        (chunk,) = read(source, path, {"baselines": ()}, stop=5)
        assert list(chunk.parts) == ["baselines"]
        assert chunk.block("baselines").axes == ("event", "channel")
        assert chunk.block("baselines").values.dtype == np.float32
        with pytest.raises(SchemaError, match="unknown column 'numbr'") as caught:
            read(source, path, {"events": ("numbr",)})
        assert "number" in caught.value.known
        with pytest.raises(SchemaError, match="unknown table 'waveform'"):
            read(source, path, {"waveform": ()})


def test_events_fit_their_schema(files):
    for source in SOURCES:
        for chunk in read(source, files[source.name], chunk_events=99):
            EVENTS.validate(chunk.table("events").frame)


def test_an_unknown_time_is_null(tmp_path):
    batch = events(3)
    batch.time[1] = NO_TIME
    frame = whole(read(ZFITS, write_zfits(tmp_path / "own.fits.fz", batch)))[0]
    assert frame["time"].to_list() == [int(batch.time[0]), None, int(batch.time[2])]


def test_baselines_of_zfits_are_in_lsb(files):
    _, _, baselines = whole(read(ZFITS, files["zfits"]))
    np.testing.assert_array_equal(baselines, events(250).baselines)
    forced = dataclasses.replace(ZFITS, options={"baseline_scale": 1})
    np.testing.assert_array_equal(whole(read(forced, files["zfits"]))[2], 16 * baselines)


def test_a_file_without_events_is_one_empty_chunk(tmp_path):
    path = write_zfits(tmp_path / "own.fits.fz", [])
    toy = write_toy(tmp_path / "toy.hdf5", events(0), {})
    np.savez(tmp_path / "own.npz", samples=np.zeros((0, N_PIXELS, 50), np.uint16))
    for source, file in ((ZFITS, path), (TOY, toy), (ARRAYS, tmp_path / "own.npz")):
        assert source.describe(file).n_events == 0
        (chunk,) = read(source, file)
        assert chunk.table("events").frame.height == 0
        assert chunk.block("waveforms").values.shape[:2] == (0, N_PIXELS)
        assert chunk.block("baselines").values.shape == (0, N_PIXELS)


def test_several_files_are_their_concatenation(tmp_path):
    batch = events(130)
    one = write_zfits(tmp_path / "all.fits.fz", batch)
    parts = [
        write_zfits(tmp_path / f"{number}.fits.fz", batch[start:stop])
        for number, (start, stop) in enumerate(((0, 1), (1, 101), (101, 130)))
    ]
    together = [chunk for path in parts for chunk in read(ZFITS, path, chunk_events=40)]
    assert_same(whole(together), whole(read(ZFITS, one)))


def test_sources_travel_to_other_processes(files):
    for source in SOURCES:
        there = pickle.loads(pickle.dumps(source))  # noqa: S301
        assert there == source
        path = files[source.name]
        (chunk,) = read(there, path, stop=9)
        assert_same(whole([pickle.loads(pickle.dumps(chunk))]), whole(read(source, path, stop=9)))  # noqa: S301


def test_a_damaged_event_is_an_error_of_its_file(files):
    content = bytearray(files["zfits"].read_bytes())
    content[-5000] ^= 16
    files["zfits"].write_bytes(content)
    assert ZFITS.describe(files["zfits"]).n_events == 250
    with pytest.raises(InputError, match="does not add up to its checksum"):
        read(ZFITS, files["zfits"])
