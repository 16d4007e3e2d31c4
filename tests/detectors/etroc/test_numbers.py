"""The exact numbers of the sample data, through the chain and the commands of users.

The numbers were found once by independent scripts; they are those of the description of the data.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from firstlight.cli.main import cli
from firstlight.detector import get_detector
from firstlight.detectors.etroc.simulate import simulate
from firstlight.detectors.etroc.stepwise import advance, begin
from firstlight.errors import UsageError
from firstlight.run.chain import Settings, process
from firstlight.run.progress import silent
from firstlight.run.store import open_run
from firstlight.testing import assert_products_equal

DATA = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "etroc"
SPS = "etroc2_tamalero_sps2025"
PROBE = "etroc2_probe_qinj_jan2024"
BEAM = "synthetic_etroc1_telescope/F9P5_F11P5_F5P5_Beam_0.txt"
SCAN = "synthetic_etroc1_charge_injection"
QUIET = Settings(progress=silent(), plots=False)

# cuts of the description of the data
CUTS = """board_id,variable,cut_type,cut_value,output
*,calibration_code,>,125,
*,calibration_code,<,150,
*,time_of_arrival,>,20,
*,time_of_arrival,<,500,
"""
TIME_CUTS = """cut_type,cut_direction,variable_1,board_id_1,variable_2,board_id_2,value_1,value_2,value_3,output
simple,>,time_over_threshold_ns,0,,,2.5,,,
diag-dist,<,time_of_arrival_ns,0,time_of_arrival_ns,1,0.8,,,
diag-dist,<,time_of_arrival_ns,0,time_of_arrival_ns,3,0.9,,,
"""


@pytest.fixture(scope="session")
def etroc():
    """Return the folder of the ETROC sample data."""
    if not DATA.is_dir():
        pytest.skip(f"sample data not found in {DATA}")
    return DATA


def go(files, output, configuration=None, *, plots=False):
    return process(
        get_detector("etroc"),
        list(files),
        output,
        configuration or {},
        Settings(progress=silent(), plots=plots),
    )


def call(*words):
    return CliRunner().invoke(cli, [str(word) for word in words], input="")


def run(*words):
    result = call(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def rows_of(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def check_of(run_, name):
    (check,) = (check for check in run_.record["checks"] if check["name"] == name)
    return check


def words_of(run_):
    """Return the words of a run by what became of them, and make sure that each file's add up."""
    counters, files = run_["ingest/counters"].to_polars(), run_["ingest/files"].to_polars().unique("file")
    told = dict(files.select("file", "n_words").iter_rows())
    found = dict(counters.filter(unit="words").group_by("file").agg(pl.col("count").sum()).iter_rows())
    assert {file: found.get(file, 0) for file in told} == told
    assert check_of(run_, "words accounted for")["verdict"] == "ok"
    sums = counters.group_by("unit", "word").agg(pl.col("count").sum())
    return {(unit, word): count for unit, word, count in sums.iter_rows()}


# ---------------------------------------------------------------- A1 to A4: test beam, TAMALERO

# run: words, headers, complete packets, hits, of e-link 12, of e-link 42
SPS_RUNS = {
    119192: (21234, 10000, 10000, 1234, 240, 994), 121699: (21086, 10000, 9999, 1087, 890, 197),
    121710: (8, 4, 4, 0, 0, 0), 121711: (40, 20, 20, 0, 0, 0), 121717: (24, 12, 12, 0, 0, 0),
    121719: (20408, 10000, 10000, 408, 309, 99), 121733: (22052, 10000, 9999, 2053, 1201, 852),
    121734: (15048, 6792, 6792, 1464, 879, 585), 121743: (0, 0, 0, 0, 0, 0),
    121744: (21992, 10000, 10000, 1992, 1165, 827), 121760: (22022, 10000, 10000, 2022, 1151, 871),
    121775: (21856, 10000, 9999, 1857, 1085, 772), 121790: (21884, 10000, 10000, 1884, 1084, 800),
    121802: (21882, 10000, 9999, 1883, 1096, 787),
}  # fmt: skip


@pytest.fixture(scope="module")
def sps(etroc, tmp_path_factory):
    """Return one run of the 14 files of the test beam."""
    return go(sorted((etroc / SPS).glob("*.dat")), tmp_path_factory.mktemp("sps") / "run")


