"""Events are read alone, every hit is drawn where it belongs, and folders are followed without a hitch."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from firstlight.detectors.spinquest.display import (
    VIEWS,
    draw,
    event_range,
    open_events,
    plot_events,
    read_event,
)
from firstlight.detectors.spinquest.display import page as display_html
from firstlight.detectors.spinquest.display import pictures as display
from firstlight.detectors.spinquest.display.scene import scene_of
from firstlight.detectors.spinquest.display.watch import follow, watch
from firstlight.detectors.spinquest.geometry import load_geometry
from firstlight.errors import InputError, UsageError

DATA = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "spinquest"
SRAW = DATA / "synthetic_sraw" / "synth_sraw_e1039.root"
MUONS = DATA / "mc_rus" / "MUM_Dump_10K.root"

pytestmark = pytest.mark.skipif(not SRAW.exists(), reason=f"no test data at {DATA}")


def _png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def test_event_of_a_raw_file_is_what_uproot_says():
    import uproot

    event = read_event(SRAW, 7)
    with uproot.open(SRAW) as file:
        tree = file["save"]
        keys = ("detectorID", "elementID", "tdcTime", "flag")
        raw = [tree[f"fAllHits.{key}"].array(entry_start=7, entry_stop=8, library="np")[0] for key in keys]
    assert event.n_events == 160
    assert event.detector_id.tolist() == raw[0].tolist()
    assert event.element_id.tolist() == raw[1].tolist()
    np.testing.assert_allclose(event.tdc, raw[2], rtol=1e-6)
    assert event.in_time.tolist() == ((raw[3] & 2) // 2).tolist()
    assert event.run_id == 5994
    assert event.triggers is not None
    assert event.n_invalid == 0


def test_all_invalid_hits_of_a_noisy_file_are_counted():
    events = display.read_events(DATA / "mc_rus" / "noisy_output.root", ":")
    assert len(events) == 910
    assert sum(event.n_hits for event in events) == 188_428
    assert sum(event.n_bad_detector for event in events) == 1_983
    assert sum(event.n_bad_element for event in events) == 61_803
    assert sum(event.n_hits + event.n_invalid for event in events) == 252_214


def test_events_read_together_are_those_read_alone():
    together = display.read_events(SRAW, "20:24")
    for number, event in enumerate(together, start=20):
        alone = read_event(SRAW, number)
        assert event.number == alone.number == number
        for name in ("channel", "tdc", "drift", "in_time"):
            np.testing.assert_array_equal(getattr(event, name), getattr(alone, name))


def test_simulated_events_have_no_times_and_no_flags():
    event = read_event(MUONS, 5)
    assert np.isnan(event.tdc).all()
    assert (event.state == -1).all()
    assert event.run_id is None
    with pytest.raises(InputError, match="no in-time flag"):
        display.only_in_time(event)


def test_events_without_hits_can_be_drawn():
    numbers = [event.number for event in display.read_events(SRAW, ":") if event.n_hits == 0]
    assert len(numbers) == 10
    event = read_event(SRAW, numbers[0])
    for view in VIEWS:
        draw(view, event, load_geometry()).canvas.draw()


@pytest.mark.parametrize(
    ("text", "found"),
    [("3", range(3, 4)), (4, range(4, 5)), ("2:5", range(2, 5)), (":2", range(2)), ("8:", range(8, 10))],
)
def test_ranges_of_events(text, found):
    assert event_range(text, 10) == found


@pytest.mark.parametrize("text", ["10", -1, "5:11", "-1:3"])
def test_events_that_do_not_exist_say_how_many_there_are(text):
    with pytest.raises(UsageError, match="10 events, 0 to 9"):
        event_range(text, 10)


@pytest.mark.parametrize("text", ["", "x", "1:2:3", "1 2", "4:4", "٣"])
def test_nonsense_is_no_range(text):
    with pytest.raises(UsageError):
        event_range(text, 10)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken/DY_Dump_in_JPsi_Target.root", "without any tree"),
        ("broken/Signal_rus.root", "too short"),
        ("broken/synth_sraw_truncated.root", "ends too early"),
        ("synthetic_sraw/synth_sraw_unsplit.root", "unsplit"),
        ("synthetic_sraw/synth_sraw_zeroevents.root", "no events"),
    ],
)
def test_files_that_cannot_be_drawn_say_why(name, reason):
    with pytest.raises(InputError, match=reason):
        read_event(DATA / name, 0)


def test_geometry_follows_the_file():
    _, geometry = open_events(DATA / "synthetic_sraw" / "synth_sraw_e906layout.root")
    assert geometry.version == "E906"
    assert open_events(MUONS)[1].version == "E1039"


def test_a_muon_is_a_straight_line_in_the_side_view():
    """Hits that measure y, and crossings of U and V, lie on one line through the whole spectrometer."""
    straight = 0
    for event in display.read_events(MUONS, ":60"):
        scene = scene_of(event, load_geometry())
        chosen = (scene.of_plane("view") == "Y") & np.isin(scene.of_plane("kind"), ("prop_tube", "hodoscope"))
        y = (scene.low[:, 1] + scene.high[:, 1])[chosen] / 2
        z = scene.low[chosen, 2]
        if y.size < 8:
            continue
        residual = y - np.polyval(np.polyfit(z, y, 1), z)
        straight += np.abs(residual).max() < 20.0  # bars are up to 23 cm wide
    assert straight >= 30


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "name", ["synthetic_sraw/synth_sraw_e1039.root", "synthetic_sraw/synth_sraw_e906layout.root",
             "mc_rus/MUM_Dump_10K.root", "mc_rus/noisy_output.root", "mc_trackqa/trackQA1.root"],
)  # fmt: skip
def test_every_view_of_every_kind_of_file(view, name, tmp_path):
    written = plot_events(DATA / name, 3, [view], tmp_path, interactive=False, dpi=50)
    assert [path.name for path in written] == [f"{Path(name).stem}_event_3_{view}.png"]
    wide, high = _png_size(written[0])
    assert wide == 750
    assert high > 300
    assert list(tmp_path.iterdir()) == written  # no temporary files


def test_map_shows_the_last_element_and_every_fired_cell():
    event = read_event(SRAW, 1)
    figure = draw("map", event, load_geometry())
    axes = figure.axes[1]
    cells = np.asarray(axes.images[0].get_array())
    assert cells.shape == (201, 56)  # without D1
    assert axes.get_ylim() == (0.5, 201.5)
    fired = {(int(d), int(e)) for d, e in zip(event.detector_id, event.element_id, strict=True)}
    in_time = {
        (int(d), int(e))
        for d, e, t in zip(event.detector_id, event.element_id, event.in_time, strict=True)
        if t
    }
    assert (cells == 4).sum() == len(in_time)
    assert (cells >= 2).sum() == len(fired)
    assert (cells >= 1).sum() == scene_of(event, load_geometry()).planes["n_elements"].sum()


def test_title_says_what_is_shown():
    figure = draw("xz", read_event(SRAW, 1), load_geometry())
    words = " ".join(text.get_text() for text in figure.texts)
    for part in (
        "synth_sraw_e1039.root",
        "event 1",
        "run 5994",
        "spill 1924430",
        "NIM3",
        "2171 hits",
        "1716 in time",
    ):
        assert part in words


def test_only_hits_in_time(tmp_path):
    event = display.only_in_time(read_event(SRAW, 1))
    assert event.n_hits == 1716
    assert "455 hits out of time not drawn" in event.facts
    with pytest.raises(InputError, match="no in-time flag"):
        plot_events(MUONS, 0, ["map"], tmp_path, in_time=True)


def test_unknown_view_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UsageError, match="'maps'"):
        plot_events("nowhere.root", 0, ["maps"], tmp_path)


def test_page_is_one_small_file_that_loads_nothing(tmp_path):
    path = plot_events(SRAW, "0:55", (), tmp_path)[0]
    assert path.name == "synth_sraw_e1039_events_0-49.html"
    assert path.stat().st_size < 6_000_000
    text = path.read_text(encoding="utf-8")
    assert "50 of the 55 events asked for" in text
    assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=", text)
    assert "default-src 'none'" in text


def test_page_limits_the_number_of_hits(tmp_path, monkeypatch):
    monkeypatch.setattr(display_html, "MAXIMUM_HITS", 4000)
    path = display_html.event_page(display.read_events(SRAW, ":10"), load_geometry(), tmp_path / "page.html")
    assert "the first 2 of 10 events" in path.read_text(encoding="utf-8")


def test_file_names_cannot_break_the_page(tmp_path):
    from dataclasses import replace

    event = replace(read_event(SRAW, 2), path="</script><img src=x onerror=alert(1)>.root")
    text = display_html.event_page(event, load_geometry(), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img" not in text


def test_single_events_of_a_whole_spill(tmp_path):
    """3,716 events with 4 million hits, as a real spill; how long it takes is a matter of the benchmarks."""
    import uproot

    path = tmp_path / "run_005994_spill_001924430_sraw.root"
    generator = np.random.default_rng(1)
    names = {
        "detectorID": "int16",
        "elementID": "int16",
        "tdcTime": "float32",
        "driftDistance": "float32",
        "flag": "uint16",
    }
    with uproot.recreate(path) as file:
        import awkward as ak

        tree = file.mktree(
            "save",
            {"fRunID": "int32", "fTriggerBits": "int32", "fAllHits": ak.types.from_datashape(
                "var * {detectorID: int16, elementID: int16, tdcTime: float32, driftDistance: float32, flag: uint16}",
                highlevel=False)},
            field_name=lambda outer, inner: inner if outer == "" else f"{outer}.{inner}",
        )  # fmt: skip
        for start in range(0, 3716, 100):
            counts = generator.geometric(1 / 1089, min(100, 3716 - start))
            n = int(counts.sum())
            content = {name: generator.integers(1, 17, n).astype(kind) for name, kind in names.items()}
            content["detectorID"] = generator.integers(13, 55, n).astype("int16")
            hits = ak.unflatten(ak.zip(content), counts)
            tree.extend(
                {
                    "fRunID": np.full(counts.size, 5994, "i4"),
                    "fTriggerBits": np.ones(counts.size, "i4"),
                    "fAllHits": hits,
                }
            )
    assert read_event(path, 0).n_events == 3716  # imports and compiled code are there now
    for number in (1, 900, 1858, 2500, 3715):
        event = read_event(path, number)
        assert event.n_hits > 0
    draw("station", event, load_geometry()).canvas.draw()


# -- following a folder -----------------------------------------------------------------------------------


class Turns:
    """Stands in for the clock: at each wait the next action happens."""

    def __init__(self, *actions):
        self.actions = list(actions)

    def sleep(self, seconds):
        action = self.actions.pop(0) if self.actions else None
        if action is not None:
            action()

    def stop(self):
        return not self.actions


def _write(path: Path, size: int, when: float):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (when, when))


def test_of_the_files_that_are_there_the_newest_is_reported(tmp_path):
    _write(tmp_path / "a.root", 10, 100)
    _write(tmp_path / "run_2" / "b.root", 10, 300)
    _write(tmp_path / "c.root", 10, 200)
    _write(tmp_path / ".d.root", 10, 400)
    _write(tmp_path / "e.txt", 10, 400)
    seen = []
    assert watch(tmp_path, seen.append, once=True, sleep=Turns().sleep) == 1
    assert [path.name for path in seen] == ["b.root"]


def test_new_files_come_in_order_when_they_are_complete(tmp_path):
    _write(tmp_path / "old.root", 10, 50)
    growing = tmp_path / "run" / "growing.root"
    turns = Turns(
        None,
        lambda: (_write(growing, 10, 100), _write(tmp_path / "small.root", 5, 101)),
        lambda: _write(growing, 20, 102),
        lambda: _write(growing, 30, 103),
        None, None, None, None,
    )  # fmt: skip
    seen = []
    n_good = watch(tmp_path, seen.append, sleep=turns.sleep, stop=turns.stop)
    assert [path.name for path in seen] == ["old.root", "small.root", "growing.root"]
    assert n_good == 3


def test_a_file_being_written_at_the_start_gives_way_to_the_one_before(tmp_path):
    _write(tmp_path / "complete.root", 10, 100)
    growing = tmp_path / "growing.root"
    _write(growing, 10, 200)
    steps = [lambda size=size: _write(growing, size, 200 + size) for size in (20, 30, 40)]
    turns = Turns(*steps, None, None, None)
    seen = []
    watch(tmp_path, seen.append, sleep=turns.sleep, stop=turns.stop)
    assert [path.name for path in seen] == ["complete.root", "growing.root"]


def test_a_bad_file_is_named_and_tried_again_when_it_has_changed(tmp_path):
    path = tmp_path / "bad.root"
    _write(path, 10, 100)
    tries, problems = [], []

    def on_file(path):
        tries.append(path.stat().st_size)
        if tries[-1] < 50:
            what = "the file ends too early"
            raise InputError(what, where=path)

    turns = Turns(None, None, None, None, lambda: _write(path, 60, 200), None, None, None)
    n_good = watch(tmp_path, on_file, sleep=turns.sleep, stop=turns.stop,
                   on_problem=lambda path, reason: problems.append((path.name, reason)))  # fmt: skip
    assert tries == [10, 60]
    assert problems == [("bad.root", "the file ends too early")]
    assert n_good == 1


def test_errors_of_the_caller_are_not_hidden(tmp_path):
    _write(tmp_path / "a.root", 10, 100)

    def fail(path):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watch(tmp_path, fail, once=True, sleep=Turns().sleep)


def test_files_that_vanish_do_no_harm(tmp_path):
    path = tmp_path / "a.root"
    _write(path, 10, 100)
    turns = Turns(path.unlink, None, None, None)
    assert watch(tmp_path, print, sleep=turns.sleep, stop=turns.stop) == 0
    with pytest.raises(UsageError, match="no such folder"):
        watch(tmp_path / "nowhere", print)


def test_following_draws_the_newest_event(tmp_path):
    import shutil

    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(DATA / "broken" / "synth_sraw_truncated.root", source / "truncated.root")
    shutil.copy(DATA / "synthetic_sraw" / "synth_sraw_lzma.root", source / "good.root")
    os.utime(source / "good.root", (100, 100))
    problems = []
    n_good = follow(
        source, output, view="xz", n_events=2, dpi=50, once=True, sleep=Turns().sleep,
        on_problem=lambda path, reason: problems.append(path.name),
    )  # fmt: skip
    assert n_good == 1
    assert problems == ["truncated.root"]
    assert sorted(path.name for path in output.iterdir()) == ["index.html", "latest.png", "latest_2.png"]
    page = (output / "index.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in page
    assert "good.root" in page
    with pytest.raises(UsageError, match="unknown view"):
        follow(source, output, view="zz")
