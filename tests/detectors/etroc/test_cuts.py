"""Cut files and what passes, on codes and on times."""

from __future__ import annotations

import math
import operator

import numpy as np
import polars as pl
import pytest
from scipy.stats import linregress

from firstlight.detectors.etroc import cuts, suggest, time_cuts
from firstlight.detectors.etroc.tables import FILES, FLOW
from firstlight.detectors.etroc.times import convert_times
from firstlight.errors import InputError

BOARDS = (0, 1, 3)
HEADER = "board_id,variable,cut_type,cut_value\n"
TIME_HEADER = "cut_type,cut_direction,variable_1,board_id_1,variable_2,board_id_2,value_1,value_2,value_3\n"


@pytest.fixture(scope="module")
def beam(sample_data):
    path = sample_data / "etroc" / "synthetic_etroc1_telescope" / "F9P5_F11P5_F5P5_Beam_0.txt"
    codes = np.array(
        [[int(value) for value in line.split()[:5]] for line in path.read_text().splitlines()[1:]]
    )
    board = codes[:, 0]
    first = np.flatnonzero((board[:-2] == 0) & (board[1:-1] == 1) & (board[2:] == 3))
    rows = codes[(first[:, None] + np.arange(3)).ravel()]
    return pl.DataFrame(
        {
            "event": np.repeat(np.arange(first.size), 3).astype(np.uint32),
            "board": rows[:, 0].astype(np.uint8),
            "channel": np.searchsorted(BOARDS, rows[:, 0]).astype(np.int32),
            "file": np.zeros(3 * first.size, dtype=np.uint16),
            "col": np.ones(3 * first.size, dtype=np.uint8),
            "toa": rows[:, 1].astype(np.uint16),
            "tot": rows[:, 2].astype(np.uint16),
            "cal": rows[:, 3].astype(np.uint16),
        }
    )