def test_a1_sums(sps):
    words = words_of(sps)
    assert words == {
        ("words", "header"): 96_824, ("words", "header: no trailer"): 4, ("words", "data"): 15_884,
        ("words", "trailer"): 96_824,
    }  # fmt: skip
    assert sum(words.values()) == 209_536
    packets = sps["ingest/packets"].to_polars()
    assert packets.height == 96_828
    complete = packets.filter("complete")
    assert complete.height == 96_824
    assert complete["crc_ok"].all()
    assert (complete["hits_told"] == complete["hits_found"]).all()
    assert packets["chip_id"].drop_nulls().unique().to_list() == [3316]
    assert (packets["link"].unique().sort().to_list(), packets["board"].unique().to_list()) == ([12, 42], [0])


def test_a1_every_file_and_link(sps):
    files = sps["ingest/files"].to_polars()
    packets, hits = sps["ingest/packets"].to_polars(), sps["ingest/hits"].to_polars()
    assert files.height == len(SPS_RUNS) == 14
    for row in files.iter_rows(named=True):
        number = int(re.search(r"run_(\d+)", row["name"])[1])
        own, own_hits = packets.filter(file=row["file"]), hits.filter(file=row["file"])
        found = (
            row["n_words"], own.height, own.filter("complete").height, own_hits.height,
            own_hits.filter(link=12).height, own_hits.filter(link=42).height,
        )  # fmt: skip
        assert found == SPS_RUNS[number], number
        assert row["n_hits"] == own_hits.height


def test_a1_columns_by_link(sps):
    columns = sps["ingest/hits"].to_polars().group_by("link").agg(pl.col("col").unique().sort())
    assert dict(columns.iter_rows()) == {
        12: list(range(8, 16)),
        42: list(range(8)),
    }
    # packets without hits are kept: they are the denominator of every rate
    packets = sps["ingest/packets"].to_polars()
    assert packets.filter(pl.col("hits_found") == 0).height > 80_000
    counts = {(what, unit): count for what, unit, count in sps["events/counts"].to_polars().iter_rows()}
    # the last packet of four files lacks its trailer, not its event
    assert counts["complete events", "events"] == 48_414
    assert counts["in complete events", "packets"] == 96_828


