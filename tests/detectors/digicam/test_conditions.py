"""What files were taken with, and where their signal is."""

from __future__ import annotations

import numpy as np
import pytest
from digicam_helpers import go, waveforms

from firstlight.detectors.digicam.conditions import kind_of, level_index, look_at, plan
from firstlight.detectors.digicam.options import Options
from firstlight.detectors.digicam.simulate import simulate
from firstlight.detectors.digicam.source import SOURCES
from firstlight.errors import InputsRefusedError, UsageError


def describe(path):
    return next(source for source in SOURCES if source.sniff(path)).describe(path)


def saved(folder, name, samples, **more):
    path = folder / f"{name}.npz"
    np.savez(path, samples=samples, **more)
    return path


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    files = simulate(
        folder, seed=5, n_events=60, kinds=("hv_off", "dark", "led"), levels=(250,), faults=False
    )
    return {path.name.split(".")[0]: path for path in files}


def test_a_header_says_what_a_file_was_taken_with(raw):
    descriptions = [describe(path) for path in raw.values()]
    found = plan(Options(), descriptions).conditions
    kinds = {path.name.split(".")[0]: found[str(path)]["kind"] for path in raw.values()}
    assert kinds == {"hv_off": "hv_off", "dark": "dark", "led_250": "led"}
    assert found[str(raw["led_250"])]["level"] == 250.0
    assert found[str(raw["dark"])]["kind_from"].startswith("header")


def test_data_say_it_where_neither_header_nor_name_does(raw, tmp_path):
    for place, (name, path) in enumerate(raw.items()):
        batch = describe(path)
        samples = look_samples(batch)
        other = describe(saved(tmp_path, f"run_{place}", samples))
        kind, why = kind_of(other, look_at(other))
        assert kind == {"hv_off": "hv_off", "dark": "dark", "led_250": "led"}[name], why


def look_samples(description):
    from firstlight.data.schema import Span
    from firstlight.detectors.digicam.channels import channel_map

    source = next(one for one in SOURCES if one.name == description.source)
    span = Span(description.path, 0, 0, description.n_events)
    chunks = source.read(span, {"waveforms": ()}, channel_map())
    return np.concatenate([chunk.block("waveforms").values for chunk in chunks])


def test_an_option_has_the_last_word(raw):
    found = plan(Options(kind="dark"), [describe(raw["hv_off"])]).conditions
    assert found[str(raw["hv_off"])]["kind"] == "dark"


def test_the_light_is_found_in_each_pixel(raw):
    channels = plan(Options(), [describe(path) for path in raw.values()]).channels
    light = channels.column("light_sample")
    # light arrives at 40 ns, the pulse is highest 14.7 ns later: between samples 13 and 14
    assert set(np.unique(light)) <= {13, 14}
    assert np.all(plan(Options(sample=9), [describe(raw["led_250"])]).channels.column("light_sample") == 9)
    reference = channels.column("reference")
    assert np.all(np.abs(reference - 284) < 30)


def test_positions_come_from_a_file(raw, tmp_path):
    peaks = np.zeros((1296, 51))
    peaks[np.arange(1296), np.arange(1296) % 50] = 7
    np.savez(tmp_path / "peaks.npz", peaks=peaks)
    options = Options(positions=str(tmp_path / "peaks.npz"))
    found = plan(options, [describe(raw["led_250"])]).channels.column("light_sample")
    assert found.tolist() == (np.arange(1296) % 50).tolist()
    with pytest.raises(UsageError, match="does not exist"):
        plan(Options(positions=str(tmp_path / "no.npz")), [describe(raw["led_250"])])
    np.savez(tmp_path / "other.npz", peaks=peaks[:100])
    with pytest.raises(UsageError, match="1296 pixels"):
        plan(Options(positions=str(tmp_path / "other.npz")), [describe(raw["led_250"])])
    np.savez(tmp_path / "named.npz", piks=peaks)
    with pytest.raises(UsageError, match=r"unknown array .peaks"):
        plan(Options(positions=str(tmp_path / "named.npz")), [describe(raw["led_250"])])


def test_traces_of_another_length_are_refused_and_the_others_processed(tmp_path):
    one = saved(tmp_path, "dark_1", waveforms(12, seed=1))
    two = saved(tmp_path, "dark_2", waveforms(12, seed=2))
    odd = saved(tmp_path, "dark_3", waveforms(12, seed=3, n_samples=92))
    with pytest.raises(InputsRefusedError, match="traces of 92 samples") as caught:
        go([one, two, odd], tmp_path / "run")
    assert caught.value.run["samples/dark"].value.total == 24 * 1296 * 50


def test_levels_follow_event_numbers():
    options = Options(scan_levels=(0, 5, 10), events_per_level=10)
    numbers = np.array([100, 109, 110, 125, 129, 130, 99])
    assert level_index(numbers, 100, options).tolist() == [0, 0, 1, 2, 2, -1, -1]


def test_a_scan_in_one_file_is_divided_by_its_levels(tmp_path):
    files = simulate(
        tmp_path / "raw",
        seed=6,
        n_events=40,
        kinds=("led",),
        levels=(0, 200, 300),
        layout="scan",
        faults=False,
    )
    levels = {"scan_levels": [0, 200, 300], "events_per_level": 40}
    run = go(files, tmp_path / "run", levels)
    table = run["light/levels"].to_polars()
    assert table["level"].to_list() == [0, 200, 300]
    assert table["n_events"].to_list() == [40, 40, 40]
    # more light at every level
    mean = run["light/waveform"].value.values.max(axis=2).mean(axis=0)
    assert mean[0] < mean[1] < mean[2]


def test_only_events_of_some_types(tmp_path):
    types = np.array([8, 1, 8, 9, 2, 8])
    path = saved(tmp_path, "dark", waveforms(6, seed=4), event_type=types)
    run = go([path], tmp_path / "run", {"event_types": [8]})
    # a flag may stand beside others
    assert run["events/files"].to_polars()["n_events"][0] == 4
    assert run["samples/dark"].value.total == 4 * 1296 * 50
    assert run.record["cut_flow"][0]["left"] == 4


def test_files_together_are_the_sum_of_files(tmp_path):
    samples = waveforms(20, seed=8)
    whole = saved(tmp_path, "dark_whole", samples, event_number=np.arange(20))
    parts = [
        saved(tmp_path, f"dark_part{k}", samples[start:stop], event_number=np.arange(start, stop))
        for k, (start, stop) in enumerate([(0, 9), (9, 20)])
    ]
    one, two = go([whole], tmp_path / "one"), go(parts, tmp_path / "two")
    assert np.array_equal(one["samples/dark"].value.counts, two["samples/dark"].value.counts)
    limited = process_limited(parts, tmp_path / "three")
    # so many events in all, not of each file
    assert limited["samples/dark"].value.total == 12 * 1296 * 50


def process_limited(files, output):
    from digicam_helpers import bare

    from firstlight.run.chain import Settings, process
    from firstlight.run.progress import silent

    return process(bare(), files, output, {}, Settings(progress=silent(), plots=False), max_events=12)