@pytest.fixture
def write(tmp_path):
    def write(text, name="cuts.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_cuts_of_the_beam_file(beam, write):
    path = write(
        HEADER
        + "*,calibration_code,>,125\n*,calibration_code,<,150\n*,time_of_arrival,>,20\n*,time_of_arrival,<,500\n"
    )
    accepted, flow = cuts.apply_cuts(beam, cuts.read_cuts(path), BOARDS)
    assert accepted.size == 18269
    assert accepted.sum() == 17760
    FLOW.validate(flow)
    assert flow["events_before"].to_list()[1:] == flow["events_after"].to_list()[:-1]
    assert flow["events_after"][-1] == 17760
    # in any order the same events pass, and each cut alone lets the same number pass
    other, other_flow = cuts.apply_cuts(beam, cuts.read_cuts(path)[::-1], BOARDS)
    np.testing.assert_array_equal(other, accepted)
    assert other_flow["events_alone"].to_list()[1:] == flow["events_alone"].to_list()[:0:-1]
    # and time cuts on top of it
    times, calibration = convert_times(beam, accepted, cal="mean")
    assert calibration["cal"].round(6).to_list() == [140.002646, 137.996284, 134.998198]
    path = write(
        TIME_HEADER + "simple,>,time_over_threshold_ns,0,,,2.5,,\n"
        "diag-dist,<,time_of_arrival_ns,0,time_of_arrival_ns,1,0.8,,\n"
        "diag-dist,<,time_of_arrival_ns,0,time_of_arrival_ns,3,0.9,,\n",
        "time_cuts.csv",
    )
    in_time, flow = time_cuts.apply_time_cuts(times, time_cuts.read_time_cuts(path), BOARDS)
    assert (accepted & in_time).sum() == 17753
    FLOW.validate(flow)


def small(**columns):
    return pl.DataFrame({"event": [0, 0, 1, 1, 2, 4], "board": [0, 1, 0, 1, 1, 0], **columns})


def passing(board, comparison, value, keep_events=False):
    hits = small(toa=[10, 20, 10, 30, 20, 10])
    cut = cuts.Cut(board, "time_of_arrival", comparison, value)
    accepted, _ = cuts.apply_cuts(hits, [cut], (0, 1), keep_events=keep_events)
    return np.flatnonzero(accepted).tolist()


def test_wildcards_and_missing_hits():
    # boards of events: 0: 10, 20; 1: 10, 30; 2: -, 20; 3: -, -; 4: 10, -
    assert passing("1", "<", 25) == [0, 2]
    assert passing("1", "<", 25, keep_events=True) == [0, 2, 3, 4]
    assert passing("*", "<", 25) == [0]
    assert passing("*", "<", 25, keep_events=True) == [0, 2, 3, 4]
    assert passing("#", "<", 25) == [0, 1, 2, 4]
    assert passing("#", ">", 25) == [1]
    assert passing("#", ">", 25, keep_events=True) == [1, 2, 3, 4]
    assert passing("0", "<>", 5) == [0, 1, 4]


@pytest.mark.parametrize(
    ("sign", "function"),
    [
        ("<", operator.lt), ("<=", operator.le), (">", operator.gt), (">=", operator.ge), ("==", operator.eq),
        ("<>", operator.ne),
    ],
)  # fmt: skip
def test_comparisons(sign, function):
    values = np.array([1, 2, 3], dtype=np.uint16)
    hits = pl.DataFrame({"event": [0, 1, 2], "board": [0, 0, 0], "tot": values})
    accepted, _ = cuts.apply_cuts(hits, [cuts.Cut("0", "tot", sign, 2.0)], [0])
    assert accepted.tolist() == [function(value, 2) for value in values.tolist()]


def test_values_that_are_not_known_fail_every_comparison():
    hits = pl.DataFrame({"event": [0, 1], "board": [0, 0], "row": [None, 3]})
    accepted, _ = cuts.apply_cuts(hits, [cuts.Cut("0", "row", "<>", 5.0)], [0])
    assert accepted.tolist() == [False, True]


def test_several_hits_of_a_board_must_all_pass():
    hits = pl.DataFrame({"event": [0, 0, 1, 1], "board": [0, 0, 0, 0], "cal": [140, 300, 140, 141]})
    accepted, _ = cuts.apply_cuts(hits, [cuts.Cut("#", "cal", "<", 200.0)], [0])
    assert accepted.tolist() == [False, True]


def test_charge_injection_default_is_a_cut_on_every_hit(write):
    (cut,) = cuts.read_cuts(write(HEADER + "#,calibration_code,<,200\n"))
    rng = np.random.default_rng(1)
    cal, board = rng.integers(130, 260, 500), rng.choice(BOARDS, 500)
    hits = pl.DataFrame({"event": np.arange(500), "board": board, "cal": cal})
    accepted, _ = cuts.apply_cuts(hits, [cut], BOARDS)
    np.testing.assert_array_equal(accepted, cal < 200)


def test_events_without_hits_count_and_no_cut_accepts_all():
    hits = small(toa=[10] * 6)
    accepted, flow = cuts.apply_cuts(hits, [], (0, 1), n_events=9)
    assert accepted.sum() == 9
    assert flow["events_after"].to_list() == [9]
    with pytest.raises(InputError, match="there are 3"):
        cuts.apply_cuts(hits, [], (0, 1), n_events=3)


def test_names_of_pixels_and_conditions_come_from_the_files():
    hits = small(file=[0, 0, 1, 1, 1, 1])
    rows = [
        {"file": file, "board": board, "pixel": f"F{file}P{board}", "charge": 5.0 * file}
        for file in (0, 1)
        for board in (0, 1)
    ]
    files = pl.DataFrame(rows, schema={name: FILES.dtypes[name] for name in rows[0]})
    hits = hits.with_columns(pl.col("file").cast(pl.UInt16), pl.col("board").cast(pl.UInt8))
    cut = cuts.Cut("1", "pixel_id", "==", "F1P1")
    assert cuts.apply_cuts(hits, [cut], (0, 1), files=files)[0].tolist() == [False, True, True, False, False]
    cut = cuts.Cut("#", "board_injected_charge", "<", 5.0)
    assert cuts.apply_cuts(hits, [cut], (0, 1), files=files)[0].tolist() == [True, False, False, False, False]
    with pytest.raises(InputError, match="names of files"):
        cuts.apply_cuts(hits, [cut], (0, 1))


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_reader_takes_what_people_write(write, ends, encoding):
    lines = [
        "# cuts of run 7, by hand", "", "board_id, variable ,cut_type,cut_value,output", ' 0 , "time_of_arrival" , < , 5e2 ,first',
        "#1,toa,<,5,", "#,calibration_code,<,200,", '*,datetime,>=,"2022-04-09 01:18:00",', "1.0,cal,<>,7,", "   ", "0,hit_flag,==,True,",
    ]  # fmt: skip
    found = cuts.read_cuts(write(ends.join(lines), encoding=encoding))
    assert [(cut.board, cut.variable, cut.comparison, cut.value, cut.label, cut.row) for cut in found] == [
        ("0", "time_of_arrival", "<", 500.0, "first", 0),
        ("#", "calibration_code", "<", 200.0, None, 1),
        ("*", "datetime", ">=", 1649467080.0, None, 2),
        ("1", "cal", "<>", 7.0, None, 3),
        ("0", "hit_flag", "==", 1.0, None, 4),
    ]
    assert found[0].line == 4


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "cuts.csv"
    wanted = [
        cuts.Cut("#", "cal", "<", 200.0, "a, b", 0, 2),
        cuts.Cut("0", "datetime", ">", 1649467080.0, None, 1, 3),
        cuts.Cut("3", "tot", ">=", 0.1, None, 2, 4),
    ]
    cuts.write_cuts(path, wanted)
    assert cuts.read_cuts(path) == wanted
    cuts.write_cuts(path, [])
    assert cuts.read_cuts(path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty", "board_id"]),
        ("\n# nothing\n", ["empty"]),
        ("board_id,variable,cut_type\n", ["cut_value", "missing"]),
        ("board_id,variable,cut_type,cut_value,ouput\n", ["ouput", "output"]),
        (HEADER + "0,toa,<\n", ["row 0", "line 2", "3 fields"]),
        (HEADER + "0,calibration_cod,<,5\n", ["row 0", "'variable'", "did you mean 'calibration_code'"]),
        (HEADER + "0,toa,<,5\n0,toa,=<,5\n", ["row 1", "line 3", "'cut_type'", "=<"]),
        (HEADER + "0,toa,<,five\n", ["'cut_value'", "'five' is no number"]),
        (HEADER + "0,toa,<,nan\n", ["no number"]),
        (HEADER + "0,toa,<,\n", ["a number is missing"]),
        (HEADER + "all,toa,<,5\n", ["'board_id'", "'all'"]),
        (HEADER + "0.5,toa,<,5\n", ["'board_id'", "0.5"]),
        (HEADER + "0,datetime,<,yesterday\n", ["no date"]),
        (HEADER + "0,pixel_id,<,F9P5\n", ["== and <>"]),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(write, text, words):
    path = write(text)
    with pytest.raises(InputError) as caught:
        cuts.read_cuts(path)
    for word in [*words, str(path)]:
        assert word in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_an_error(tmp_path):
    for read in (cuts.read_cuts, time_cuts.read_time_cuts):
        with pytest.raises(InputError, match="does not exist"):
            read(tmp_path / "none.csv")
        (tmp_path / "binary.csv").write_bytes(b"board_id\xff\xfe")
        with pytest.raises(InputError, match="byte 8 is 0xff"):
            read(tmp_path / "binary.csv")


def test_boards_and_variables_that_the_data_do_not_have_are_refused():
    hits = small(toa=[10] * 6)
    with pytest.raises(InputError, match="unknown board '2'"):
        cuts.apply_cuts(hits, [cuts.Cut("2", "toa", "<", 5.0)], (0, 1))
    with pytest.raises(InputError, match="unknown variable 'tot'"):
        cuts.apply_cuts(hits, [cuts.Cut("0", "tot", "<", 5.0)], (0, 1))


# time cuts


@pytest.fixture(scope="module")
def times():
    """Return times of 3000 events, of which 300 miss a board."""
    rng = np.random.default_rng(3)
    event, board = (part.ravel() for part in np.mgrid[:3000, :2])
    toa = 0.9 * np.repeat(rng.uniform(3, 9, 3000), 2) + rng.normal(0, 0.4, 6000)
    frame = pl.DataFrame(
        {"event": event, "board": board, "toa_ns": toa, "tot_ns": rng.normal(4, 1, 6000), "tot": 7 + board}
    )
    return frame.filter((pl.col("event") % 10 != 0) | (pl.col("board") == 0))


def values(times, column, board):
    result = np.full(3000, np.nan)
    of_board = times.filter(pl.col("board") == board)
    result[of_board["event"].to_numpy()] = of_board[column].to_numpy()
    return result


def apply(times, shape, direction, limits, keep_events=False):
    pairs = (("time_of_arrival_ns", "0"), ("toa_ns", "1"))
    number = time_cuts.SHAPES[shape].variables
    cut = time_cuts.TimeCut(shape, direction, pairs[:number], limits)
    return time_cuts.apply_time_cuts(times, [cut], (0, 1), keep_events=keep_events)[0]


def rounded(x, y, corner, edge_x, edge_y, radius):
    """Return the region as the union of two half planes and a circle, as the original makes it."""
    sign_x = -1 if corner.endswith("l") else 1
    sign_y = -1 if "-d" in corner else 1
    x, edge_x, y, edge_y = sign_x * x, sign_x * edge_x, sign_y * y, sign_y * edge_y
    one = (x < edge_x) & (y <= edge_y - radius)
    two = (x <= edge_x - radius) & (y < edge_y)
    return one | two | ((x - edge_x + radius) ** 2 + (y - edge_y + radius) ** 2 < radius**2)


def test_all_shapes(times):
    x, y = values(times, "toa_ns", 0), values(times, "toa_ns", 1)
    fit = linregress(x[~np.isnan(y)], y[~np.isnan(y)])
    expected = {
        ("simple", "<", (5.0,)): x < 5,
        ("simple", "<>", (5.0,)): ~np.isnan(x),
        ("1d-dist", "inside", (5.0, 1.0)): abs(x - 5) < 1,
        ("1d-dist", "outside", (5.0, 1.0)): abs(x - 5) > 1,
        ("circle", "inside", (5.0, 5.5, 1.2)): (x - 5) ** 2 + (y - 5.5) ** 2 < 1.44,
        ("circle", "outside", (5.0, 5.5, 1.2)): (x - 5) ** 2 + (y - 5.5) ** 2 > 1.44,
        ("diagonal", ">=", (10.0,)): x + y >= 10,
        ("diag-dist", "<", (0.3,)): abs(x - y) / math.sqrt(2) < 0.3,
        ("fit-dist", "<", (0.3,)): abs(fit.slope * x - y + fit.intercept) / math.hypot(fit.slope, 1) < 0.3,
    }
    for corner in time_cuts.CORNERS:
        inside = rounded(x, y, corner, 5.0, 5.2, 0.8)
        expected[corner, "inside", (5.0, 5.2, 0.8)] = inside
        expected[corner, "outside", (5.0, 5.2, 0.8)] = ~inside & ~np.isnan(y)
    for (shape, direction, limits), wanted in expected.items():
        accepted = apply(times, shape, direction, limits)
        assert 0 < wanted.sum() < 3001
        np.testing.assert_array_equal(accepted, wanted, err_msg=f"{shape} {direction}")
        missing = np.isnan(y) if time_cuts.SHAPES[shape].variables == 2 else np.isnan(x)
        kept = apply(times, shape, direction, limits, keep_events=True)
        np.testing.assert_array_equal(kept, wanted | missing, err_msg=f"{shape} {direction} kept")


def test_the_corner_is_a_quarter_circle():
    # a corner up and right at (4, 3), rounded by 2: the centre of the circle is (2, 1)
    step = math.sqrt(2)
    points = [(3.99, 1), (4, 1), (2, 2.99), (2, 3), (2 + 0.99 * step, 1 + 0.99 * step), (2 + 1.01 * step, 1 + 1.01 * step),
              (-50, 2.9), (-50, 3.1), (3.9, 2.9)]  # fmt: skip
    x, y = np.array(points, dtype=float).T
    inside = time_cuts.in_corner(x, y, time_cuts.CORNERS["corner-ur"], (4, 3, 2))
    assert inside.tolist() == [True, False, True, False, True, False, True, False, False]
    for name, (right, up) in time_cuts.CORNERS.items():
        mirrored = time_cuts.in_corner(right * x, up * y, (right, up), (right * 4, up * 3, 2))
        np.testing.assert_array_equal(mirrored, inside, err_msg=name)


def test_the_line_is_fitted_to_all_events(times):
    pairs = (("toa_ns", "0"), ("toa_ns", "1"))
    narrow = time_cuts.TimeCut("simple", "<", pairs[:1], (4.0,))
    fit = time_cuts.TimeCut("fit-dist", "<", pairs, (0.2,))
    both = time_cuts.apply_time_cuts(times, [narrow, fit], (0, 1))[0]
    alone = [time_cuts.apply_time_cuts(times, [cut], (0, 1))[0] for cut in (narrow, fit)]
    np.testing.assert_array_equal(both, alone[0] & alone[1])


def test_wildcards_of_simple_time_cuts(times):
    x, y = values(times, "toa_ns", 0), values(times, "toa_ns", 1)
    for board, wanted in (("*", (x < 5) & (y < 5)), ("#", (x < 5) | (y < 5))):
        cut = time_cuts.TimeCut("simple", "<", (("toa_ns", board),), (5.0,))
        np.testing.assert_array_equal(time_cuts.apply_time_cuts(times, [cut], (0, 1))[0], wanted)


def test_time_cut_file(write, tmp_path):
    path = write(
        TIME_HEADER.replace("\n", ",output\n") + "# a comment\n"
        "simple,<,time_over_threshold_ns,*,,,6,,,\n"
        "#circle,nowhere,x,9,y,,,,,\n"
        "corner-dl,outside,tot_ns,0,tot_ns,3.0,2.6,2.3,0.8,noise\n"
    )
    found = time_cuts.read_time_cuts(path)
    assert [(cut.row, cut.line, cut.shape, cut.label) for cut in found] == [
        (0, 3, "simple", None),
        (2, 5, "corner-dl", "noise"),
    ]
    assert found[1].variables == (("tot_ns", "0"), ("tot_ns", "3"))
    assert found[1].values == (2.6, 2.3, 0.8)
    time_cuts.write_time_cuts(tmp_path / "again.csv", found)
    again = time_cuts.read_time_cuts(tmp_path / "again.csv")
    assert [(cut.shape, cut.variables, cut.values, cut.label) for cut in again] == [
        (cut.shape, cut.variables, cut.values, cut.label) for cut in found
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("square,<,toa_ns,0,,,1,,", ["'cut_type'", "square"]),
        ("simple,inside,toa_ns,0,,,1,,", ["'cut_direction'", "inside"]),
        ("circle,<,toa_ns,0,toa_ns,1,1,1,1", ["'cut_direction'"]),
        ("circle,inside,toa_ns,0,toa_ns,1,1,1,", ["'value_3'", "missing"]),
        ("circle,inside,toa_ns,0,toa_ns,1,1,1,-1", ["'value_3'", "negative"]),
        ("circle,inside,toa_ns,0,,1,1,1,1", ["'variable_2'"]),
        ("diagonal,<,toa_ns,0,toa_ns,*,1,,", ["'board_id_2'", "'*' is not possible"]),
        ("diagonal,<,toa_ns,#,toa_ns,1,1,,", ["'board_id_1'", "'#' is not possible"]),
        ("diagonal,<,toa_ns,0,toa_ns,,1,,", ["'board_id_2'", "missing"]),
        ("simple,<,time_of_arival_ns,0,,,1,,", ["'variable_1'", "did you mean 'time_of_arrival_ns'"]),
    ],
)
def test_a_wrong_time_cut_is_refused_with_its_place(write, row, words):
    with pytest.raises(InputError) as caught:
        time_cuts.read_time_cuts(write(TIME_HEADER + row + "\n"))
    for word in ["row 0 (line 2)", *words]:
        assert word in str(caught.value)


def test_two_hits_of_a_board_cannot_be_compared_with_another(times):
    cut = time_cuts.TimeCut("diagonal", "<", (("toa_ns", "0"), ("toa_ns", "1")), (5.0,))
    with pytest.raises(InputError, match="several hits"):
        time_cuts.apply_time_cuts(pl.concat([times, times[:3]]), [cut], (0, 1))


# suggestions


def test_suggested_cuts_keep_good_events_and_take_the_noise(beam, tmp_path):
    found = suggest.suggest_cuts(beam)
    assert len(found) == 18
    assert all(suggestion.why for suggestion in found)
    cuts.write_cuts(tmp_path / "cuts.csv", [suggestion.cut for suggestion in found])
    accepted, _ = cuts.apply_cuts(beam, cuts.read_cuts(tmp_path / "cuts.csv"), BOARDS)
    good = (
        beam.group_by("event")
        .agg(((pl.col("cal").cast(pl.Int32) - 138).abs() <= 8).all().alias("good"))
        .sort("event")["good"]
    )
    good = good.to_numpy()
    assert accepted[good].mean() > 0.98
    assert accepted[~good].sum() == 0
    times, _ = convert_times(beam, accepted)
    pairs = suggest.suggest_time_cuts(times.filter(pl.Series(accepted[times["event"].to_numpy()])))
    time_cuts.write_time_cuts(tmp_path / "time_cuts.csv", [pair.cut for pair in pairs])
    in_time, _ = time_cuts.apply_time_cuts(
        times, time_cuts.read_time_cuts(tmp_path / "time_cuts.csv"), BOARDS
    )
    assert (accepted & in_time).sum() > 0.995 * accepted.sum()
    # 10 sigma beyond 0.35 ns: tails of the resolution must stay
    assert pairs[0].cut.values[0] == pytest.approx((0.35 + 10 * 0.073) / math.sqrt(2), abs=0.05)


def test_noise_does_not_move_suggestions(beam):
    rng = np.random.default_rng(8)
    noisy = beam.with_columns(
        pl.when(pl.Series(rng.random(beam.height) < 0.1))
        .then(pl.Series(rng.integers(1, 900, beam.height)))
        .otherwise(pl.col("cal"))
        .alias("cal")
    )
    kept = [s.cut for s in suggest.suggest_cuts(beam) if s.cut.variable == "calibration_code"]
    assert [s.cut for s in suggest.suggest_cuts(noisy) if s.cut.variable == "calibration_code"] == kept


def test_suggestions_on_a_reference_board_or_without_data(beam):
    found = [
        s.cut.board for s in suggest.suggest_cuts(beam, reference=1) if s.cut.variable == "time_of_arrival"
    ]
    assert found == ["1", "1"]
    with pytest.raises(InputError, match="unknown board"):
        suggest.suggest_cuts(beam, reference=2)
    with pytest.raises(InputError, match="no board"):
        suggest.suggest_cuts(beam[:30])
    times, _ = convert_times(beam[:30], np.ones(10, dtype=bool))
    with pytest.raises(InputError, match="no pair"):
        suggest.suggest_time_cuts(times)