@pytest.mark.parametrize("number", [119192, 121733, 121734])
def test_a2_hits_are_those_of_the_reference(etroc, tmp_path, number):
    configuration = {"events": {"one_hit": "keep", "accept_ea": [0, 1, 2, 3]}}
    own = go([etroc / SPS / f"output_run_{number}_rb0.dat"], tmp_path / "run", configuration)
    hits = own["events/hits"].to_polars().cast({"toa": int, "tot": int, "event": int})
    assert hits.height == SPS_RUNS[number][3]
    for link, port in ((12, "L"), (42, "R")):
        head = etroc / SPS / "reference" / f"output_run_{number}_rb0_Port_{port}"
        expected = pl.read_csv(f"{head}_hit_stream.csv")
        found = hits.filter(link=link).sort("event", "record", maintain_order=True)
        assert found.select("event", "row", "col", "cal", "ea").rows() == (
            expected.select("EventID", "Row", "Col", "CAL_Code", "EA_Code").rows()
        )
        width = 3.125 / found["cal"]
        # the reference is rounded to 1 fs, and has no 12.5 ns in TOA
        np.testing.assert_allclose(width * found["toa"], expected["TOA_ns"], rtol=0, atol=5.1e-7)
        np.testing.assert_allclose(
            (2 * found["tot"] - found["tot"] // 32) * width, expected["TOT_ns"], rtol=0, atol=5.1e-7
        )
        pixels = np.zeros((16, 16), dtype=int)
        np.add.at(pixels, (found["row"].to_numpy(), found["col"].to_numpy()), 1)
        np.testing.assert_array_equal(pixels, np.loadtxt(f"{head}_hitmap.csv", delimiter=","))


def test_a2_first_hit_and_events(etroc, tmp_path):
    own = go([etroc / SPS / "output_run_119192_rb0.dat"], tmp_path / "run")
    counts = {(what, unit): count for what, unit, count in own["events/counts"].to_polars().iter_rows()}
    assert counts["complete events", "events"] == 5000
    first = own["events/hits"].to_polars().filter(link=12).row(0, named=True)
    assert (first["event"], first["row"], first["col"], first["cal"]) == (46, 1, 8, 170)
    table = own["pixels/table"].to_polars()
    assert table["hits"].sum() == 1234


def test_a4_empty_file(etroc, tmp_path):
    path = etroc / SPS / "output_run_121743_rb0.dat"
    assert path.stat().st_size == 0
    told = run("process", path, "-o", tmp_path / "run")
    assert "verdict: warn" in told.output
    own = open_run(tmp_path / "run")
    check = check_of(own, "empty files")
    assert (check["verdict"], check["details"]) == ("warn", [path.name])
    for name in ("hits", "packets", "counters"):
        assert own[f"ingest/{name}"].to_polars().height == 0
    assert own["ingest/files"].to_polars()["n_words"].to_list() == [0]
    assert (own.folder / "report" / "index.html").is_file()
    assert "empty" in run("inspect", path).output


# ---------------------------------------------------------------- A5, A6: emulators


def test_a5_emulator(etroc, tmp_path):
    own = go([etroc / "etroc2_emulator_tamalero" / "output_example.dat"], tmp_path / "run")
    words = {word: count for (_, word), count in words_of(own).items()}
    assert sum(words.values()) == 17_085

    def beginning(kind):
        return sum(count for word, count in words.items() if word.split(":")[0] == kind)

    assert (beginning("header"), beginning("data"), beginning("trailer")) == (5092, 6884, 5109)
    assert (words["data: no header"], words["trailer: no header"]) == (10, 18)
    packets = own["ingest/packets"].to_polars()
    complete = packets.filter("complete")
    assert (complete.height, own["ingest/hits"].to_polars().height) == (5091, 6872)
    assert complete["crc_ok"].all()
    assert (complete["status"] == 8).sum() == 227
    assert packets["type"].unique().to_list() == [1]
    assert complete["chip_id"].unique().to_list() == [0x1ABCD]
    hits = dict(own["ingest/hits"].to_polars().group_by("link").len().iter_rows())
    headers = dict(packets.group_by("link").len().iter_rows())
    assert headers == {2: 1704, 6: 1698, 44: 1690}
    assert hits == {2: 3400, 6: 3472}


def test_a6_early_emulator(etroc, tmp_path):
    own = go([etroc / "etroc2_emulator_early40bit" / "dump.txt"], tmp_path / "run")
    # a data word of odd parity would not count as used
    assert words_of(own) == {("words", "header"): 143, ("words", "data"): 313, ("words", "trailer"): 143}
    packets = own["ingest/packets"].to_polars()
    assert (packets.height, own["ingest/hits"].to_polars().height) == (143, 313)
    assert packets["complete"].all()
    assert (packets["hits_told"] == packets["hits_found"]).all()


# ---------------------------------------------------------------- A7 to A9: wafer probe

# die: events, hits, injected pixel, hits of it, mean and width of TOA, means of TOT and CAL, jitter [ps]
PROBES = {
    "run1_08F5_C1R5": (726, 726, 14, 726, 190.3209, 0.4672, 58.0592, 131.9298, 11.066),
    "run1_08F5_C4R8": (737, 737, 14, 737, 200.2062, 0.4115, 60.0285, 135.8399, 9.467),
    "run1_08F5_C3R3": (962, 962, 14, 962, 819.0, 0.0, 480.0, 587.0, 0.0),
    "run4_08F5_C2R4": (729, 0, 14, 0, None, None, None, None, None),
    "run5_08F5_C0R5": (717, 856, 14, 717, 182.6778, 0.5105, 57.9693, 129.1269, 12.354),
    "run1_08F5_C11R7": (785, 785, 14, 785, 184.9643, 0.3863, 58.5121, 129.0522, 9.355),
    "run2_08F5_C9R2": (764, 764, 0, 764, 235.2251, 4.5800, 74.7723, 175.0615, 81.758),
    "run2_08F5_C5R0": (796, 796, 0, 796, 230.3995, 0.4952, 71.4661, 161.5879, 9.577),
    "second_04C3_C4R7": (718, 718, 14, 718, 173.8273, 0.3998, 60.1866, 131.4652, 9.503),
}


def probe(etroc, output, name):
    (folder,) = (etroc / PROBE).glob(f"*{name}_*")
    return go([folder / "TDC_Data_0.dat"], output)


@pytest.mark.parametrize("name", PROBES)
def test_a8_probe_table(etroc, tmp_path, name):
    events, n_hits, place, n_pixel, *expected = PROBES[name]
    own = probe(etroc, tmp_path / "run", name)
    words_of(own)
    packets, hits = own["ingest/packets"].to_polars(), own["ingest/hits"].to_polars()
    assert packets["frame"].n_unique() == packets.filter("complete").height == events
    assert packets["crc_ok"].all()
    assert hits.height == n_hits
    row = own["pixels/table"].to_polars().row(by_predicate=(pl.col("row") == place) & (pl.col("col") == place), named=True)  # fmt: skip
    assert row["hits"] == n_pixel
    if not n_pixel:
        assert row["jitter_all"] is None
        return
    codes = hits.filter(row=place, col=place).select("toa", "tot", "cal").cast(pl.Float64)
    found = (codes["toa"].mean(), codes["toa"].std(), codes["tot"].mean(), codes["cal"].mean())
    np.testing.assert_allclose(found, expected[:4], rtol=0, atol=5.1e-5)
    assert row["jitter_all"] == pytest.approx(expected[4], abs=5.1e-4)
    good = hits.filter(row=place, col=place, ea=0)["toa"].cast(pl.Float64)
    assert row["bad_ea"] == n_pixel - good.len()
    if good.len() > 1:
        assert row["toa_mean"] == pytest.approx(good.mean(), abs=1e-9)
        assert row["toa_std"] == pytest.approx(good.std(), abs=1e-9)


def test_a8_other_pixels_of_c0r5(etroc, tmp_path):
    table = (
        probe(etroc, tmp_path / "run", "run5_08F5_C0R5")["pixels/table"]
        .to_polars()
        .filter(pl.col("hits") > 0)
    )
    assert {(row, col): hits for row, col, hits in table.select("row", "col", "hits").iter_rows()} == {
        (14, 14): 717, (0, 13): 104, (0, 5): 35,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "packets", "complete"), [("C9R1", 10, 9), ("C10R1", 1, 0)])
