"""Figures of an ETROC run: what they show is what the products hold, and everything is drawn whatever is missing."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from firstlight.data.channels import ChannelMap
from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Table
from firstlight.detectors.etroc import tables as schemas
from firstlight.detectors.etroc.views import figures, tables
from firstlight.detectors.etroc.views.decode import judge_packets, jumps
from firstlight.detectors.etroc.views.injection import binomial_interval, line_band, s_curve
from firstlight.detectors.etroc.views.resolution import BoardModel, pair_model
from firstlight.detectors.etroc.views.scene import Scene
from firstlight.detectors.etroc.views.walk import walk_curve
from firstlight.run.config import StrictModel
from firstlight.steps.step import Context
from firstlight.view.draw_density import profile_of
from firstlight.view.style import styled


class Options(StrictModel):
    """Options of a run as far as figures look at them."""

    label: str = "test beam"


def fill(schema, **columns):
    """Return a table with nulls in the columns that are not given."""
    size = max(len(values) for values in columns.values())
    frame = pl.DataFrame(
        {
            c.name: pl.Series(c.name, columns.get(c.name, [None] * size), strict=False).cast(c.dtype)
            for c in schema.columns
        }
    )
    return Table.from_frame(schema, frame)


def context_of(boards, size, chip_ids=None):
    """Return the context of boards with `size` x `size` pixels each, or with one pixel for size 0."""
    rows = []
    for board in boards:
        places = [(r, c) for r in range(size) for c in range(size)] or [(1, 1)]
        rows += [(f"board {board}", board, r, c) for r, c in places]
    frame = pl.DataFrame(rows, schema=["group", "board", "row", "col"], orient="row").with_row_index(
        "channel"
    )
    frame = frame.with_columns(position=pl.int_range(pl.len()).over("group"))
    groups = pl.DataFrame({
        "group": [f"board {b}" for b in boards], "board": boards, "links": ["" for _ in boards],
        "chip_id": chip_ids or [None] * len(boards),
    })  # fmt: skip
    return Context(
        ChannelMap("ETROC", "1", frame, "planes" if len(boards) > 1 else "grid", groups), Options()
    )


def cubes(hits, boards):
    """Return the histograms of the codes by board."""
    found = {}
    for code, bins in (("toa", 1024), ("tot", 512), ("cal", 1024)):
        cube = HistogramCube.zeros(Axis("board", len(boards)), Axis(code, bins))
        for index, board in enumerate(boards):
            values = hits.filter(pl.col("board") == board)[code].to_numpy()
            cube.counts[index] = np.bincount(values, minlength=bins)
        found[f"pixels/{code}"] = cube
    return found


def pixel_table(hits, context):
    """Return the table of pixels by simple formulas."""
    frame = context.channels.frame
    found = (
        hits.group_by("board", "row", "col")
        .agg(
            hits=pl.len(), bad_ea=(pl.col("ea") != 0).sum(), zero_cal=(pl.col("cal") == 0).sum(),
            toa_mean=pl.col("toa").mean(), cal_mean=pl.col("cal").filter(pl.col("ea") == 0, pl.col("cal") > 0).mean(), cal_mode=pl.col("cal").mode().min(),
        )
        .with_columns(pl.col("board", "row", "col").cast(pl.Int64))
    )  # fmt: skip
    whole = frame.join(found, on=["board", "row", "col"], how="left").with_columns(
        pl.col("hits", "bad_ea", "zero_cal").fill_null(0)
    )
    middle = float(whole["hits"].median())
    state = (
        pl.when(pl.col("hits") == 0).then(pl.lit("dead")).when(pl.col("hits") > 12 * max(middle, 1.0))
        .then(pl.lit("hot")).when(pl.col("hits") < 0.3 * middle).then(pl.lit("few hits")).otherwise(pl.lit("good"))
    )  # fmt: skip
    whole = whole.with_columns(state=state).with_columns(good=pl.col("state") == "good")
    return fill(
        schemas.PIXELS,
        **{name: whole[name] for name in whole.columns if name in {c.name for c in schemas.PIXELS.columns}},
    )


# -- a telescope of three boards with one pixel each ---------------------------------------------------------------


def beam_lines(folder=None, seed=4, n=6000):
    """Return board, TOA, TOT, CAL of each line of the sample file, or of a simulated one like it."""
    path = None if folder is None else folder / "etroc" / "synthetic_etroc1_telescope"
    if path is not None and path.is_dir():
        file = next(path.glob("*.txt"))
        words = [line.split()[:4] for line in file.read_text().splitlines()[1:]]
        return np.array(words, dtype=np.int64)
    random = np.random.default_rng(seed)
    truth = ((0, 140, 4.0, 0.0, 0.040), (1, 138, 4.3, 0.35, 0.045), (3, 135, 4.6, 0.6, 0.050))
    time = random.uniform(3.0, 9.5, n)
    lines = []
    for board, cal, start, offset, sigma in truth:
        d = 0.35 * random.exponential(1.0, n) - 0.3 + random.normal(0, 0.1, n)
        t = (
            time
            + offset
            - 0.07 * d
            + 0.01 * d**2
            + sigma * random.normal(0, 1, n) * np.where(random.random(n) < 0.05, 4, 1)
        )
        code = np.round(random.normal(cal, 0.6, n)).astype(int)
        width = 3.125 / cal
        lines.append(
            np.stack([np.full(n, board), (12.5 - t) / width, (start + d) / width / 1.97, code], axis=1)
        )
    return np.clip(np.stack(lines, axis=1).reshape(-1, 4), 0, 1023).astype(np.int64)


def telescope(folder=None):
    """Return products of a three-board run by simple formulas, and the context."""
    lines = beam_lines(folder)
    boards = [0, 1, 3]
    context = context_of(boards, 0)
    n = len(lines)
    columns = {
        "board": lines[:, 0],
        "toa": lines[:, 1],
        "tot": np.minimum(lines[:, 2], 511),
        "cal": lines[:, 3],
    }
    common = {
        "file": np.zeros(n), "link": lines[:, 0], "channel": np.searchsorted(boards, lines[:, 0]), "row": np.ones(n),
        "col": np.ones(n), "ea": np.zeros(n), "hit_flag": np.ones(n, dtype=bool), "record": np.arange(n), **columns,
    }  # fmt: skip
    hits = fill(schemas.HITS, **common)
    board = lines[:, 0]
    first = np.flatnonzero((board[:-2] == 0) & (board[1:-1] == 1) & (board[2:] == 3))
    chosen = (first[:, None] + np.arange(3)).ravel()
    event = np.repeat(np.arange(first.size), 3)
    event_hits = fill(
        schemas.EVENT_HITS,
        event=event,
        **{name: np.asarray(values)[chosen] for name, values in common.items()},
    )
    codes = lines[chosen].reshape(-1, 3, 4)
    keep = (
        (codes[:, :, 3] > 125) & (codes[:, :, 3] < 150) & (codes[:, :, 1] > 20) & (codes[:, :, 1] < 500)
    ).all(axis=1)
    accepted = fill(schemas.ACCEPTED, event=np.arange(first.size), accepted=keep)
    width = 3.125 / codes[keep][:, :, 3].mean(axis=0)
    toa = 12.5 - width * codes[:, :, 1]
    tot = (2 * codes[:, :, 2] - codes[:, :, 2] // 32) * width
    timed = fill(
        schemas.TIMED, event=event, board=lines[chosen, 0], channel=common["channel"][chosen], file=np.zeros(chosen.size),
        bin_ns=np.tile(width, first.size), toa_ns=toa.ravel(), tot_ns=tot.ravel(),
    )  # fmt: skip
    products = {
        "ingest/hits": hits, "events/hits": event_hits, "cut/events": accepted, "times/hits": timed,
        "ingest/counters": fill(
            schemas.COUNTERS, file=[0, 0, 0], word=["hit", "header line", "hit flag 0"], used=[True, False, False], count=[n, 1, 25]
        ),
        "ingest/files": fill(schemas.FILES, file=[0], name=["F9P5_F11P5_F5P5_Beam_0.txt"], kind=["beam"], run=["Beam_0"], n_words=[n + 26], n_records=[n], n_hits=[n]),
        "pixels/table": pixel_table(hits.frame, context),
        "events/counts": fill(
            schemas.EVENT_COUNTS, what=["complete events", "incomplete events", "hits in events", "hits left over"],
            unit=["events", "events", "hits", "hits"], count=[first.size, 1731, 3 * first.size, n - 3 * first.size],
        ),
        "cut/flow": fill(
            schemas.FLOW, row=[-1, 0, 1, 2], cut=["all events", "calibration_code of * > 125", "calibration_code of * < 150", "20 < time_of_arrival of * < 500"],
            label=[None, None, None, "toa"], events_before=[first.size, first.size, first.size - 300, first.size - 480],
            events_after=[first.size, first.size - 300, first.size - 480, int(keep.sum())], events_alone=[first.size, first.size - 300, first.size - 190, first.size - 40],
        ),
        **cubes(hits.frame, boards),
    }  # fmt: skip
    edges = np.linspace(0, first.size, 9).astype(int)
    rows = [
        (b, -1, s, lo, hi - lo, codes[lo:hi, i, 3][keep[lo:hi]].mean(), 0.6 / np.sqrt(hi - lo), 0.6)
        for i, b in enumerate(boards) for s, (lo, hi) in enumerate(itertools.pairwise(edges))
    ]  # fmt: skip
    names = ("board", "channel", "slice", "first_event", "hits", "cal", "cal_error", "cal_std")
    products["times/calibration"] = fill(
        schemas.CALIBRATION, **dict(zip(names, zip(*rows, strict=True), strict=True))
    )
    return {**products, **timing(toa[keep], tot[keep], np.flatnonzero(keep), boards)}, context


def timing(toa, tot, event, boards):
    """Return the products of time walk and resolution: two passes of a parabola, widths of pairs."""
    n = len(toa)
    corrected, correction, delta = toa.copy(), np.zeros_like(toa), np.zeros_like(toa)
    rows = []
    for iteration in range(2):
        before = corrected.copy()
        for i, board in enumerate(boards):
            others = [j for j in range(3) if j != i]
            delta[:, i] = before[:, others].mean(axis=1) - toa[:, i]
            good = np.abs(delta[:, i] - np.median(delta[:, i])) < 0.25
            values = np.polyfit(tot[good, i], delta[good, i], 2)[::-1]
            correction[:, i] = np.polynomial.polynomial.polyval(tot[:, i], values)
            rows += [(iteration, board, "ols", -1, power, value, 0.001) for power, value in enumerate(values)]
        corrected = toa + correction
    coefficients = dict(
        zip(
            ("iteration", "board", "method", "fold", "power", "value", "error"),
            zip(*rows, strict=True),
            strict=True,
        )
    )
    difference = {
        (i, j): 1e3 * (corrected[:, i] - corrected[:, j]) for i in range(3) for j in range(i + 1, 3)
    }
    squares = {pair: values.var(ddof=1) for pair, values in difference.items()}
    core = {
        pair: (1.4826 * np.median(np.abs(values - np.median(values)))) ** 2
        for pair, values in difference.items()
    }

    def solve(of):
        total = sum(of.values())
        return [0.5 * (total - 2 * of[tuple(j for j in range(3) if j != i)]) for i in range(3)]

    table = []
    for iteration in (0, 1):
        for name, of in (("likelihood", core), ("std", squares), ("effective", core)):
            for board, square in zip(boards, solve(of), strict=True):
                value = float(np.sqrt(square)) * (1.004 if iteration == 0 else 1.0)
                likely = name == "likelihood"
                table.append((
                    board, iteration, name, n, square, value, 0.4, 0.42 if likely else None, value - 0.4 if likely else None,
                    value + 0.45 if likely else None, 0.02 if likely else None, 3.0 if likely else None, "ok", True,
                ))  # fmt: skip
    table.append((3, 1, "fwhm", n, -310.0, *([None] * 7), "no solution", False))
    names = ("board", "iteration", "estimator", "events", "square", "resolution", "resolution_error", "bootstrap_error",
             "low", "high", "tail_fraction", "tail_scale", "status", "good")  # fmt: skip
    random = np.random.default_rng(1)
    slices = [
        ("time", f"{s}", s * n / 8, board, n // 8, float(random.normal(value, 1.2)) if s != 5 or i else None, 1.2 if s != 5 or i else None, "ok")
        for s in range(8) for i, (board, value) in enumerate(zip(boards, np.sqrt(solve(core)), strict=True))
    ]  # fmt: skip
    replicas = [
        (r, b, float(random.normal(v, 0.42)))
        for r in range(200)
        for b, v in zip(boards, np.sqrt(solve(core)), strict=True)
    ]
    flat = {
        "event": np.repeat(event, 3),
        "board": np.tile(boards, n),
        "channel": np.tile(np.arange(3), n),
        "file": np.zeros(3 * n),
    }
    return {
        "timewalk/hits": fill(
            schemas.CORRECTED, **flat, iteration=np.ones(3 * n), tot_ns=tot.ravel(), delta_ns=delta.ravel(),
            correction_ns=correction.ravel(), toa_ns=corrected.ravel(),
        ),
        "timewalk/coefficients": fill(schemas.COEFFICIENTS, **coefficients),
        "resolution/boards": fill(schemas.RESOLUTION, **dict(zip(names, zip(*table, strict=True), strict=True))),
        "resolution/slices": fill(
            schemas.SLICES, **dict(zip(("by", "label", "x", "board", "events", "resolution", "resolution_error", "status"), zip(*slices, strict=True), strict=True))
        ),
        "resolution/replicas": Table(
            pl.DataFrame(replicas, schema=["replica", "board", "resolution"], orient="row"), schemas.TableSchema("replicas", ())
        ),
    }  # fmt: skip


# -- a charge-injection scan ---------------------------------------------------------------------------------------


def scan(known=True):
    """Return products of a scan of one board, of the truth of the sample data, and the context."""
    random = np.random.default_rng(5)
    charges, thresholds = (10.0, 15.0, 20.0, 25.0), np.arange(324, 575, 10)
    rows = []
    for charge in charges:
        for threshold in thresholds:
            share = s_curve(np.array([threshold]), 330 + 9.0 * charge, 3.0, 1.0)[0]
            hits = random.binomial(1000, share)
            if 334 <= threshold < 372:
                hits = int(1000 * random.uniform(1.4, 2.6))
            if threshold < 334:
                hits = 0
            rows.append(
                (f"q{charge:g} t{threshold}", 1, charge, threshold, 1000 if known else None, 1, hits, hits)
            )
    names = ("run", "board", "charge", "threshold", "injections", "splits", "all_hits", "hits")
    points = fill(schemas.POINTS, **dict(zip(names, zip(*rows, strict=True), strict=True)))
    dac50 = [330 + 9.0 * q + d for q, d in zip(charges, (0.12, -0.2, 0.05, 0.1), strict=True)]
    products = {
        "injection/points": points,
        "injection/curves": fill(
            schemas.CURVES, board=[1] * 4, charge=charges, points=[20] * 4, points_rise=[2, 2, 1, 2], dac50=dac50,
            dac50_error=[0.11, 0.12, 0.2, 0.1], noise=[2.9, 3.1, 3.3, 2.95], noise_error=[0.1, 0.11, 0.4, 0.1], plateau=[1.0] * 4,
            p_value=[0.4] * 4, last_with_hits=[424.0, 474, 514, 564], status=["ok", "ok", "few points in the rise", "ok"], good=[True, True, False, True],
        ),
        "injection/lines": fill(
            schemas.LINES, board=[1, 1], method=["scurve", "last"], charges=[4, 4], offset=[330.26, 333.0], offset_error=[0.25, None],
            slope=[8.988, 9.2], slope_error=[0.014, None], correlation=[-0.93, None], chi2=[2.1, None], ndf=[2, 2], status=["ok", "ok"], good=[True, True],
        ),
        "injection/noise": fill(schemas.NOISE, board=[1], method=["scan"], baseline=[352.0], width=[19.0], noise_min=[329.0], noise_max=[369.0], status=["ok"]),
        "injection/jitter": fill(schemas.JITTER, board=[1] * 4, charge=charges, threshold=[384.0] * 4, hits=[1000] * 4, jitter=[22.0, 16, 13, 11.5], jitter_error=[0.5, 0.4, 0.3, 0.3], status=["ok"] * 4),
        "injection/suggestions": fill(schemas.SUGGESTIONS, board=[1] * 3, method=["scurve"] * 3, charge=[5.0, 6, 7], threshold=[376.0, 385, 394]),
        "ingest/counters": fill(schemas.COUNTERS, file=np.arange(140), word=["hit"] * 140, used=[True] * 140, count=random.integers(0, 900, 140)),
    }  # fmt: skip
    return products, context_of([1], 0)


# -- an ETROC2 -----------------------------------------------------------------------------------------------------


def chip(folder=None, boards=(3,)):
    """Return products of ETROC2 files: of the sample data where they are, else simulated; and the context."""
    random = np.random.default_rng(6)
    path = None if folder is None else folder / "etroc" / "etroc2_tamalero_sps2025"
    context = context_of(list(boards), 16, [3316 + b for b in boards])
    if path is not None and path.is_dir():
        files = sorted(path.glob("*.dat"))
        parts = [_decode(file, index) for index, file in enumerate(files)]
        hits, packets = (pl.concat([part[i] for part in parts]) for i in (0, 1))
        names = [file.name for file in files]
    else:
        names = [f"output_run_{100 + i}_rb0.dat" for i in range(3)]
        hits, packets = _simulated(random)
    if len(boards) > 1:
        hits = hits.with_columns(board=pl.Series(random.choice(boards, hits.height)))
    else:
        hits = hits.with_columns(board=pl.lit(boards[0]))
        packets = packets.with_columns(board=pl.lit(boards[0]))
    hits = hits.with_columns(
        channel=256 * pl.col("board").replace_strict({b: i for i, b in enumerate(boards)})
        + 16 * pl.col("row")
        + pl.col("col"),
        hit_flag=pl.lit(value=True),
    )
    n_words = hits.group_by("file").len()
    counters = []
    for file in range(len(names)):
        of_file = packets.filter(pl.col("file") == file)
        counters += [
            (file, "header", True, of_file.height), (file, "trailer", True, int(of_file["complete"].sum())),
            (file, "data", True, int(n_words.filter(pl.col("file") == file)["len"].sum())),
            (file, "filler", False, 40 * (file % 3)), (file, "data: no header", False, 2 * (file % 4 == 1)),
        ]  # fmt: skip
    table = fill(schemas.HITS, **{name: hits[name] for name in hits.columns if name != "event"})
    events = fill(schemas.EVENT_HITS, **{name: hits[name] for name in hits.columns})
    products = {
        "ingest/hits": table, "ingest/packets": fill(schemas.PACKETS, **{name: packets[name] for name in packets.columns}),
        "ingest/counters": fill(schemas.COUNTERS, **dict(zip(("file", "word", "used", "count"), zip(*counters, strict=True), strict=True))),
        "ingest/files": fill(schemas.FILES, file=range(len(names)), name=names, kind=["tamalero"] * len(names), run=names, n_words=[1] * len(names), n_records=[1] * len(names), n_hits=[1] * len(names)),
        "pixels/table": pixel_table(table.frame, context), "events/hits": events,
        "events/counts": fill(schemas.EVENT_COUNTS, what=["complete events", "incomplete events", "empty events", "packets without partner"], unit=["events"] * 3 + ["packets"], count=[48410, 4, 41000, 4]),
        **cubes(table.frame, list(boards)),
    }  # fmt: skip
    return products, context


def _decode(path, index):
    """Return hits and packets of a TAMALERO file: all packets of the sample are whole but the last one."""
    raw = np.fromfile(path, dtype="<u8")
    word, link = raw & np.uint64((1 << 40) - 1), ((raw >> np.uint64(40)) & np.uint64(255)).astype(np.int64)
    word = word.astype(np.int64)
    header, data = (word >> 24) == 0x3C5C, (word >> 39) == 1
    trailer = ~header & ~data
    rows, hits = [], []
    for one in np.unique(link):
        of = np.flatnonzero(link == one)
        starts = of[header[of]]
        record = np.searchsorted(starts, of[data[of]], side="right") - 1
        ends = np.full(starts.size, -1)
        found = np.searchsorted(starts, of[trailer[of]], side="right") - 1
        ends[found] = of[trailer[of]]
        d = word[of[data[of]]]
        hits.append(pl.DataFrame({
            "event": record, "record": 2 * record, "link": np.full(d.size, one), "ea": (d >> 37) & 3, "col": (d >> 33) & 15,
            "row": (d >> 29) & 15, "toa": (d >> 19) & 1023, "tot": (d >> 10) & 511, "cal": d & 1023,
            "l1a": (word[starts] >> 14 & 255)[record], "bcid": (word[starts] & 4095)[record],
        }))  # fmt: skip
        end = np.where(ends >= 0, word[ends], 0)
        rows.append(pl.DataFrame({
            "record": 2 * np.arange(starts.size), "link": np.full(starts.size, one), "l1a": word[starts] >> 14 & 255,
            "type": word[starts] >> 12 & 3, "bcid": word[starts] & 4095, "complete": ends >= 0,
            "status": end >> 16 & 63, "hits_told": end >> 8 & 255, "hits_found": np.bincount(record, minlength=starts.size),
            "crc_ok": np.ones(starts.size, dtype=bool), "board": np.full(starts.size, 3),
        }))  # fmt: skip
    if not rows:
        return _decode_nothing()
    return tuple(pl.concat(part).with_columns(file=pl.lit(index)) for part in (hits, rows))


def _decode_nothing():
    names = ("event", "record", "link", "ea", "col", "row", "toa", "tot", "cal", "l1a", "bcid")
    others = (
        "record",
        "link",
        "l1a",
        "type",
        "bcid",
        "complete",
        "status",
        "hits_told",
        "hits_found",
        "crc_ok",
        "board",
    )
    kinds = {"complete": pl.Boolean, "crc_ok": pl.Boolean}
    frames = [
        pl.DataFrame(schema={name: kinds.get(name, pl.Int64) for name in which}) for which in (names, others)
    ]
    return tuple(frame.with_columns(file=pl.lit(0, dtype=pl.Int32)) for frame in frames)


def _simulated(random, n=4000):
    col, row = random.integers(0, 16, n), random.integers(0, 16, n)
    keep = ~((row == 3) & (col == 5)) & (random.random(n) < np.exp(-(((row - 8) / 9) ** 2)))
    col, row = np.where(random.random(n) < 0.02, 11, col)[keep], row[keep]
    n = col.size
    event = np.sort(random.integers(0, 3000, n))
    hits = pl.DataFrame({
        "event": event, "record": event, "file": event // 1000, "link": np.where(col > 7, 12, 42), "row": row, "col": col,
        "ea": np.where(random.random(n) < 0.01, 3, 0), "toa": random.integers(60, 700, n), "tot": random.normal(90, 12, n).astype(int),
        "cal": random.normal(np.where(col > 7, 170, 179), 1.0).astype(int), "l1a": event % 256, "bcid": (event * 37) % 3564,
    })  # fmt: skip
    size = 6000
    number = np.arange(size) // 2
    packets = pl.DataFrame({
        "file": number // 1000, "record": np.arange(size), "link": np.tile([12, 42], size // 2), "board": np.full(size, 3),
        "l1a": number % 256, "type": np.zeros(size, int), "bcid": (number * 37) % 3564, "status": np.zeros(size, int),
        "hits_told": np.zeros(size, int), "hits_found": np.zeros(size, int), "crc_ok": random.random(size) > 0.002,
        "complete": random.random(size) > 0.001,
    })  # fmt: skip
    return hits, packets


RUNS = {"telescope": telescope, "scan": scan, "chip": chip, "three chips": lambda: chip(boards=(0, 1, 2))}


@pytest.fixture(scope="module")
def runs():
    return {name: make() for name, make in RUNS.items()}


def drawn(products, context):
    with styled():
        for figure in figures(products, context):
            canvas = figure.draw()
            FigureCanvasAgg(canvas).draw()
            yield figure, canvas


@pytest.mark.parametrize("name", RUNS)
def test_every_figure_is_drawn(runs, name):
    products, context = runs[name]
    found = list(drawn(products, context))
    assert len({figure.name for figure, _ in found}) == len(found)
    for figure, canvas in found:
        assert canvas.get_axes(), figure.name
        assert len(figure.caption) > 40, figure.name
        assert figure.section, figure.name
        words = [text.get_text() for ax in canvas.get_axes() for text in ax.texts]
        assert not any("no data" in word for word in words), figure.name
        assert sum(len(ax.get_children()) for ax in canvas.get_axes()) < 1000, figure.name


def test_the_result_comes_first(runs):
    names = {name: [figure.name for figure in figures(*run)] for name, run in runs.items()}
    assert names["telescope"][0] == "resolution"
    assert names["scan"][0] == "threshold_line"
    assert names["chip"][0] == "occupancy"
    assert {"words", "packets", "triggers", "error_bits", "calibration"} <= set(names["three chips"])
    assert "packets" not in names["telescope"]
    assert "occupancy" not in names["telescope"]


class Recorded(dict):
    """Products that remember which of them were asked for."""

    def __init__(self, products):
        super().__init__(products)
        self.asked = set()

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name):
        self.asked.add(name)
        return super().__contains__(name)


@pytest.mark.parametrize("name", ["telescope", "scan", "chip"])
def test_any_product_may_be_missing(runs, name):
    products, context = runs[name]
    needs = {}
    for number, figure in enumerate(figures(products, context)):
        recorded = Recorded(products)
        chosen = figures(recorded, context)[number]
        recorded.asked.clear()
        chosen.draw()
        needs[figure.name] = set(recorded.asked)
    for left_out in products:
        rest = {key: value for key, value in products.items() if key != left_out}
        for figure in figures(rest, context):
            if left_out in needs[figure.name]:
                figure.draw()
        assert all(table.product in rest for table in tables(rest, context))
    assert figures({}, context) == []
    assert tables({}, context) == []


def test_empty_products_draw_nothing(runs):
    products, context = runs["chip"]
    empty = {
        key: Table(value.frame.clear(), value.schema)
        for key, value in products.items()
        if isinstance(value, Table)
    }
    empty |= {
        key: HistogramCube(value.axes, 0 * value.counts)
        for key, value in products.items()
        if isinstance(value, HistogramCube)
    }
    assert [figure.name for figure in figures(empty, context)] == []


def test_no_solution_is_said_and_not_drawn(runs):
    products, context = runs["telescope"]
    canvas = next(canvas for figure, canvas in drawn(products, context) if figure.name == "resolution")
    words = [text.get_text() for text in canvas.axes[0].texts]
    assert any("no solution" in word and "−310" in word for word in words)
    assert len(words) == 10  # 3 estimators x 3 boards and the one without a solution


def test_only_the_last_iteration_is_drawn(runs):
    products, context = runs["telescope"]
    frame = products["timewalk/hits"].frame
    first = frame.with_columns(
        iteration=pl.lit(0, dtype=pl.Int32), toa_ns=pl.col("toa_ns") + 100 * pl.col("board")
    )
    both = {**products, "timewalk/hits": Table(pl.concat([first, frame]), schemas.CORRECTED)}
    scene, before = Scene(both, context), Scene(products, context)
    assert scene.wide("timewalk/hits", "toa_ns").equals(before.wide("timewalk/hits", "toa_ns"))


def test_scan_without_number_of_injections_shows_hits():
    products, context = scan(known=False)
    canvas = next(canvas for figure, canvas in drawn(products, context) if figure.name == "s_curves")
    assert canvas.axes[0].get_ylabel() == "hits"
    assert 1000 < canvas.axes[0].get_ylim()[1] < 1400  # the noise peak does not set the scale


def test_occupancy_tells_dead_from_low(runs):
    from matplotlib.colors import to_rgb

    from firstlight.detectors.etroc.views.occupancy import STATES

    products, context = runs["chip"]
    canvas = next(canvas for figure, canvas in drawn(products, context) if figure.name == "occupancy")
    image = canvas.axes[0].images[0].get_array()
    hits = Scene(products, context).image(3, "hits")
    dead = np.rint(255 * np.array(to_rgb(STATES["dead"])))
    black = (np.asarray(image)[..., :3] == dead).all(axis=2)
    assert hits[3, 5] == 0
    assert np.array_equal(black, hits == 0)


def test_packets_are_judged():
    frame = pl.DataFrame({
        "complete": [True, True, True, True, False], "crc_ok": [True, True, False, True, None],
        "hits_told": [0, 0, 1, 3, None], "hits_found": [0, 256, 1, 2, 4],
    })  # fmt: skip
    kinds = judge_packets(frame)["kind"].to_list()
    assert kinds == ["good", "good", "checksum wrong", "hit count wrong", "no trailer"]


def test_jumps_of_the_counter():
    frame = pl.DataFrame({
        "file": [0] * 6 + [1] * 2, "link": [1, 2, 1, 2, 1, 1, 1, 1], "record": [0, 1, 2, 3, 4, 5, 0, 1],
        "l1a": [254, 7, 255, 7, 0, 3, 9, 10],
    })  # fmt: skip
    assert sorted(jumps(frame).tolist()) == [0, 0, 0, 2, 255]


def test_pair_model_counts_all_and_has_the_variance_of_both():
    edges = np.linspace(-3000, 3000, 6001)
    one, two = BoardModel(40.0, 0.05, 3.5), BoardModel(50.0, 0.1, 3.0)
    model = pair_model(edges, 1000.0, 12.0, one, two)
    middle = 0.5 * (edges[1:] + edges[:-1])
    assert model.total.sum() == pytest.approx(1000.0, rel=1e-6)
    assert model.core.sum() == pytest.approx(1000 * 0.95 * 0.9, rel=1e-6)
    variance = np.average((middle - 12.0) ** 2, weights=model.total)
    expected = sum(b.sigma**2 * (1 - b.fraction + b.fraction * b.scale**2) for b in (one, two))
    assert variance == pytest.approx(expected, rel=1e-3)


def test_curve_of_the_walk_and_its_band():
    random = np.random.default_rng(3)
    tot = random.normal(4.3, 0.5, 4000)
    truth = np.array([0.8, -0.25, 0.02])
    sigma = 0.05
    found = []
    for _ in range(40):
        delta = np.polynomial.polynomial.polyval(tot, truth) + random.normal(0, sigma, tot.size)
        values = np.polyfit(tot, delta, 2)[::-1]
        table = pl.DataFrame({
            "iteration": [0] * 3, "board": [1] * 3, "method": ["ols"] * 3, "fold": [-1] * 3, "power": [0, 1, 2],
            "knot": pl.Series([None] * 3, dtype=pl.Float64), "value": values,
        })  # fmt: skip
        found.append(walk_curve(table, 1, tot, delta - np.polynomial.polynomial.polyval(tot, values)))
    spread = np.std([curve.correction for curve in found], axis=0, ddof=1)
    ratio = found[0].error / spread
    assert 0.8 < np.median(ratio) < 1.25  # the scatter of 40 fits is known to 11 %
    assert walk_curve(table, 2, tot, tot) is None


def test_binomial_interval_of_clopper_and_pearson():
    bars = binomial_interval(np.array([0.0, 5.0, 10.0]), np.array([10.0, 10.0, 10.0]), 0.95)
    assert bars[:, 0] == pytest.approx([0.0, 0.30850], abs=1e-4)
    assert bars[:, 1] == pytest.approx([0.5 - 0.18709, 0.81291 - 0.5], abs=1e-4)
    assert bars[:, 2] == pytest.approx([0.30850, 0.0], abs=1e-4)


def test_band_of_a_line_uses_the_correlation():
    random = np.random.default_rng(2)
    covariance = np.array([[0.09, -0.93 * 0.3 * 0.02], [-0.93 * 0.3 * 0.02, 0.0004]])
    lines = random.multivariate_normal([330, 9], covariance, 20000)
    charge = np.array([0.0, 10.0, 25.0])
    row = {"offset_error": 0.3, "slope_error": 0.02, "correlation": -0.93}
    expected = (lines[:, :1] + lines[:, 1:] * charge).std(axis=0)
    assert line_band(charge, row) == pytest.approx(expected, rel=0.03)


def test_profile_is_not_pulled_by_tails():
    random = np.random.default_rng(8)
    x = random.uniform(0, 10, 20000)
    y = 2 * x + random.normal(0, 1, x.size)
    y[::50] += 500
    found = profile_of(x, y, bins=10)
    assert found.number.sum() == pytest.approx(0.99 * x.size, rel=0.002)
    pulls = (found.median - 2 * found.centre) / found.error
    assert np.abs(pulls - 0.25).max() < 4  # 2 % of the entries move a median by 0.025 sigma
    assert found.spread == pytest.approx(
        1.2, rel=0.1
    )  # slope 2 over a bin of width 1 adds 0.58 in quadrature
    assert profile_of([], []).centre.size == 0


@pytest.mark.parametrize(
    ("kind", "more", "configuration"),
    [
        ("telescope", {"n_events": 1500, "efficiency": 0.8}, {"events": {"building": "order"}}),
        ("telescope", {"n_events": 1500, "boards": [0, 1]}, {}),
        ("telescope", {"n_events": 30}, {}),
        ("telescope2", {"n_events": 1500}, {}),
        ("kc705", {"n_events": 60}, {}),
        ("probe", {"n_events": 200, "n_files": 1}, {}),
        ("injection", {"n_events": 50}, {}),
        ("emulator", {}, {}),
    ],
)  # fmt: skip
def test_every_figure_of_a_simulated_run_is_drawn(tmp_path, kind, more, configuration):
    from firstlight.detector import get_detector
    from firstlight.detectors.etroc.simulate import simulate
    from firstlight.run.chain import Settings, process

    files = simulate(tmp_path / "data", seed=3, kind=kind, **more)
    quick = {"resolution": {"bootstrap": 10}, **configuration}
    run = process(
        get_detector("etroc"), files[:1] if kind == "probe" else files, tmp_path / "run", quick, Settings()
    )
    assert run.record["figures"]
    assert [figure["problem"] for figure in run.record["figures"] if "problem" in figure] == []
