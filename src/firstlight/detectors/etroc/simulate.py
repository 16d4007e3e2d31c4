"""Simulated ETROC data with known truth, in the formats of the read-out systems.

Every kind writes its files and ``truth.json`` beside them. The models stand in `simulation`: the beam on
boards (`beam`) and on chips (`chips`), charge injection (`charge`), words (`packets`), files (`containers`),
`faults`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from firstlight.detectors.etroc.simulation import beam, charge, chips, containers
from firstlight.detectors.etroc.simulation.faults import numbers_of, with_faults
from firstlight.errors import ConfigError, UsageError
from firstlight.files import atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from firstlight.detectors.etroc.simulation.packets import Stream

__all__ = ["KINDS", "load_truth", "simulate"]

TRUTH = "truth.json"

# kind: events and files, if one does not say
KINDS = {
    "telescope": (20_000, 1),
    "injection": (1000, 1),
    "telescope2": (5000, 1),
    "kc705": (5000, 1),
    "probe": (750, 3),
    "raw32": (2000, 1),
    "emulator": (150, 1),
}
_RAW32_NAME = "TDC_Data_PhaseAdj0_F9P5_QSel0_DAC543_F11P5_QSel0_DAC536_F5P5_QSel0_DAC560_0.dat"
_FIRST_RUN = 900_001  # run numbers of simulated files


class _Request(NamedTuple):
    """What was asked for, with the defaults of the kind."""

    folder: Path
    seed: int
    n_events: int
    n_files: int
    boards: tuple[int, ...]
    beam: dict[str, Any]
    scan: dict[str, Any]
    faults: Mapping[str, int]
    interleave: bool
    binary: bool
    l1a_offset: int
    header: bool
    crlf: bool
    details: bool


class _Made(NamedTuple):
    files: list[Path]
    truth: dict[str, Any]


def simulate(
    folder: Path | str,
    seed: int = 1,
    *,
    kind: str = "telescope",
    n_events: int | None = None,
    n_files: int | None = None,
    boards: Sequence[int] = (0, 1, 3),
    sigma_ns: Sequence[float] = (0.040, 0.045, 0.050),
    walk: Literal["polynomial", "exponential"] = "polynomial",
    tail_fraction: float = 0.0,
    tail_scale: float = 4.0,
    efficiency: float | Sequence[float] = 0.97,
    noise_fraction: float = 0.03,
    cal_outliers: float | None = None,
    cal_slope: float = 0.0,
    header: bool = True,
    crlf: bool = False,
    scanned: Sequence[int] = (1,),
    charges: Sequence[float] = (10, 15, 20, 25),
    thresholds: Sequence[int] = tuple(range(324, 575, 10)),
    alpha: float = 330.0,
    beta: float = 9.0,
    width: float = 3.0,
    plateau: float = 1.0,
    faults: Mapping[str, int] | None = None,
    interleave: bool = False,
    binary: bool = False,
    l1a_offset: int = 0,
    details: bool = False,
) -> list[Path]:
    """Write simulated files with known truth.

    Parameters
    ----------
    folder : Path or str
        Where files go, and ``truth.json``. Files of an older simulation there are replaced.
    seed : int
        With the other parameters it fixes every byte.
    kind : str
        ``"telescope"``: ETROC1 boards in a beam, text (20,000 particles). ``"injection"``: ETROC1 charge
        injection, a file for each charge and threshold. ``"telescope2"``: ETROC2 chips in a beam, TAMALERO
        records (5000 triggers). ``"kc705"``: the same in KC705 event frames. ``"probe"``: ETROC2 charge
        injection, one pixel a file: a good one, one with a bad hit (EA 3), one that is stuck, and more good
        ones (750 events). ``"raw32"``: ETROC1 words of 32 bits with all that is to be dropped (2000
        particles). ``"emulator"``: words of the early emulator (150 packets).
    n_events : int, optional
        Particles, triggers or packets; for ``"injection"`` injections at each point (1000).
    n_files : int, optional
        The run is cut in so many files (``"telescope"``, ``"telescope2"``, ``"kc705"``); pixels for
        ``"probe"`` (3).
    boards : sequence of int
        Boards of the telescope, two or more, in order. E-links of ``"telescope2"`` are four times the board,
        channels of ``"kc705"`` are the board (0 to 3).
    sigma_ns : sequence of float
        Jitter of each board [ns]; repeated if there are more boards.
    walk : {"polynomial", "exponential"}
        Shape of the time walk.
    tail_fraction, tail_scale : float
        Fraction of hits with a jitter that is `tail_scale` times as wide.
    efficiency : float or sequence of float
        Probability that a board sees a particle.
    noise_fraction : float
        Random hits for each particle (ETROC1), or for each packet (ETROC2).
    cal_outliers : float, optional
        Fraction of wrong calibration codes: 0.01 in a beam, 0.004 for injection, 0.002 for ETROC2.
    cal_slope : float
        ``"telescope"``: codes by which the calibration rises over the run.
    header, crlf : bool
        ``"telescope"``: whether files begin with the log line; whether lines end as on Windows.
    scanned : sequence of int
        ``"injection"``: boards that are scanned, one after the other.
    charges, thresholds : sequence of int
        ``"injection"``: charges [fC] and thresholds [DAC].
    alpha, beta, width, plateau : float
        ``"injection"``: half of the injections are seen at alpha + beta Q [DAC], in a curve of that width
        [DAC] that reaches the plateau.
    faults : mapping of str to int, optional
        ``"telescope"``: planted faults, as ``{cut_line = 20}``: cut_line (lines that end too early), large_code
        (lines with a TOA above 1023). ``"telescope2"``, ``"kc705"``: planted faults of read-out, as ``{bit_flip = 3, dropped_header = 2}``:
        dropped_header, dropped_trailer, dropped_data, bit_flip, trailer_flip, alarm_1, alarm_2, alarm_3,
        wrong_chip, full_packet, l1a_jump, same_bcid, filler, firmware_filler, fifo_empty, truncated. Event
        frames have no fifo_empty, but frame_filler (20) and leftover (4 frames of the run before).
    interleave : bool
        ``"telescope2"``: whether words of the links alternate.
    binary : bool
        ``"kc705"``: bytes, not text.
    l1a_offset : int
        ``"telescope2"``, ``"kc705"``: each chip's trigger counter is ahead of that of the chip before by so
        much.
    details : bool
        Telescopes: whether the truth of each hit is written, too: ``truth_hits.parquet``.

    Returns
    -------
    list of Path
        The files, without those of the truth.

    Raises
    ------
    UsageError
        If there is no such kind.
    ConfigError
        If a parameter is impossible.
    """
    if kind not in KINDS:
        raise UsageError.unknown("kind", kind, KINDS)
    default_events, default_files = KINDS[kind]
    number = default_files if n_files is None else n_files
    events = default_events if n_events is None else n_events
    if number < 1 or events < 0 or seed < 0:
        what = f"n_files = {number}, n_events = {events}, seed = {seed} cannot be simulated"
        raise ConfigError(what, hint="n_files >= 1, n_events >= 0, seed >= 0")
    shape = {"sigma_ns": sigma_ns, "walk": walk, "tail_fraction": tail_fraction, "tail_scale": tail_scale}
    shape |= {"efficiency": efficiency, "noise_fraction": noise_fraction}
    scan = {"charges": tuple(charges), "thresholds": tuple(thresholds), "alpha": alpha, "beta": beta}
    scan |= {"noise": width, "plateau": plateau, "boards": tuple(scanned)}
    outliers = {} if cal_outliers is None else {"cal_outliers": cal_outliers}
    request = _Request(
        Path(folder),
        seed,
        events,
        number,
        tuple(boards),
        shape | outliers | ({"cal_slope": cal_slope} if kind == "telescope" else {}),
        scan | outliers,
        faults or {},
        interleave,
        binary,
        l1a_offset,
        header,
        crlf,
        details,
    )
    _clear(request.folder)
    made = _MAKERS[kind](request)
    names = [path.relative_to(request.folder).as_posix() for path in made.files]
    write_json(request.folder / TRUTH, {"kind": kind, "seed": seed, "names": names, **made.truth})
    return made.files


def load_truth(folder: Path | str) -> dict[str, Any]:
    """Return what is true of simulated files.

    Parameters
    ----------
    folder : Path or str
        Where they are.

    Raises
    ------
    UsageError
        If there is no truth.
    """
    path = Path(folder) / TRUTH
    if not path.is_file():
        what = "there is no truth.json"
        raise UsageError(what, where=path.parent, hint="only simulated files have one, beside them")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _clear(folder: Path) -> None:
    """Remove the files that an older simulation names as its own."""
    if not (folder / TRUTH).is_file():
        return
    try:
        names = load_truth(folder)["names"]
    except (ValueError, KeyError, TypeError):
        return
    for name in names:
        parts = PurePosixPath(name).parts
        if ".." not in parts and not PurePosixPath(name).is_absolute():
            (folder / name).unlink(missing_ok=True)
    for name in (TRUTH, "truth_hits.parquet"):
        (folder / name).unlink(missing_ok=True)


def _write_details(folder: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    import polars as pl

    with atomic(folder / "truth_hits.parquet") as temporary:
        pl.DataFrame(dict(columns)).write_parquet(temporary)


def _edges(request: _Request) -> NDArray[np.int64]:
    """Return the first event of each file, and the end."""
    return np.arange(request.n_files + 1) * request.n_events // request.n_files


def _telescope(request: _Request) -> _Made:
    columns, truth = beam.simulate_telescope(
        request.seed, request.n_events, boards=request.boards, **request.beam
    )
    pixels = [charge.PIXELS.get(board, f"B{board}P5") for board in request.boards]
    files, lines = [], []
    edges = _edges(request)
    spoilt = _spoilt_lines(request, columns["position"].size)
    for k in range(request.n_files):
        own = (columns["position"] >= edges[k]) & (columns["position"] < edges[k + 1])
        path = request.folder / f"{'_'.join(pixels)}_Beam_HV235_{k}.txt"
        part = {name: values[own] for name, values in columns.items()}
        files.append(beam.write_beam(path, part, header=request.header, crlf=request.crlf))
        victims = {name: np.flatnonzero(np.isin(np.flatnonzero(own), rows)) for name, rows in spoilt.items()}
        if any(rows.size for rows in victims.values()):
            beam.spoil(path, victims, np.random.default_rng([request.seed, 1, k]))
        spoilt_here = {name: int(rows.size) for name, rows in victims.items() if rows.size}
        lines.append({"file": path.name, "lines": int(own.sum()), **spoilt_here})
    if request.details:
        _write_details(request.folder, columns)
    return _Made(files, {"files": lines, "pixels": pixels, "header": request.header, **truth})


def _spoilt_lines(request: _Request, n_lines: int) -> dict[str, NDArray[np.int64]]:
    """Return which lines of a telescope run are spoilt."""
    numbers = numbers_of(request.faults, beam.FAULTS)
    if sum(numbers.values()) > n_lines:
        what = f"faults {dict(request.faults)} cannot be planted in {n_lines} lines"
        raise ConfigError(what, hint="not more than there are lines")
    rows = np.random.default_rng([request.seed, 1]).permutation(n_lines)
    ends = np.cumsum([0, *numbers.values()])
    return {name: np.sort(rows[ends[k] : ends[k + 1]]) for k, name in enumerate(numbers)}


def _injection(request: _Request) -> _Made:
    settings = dict(request.scan)
    numbers = settings.pop("boards")
    options = {"cal_outliers": settings.pop("cal_outliers")} if "cal_outliers" in settings else {}
    scans = [
        charge.BoardScan(board=number, injections=request.n_events, **settings)
        for number in dict.fromkeys(numbers)
    ]
    return _Made(*charge.simulate_injection(request.folder, request.seed, scans, **options))


def _chips(
    request: _Request, links: Sequence[int], faults: Mapping[str, int]
) -> tuple[Stream, dict[str, Any]]:
    packets, truth, arrays = chips.simulate_chips(
        np.random.default_rng([request.seed, 0]),
        request.n_events,
        links=links,
        l1a_offsets=[request.l1a_offset * k for k in range(len(links))],
        **request.beam,
    )
    stream, expected = with_faults(
        packets, np.random.default_rng([request.seed, 1]), faults, interleave=request.interleave
    )
    if request.details:
        event = packets.event[packets.hits["packet"]]
        columns = {"event": event} | dict(packets.hits)
        columns |= {name: arrays[name] for name in ("chip", "source", "time_ns", "tot_ns", "jitter_ns")}
        _write_details(request.folder, columns)
    return stream, truth | {"expected": expected}


def _split(request: _Request, stream: Stream) -> list[Stream]:
    edges = _edges(request)
    place = np.searchsorted(stream.event, edges[1:-1], side="left")
    bounds = [0, *place.tolist(), len(stream)]
    return [stream.taken(np.arange(bounds[k], bounds[k + 1])) for k in range(request.n_files)]


def _telescope2(request: _Request) -> _Made:
    stream, truth = _chips(request, [4 * board for board in request.boards], request.faults)
    files, words = [], []
    for k, part in enumerate(_split(request, stream)):
        path = request.folder / f"output_run_{_FIRST_RUN + k}_rb0.dat"
        files.append(containers.write_tamalero(path, part))
        words.append({"file": path.name, "words": len(part)})
    return _Made(files, truth | {"files": words})


def _kc705(request: _Request) -> _Made:
    faults = dict(request.faults)
    fillers, leftovers = faults.pop("frame_filler", 20), faults.pop("leftover", 4)
    if min(fillers, leftovers) < 0:
        what = f"frame_filler = {fillers}, leftover = {leftovers} cannot be"
        raise ConfigError(what, hint="0 or more")
    if request.interleave:
        what = "interleave = true cannot be: event frames hold packets one after another"
        raise ConfigError(what)
    stream, truth = _chips(request, list(request.boards), faults)
    files, words = [], []
    edges = _edges(request)
    for k, part in enumerate(_split(request, stream)):
        # each file is a run: its events count from 0
        own = replace(part, event=part.event - edges[k])
        frames = containers.event_frames(own, seed=request.seed, fillers=fillers, leftovers=leftovers)
        path = request.folder / (f"file_{k}.bin" if request.binary else f"TDC_Data_{k}.dat")
        files.append(containers.write_frames(path, frames.words, binary=request.binary))
        words.append({"file": path.name, **frames.truth})
    return _Made(files, truth | {"files": words})


def _probe(request: _Request) -> _Made:
    files, pixels = [], []
    for k in range(request.n_files):
        rng = np.random.default_rng([request.seed, k])
        row_col = 14 if k % 2 == 0 else 0
        packets, truth = chips.simulate_probe(
            rng,
            request.n_events,
            row=row_col,
            col=row_col,
            toa_mean=float(rng.uniform(170, 240)),
            cal=float(rng.uniform(128, 136)) if row_col else float(rng.uniform(160, 178)),
            jitter_ps=float(rng.uniform(8, 13)),
            alarms=min(int(k == 1), request.n_events),
            stuck=k == 2,
        )
        stream, expected = with_faults(packets)
        frames = containers.event_frames(stream, seed=request.seed, fillers=10, leftovers=3)
        name = f"simulated-probe_08F5_C{k + 1}R5_R{row_col}_C{row_col}_qinj"
        files.append(containers.write_frames(request.folder / name / "TDC_Data_0.dat", frames.words))
        pixels.append({"file": f"{name}/TDC_Data_0.dat", **truth, **frames.truth, "hits": expected["hits"]})
    return _Made(files, {"files": pixels})


def _raw32(request: _Request) -> _Made:
    columns, truth = beam.simulate_telescope(request.seed, request.n_events, **request.beam)
    rng = np.random.default_rng([request.seed, 1])
    words = containers.raw32_words(columns)
    good = words.size

    def noise(fraction: float, boards: Sequence[int], flag: int) -> NDArray[np.int64]:
        size = int(rng.poisson(fraction * good))
        codes = {name: rng.integers(*limits, size) for name, limits in beam.NOISE_CODES.items()}
        codes |= {"cal": rng.integers(130, 145, size), "flag": np.full(size, flag)}
        return containers.raw32_words(codes | {"board": rng.choice(np.asarray(boards), size)})

    unset, wrong = noise(0.055, (0, 1, 3), 0), noise(0.025, (2,), 1)
    zeros = np.zeros(int(rng.poisson(0.15 * good)), dtype=np.int64)
    extra = rng.permutation(np.concatenate([unset, wrong, zeros]))
    place = np.sort(rng.integers(0, good + 1, extra.size))
    written = np.insert(words, place, extra)
    path = containers.write_raw32(request.folder / _RAW32_NAME, written)
    counts = {str(board): int((columns["board"] == board).sum()) for board in (0, 1, 3)}
    kept = {f"sum_{name}": int(columns[name].sum()) for name in ("toa", "tot", "cal")}
    facts = {"board2_words": wrong.size, "hitflag0_words": unset.size, "zero_lines": zeros.size}
    return _Made([path], {"telescope": truth, "hits": counts, **facts, "lines": written.size, **kept})


def _emulator(request: _Request) -> _Made:
    settings = request.beam | {"noise_fraction": 1.5}
    packets, truth, _ = chips.simulate_chips(request.seed, request.n_events, links=(0,), **settings)
    words, _ = containers.emulator_words(packets)
    fillers = request.n_events // 10
    path = containers.write_emulator(request.folder / "dump.txt", words, fillers=fillers, seed=request.seed)
    facts = {"words": words.size + fillers, "frames": len(packets), "fillers": fillers, "hits": truth["hits"]}
    return _Made([path], facts)


_MAKERS = {
    "telescope": _telescope,
    "injection": _injection,
    "telescope2": _telescope2,
    "kc705": _kc705,
    "probe": _probe,
    "raw32": _raw32,
    "emulator": _emulator,
}