def test_a7_corrupted_trailers_are_counted(etroc, tmp_path, name, packets, complete):
    own = probe(etroc, tmp_path / "run", name)
    words = words_of(own)
    assert words["payload words", "trailer: unknown chip"] == 1
    assert words["payload words", "header: no trailer"] == 1
    found = own["ingest/packets"].to_polars()
    assert (found.height, found.filter("complete").height) == (packets, complete)
    assert check_of(own, "words not used")["details"]


def test_a9_one_bad_hit(etroc, tmp_path):
    own = probe(etroc, tmp_path / "run", "C9R2")
    pixel = own["pixels/table"].to_polars().row(by_predicate=pl.col("hits") > 0, named=True)
    assert pixel["bad_ea"] == 1
    assert pixel["jitter_all"] == pytest.approx(81.758, abs=5e-4)
    assert pixel["jitter"] == pytest.approx(8.312, abs=5e-4)
    assert pixel["state"] == "good"
    bad = own["ingest/hits"].to_polars().filter(pl.col("ea") != 0)
    assert (bad["ea"].to_list(), bad["record"].to_list()) == ([3], [0])
    assert "8.31 " in json.dumps(own.record["summary"], ensure_ascii=False)


def test_a9_stuck_converter_is_not_praised(etroc, tmp_path):
    own = probe(etroc, tmp_path / "run", "C3R3")
    pixel = own["pixels/table"].to_polars().row(by_predicate=pl.col("hits") > 0, named=True)
    assert (pixel["state"], pixel["good"]) == ("stuck", False)
    assert check_of(own, "stuck pixels")["verdict"] == "bad"
    assert own.record["verdict"] == "bad"
    (told,) = (row["value"] for row in own.record["summary"] if row["label"].startswith("jitter"))
    assert "stuck" in told


# ---------------------------------------------------------------- B1 to B4: the telescope


@pytest.fixture(scope="module")
def original(etroc, tmp_path_factory):
    """Return the run directory of the original's commands, as its README calls them."""
    folder = tmp_path_factory.mktemp("original") / "run"
    more = ("-o", folder, "--no-plots", "-q")
    run("etroc", "process_etroc1_single_run_txt", "--file", etroc / BEAM, "-k", "-p", 1, *more)
    (folder / "cuts.csv").write_text(CUTS)
    run("etroc", "cut_etroc1_single_run", *more)
    run("etroc", "calculate_times_in_ns", *more)
    (folder / "time_cuts.csv").write_text(TIME_CUTS)
    run("etroc", "cut_times_in_ns", *more)
    run("etroc", "calculate_time_walk_correction", "-i", 1, "-p", 2, *more)
    run("etroc", "analyse_time_resolution", *more)
    return folder


def test_b1_lines_events_and_sums(original):
    own = open_run(original)
    assert words_of(own) == {("words", "hit"): 58_802, ("words", "header line"): 1}
    hits = own["events/hits"].to_polars()
    assert (hits.height, hits["event"].n_unique()) == (54_807, 18_269)
    assert hits.select(pl.col("toa", "tot", "cal").cast(int).sum()).row(0) == (
        14_316_860, 5_295_659, 7_710_238,
    )  # fmt: skip
    query = (
        "select count(*), count(distinct event), sum(time_of_arrival), sum(time_over_threshold), "
        "sum(calibration_code) from etroc1_data"
    )
    assert rows_of(original / "data" / "data.sqlite", query) == [
        (54_807, 18_269, 14_316_860, 5_295_659, 7_710_238)
    ]


