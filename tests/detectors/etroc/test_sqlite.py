"""The SQLite tables of the original: written, read again, compared with plain sqlite3 and with exact numbers."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import numpy as np
import polars as pl
import pytest

from firstlight.detectors.etroc.injection_original import dac_charge_data, noise_limit_data
from firstlight.detectors.etroc.legacy import original_tables as tables
from firstlight.detectors.etroc.legacy import sqlite as database
from firstlight.detectors.etroc.tables import (
    ACCEPTED,
    COEFFICIENTS,
    CORRECTED,
    EVENT_HITS,
    FILES,
    PAIRS,
    TIMED,
)
from firstlight.errors import InputError, SchemaError, StoreError

BOARDS = (0, 1, 3)
PIXELS = {0: "F9P5", 1: "F11P5", 3: "F5P5"}
# 2022-04-09 01:18:00 UTC
START = 1_649_467_080


def frame_of(schema, **columns):
    """Return a frame of a schema; columns that are not given are null."""
    height = max(len(values) for values in columns.values() if not isinstance(values, str | int | None))
    parts = []
    for column in schema.columns:
        values = columns.get(column.name)
        if isinstance(values, str | int | None):
            parts.append(pl.Series(column.name, [values] * height, dtype=column.dtype))
        else:
            parts.append(pl.Series(column.name, values).cast(column.dtype))
    return pl.DataFrame(parts)


def files_of(charge=None, threshold=None):
    """Return the rows of one file with three boards."""
    return frame_of(
        FILES, file=[0, 0, 0], name="F9P5_F11P5_F5P5_Beam_0.txt", kind="beam", run="run", n_words=9, n_records=9,
        n_hits=9, board=BOARDS, pixel=list(PIXELS.values()), phase=[7, 7, 7], charge=charge, threshold=threshold,
    )  # fmt: skip


def hits_of(n_events, seed=1):
    """Return events with a hit on each board, as `EVENT_HITS`."""
    rng = np.random.default_rng(seed)
    size = 3 * n_events
    return frame_of(
        EVENT_HITS, event=np.arange(size) // 3, file=np.zeros(size), record=np.arange(size),
        link=np.tile(BOARDS, n_events), board=np.tile(BOARDS, n_events), channel=np.tile([5, 21, 37], n_events),
        row=np.ones(size), col=np.ones(size), toa=rng.integers(100, 400, size), tot=rng.integers(60, 130, size),
        cal=np.tile([140, 138, 135], n_events) + rng.integers(-1, 2, size), ea=np.zeros(size),
        hit_flag=np.ones(size, dtype=bool), time=START + np.arange(size) // 1200,
    )  # fmt: skip


def timed_of(hits):
    """Return times in ns with one bin a board."""
    bins = {0: 3.125 / 140, 1: 3.125 / 138, 3: 3.125 / 135}
    width = np.array([bins[board] for board in hits["board"]])
    tot = hits["tot"].to_numpy().astype(int)
    return frame_of(
        TIMED, event=hits["event"], board=hits["board"], channel=hits["channel"], file=hits["file"], bin_ns=width,
        toa_ns=12.5 - width * hits["toa"].to_numpy(), tot_ns=(2 * tot - tot // 32) * width,
    )  # fmt: skip


def accepted_of(events, every=5):
    return frame_of(ACCEPTED, event=events, accepted=np.asarray(events) % every != 0)


def schema_of(path, table):
    """Return names and declared types as SQLite itself tells."""
    with closing(sqlite3.connect(path)) as connection:
        return [(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({table})")]


def rows_of(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_beam_table_has_the_names_order_and_types_of_the_original(tmp_path):
    hits = hits_of(10)
    data = tables.etroc1_data(hits, files_of())
    path = database.write_database(tmp_path / "data.sqlite", {"etroc1_data": data})
    # what pandas 1.5.3 declares for the original's frame
    assert schema_of(path, "etroc1_data") == [
        ("event", "INTEGER"),
        ("data_board_id", "INTEGER"),
        ("time_of_arrival", "INTEGER"),
        ("time_over_threshold", "INTEGER"),
        ("calibration_code", "INTEGER"),
        ("hit_flag", "INTEGER"),
        ("datetime", "TIMESTAMP"),
        ("pixel_id", "TEXT"),
    ]
    first = rows_of(path, "SELECT * FROM etroc1_data LIMIT 3")
    codes = hits.select("toa", "tot", "cal").rows()
    expected = [
        (0, board, *codes[at], 1, "2022-04-09 01:18:00", PIXELS[board]) for at, board in enumerate(BOARDS)
    ]
    assert first == expected


def test_injection_and_plain_variants(tmp_path):
    files = files_of(charge=[0.0, 20.0, 0.0], threshold=[535.0, 420.0, 720.0])
    hits = hits_of(2)
    data = tables.etroc1_data(hits, files, "injection")
    path = database.write_database(tmp_path / "data.sqlite", {"etroc1_data": data})
    names = [name for name, _ in schema_of(path, "etroc1_data")]
    assert tuple(names) == database.INJECTION_COLUMNS
    conditions = "phase_adjust, pixel_id, board_injected_charge, board_discriminator_threshold"
    rows = rows_of(path, f"SELECT {conditions} FROM etroc1_data LIMIT 3")  # noqa: S608
    assert rows == [(7, "F9P5", 0, 535), (7, "F11P5", 20, 420), (7, "F5P5", 0, 720)]
    plain = tables.etroc1_data(hits, files, "plain")
    assert tuple(plain.columns) == database.INJECTION_COLUMNS[:6]


def test_pixel_without_a_name_is_row_and_column():
    hits = hits_of(1).with_columns(pl.Series("row", [3, None, 7], dtype=pl.UInt8))
    data = tables.etroc1_data(hits, files_of().with_columns(pixel=pl.lit(None, pl.String)))
    assert data["pixel_id"].to_list() == ["R3C1", None, "R7C1"]


def test_every_block_boundary_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_BLOCK", 500)
    monkeypatch.setattr(database, "_VALUES", 24)
    data = tables.etroc1_data(hits_of(367), files_of())
    path = database.write_database(tmp_path / "data.sqlite", {"etroc1_data": data})
    found = database.read_etroc1_data(path)
    assert found.equals(data.cast(dict.fromkeys(data.columns[:6], pl.Int64)))


def test_nulls_and_nan_become_null(tmp_path):
    noise = pl.DataFrame(
        {"data_board_id": [0, 1], "noise_min_dac": [1.5, None], "noise_max_dac": [float("nan"), 2.0]}
    )
    path = database.write_database(tmp_path / "data.sqlite", {"noise_limit_data": noise})
    assert rows_of(path, "SELECT * FROM noise_limit_data") == [(0, 1.5, None), (1, None, 2.0)]
    back = database.read_table(path, "noise_limit_data")
    assert back["noise_max_dac"].to_list() == [None, 2.0]
    index = rows_of(path, "SELECT name FROM sqlite_master WHERE type = 'index'")
    assert index == [("ix_noise_limit_data_data_board_id",)]


def test_times_in_ns_follow_the_original(tmp_path):
    hits = hits_of(200)
    timed = timed_of(hits)
    # another order of rows must not move a time to another hit
    shuffled = timed.sample(fraction=1.0, shuffle=True, seed=3)
    data = tables.etroc1_data(hits, files_of())
    in_ns = tables.etroc1_data_in_ns(data, hits, shuffled)
    assert in_ns.columns[:2] == ["data_board_id", "event"]
    assert in_ns.columns[-3:] == ["fbin", "time_of_arrival_ns", "time_over_threshold_ns"]
    assert np.allclose(in_ns["time_of_arrival_ns"], timed["toa_ns"], rtol=0, atol=1e-12)
    accepted = accepted_of(np.arange(200))
    info = tables.board_info_data(in_ns, accepted)
    path = database.write_database(tmp_path / "data.sqlite", {"board_info_data": info, "etroc1_data": in_ns})
    good = hits.filter(pl.col("event") % 5 != 0)
    rows = rows_of(path, "SELECT * FROM board_info_data")
    for board, (number, mean, median, bin_mean, bin_median) in zip(BOARDS, rows, strict=True):
        codes = good.filter(pl.col("board") == board)["cal"].to_numpy()
        assert number == board
        assert mean == pytest.approx(codes.mean(), abs=1e-12)
        assert median == np.median(codes)
        assert (bin_mean, bin_median) == pytest.approx((3.125 / codes.mean(), 3.125 / np.median(codes)))


def test_two_hits_of_one_pixel_keep_their_times():
    hits = hits_of(2).with_columns(board=pl.lit(0, pl.UInt8), channel=pl.lit(5, pl.Int32))
    timed = timed_of(hits)
    found = tables.aligned(hits, timed.reverse().sort("event", maintain_order=True), ("toa_ns",))
    # the order within a pixel is all that tells them apart: reversed there, reversed here
    assert found["toa_ns"][:3].to_list() == timed["toa_ns"][:3].reverse().to_list()
    missing = tables.aligned(hits, timed.filter(pl.col("event") == 0), ("toa_ns",))
    assert missing["toa_ns"].null_count() == 3


def walk(data, events_used, order=2, iterations=2):
    """Return columns and coefficients of the walk correction by an independent loop over boards."""
    toa = {board: data[board]["toa"] for board in BOARDS}
    current, curves, columns = dict(toa), {}, {}
    for iteration in range(iterations):
        new = {}
        for board in BOARDS:
            others = [current[other] for other in BOARDS if other != board]
            delta = np.mean(others, axis=0) - toa[board]
            curve = np.polyfit(data[board]["tot"][events_used], delta[events_used], order)
            curves[iteration, board] = curve[::-1]
            new[board] = toa[board] + np.polyval(curve, data[board]["tot"])
            columns[f"delta_toa_to_reference_iteration_{iteration}", board] = delta
            columns[f"time_of_arrival_twc_iteration_{iteration}", board] = new[board]
            columns[f"delta_toa_to_reference_iteration_{iteration}_twc", board] = (
                np.mean(others, axis=0) - new[board]
            )
        current = new
    for board in BOARDS:
        others = [current[other] for other in BOARDS if other != board]
        columns[f"delta_toa_to_reference_iteration_{iterations}", board] = (
            np.mean(others, axis=0) - toa[board]
        )
    return columns, curves


def walk_products(n_events=400):
    hits = hits_of(n_events)
    timed = timed_of(hits)
    per_board = {
        board: {
            "toa": timed.filter(pl.col("board") == board)["toa_ns"].to_numpy(),
            "tot": timed.filter(pl.col("board") == board)["tot_ns"].to_numpy(),
        }
        for board in BOARDS
    }
    used = np.arange(n_events) % 5 != 0
    columns, curves = walk(per_board, used)
    rows = [
        (iteration, board, power, value)
        for (iteration, board), curve in curves.items()
        for power, value in enumerate(curve)
    ]
    iteration, board, power, value = zip(*rows, strict=True)
    coefficients = frame_of(
        COEFFICIENTS,
        iteration=iteration,
        board=board,
        power=power,
        value=value,
        method="ols",
        fold=[-1] * len(rows),
    )
    good = hits.with_columns(
        toa_ns=pl.Series(
            np.stack([columns["time_of_arrival_twc_iteration_1", b] for b in BOARDS], axis=1).ravel()
        ),
        delta_ns=pl.Series(
            np.stack([columns["delta_toa_to_reference_iteration_1", b] for b in BOARDS], axis=1).ravel()
        ),
    ).filter(pl.col("event") % 5 != 0)
    corrected = frame_of(
        CORRECTED, event=good["event"], board=good["board"], channel=good["channel"], file=good["file"],
        iteration=[1] * good.height, tot_ns=[0.0] * good.height, delta_ns=good["delta_ns"],
        correction_ns=[0.0] * good.height, toa_ns=good["toa_ns"],
    )  # fmt: skip
    return hits, timed, coefficients, corrected, columns, curves


def test_time_walk_tables(tmp_path):
    hits, timed, coefficients, corrected, expected, curves = walk_products()
    in_ns = tables.etroc1_data_in_ns(tables.etroc1_data(hits, files_of()), hits, timed)
    accepted = accepted_of(np.arange(400))
    content = tables.time_walk_tables(in_ns, hits, coefficients, corrected, accepted)
    path = database.write_database(tmp_path / "data.sqlite", content)
    data = database.read_etroc1_data(path)
    assert data.columns[:2] == ["event", "data_board_id"]
    assert data.columns[11:] == [
        "delta_toa_to_reference_iteration_0",
        "time_of_arrival_twc_iteration_0",
        "delta_toa_to_reference_iteration_0_twc",
        "delta_toa_to_reference_iteration_1",
        "time_of_arrival_twc_iteration_1",
        "delta_toa_to_reference_iteration_1_twc",
        "delta_toa_to_reference_iteration_2",
    ]
    for (name, board), values in expected.items():
        found = data.filter(pl.col("data_board_id") == board)[name].to_numpy()
        assert np.allclose(found, values, rtol=0, atol=1e-9), (name, board)
    info = database.read_table(path, "twc_fit_info")
    assert info.columns == ["twc_iteration", "board_id", "twc_applied", "p0", "p1", "p2"]
    assert info["twc_applied"].to_list() == [0, 0, 0, 1, 1, 1] * 2
    for (iteration, board), curve in curves.items():
        row = info.filter(twc_iteration=iteration, board_id=board, twc_applied=0).row(0)
        assert np.allclose(row[3:], curve, rtol=0, atol=1e-12)
    # a least-squares fit of what a least-squares fit leaves is nothing
    after = info.filter(twc_applied=1).select("p0", "p1", "p2").to_numpy()
    assert np.abs(after).max() < 1e-6
    assert rows_of(path, "SELECT * FROM twc_info") == [(2,)]


def test_a_spline_is_applied_and_has_no_polynomial():
    hits, timed, *_ = walk_products()
    in_ns = tables.etroc1_data_in_ns(tables.etroc1_data(hits, files_of()), hits, timed)
    # B-splines add up to 1: equal coefficients are a constant
    coefficients = frame_of(
        COEFFICIENTS,
        iteration=0,
        board=np.repeat(BOARDS, 5),
        method="spline",
        fold=-1,
        power=np.tile(range(5), 3),
        knot=np.tile([0.0, 2.0, 3.0, 4.0, 9.0], 3),
        value=np.repeat([0.1, 0.2, 0.3], 5),
    )
    corrected = frame_of(CORRECTED, event=[], iteration=[])
    content = tables.time_walk_tables(in_ns, hits, coefficients, corrected, accepted_of(np.arange(400)))
    data = content["etroc1_data"]
    moved = (data["time_of_arrival_twc_iteration_0"] - data["time_of_arrival_ns"]).to_numpy()
    assert np.allclose(moved, np.tile([0.1, 0.2, 0.3], 400), rtol=0, atol=1e-12)
    assert content["twc_fit_info"].height == 0
    assert content["twc_info"].item() == 1


def test_a_board_without_a_hit_makes_its_event_null():
    hits, timed, coefficients, corrected, *_ = walk_products()
    gone = ~((pl.col("event") == 7) & (pl.col("board") == 1))
    hits, timed, corrected = hits.filter(gone), timed.filter(gone), corrected.filter(pl.col("event") != 7)
    in_ns = tables.etroc1_data_in_ns(tables.etroc1_data(hits, files_of()), hits, timed)
    content = tables.time_walk_tables(in_ns, hits, coefficients, corrected, accepted_of(np.arange(400)))
    event = content["etroc1_data"].filter(event=7)
    assert event["delta_toa_to_reference_iteration_0"].null_count() == 2
    assert content["etroc1_data"].filter(event=8)["delta_toa_to_reference_iteration_0"].null_count() == 0


def pairs_of(times):
    """Return `PAIRS` of times in ps, of shape (n_events, n_boards)."""
    numbers = [*BOARDS, 5, 6]
    rows = []
    for one in range(times.shape[1]):
        for two in range(one + 1, times.shape[1]):
            difference = times[:, one] - times[:, two]
            rows.append((numbers[one], numbers[two], difference.mean(), difference.std(ddof=1)))
    one, two, mean, std = zip(*rows, strict=True)
    return frame_of(
        PAIRS, iteration=[0] * len(rows), board_1=one, board_2=two, events=[len(times)] * len(rows), mean=mean, std=std,
        std_error=[0.0] * len(rows), effective=std,
    )  # fmt: skip


@pytest.mark.parametrize("n_boards", [3, 4, 5])
def test_timing_info_is_what_the_events_give(n_boards):
    rng = np.random.default_rng(5)
    size, widths = 5000, np.array([40.0, 45.0, 50.0, 55.0, 60.0])[:n_boards]
    times = rng.normal(0, widths, (size, n_boards)) + rng.uniform(0, 9000, (size, 1))
    info = tables.timing_info(pairs_of(times))
    assert tuple(info.columns) == database.TABLES["timing_info"].columns
    in_ns = times / 1000
    for at in range(n_boards):
        row = info.row(at, named=True)
        others = np.delete(in_ns, at, axis=1)
        delta = (others.mean(axis=1) - in_ns[:, at]).std(ddof=1)
        difference = (in_ns[:, at] - in_ns[:, (at + 1) % n_boards]).std(ddof=1)
        assert row["time_delta_width"] == pytest.approx(delta, rel=1e-9)
        assert row["time_diff_width"] == pytest.approx(difference, rel=1e-9)
        assert row["time_delta_width_unc"] == pytest.approx(delta / np.sqrt(2 * size - 2), rel=1e-9)
        assert 1000 * row["time_resolution_new"] == pytest.approx(widths[at], abs=4)
    if n_boards == 3:
        assert np.allclose(info["time_resolution"], info["time_resolution_new"], rtol=1e-9)
    else:
        assert info["time_resolution"].null_count() == n_boards


def test_errors_of_timing_info_are_those_that_the_original_quotes():
    # 5000 events of 40/45/50 ps; the mean of 2000 simulated experiments was 0.889/0.789/0.710 and 0.800/0.784/0.779
    widths = {(0, 1): np.hypot(40, 45), (0, 3): np.hypot(40, 50), (1, 3): np.hypot(45, 50)}
    one, two = zip(*widths, strict=True)
    pairs = frame_of(
        PAIRS, iteration=[0, 0, 0], board_1=one, board_2=two, events=[5000] * 3, mean=[0.0] * 3,
        std=list(widths.values()), std_error=[0.0] * 3, effective=[0.0] * 3,
    )  # fmt: skip
    info = tables.timing_info(pairs)
    assert np.allclose(info["time_resolution"] * 1000, [40, 45, 50], atol=1e-9)
    assert np.allclose(info["time_resolution_unc"] * 1000, [0.889, 0.789, 0.710], atol=2e-3)
    assert np.allclose(info["time_resolution_new_unc"] * 1000, [0.800, 0.784, 0.779], atol=2e-3)


def test_a_negative_square_is_null():
    pairs = frame_of(
        PAIRS, iteration=[0] * 3, board_1=[0, 0, 1], board_2=[1, 3, 3], events=[100] * 3, mean=[0.0] * 3,
        std=[60.0, 60.0, 90.0], std_error=[0.0] * 3, effective=[0.0] * 3,
    )  # fmt: skip
    info = tables.timing_info(pairs)
    assert info["time_resolution"].is_null().to_list() == [True, False, False]
    assert info["time_resolution_new"].is_null().to_list() == [True, False, False]
    with pytest.raises(SchemaError, match="pair of boards 1 and 3 is missing"):
        tables.timing_info(pairs[:2])


def test_charge_injection_tables(tmp_path):
    schema = {
        "data_board_id": pl.Int8, "hits": pl.Int64, "phase_adjust": pl.Int8, "pixel_id": pl.String, "board_injected_charge": pl.Int16,
        "board_discriminator_threshold": pl.Int16,
    }  # fmt: skip
    rows = [(1, 990, 7, "F11P5", 10, 410), (1, 11, 7, "F11P5", 10, 424), (1, 0, 7, "F11P5", 20, 600)]
    combined = pl.DataFrame(rows, schema=schema, orient="row")
    path = database.write_database(
        tmp_path / "data.sqlite",
        {
            "combined_etroc1_data": combined,
            "dac_charge_data": dac_charge_data(combined),
            "noise_limit_data": noise_limit_data(combined, hit_center=1000),
        },
    )
    assert tuple(name for name, _ in schema_of(path, "combined_etroc1_data")) == tuple(schema)
    assert rows_of(path, "SELECT * FROM combined_etroc1_data") == rows
    # the charge of 20 fC has no hit anywhere, so the original has no point for it
    assert rows_of(path, "SELECT * FROM dac_charge_data") == [(1, 10, 424)]
    assert rows_of(path, "SELECT * FROM noise_limit_data") == [(1, 410.0, None)]


def test_wrong_tables_are_refused(tmp_path):
    data = tables.etroc1_data(hits_of(2), files_of())
    path = tmp_path / "data.sqlite"
    with pytest.raises(SchemaError, match="unknown table 'etroc_data'"):
        database.write_database(path, {"etroc_data": data})
    with pytest.raises(SchemaError, match="column 'hit_flag' is missing"):
        database.write_database(path, {"etroc1_data": data.drop("hit_flag")})
    with pytest.raises(SchemaError, match="columns are max_twc_iterations, more"):
        database.write_database(path, {"twc_info": pl.DataFrame({"max_twc_iterations": [1], "more": [2]})})
    assert not path.exists()


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "data.sqlite"
    data = tables.etroc1_data(hits_of(2), files_of())
    database.write_database(path, {"etroc1_data": data})
    before = path.read_bytes()

    def broken(connection, name, frame):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "_insert", broken)
    with pytest.raises(StoreError, match="disk is full"):
        database.write_database(path, {"etroc1_data": data})
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["data.sqlite"]


def test_readers_say_what_is_wrong(tmp_path):
    path = tmp_path / "data.sqlite"
    with pytest.raises(InputError, match="does not exist"):
        database.read_etroc1_data(path)
    path.write_text("not a database")
    with pytest.raises(InputError, match="not a SQLite file"):
        database.read_etroc1_data(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE etroc1_dat (event INTEGER)")
        connection.commit()
    with pytest.raises(InputError, match="unknown table 'etroc1_data'") as found:
        database.read_etroc1_data(path)
    assert found.value.known == ["etroc1_dat"]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE etroc1_data (event INTEGER, data_board_id INTEGER, time_of_arival INTEGER)"
        )
        connection.commit()
    with pytest.raises(InputError, match="unknown column 'time_of_arrival'") as found:
        database.read_etroc1_data(path)
    assert "time_of_arival" in str(found.value.hint)
    damaged = database.write_database(
        tmp_path / "damaged.sqlite", {"etroc1_data": tables.etroc1_data(hits_of(500), files_of())}
    )
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"damaged|cannot be read"):
        database.read_etroc1_data(damaged)


def test_early_files_without_events_are_told(tmp_path):
    path = tmp_path / "data.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        columns = ", ".join(f"{name} INTEGER" for name in database.BEAM_COLUMNS[1:6])
        connection.execute(f"CREATE TABLE etroc1_data ({columns})")
        connection.commit()
    with pytest.raises(InputError, match="before the original built events"):
        database.read_etroc1_data(path)


def test_values_of_another_type_than_declared(tmp_path):
    path = tmp_path / "data.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE noise_limit_data (data_board_id INTEGER, noise_min_dac REAL, noise_max_dac INTEGER)"
        )
        connection.execute("INSERT INTO noise_limit_data VALUES (1, 334, 370.5)")
        connection.commit()
    found = database.read_table(path, "noise_limit_data")
    assert found.row(0) == (1, 334.0, 370.5)


def test_an_empty_table_keeps_its_types(tmp_path):
    data = tables.etroc1_data(hits_of(1), files_of()).clear()
    path = database.write_database(tmp_path / "data.sqlite", {"etroc1_data": data})
    found = database.read_etroc1_data(path)
    assert found.height == 0
    assert found.schema["time_of_arrival"] == pl.Int64


def test_filters(tmp_path):
    table = accepted_of(np.arange(20))
    path = database.write_filter(tmp_path / "event_filter.fd", table)
    # version 2 of Feather is an Arrow file
    assert path.read_bytes()[:6] == b"ARROW1"
    assert pl.read_ipc_schema(path) == {"event": pl.Int64, "accepted": pl.Boolean}
    assert database.read_filter(path).equals(table)
    # pandas compresses with LZ4
    table.cast({"event": pl.Int64}).write_ipc(tmp_path / "pandas.fd", compression="lz4")
    assert database.read_filter(tmp_path / "pandas.fd").equals(table)
    (tmp_path / "other.fd").write_text("event,accepted")
    with pytest.raises(InputError, match="not a Feather file"):
        database.read_filter(tmp_path / "other.fd")
    table.rename({"accepted": "acepted"}).write_ipc(tmp_path / "typo.fd")
    with pytest.raises(InputError, match="unknown column 'accepted'"):
        database.read_filter(tmp_path / "typo.fd")
    with pytest.raises(InputError, match="does not exist"):
        database.read_filter(tmp_path / "nothing.fd")


@pytest.mark.slow
def test_a_million_rows_are_written_in_time(tmp_path):
    data = tables.etroc1_data(hits_of(333_333), files_of())
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        database.write_database(tmp_path / "data.sqlite", {"etroc1_data": data})
        best = min(best, time.process_time() - start)
    assert rows_of(tmp_path / "data.sqlite", "SELECT COUNT(*), SUM(time_of_arrival) FROM etroc1_data") == [
        (999_999, int(data["time_of_arrival"].cast(pl.Int64).sum()))
    ]
    assert best < 2.5
