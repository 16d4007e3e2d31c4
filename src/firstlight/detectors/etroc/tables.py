"""The tables of an ETROC run, and what every decoder gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.data.schema import Column, TableSchema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "ACCEPTED",
    "CALIBRATION",
    "COEFFICIENTS",
    "CORRECTED",
    "COUNTERS",
    "CURVES",
    "EVENT_COUNTS",
    "EVENT_HITS",
    "FILES",
    "FLOW",
    "HITS",
    "JITTER",
    "LINES",
    "NOISE",
    "PACKETS",
    "PAIRS",
    "PIXELS",
    "PIXEL_RESOLUTION",
    "PIXEL_THRESHOLDS",
    "POINTS",
    "PROBLEM",
    "RESOLUTION",
    "SLICES",
    "SUGGESTIONS",
    "TIMED",
    "Decoded",
]  # fmt: skip


@dataclass(frozen=True)
class Decoded:
    """What a decoder made of one file.

    Parameters
    ----------
    n_words : int
        Words of the file (lines of a text file); `counters` adds up to it.
    counters : mapping of str to int
        What became of each word, by reason. ``"header"``, ``"data"`` and ``"trailer"`` (or ``"hit"`` for a line) were
        used; everything else was not, and says why: ``"data: no header"``.
    hits : mapping of str to ndarray, shape (n_hits,)
        ``record`` (packet or line, counted from 0 in the file, never falling), ``link``, ``row``, ``col`` (255: the file
        does not say), ``toa``, ``tot``, ``cal``, ``ea``, ``hit_flag``, and where known ``time`` (Unix seconds).
    packets : mapping of str to ndarray, shape (n_records,)
        Empty for formats without packets; else ``link``, ``l1a``, ``type``, ``bcid``, ``chip_id``, ``status``,
        ``hits_told``, ``hits_found``, ``crc_ok``, ``complete``, and for event frames ``frame`` (the number of the frame in
        the file) and ``frame_event`` (event number of the read-out board).
    n_records : int
        Packets, or lines with a hit.
    rejected : tuple of (int, str)
        Place (word or line, from 1) of the first words that were rejected, with the reason; at most 20.
    facts : mapping
        What people want to know: chip numbers, links, header line.
    """

    n_words: int
    counters: Mapping[str, int]
    hits: Mapping[str, NDArray[Any]]
    packets: Mapping[str, NDArray[Any]]
    n_records: int
    rejected: tuple[tuple[int, str], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


_FILE = Column("file", pl.UInt16, "input file, counted from 0 as in ingest/files")
_RECORD = Column("record", pl.UInt32, "packet, or line, of the file, from 0")
_BOARD = Column("board", pl.UInt8, "board (chip) of the telescope")
_EVENT = Column("event", pl.UInt32, "event, from 0")

_HIT_COLUMNS = (
    _FILE,
    _RECORD,
    Column("link", pl.UInt8, "e-link, channel or board number as read"),
    _BOARD,
    Column("channel", pl.Int32, "pixel in the channel map; -1 for none"),
    Column("row", pl.UInt8, "row of the pixel; null where the file does not say", nullable=True),
    Column("col", pl.UInt8, "column of the pixel; null where the file does not say", nullable=True),
    Column("toa", pl.UInt16, "time-of-arrival code", maximum=1023),
    Column("tot", pl.UInt16, "time-over-threshold code", maximum=511),
    Column("cal", pl.UInt16, "calibration code", maximum=1023),
    Column("ea", pl.UInt8, "error bits (EA) of ETROC2; 0 is good", maximum=3),
    Column("hit_flag", pl.Boolean, "hit flag of ETROC1; true for ETROC2"),
    Column("bcid", pl.UInt16, "bunch crossing of the packet", nullable=True),
    Column("l1a", pl.UInt8, "trigger counter of the packet", nullable=True),
    Column("time", pl.Int64, "time stamp", "s", nullable=True),
)
HITS = TableSchema("hits", _HIT_COLUMNS, "one hit")
EVENT_HITS = TableSchema("event hits", (_EVENT, *_HIT_COLUMNS), "one hit of an event")

PACKETS = TableSchema(
    "packets",
    (
        _FILE,
        _RECORD,
        Column("link", pl.UInt8, "e-link or channel as read"),
        _BOARD,
        Column("frame", pl.UInt32, "event frame of the file, from 0; null without frames", nullable=True),
        Column("frame_event", pl.UInt16, "event number of the read-out board", nullable=True),
        Column("l1a", pl.UInt8, "trigger counter"),
        Column("type", pl.UInt8, "type bits of the header: 0 physics, 1 test pattern"),
        Column("bcid", pl.UInt16, "bunch crossing"),
        Column("chip_id", pl.UInt32, "chip number of the trailer; null without trailer", nullable=True),
        Column("status", pl.UInt8, "status bits of the trailer", nullable=True),
        Column("hits_told", pl.UInt16, "hits that the trailer tells", nullable=True),
        Column("hits_found", pl.UInt16, "data words between header and trailer"),
        Column("crc_ok", pl.Boolean, "whether the checksum is right", nullable=True),
        Column("complete", pl.Boolean, "whether the packet has header and trailer"),
    ),
    "one packet of a chip, with or without hits",
)
COUNTERS = TableSchema(
    "counters",
    (
        _FILE,
        Column("unit", pl.String, "words; payload words: 40-bit words inside of event frames"),
        Column(
            "word", pl.String, "what became of words: header, data, trailer, hit, or the reason why not used"
        ),
        Column("used", pl.Boolean, "whether these words were used"),
        Column("count", pl.Int64, "words"),
    ),
    "words of a file by what became of them; those of each unit add up to all words of the file",
)
FILES = TableSchema(
    "files",
    (
        _FILE,
        Column("name", pl.String, "name of the file"),
        Column("kind", pl.String, "format of the file"),
        Column("run", pl.String, "name of the run that the file is part of"),
        Column("split", pl.Int32, "part of that run", nullable=True),
        Column("n_words", pl.Int64, "words, or lines"),
        Column("n_records", pl.Int64, "packets, or lines with a hit"),
        Column("n_hits", pl.Int64, "hits"),
        Column("board", pl.UInt8, "board that the following columns are about", nullable=True),
        Column("pixel", pl.String, "pixel that is read out, as the file name says", nullable=True),
        Column("phase", pl.Int32, "phase of the charge injection", nullable=True),
        Column("charge", pl.Float64, "injected charge", "fC", nullable=True),
        Column("threshold", pl.Float64, "discriminator threshold", "DAC", nullable=True),
        Column("bias", pl.Float64, "bias voltage, as the file name says", "V", nullable=True),
        Column("first_rejected", pl.String, "place and reason of the first rejected word", nullable=True),
    ),
    "a board in an input file; files without conditions have one row",
)
PIXELS = TableSchema(
    "pixels",
    (
        Column("channel", pl.Int32, "pixel of the channel map"),
        _BOARD,
        Column("row", pl.UInt8, "row", nullable=True),
        Column("col", pl.UInt8, "column", nullable=True),
        Column("hits", pl.Int64, "hits"),
        Column("bad_ea", pl.Int64, "of these, hits with error bits (EA other than 0)"),
        Column("zero_cal", pl.Int64, "of these, hits with calibration code 0"),
        Column("toa_mean", pl.Float64, "mean TOA code of hits with EA 0", nullable=True),
        Column(
            "toa_std",
            pl.Float64,
            "standard deviation (n - 1) of the TOA code of hits with EA 0",
            nullable=True,
        ),
        Column("tot_mean", pl.Float64, "mean TOT code of hits with EA 0", nullable=True),
        Column("tot_std", pl.Float64, "standard deviation of the TOT code", nullable=True),
        Column("cal_mean", pl.Float64, "mean CAL code of hits with EA 0", nullable=True),
        Column("cal_mode", pl.Float64, "most frequent CAL code", nullable=True),
        Column("cal_std", pl.Float64, "standard deviation of the CAL code", nullable=True),
        Column(
            "cal_far",
            pl.Float64,
            "fraction of hits more than 3 codes from the most frequent CAL",
            nullable=True,
        ),
        Column(
            "jitter_all",
            pl.Float64,
            "3125 ps / mean CAL x standard deviation of TOA, all hits",
            "ps",
            nullable=True,
        ),
        Column(
            "jitter",
            pl.Float64,
            "the same for hits with EA 0; it contains the width of a bin / sqrt(12); null where hits come at any time",
            "ps",
            nullable=True,
        ),
        Column(
            "jitter_error",
            pl.Float64,
            "statistical error of jitter, from the fourth moment of the codes",
            "ps",
            nullable=True,
        ),
        Column("state", pl.String, "good, dead, hot, stuck, few hits, noisy calibration"),
        Column("good", pl.Boolean, "whether the state is good"),
    ),
    "one pixel",
)
PROBLEM = TableSchema(
    "problem",
    (Column("reason", pl.String, "why a step could not do its work"),),
    "one reason",
)
EVENT_COUNTS = TableSchema(
    "event counts",
    (
        Column("what", pl.String, "complete events, incomplete, duplicates, orphans ..."),
        Column("unit", pl.String, "events, packets or hits"),
        Column("count", pl.Int64, "how many"),
    ),
    "what became of hits and packets when events were built",
)
ACCEPTED = TableSchema(
    "accepted",
    (_EVENT, Column("accepted", pl.Boolean, "whether the event passes all cuts")),
    "one event",
)
FLOW = TableSchema(
    "cut flow",
    (
        Column("row", pl.Int32, "row of the cut file, from 0; -1 before any cut"),
        Column("cut", pl.String, "the cut in words"),
        Column("label", pl.String, "label of the cut file", nullable=True),
        Column("events_before", pl.Int64, "events before the cut"),
        Column("events_after", pl.Int64, "events that pass this cut and all before"),
        Column("events_alone", pl.Int64, "events that pass this cut alone"),
    ),
    "one cut, in order",
)
TIMED = TableSchema(
    "timed hits",
    (
        _EVENT,
        _BOARD,
        Column("channel", pl.Int32, "pixel in the channel map"),
        _FILE,
        Column(
            "bin_ns", pl.Float64, "bin of the time-to-digital converter, 3.125 ns / CAL", "ns", nullable=True
        ),
        Column("toa_ns", pl.Float64, "time of arrival, 12.5 ns - bin x code", "ns", nullable=True),
        Column(
            "tot_ns",
            pl.Float64,
            "time over threshold, (2 code - floor(code / 32)) x bin",
            "ns",
            nullable=True,
        ),
    ),
    "one hit of an event, in ns",
)
CALIBRATION = TableSchema(
    "calibration",
    (
        _BOARD,
        Column("channel", pl.Int32, "pixel; -1 for the whole board"),
        Column("slice", pl.Int32, "slice of the run, from 0"),
        Column("first_event", pl.UInt32, "first event of the slice"),
        Column("hits", pl.Int64, "hits used"),
        Column("cal", pl.Float64, "calibration code", nullable=True),
        Column("cal_error", pl.Float64, "its statistical error", nullable=True),
        Column("cal_std", pl.Float64, "standard deviation of the codes used", nullable=True),
        Column("bin_ns", pl.Float64, "3.125 ns / CAL", "ns", nullable=True),
    ),
    "calibration of a pixel in a slice of the run",
)
CORRECTED = TableSchema(
    "corrected hits",
    (
        _EVENT,
        _BOARD,
        Column("channel", pl.Int32, "pixel in the channel map"),
        _FILE,
        Column("iteration", pl.Int32, "iteration of the time-walk correction, from 0"),
        Column("tot_ns", pl.Float64, "time over threshold", "ns"),
        Column(
            "delta_ns", pl.Float64, "mean of the other boards (corrected so far) minus this board (raw)", "ns"
        ),
        Column("correction_ns", pl.Float64, "value of the time-walk curve", "ns"),
        Column("toa_ns", pl.Float64, "corrected time of arrival", "ns"),
    ),
    "one hit of an accepted event in the last iteration",
)
COEFFICIENTS = TableSchema(
    "time-walk coefficients",
    (
        Column("iteration", pl.Int32, "iteration, from 0"),
        _BOARD,
        Column("method", pl.String, "ols, odr or spline"),
        Column("fold", pl.Int32, "part of the events that the curve was not fitted to; -1: fitted to all"),
        Column("power", pl.Int32, "power of TOT in ns; for a spline the number of the coefficient"),
        Column("knot", pl.Float64, "knot of a spline", "ns", nullable=True),
        Column("value", pl.Float64, "coefficient"),
        Column("error", pl.Float64, "its statistical error", nullable=True),
    ),
    "one coefficient of a time-walk curve",
)
RESOLUTION = TableSchema(
    "resolution",
    (
        _BOARD,
        Column("iteration", pl.Int32, "iteration of the time-walk correction"),
        Column("estimator", pl.String, "likelihood, std, std_delta, effective, fwhm"),
        Column("events", pl.Int64, "events used"),
        Column(
            "square",
            pl.Float64,
            "squared resolution; negative where there is no solution",
            "ps2",
            nullable=True,
        ),
        Column(
            "resolution", pl.Float64, "time resolution; null where there is no solution", "ps", nullable=True
        ),
        Column(
            "resolution_error", pl.Float64, "its error: covariance formula, or Hessian", "ps", nullable=True
        ),
        Column(
            "bootstrap_error",
            pl.Float64,
            "standard deviation over bootstrap samples, time walk and resolution done again",
            "ps",
            nullable=True,
        ),
        Column("low", pl.Float64, "lower end of the 68.3 % bootstrap interval", "ps", nullable=True),
        Column("high", pl.Float64, "upper end", "ps", nullable=True),
        Column(
            "tail_fraction",
            pl.Float64,
            "likelihood only: fraction of hits in the tail; 0 where none is needed",
            nullable=True,
        ),
        Column("tail_fraction_error", pl.Float64, "its error", nullable=True),
        Column(
            "tail_scale", pl.Float64, "likelihood only: width of the tail / width of the core", nullable=True
        ),
        Column("tail_scale_error", pl.Float64, "its error", nullable=True),
        Column("status", pl.String, "ok, no solution, stuck, not converged, few events, ..."),
        Column("good", pl.Boolean, "whether the status is ok"),
    ),
    "one board by one estimator",
)
PIXEL_RESOLUTION = TableSchema(
    "pixel resolution",
    (
        Column("channel", pl.Int32, "pixel of the channel map"),
        _BOARD,
        Column("events", pl.Int64, "events in which the pixel is hit"),
        Column("resolution", pl.Float64, "core width by the likelihood, last iteration", "ps", nullable=True),
        Column("resolution_error", pl.Float64, "its error", "ps", nullable=True),
        Column("good", pl.Boolean, "whether it was found"),
    ),
    "time resolution of a pixel; of a board with one pixel that of the board",
)
PIXEL_THRESHOLDS = TableSchema(
    "pixel thresholds",
    (
        Column("channel", pl.Int32, "pixel of the channel map"),
        _BOARD,
        Column("offset", pl.Float64, "threshold at charge 0", "DAC", nullable=True),
        Column("offset_error", pl.Float64, "its error", "DAC", nullable=True),
        Column("slope", pl.Float64, "DAC per charge", "DAC/fC", nullable=True),
        Column("slope_error", pl.Float64, "its error", "DAC/fC", nullable=True),
        Column("noise", pl.Float64, "width of the S-curves, mean over charges", "DAC", nullable=True),
        Column("noise_error", pl.Float64, "its error", "DAC", nullable=True),
        Column("good", pl.Boolean, "whether the line was found"),
    ),
    "threshold calibration of a pixel",
)
PAIRS = TableSchema(
    "pairs",
    (
        Column("iteration", pl.Int32, "iteration of the time-walk correction"),
        Column("board_1", pl.UInt8, "first board"),
        Column("board_2", pl.UInt8, "second board"),
        Column("events", pl.Int64, "events used"),
        Column("mean", pl.Float64, "mean of t1 - t2", "ps"),
        Column("std", pl.Float64, "standard deviation of t1 - t2", "ps"),
        Column("std_error", pl.Float64, "its error, std / sqrt(2 n - 2)", "ps"),
        Column("effective", pl.Float64, "half of the smallest interval with 68.3 % of the events", "ps"),
        Column("fwhm", pl.Float64, "full width at half maximum / 2.355", "ps", nullable=True),
    ),
    "one pair of boards",
)
SLICES = TableSchema(
    "slices",
    (
        Column("by", pl.String, "time, file, pixel or bias"),
        Column("label", pl.String, "which slice, file, pixel or bias"),
        Column("x", pl.Float64, "position on an axis: middle of the slice, bias", nullable=True),
        _BOARD,
        Column("events", pl.Int64, "events used"),
        Column(
            "resolution", pl.Float64, "time resolution; null where there is no solution", "ps", nullable=True
        ),
        Column("resolution_error", pl.Float64, "its error", "ps", nullable=True),
        Column("status", pl.String, "ok, no solution, few events, ..."),
    ),
    "resolution of a board in a part of the run",
)
POINTS = TableSchema(
    "points",
    (
        Column("run", pl.String, "name of the run, all splits together"),
        _BOARD,
        Column("pixel", pl.String, "pixel that is read out", nullable=True),
        Column("charge", pl.Float64, "injected charge", "fC"),
        Column("threshold", pl.Float64, "discriminator threshold", "DAC"),
        Column("injections", pl.Int64, "number of injected charges; null where not known", nullable=True),
        Column("splits", pl.Int32, "files of the run"),
        Column("all_hits", pl.Int64, "hits before cuts"),
        Column("hits", pl.Int64, "hits that pass the cuts"),
        Column("toa_mean", pl.Float64, "mean TOA code", nullable=True),
        Column("toa_std", pl.Float64, "standard deviation of the TOA code", nullable=True),
        Column("tot_mean", pl.Float64, "mean TOT code", nullable=True),
        Column("tot_std", pl.Float64, "standard deviation of the TOT code", nullable=True),
        Column("cal_mean", pl.Float64, "mean CAL code", nullable=True),
        Column(
            "jitter", pl.Float64, "3125 ps / mean CAL x robust standard deviation of TOA", "ps", nullable=True
        ),
        Column("jitter_error", pl.Float64, "its error", "ps", nullable=True),
    ),
    "one point of a charge-injection scan; points without hits are kept",
)
CURVES = TableSchema(
    "curves",
    (
        _BOARD,
        Column("pixel", pl.String, "pixel", nullable=True),
        Column("charge", pl.Float64, "injected charge", "fC"),
        Column("points", pl.Int32, "thresholds used"),
        Column("points_rise", pl.Int32, "thresholds with an efficiency between 2 and 98 %"),
        Column("dac50", pl.Float64, "threshold with half of the hits", "DAC", nullable=True),
        Column("dac50_error", pl.Float64, "its error", "DAC", nullable=True),
        Column("noise", pl.Float64, "width of the curve", "DAC", nullable=True),
        Column("noise_error", pl.Float64, "its error", "DAC", nullable=True),
        Column("plateau", pl.Float64, "efficiency on the plateau", nullable=True),
        Column("plateau_error", pl.Float64, "its error", nullable=True),
        Column("p_value", pl.Float64, "of the fit", nullable=True),
        Column(
            "last_with_hits",
            pl.Float64,
            "largest threshold with a hit (the original's point)",
            "DAC",
            nullable=True,
        ),
        Column("status", pl.String, "ok, no plateau, few points in the rise, not constrained, ..."),
        Column("good", pl.Boolean, "whether the status is ok"),
    ),
    "one S-curve: a board at one charge",
)
LINES = TableSchema(
    "lines",
    (
        _BOARD,
        Column("pixel", pl.String, "pixel", nullable=True),
        Column("method", pl.String, "scurve: fitted thresholds; last: largest thresholds with a hit"),
        Column("charges", pl.Int32, "charges used"),
        Column("offset", pl.Float64, "threshold at charge 0", "DAC", nullable=True),
        Column("offset_error", pl.Float64, "its error", "DAC", nullable=True),
        Column("slope", pl.Float64, "DAC per charge", "DAC/fC", nullable=True),
        Column("slope_error", pl.Float64, "its error", "DAC/fC", nullable=True),
        Column("correlation", pl.Float64, "of offset and slope", nullable=True),
        Column("chi2", pl.Float64, "of the line", nullable=True),
        Column("ndf", pl.Int32, "degrees of freedom"),
        Column("status", pl.String, "ok, one charge, ..."),
        Column("good", pl.Boolean, "whether the status is ok"),
    ),
    "threshold against charge of a board",
)
NOISE = TableSchema(
    "noise",
    (
        _BOARD,
        Column("pixel", pl.String, "pixel", nullable=True),
        Column(
            "method", pl.String, "scan: from the noise peak; original: smallest threshold with hits, plateau"
        ),
        Column("baseline", pl.Float64, "middle of the noise band", "DAC", nullable=True),
        Column("width", pl.Float64, "width of the noise band", "DAC", nullable=True),
        Column("noise_min", pl.Float64, "lower end of the noise band", "DAC", nullable=True),
        Column("noise_max", pl.Float64, "upper end of the noise band", "DAC", nullable=True),
        Column("status", pl.String, "ok, or what is missing"),
    ),
    "noise band of a board",
)
JITTER = TableSchema(
    "jitter",
    (
        _BOARD,
        Column("charge", pl.Float64, "injected charge", "fC"),
        Column("threshold", pl.Float64, "threshold at which it was taken", "DAC", nullable=True),
        Column("hits", pl.Int64, "hits"),
        Column("jitter", pl.Float64, "jitter of the time of arrival", "ps", nullable=True),
        Column("jitter_error", pl.Float64, "its error", "ps", nullable=True),
        Column("status", pl.String, "ok, stuck, few hits"),
    ),
    "jitter of a board at a charge",
)
SUGGESTIONS = TableSchema(
    "suggestions",
    (
        _BOARD,
        Column("method", pl.String, "of the line: scurve or last"),
        Column("charge", pl.Float64, "smallest charge that is seen", "fC"),
        Column("threshold", pl.Float64, "suggested threshold", "DAC"),
    ),
    "suggested thresholds of a board: the first is the lowest one above the noise",
)