def test_b1_accepted_events(original):
    own = open_run(original)
    first = own["cut/events"].to_polars()["accepted"].to_numpy()
    second = own["cut_times/events"].to_polars()["accepted"].to_numpy()
    assert (first.size, first.sum(), (first & second).sum()) == (18_269, 17_760, 17_753)
    assert own["cut/flow"].to_polars()["events_after"][-1] == 17_760
    # the filter file of the original holds the same events
    table = pl.read_ipc(original / "event_filter.fd")
    np.testing.assert_array_equal(table.sort("event")["accepted"].to_numpy(), first)


def test_b2_codes_to_ns(original):
    own = open_run(original)
    calibration = dict(own["times/calibration"].to_polars().select("board", "cal").iter_rows())
    assert calibration == pytest.approx({0: 140.002646, 1: 137.996284, 3: 134.998198}, abs=6e-7)
    timed, hits = own["times/hits"].to_polars(), own["events/hits"].to_polars()
    both = timed.with_columns(toa=hits["toa"].cast(int), tot=hits["tot"].cast(int), told=hits["board"])
    assert (both["board"] == both["told"]).all()
    for board, cal in calibration.items():
        part = both.filter(board=board)
        np.testing.assert_allclose(part["toa_ns"], 12.5 - 3.125 / cal * part["toa"], rtol=1e-14)
        bins = {
            code: value * cal / 3.125
            for code, value in part.select("tot", "tot_ns").unique("tot").iter_rows()
        }
        assert bins[99] == pytest.approx(195, abs=1e-9)
        for code, expected in ((31, 62), (32, 63), (64, 126)):
            # such short codes are rare in the beam, but not absent
            assert bins.get(code, expected) == pytest.approx(expected, abs=1e-9)
    board = both.filter(board=0, toa=148)
    assert board.height > 10
    np.testing.assert_allclose(board["toa_ns"], 9.196, atol=5e-4)
    np.testing.assert_allclose(both.filter(board=0, tot=99)["tot_ns"], 4.353, atol=5e-4)


def test_b3_the_original_is_reproduced(original):
    path = original / "analyse_time_resolution" / "time_resolution.sqlite"
    query = (
        "select twc_iteration, data_board_id, time_resolution, time_resolution_new, time_resolution_unc, "
        "time_resolution_new_unc from timing_info where step_name = 'Final' order by 1, 2"
    )
    rows = rows_of(path, query)
    expected = {0: (41.079, 45.107, 50.803), 1: (41.075, 45.103, 50.802)}
    errors = {"unc": (0.472, 0.430, 0.382), "new_unc": (0.429, 0.422, 0.419)}
    assert [row[:2] for row in rows] == [(i, b) for i in (0, 1) for b in (0, 1, 3)]
    for iteration in (0, 1):
        own = np.array([row[2:] for row in rows if row[0] == iteration]) * 1000
        np.testing.assert_allclose(own[:, 0], expected[iteration], rtol=0, atol=0.02)
        np.testing.assert_allclose(own[:, 1], expected[iteration], rtol=0, atol=0.02)
        np.testing.assert_allclose(own[:, 2], errors["unc"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(own[:, 3], errors["new_unc"], rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def default(etroc, tmp_path_factory):
    """Return the run of the telescope in default mode, with figures and report."""
    return go([etroc / BEAM], tmp_path_factory.mktemp("beam") / "run", plots=True)


def test_b4_default_mode(default):
    table = default["resolution/boards"].to_polars()
    last = table.filter((pl.col("estimator") == "likelihood") & (pl.col("iteration") == 1)).sort("board")
    assert last["board"].to_list() == [0, 1, 3]
    assert last["good"].all()
    truth, error = np.array([40.5, 45.5, 50.4]), np.array([0.38, 0.37, 0.42])
    bootstrap = last["bootstrap_error"].to_numpy()
    assert (np.abs(last["resolution"].to_numpy() - truth) < 3 * bootstrap).all(), last
    np.testing.assert_allclose(bootstrap, error, rtol=0.25)
    assert (last["low"] < last["resolution"]).all()
    assert (last["high"] > last["resolution"]).all()
    assert default["resolution/replicas"].to_polars().group_by("board").len()["len"].to_list() == [200] * 3
    # no tail was simulated, and none is found
    assert (last["tail_fraction"] < 0.01).all()


# ---------------------------------------------------------------- B5, B6: how many boards


def test_b5_no_solution_is_told(tmp_path):
    """Boards 0 and 1 err in opposite ways: each agrees with board 3 better than the other one allows."""
    (path,) = simulate(
        tmp_path / "data", seed=52, n_events=4000, sigma_ns=(0.040, 0.040, 0.004), efficiency=1.0, noise_fraction=0.0
    )  # fmt: skip
    rng = np.random.default_rng(3)
    head, *body = path.read_text().splitlines()
    lines = [head]
    for index in range(0, len(body), 3):
        event = [line.split() for line in body[index : index + 3]]
        assert [words[0] for words in event] == ["0", "1", "3"]
        shift = round(rng.normal(0, 4))
        event[0][1], event[1][1] = str(int(event[0][1]) + shift), str(int(event[1][1]) - shift)
        lines += [" ".join(words) for words in event]
    path.write_text("\n".join(lines) + "\n")
    off = {"suggest": False}
    configuration = {"cut": off, "cut_times": off, "resolution": {"bootstrap": 0, "slices": 1}}
    own = go([path], tmp_path / "run", configuration)
    pairs = own["resolution/pairs"].to_polars().filter(iteration=1)
    width = {(a, b): s for a, b, s in pairs.select("board_1", "board_2", "std").iter_rows()}
    square = (width[0, 3] ** 2 + width[1, 3] ** 2 - width[0, 1] ** 2) / 2
    assert square < -100, "the data are not what they should be"
    boards = own["resolution/boards"].to_polars().filter(iteration=1, board=3)
    std = boards.row(by_predicate=pl.col("estimator") == "std", named=True)
    assert (std["status"], std["resolution"], std["good"]) == ("no solution", None, False)
    assert std["square"] == pytest.approx(square, rel=1e-9)
    told = [c for c in own.record["checks"] if (c["name"], c["subject"]) == ("resolution", "board 3")]
    assert any(c["rule"].startswith(f"no solution, its square is {square:.0f}") for c in told)
    assert {c["verdict"] for c in told} == {"bad"}
    assert own.record["verdict"] == "bad"


def test_b6_two_boards_refuse_with_reason(etroc, tmp_path):
    folder = tmp_path / "run"
    run(
        "etroc",
        "process_etroc1_single_run_txt",
        "--file",
        etroc / BEAM,
        "-o",
        folder,
        "-p",
        2,
        "-q",
        "--no-plots",
    )
    for verb in ("calculate_times_in_ns", "calculate_time_walk_correction"):
        result = call("etroc", verb, "-o", folder, "-q", "--no-plots")
    if result.exception is None:
        result = call("etroc", "analyse_time_resolution", "-o", folder, "-q", "--no-plots")
    assert isinstance(result.exception, UsageError)
    assert "needs three boards or more, events have 2" in str(result.exception)


def test_b6_two_boards_have_a_pair(etroc, tmp_path):
    path = tmp_path / "two.txt"
    lines = (etroc / BEAM).read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("3 ")))
    own = go([path], tmp_path / "run", {"resolution": {"bootstrap": 20}})
    assert "resolution/boards" not in own
    (reason,) = own["resolution/problem"].to_polars()["reason"]
    assert "needs three boards or more, events have 2" in reason
    check = check_of(own, "time resolution")
    assert (check["verdict"], check["rule"]) == ("no-statistics", reason)
    pair = own["resolution/pairs"].to_polars().row(-1, named=True)
    # without a third board the walk of one is taken out of the other: only the order of magnitude is known
    assert 50 < pair["std"] < 120


def test_b6_formulas_agree_for_four_boards(tmp_path):
    (path,) = simulate(tmp_path / "data", seed=61, n_events=4000, boards=(0, 1, 2, 3))
    own = go([path], tmp_path / "run", {"resolution": {"bootstrap": 0}})
    table = own["resolution/boards"].to_polars()
    by = {name: table.filter(estimator=name).sort("iteration", "board") for name in ("std", "std_delta")}
    assert by["std"].height == 8
    np.testing.assert_allclose(by["std"]["resolution"], by["std_delta"]["resolution"], rtol=1e-9)


# ---------------------------------------------------------------- B7: raw words of ETROC1


def test_b7_raw_words(etroc, tmp_path):
    own = go(sorted((etroc / "synthetic_etroc1_raw32").glob("*.dat")), tmp_path / "run")
    words = words_of(own)
    assert words == {
        ("words", "hit"): 5889, ("words", "board 2"): 143, ("words", "hit flag 0"): 318, ("words", "filler"): 901,
    }  # fmt: skip
    assert sum(words.values()) == 7251
    hits = own["ingest/hits"].to_polars()
    assert dict(hits.group_by("board").len().iter_rows()) == {0: 1976, 1: 1958, 3: 1955}
    assert hits.select(pl.col("toa", "tot", "cal").cast(int).sum()).row(0) == (1_558_335, 570_188, 831_132)


# ---------------------------------------------------------------- B8, B9: charge injection


@pytest.fixture(scope="module")
def scan(etroc, tmp_path_factory):
    """Return the run of the charge-injection scan, with figures and report."""
    return go(sorted((etroc / SCAN).glob("*.dat")), tmp_path_factory.mktemp("scan") / "run", plots=True)


def test_b8_hits_of_all_splits(scan):
    words_of(scan)
    files = scan["ingest/files"].to_polars()
    assert (files["file"].n_unique(), files["run"].n_unique()) == (140, 104)
    assert scan["ingest/hits"].to_polars().height == 70_188
    points = scan["injection/points"].to_polars()
    assert points.select("all_hits", "hits").sum().row(0) == (70_188, 69_877)
    assert (points.height, points.filter(pl.col("splits") == 3).height) == (104, 18)
    assert points["injections"].unique().to_list() == [1000]


def test_b8_curves_and_line(scan):
    curves = scan["injection/curves"].to_polars().sort("charge")
    assert curves["charge"].to_list() == [10.0, 15.0, 20.0, 25.0]
    assert curves["good"].all()
    np.testing.assert_allclose(curves["noise"], 3.0, rtol=0, atol=0.3)
    np.testing.assert_allclose(
        curves["dac50"], 330 + 9 * curves["charge"], rtol=0, atol=4 * curves["dac50_error"].max()
    )
    line = scan["injection/lines"].to_polars().row(0, named=True)
    assert (line["board"], line["good"]) == (1, True)
    assert line["offset"] == pytest.approx(330, abs=1.0)
    assert line["slope"] == pytest.approx(9.0, abs=0.06)
    assert abs(line["offset"] - 330) < 3 * line["offset_error"]
    assert abs(line["slope"] - 9) < 3 * line["slope_error"]


def test_b8_first_split_alone(etroc, tmp_path):
    files = sorted((etroc / SCAN).glob("*.dat"))
    own = go(files, tmp_path / "run", {"injection": {"splits": "first"}})
    points = own["injection/points"].to_polars()
    assert points.select("all_hits", "hits").sum().row(0) == (57_322, 57_070)
    assert points.height == 104


@pytest.fixture(scope="module")
def original_scan(etroc, tmp_path_factory):
    """Return the run directory of the original's commands on the scan, as the original read it: first splits alone."""
    folder = tmp_path_factory.mktemp("original") / "scan"
    run(
        "etroc", "process_etroc1_charge_injection_data_dir", "-d", etroc / SCAN, "-o", folder, "-i", "-f",
        "--first-split", "-q",
    )  # fmt: skip
    told = run("etroc", "analyse_dac_vs_charge", "-o", folder, "-c", 1000, "-w", 60, "-d", 30, "--no-plots")
    return folder, told.output


def test_b8_the_original_is_reproduced(original_scan):
    folder, told = original_scan
    path = folder / "calculate_dac_points" / "data.sqlite"
    assert rows_of(path, "select * from dac_charge_data order by 2") == [
        (1, 10, 424), (1, 15, 474), (1, 20, 514), (1, 25, 564),
    ]  # fmt: skip
    assert rows_of(path, "select * from noise_limit_data") == [(1, 334, 370)]
    line = open_run(folder)["original/lines"].to_polars().row(0, named=True)
    assert (line["offset"], line["slope"]) == pytest.approx((333.0, 9.20), abs=1e-9)
    assert "DAC = 333.0 + 9.20 Q" in told
    merged = rows_of(
        folder / "merge_etroc1_runs" / "data.sqlite", "select count(*), sum(hits) from combined_etroc1_data"
    )
    assert merged == [(104, 57_070)]
    assert len(list((folder / "Individual_Runs").iterdir())) == 104


def test_b9_reprocess_changes_and_is_idempotent(original_scan, tmp_path):
    folder = tmp_path / "scan"
    shutil.copytree(original_scan[0], folder)
    path = folder / "merge_etroc1_runs" / "data.sqlite"
    before = rows_of(path, "select * from combined_etroc1_data")
    reprocess = ("etroc", "reprocess_etroc1_charge_injection_data_dir", "-o", folder, "-f", "-q")
    run(*reprocess)
    assert rows_of(path, "select * from combined_etroc1_data") == before, "nothing was changed, and it shows"
    for cuts in (folder / "Individual_Runs").glob("*/cuts.csv"):
        cuts.write_text(cuts.read_text() + "#,calibration_code,<,138\n")
    run(*reprocess)
    after = rows_of(path, "select * from combined_etroc1_data")
    kept = sum(row[1] for row in after)
    # counted without the chain
    hits = open_run(folder)["ingest/hits"].to_polars()
    files = open_run(folder)["ingest/files"].to_polars().filter(split=0)["file"].unique().to_list()
    expected = hits.filter(pl.col("file").is_in(files) & (pl.col("cal") < 138)).height
    assert kept == expected < 0.6 * 57_070
    points = open_run(folder)["injection/points"].to_polars()
    assert points["hits"].sum() == expected
    products = {name: product.path.read_bytes() for name, product in open_run(folder).items()}
    filters = {each: each.read_bytes() for each in folder.glob("Individual_Runs/*/event_filter.fd")}
    assert len(filters) == 104
    run(*reprocess)
    assert rows_of(path, "select * from combined_etroc1_data") == after
    assert {name: product.path.read_bytes() for name, product in open_run(folder).items()} == products
    assert {each: each.read_bytes() for each in filters} == filters


# ---------------------------------------------------------------- B10: variants of a text file


@pytest.mark.parametrize(
    "variant",
    [
        lambda lines: lines[1:],
        lambda lines: [*lines, ""],
        lambda lines: [*lines, "", "   ", ""],
        lambda lines: [line + "\r" for line in lines],
        lambda lines: [line + "  " for line in lines],
    ],
    ids=["no log line", "blank line", "blank lines", "CRLF", "trailing blanks"],
)
def test_b10_variants_of_the_beam_file(etroc, tmp_path, default, variant):
    lines = (etroc / BEAM).read_text().split("\n")
    assert lines.pop() == ""
    path = tmp_path / Path(BEAM).name
    path.write_bytes(("\n".join(variant(lines)) + "\n").encode())
    # the bootstrap of the reference is in its key, but not in what is compared
    own = begin([path], tmp_path / "run", {}, QUIET, ("events", "cut", "times", "cut_times", "timewalk"))
    words = words_of(own)
    assert words["words", "hit"] == 58_802
    # records are counted without the log line, so that all is equal
    for name in own:
        if name.startswith(("ingest/counters", "ingest/files")):
            continue
        one, other = default[name].value, own[name].value
        if hasattr(one, "frame"):
            assert one.frame.equals(other.frame), name
        else:
            np.testing.assert_array_equal(one.counts, other.counts)
    assert own["events/counts"].to_polars()["count"][0] == 18_269


def test_b10_only_the_log_line(etroc, tmp_path):
    path = tmp_path / Path(BEAM).name
    path.write_text((etroc / BEAM).read_text().split("\n")[0] + "\n")
    own = go([path], tmp_path / "run", plots=True)
    assert words_of(own) == {("words", "header line"): 1}
    assert own["ingest/hits"].to_polars().height == 0
    assert (own.folder / "report" / "index.html").is_file()


# ---------------------------------------------------------------- steps, sizes, network


def test_steps_one_by_one_give_what_all_give(etroc, tmp_path, default):
    own = begin([etroc / BEAM], tmp_path / "run", {}, QUIET)
    assert set(own.record["steps"]) == {"channels", "ingest", "pixels"}
    for verb in ("events", "cut", "times", "cut-times", "timewalk", "resolution"):
        own = advance(own.folder, verb, {}, QUIET)
    assert_products_equal(default, own)


@pytest.mark.parametrize("name", ["default", "scan"])
def test_reports_are_small_and_need_no_network(request, name):
    own = request.getfixturevalue(name)
    pages = list(own.folder.rglob("*.html"))
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert len(text) < 5e6
        assert "http://" not in text
        assert "https://" not in text
    sizes = {path: path.stat().st_size for path in own.folder.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 20e6
    assert max(size for path, size in sizes.items() if path.suffix in (".html", ".png", ".pdf", ".svg")) < 5e6


def test_coverage_of_the_sample(etroc):
    """What the numbers above are about is what is in the folder."""
    assert len(list((etroc / SPS).glob("*.dat"))) == len(SPS_RUNS)
    assert len([path for path in (etroc / PROBE).iterdir() if path.is_dir()]) == len(PROBES) + 2
    assert math.isclose(sum(row[0] for row in SPS_RUNS.values()), 209_536)
