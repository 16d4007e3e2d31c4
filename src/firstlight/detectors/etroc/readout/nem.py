"""Text of the collaboration's translators of ETROC2 data: ``.nem``, ``.sem`` and the early ETROC-DAQ text.

=============  ================================  ==================================================
line           2024 (and ``.sem``)               2025
=============  ================================  ==================================================
event          EH version event hits words       EH 0b-version event words type
chip header    H channel L1A type BCID           the same, type with 0b
hit            D channel EA row col TOA TOT CAL  the same, EA with 0b
chip trailer   T channel status hits CRC         the same, CRC with 0b, and ``CRC Mismatch``
end            ET event                          ET event overflow hamming CRC, and ``CRC Mismatch``
filler                                           Filler: bits, FW Filler: bits, 40Hz Filler: bits
=============  ================================  ==================================================

In ``.sem`` the event stands in the first column of EH. The early text has a line a word too
(``ETROC2 0 DATA EA 00 COL 1 ROW 2 TOA 3 TOT 4 CAL 5``; column before row), the chip number, and no events.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.compiled import kernel
from firstlight.detectors.etroc.readout.lines import Kind, Kinds, as_bytes, read_kinds, white_lines
from firstlight.detectors.etroc.readout.packet_kernels import checksum_after
from firstlight.detectors.etroc.readout.packets import HIT_COLUMNS, PACKET_COLUMNS, SHOWN, counted
from firstlight.detectors.etroc.readout.words import MARK
from firstlight.detectors.etroc.tables import Decoded
from firstlight.errors import ConfigError, InputError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]
    Columns = dict[str, NDArray[Any]]

__all__ = ["DIALECTS", "decode_nem", "looks_like_nem", "write_nem"]

DIALECTS = ("2024", "2025", "sem", "early")
"""Dialects that are read; the first two are written."""

_EVENT, _EVENT_END, _HEADER, _DATA, _TRAILER = range(1, 6)
_EARLY_HEADER, _EARLY_DATA, _EARLY_TRAILER = range(6, 9)
_FILLER, _BROKEN, _TRIGGER, _ETROC1 = range(9, 13)
_ANY = 2**31 - 2
_KINDS = (
    (Kind("frame header", f"EH | #{_ANY} ? #{_ANY} #65535 #65535"), _EVENT),
    (Kind("frame trailer", f"ET | #{_ANY} ? #7 #7 #255"), _EVENT_END),
    (Kind("header", "H | #255 #255 &3 #4095"), _HEADER),
    (Kind("data", "D | #255 #3 #15 #15 #1023 #511 #1023"), _DATA),
    (Kind("trailer", "T | #255 #63 #255 #255"), _TRAILER),
    (Kind("header", "ETROC2 #255 HEADER | L1COUNTER %8 TYPE %2 BCID %12"), _EARLY_HEADER),
    (Kind("data", "ETROC2 #255 DATA | EA %2 COL #15 ROW #15 TOA #1023 TOT #511 CAL #1023 ..."), _EARLY_DATA),
    (Kind("trailer", "ETROC2 #255 TRAILER | CHIPID %17 STATUS %6 HITS %8 CRC %8"), _EARLY_TRAILER),
    (Kind("filler", "ETROC2 #255 FRAMEFILLER | ..."), _FILLER),
    (Kind("filler", "ETROC2 #255 FIRMWAREFILLER | ..."), _FILLER),
    (Kind("filler", f"Filler: | &{_ANY}"), _FILLER),
    (Kind("filler", f"FW Filler: | &{_ANY}"), _FILLER),
    (Kind("filler", f"40Hz Filler: | &{_ANY}"), _FILLER),
    (Kind("filler", "FILLER |"), _FILLER),
    (Kind("broken event", "THIS IS A BROKEN EVENT | ..."), _BROKEN),
    (Kind("trigger time", "NORMTRIG | ..."), _TRIGGER),
    (Kind("trigger time", "RANDTRIG | ..."), _TRIGGER),
    (Kind("trigger time", "MSBTIME | ..."), _TRIGGER),
    (Kind("trigger time", "FILLERTIME | ..."), _TRIGGER),
    (Kind("ETROC1 hit", "ETROC1 | ..."), _ETROC1),
)
_SORT = np.array([0, *(sort for _, sort in _KINDS)], dtype=np.uint8)
_MARK = "CRC Mismatch"

# codes of lines; fates of packets are added to those of their lines
_GOOD, _NO_TRAILER, _CHECKSUM, _COUNT = range(4)
_FATES = ("", "no trailer", "wrong checksum", "wrong hit count")
_WORDS = (
    "frame header", "frame trailer", "header", "data", "trailer", "filler", "trigger time", "broken event", "ETROC1 hit",
    "frame trailer: no frame header", "frame trailer: other event", "header: no frame header", "data: no header",
    "trailer: no header",
)  # fmt: skip
(
    _IS_EVENT, _IS_END, _IS_HEADER, _IS_DATA, _IS_TRAILER, _IS_FILLER, _IS_TRIGGER, _IS_BROKEN, _IS_ETROC1,
    _END_ORPHAN, _END_OTHER, _HEADER_ORPHAN, _DATA_ORPHAN, _TRAILER_ORPHAN,
) = range(14)  # fmt: skip
_LAST_HARMLESS = _IS_TRIGGER
_MALFORMED = tuple(dict.fromkeys(kind.name for kind, _ in _KINDS))
_REASONS = (
    *_WORDS,
    *(f"{word}: {fate}" for fate in _FATES[1:] for word in ("header", "data", "trailer")),
    "unknown line",
    *(f"{name}: {why}" for name in _MALFORMED for why in Kinds.REASONS[2:]),
)
_FIRST_FATE = len(_WORDS) - 3
_FIRST_BAD = len(_WORDS) + 9

_STATES = ("complete", "cut", "no trailer")


@kernel
def _header_word(v: NDArray[np.int32]) -> int:
    return int((MARK << 24) | (np.int64(v[1]) << 14) | (np.int64(v[2]) << 12) | np.int64(v[3]))


@kernel
def _data_word(v: NDArray[np.int32]) -> int:
    place = (np.int64(1) << 39) | (np.int64(v[1]) << 37) | (np.int64(v[3]) << 33) | (np.int64(v[2]) << 29)
    return int(place | (np.int64(v[4]) << 19) | (np.int64(v[5]) << 10) | np.int64(v[6]))


@kernel
def _trailer_word(v: NDArray[np.int32]) -> int:
    return int((np.int64(v[4]) << 22) | (np.int64(v[1]) << 16) | (np.int64(v[2]) << 8) | np.int64(v[3]))


@kernel
def _build(
    sort: Bytes, values: NDArray[np.int32], framed: bool, code: Bytes, frame_at: Whole, end_at: Whole, header_at: Whole,
    trailer_at: Whole, frame_of: Whole, found: Whole, residual: Bytes, hit_at: Whole, hit_packet: Whole,
) -> tuple[int, int, int]:  # fmt: skip
    """Find packets and hits; return how many frames, packets and hits there are.

    `sort` is 0 for lines that are of no use; `values` are those of the 2024 dialect, in a trailer the chip number
    behind them. `residual` is the checksum over header, data and the whole trailer: 0 in a good packet whose chip
    number is known, the same for all packets of a chip where it is not (the checksum is linear).
    """
    current = np.full(256, -1, dtype=np.int64)
    running = np.zeros(256, dtype=np.int64)
    n_frames, n_packets, n_hits, in_frame = 0, 0, 0, not framed
    for at in range(sort.size):
        this = sort[at]
        v = values[at]
        if this == _EVENT:
            code[at], in_frame = _IS_EVENT, True
            frame_at[n_frames], end_at[n_frames] = at, -1
            n_frames += 1
        elif this == _EVENT_END:
            if not in_frame or not framed:
                code[at] = _END_ORPHAN
            elif values[frame_at[n_frames - 1], 1] != v[0]:
                code[at] = _END_OTHER
            else:
                code[at] = _IS_END
                end_at[n_frames - 1] = at
            in_frame = not framed
        elif this == _HEADER:
            link = v[0]
            current[link] = -1
            if not in_frame:
                code[at] = _HEADER_ORPHAN
                continue
            code[at] = _IS_HEADER
            header_at[n_packets], trailer_at[n_packets], frame_of[n_packets] = at, -1, n_frames - 1
            found[n_packets], residual[n_packets] = 0, 0
            current[link] = n_packets
            running[link] = checksum_after(_header_word(v), 0)
            n_packets += 1
        elif this in (_DATA, _TRAILER):
            link = v[0]
            packet = current[link]
            open_here = packet >= 0 and in_frame and frame_of[packet] == n_frames - 1
            if not open_here:
                code[at] = _DATA_ORPHAN if this == _DATA else _TRAILER_ORPHAN
            elif this == _DATA:
                code[at] = _IS_DATA
                hit_at[n_hits], hit_packet[n_hits] = at, packet
                n_hits += 1
                found[packet] += 1
                running[link] = checksum_after(_data_word(v), running[link])
            else:
                code[at] = _IS_TRAILER
                trailer_at[packet] = at
                residual[packet] = checksum_after(_trailer_word(v), running[link])
                current[link] = -1
    return n_frames, n_packets, n_hits


def decode_nem(content: bytes | Path | str, *, keep_bad_crc: bool = False) -> Decoded:
    """Read text of a translator, of any dialect.

    Parameters
    ----------
    content : bytes or Path
        The file, or its bytes.
    keep_bad_crc : bool
        Use hits of packets with a wrong checksum or hit count too.

    Returns
    -------
    Decoded
        As from `firstlight.detectors.etroc.readout.kc705.decode_kc705`: every chip header has its row in ``packets``, also
        those without trailer (``complete`` is false, all that a trailer says is 0). Differences: words are lines that are not
        blank; ``chip_id`` is only there in the early dialect, ``frame`` and ``frame_event`` (modulo 65536) in all others.
        ``crc_checked`` says whether `crc_ok` means anything: the early dialect tells the chip number; in 2025 the
        translator has marked bad packets; otherwise a checksum is right if it fits the chip number that most packets
        of the channel fit, which takes three packets. ``facts``: ``dialect`` (one of `DIALECTS`; None where no line tells);
        ``frames`` (``hits_told`` -1 where not told), ``frame_states``, ``loose_hits``, ``chip_ids``, ``links`` (packets and
        hits), ``checksum`` (how it was checked).

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    lines = read_kinds(as_bytes(content), tuple(kind for kind, _ in _KINDS), _MARK)
    name = content.name if isinstance(content, Path) else ""
    dialect = _dialect(lines, name)
    sort = np.where(lines.good, _SORT[lines.kind], 0).astype(np.uint8)
    code, events, versions = _prepare(lines, sort, dialect)
    values = lines.values
    n_sorts = np.bincount(sort, minlength=16)
    frames, ends = (np.empty(n_sorts[_EVENT], dtype=np.int64) for _ in range(2))
    header_at, trailer_at, frame_of, found = (np.empty(n_sorts[_HEADER], dtype=np.int64) for _ in range(4))
    residual = np.empty(n_sorts[_HEADER], dtype=np.uint8)
    hit_at, hit_packet = (np.empty(n_sorts[_DATA], dtype=np.int64) for _ in range(2))
    framed = dialect != "early"
    n_frames, n_packets, n_hits = _build(
        sort,
        values,
        framed,
        code,
        frames,
        ends,
        header_at,
        trailer_at,
        frame_of,
        found,
        residual,
        hit_at,
        hit_packet,
    )
    header_at, trailer_at, frame_of, found, residual = (
        each[:n_packets] for each in (header_at, trailer_at, frame_of, found, residual)
    )
    order = np.argsort(hit_packet[:n_hits], kind="stable")  # packets of several channels may be interleaved
    hit_at, hit_packet = hit_at[:n_hits][order], hit_packet[:n_hits][order]
    packets = _packets(values, header_at, trailer_at, found)
    checksum = _judge_checksums(packets, residual, lines.marked[trailer_at], dialect)
    if dialect != "early":
        del packets["chip_id"]
        packets["frame"] = frame_of.astype(np.uint32)
        packets["frame_event"] = (events[frame_of] & 0xFFFF).astype(np.uint16)
    fate = _fates(packets, found, keep_bad_crc)
    of_hit = fate[hit_packet]
    used = of_hit == _GOOD
    _mark(code, fate, header_at, trailer_at, hit_at, of_hit)
    hits = _hits(values, hit_at[used], hit_packet[used], packets["link"])
    table = _frames(lines, frames[:n_frames], ends[:n_frames], events, versions, dialect)
    table["hits_found"] = np.bincount(frame_of[hit_packet] + 1, minlength=n_frames + 1)[1:].astype(np.int32)
    facts: dict[str, Any] = {
        "dialect": dialect,
        "checksum": checksum,
        "frames": table,
        "frame_states": counted(table["state"], _STATES),
        "loose_hits": _hits(values, hit_at[~used], hit_packet[~used], packets["link"]),
        "chip_ids": _chips(packets),
        "links": _links(packets, hits),
    }
    strange = np.flatnonzero(code > _LAST_HARMLESS)[:SHOWN]
    rejected = tuple((int(lines.line[at]), _REASONS[code[at]]) for at in strange)
    return Decoded(len(code), counted(code, _REASONS), hits, packets, n_packets, rejected, facts)


def _dialect(lines: Kinds, name: str) -> str | None:
    """Return the dialect: 0b before numbers is 2025; version bits in the first column, the same in all lines, 2024."""
    sort = np.where(lines.good, _SORT[lines.kind], 0)
    events = sort == _EVENT
    if np.any(events):
        prefixed = lines.prefixes[events] & 1
        if np.count_nonzero(prefixed) * 2 > prefixed.size:
            return "2025"
        first = lines.values[events, 0]
        versioned = (
            np.all(lines.width[events] == 4)
            and np.all(first == first[0])
            and np.all(lines.n_values[events] == 4)
        )
        return "2024" if versioned and not name.endswith(".sem") else "sem"
    if np.any((sort >= _EARLY_HEADER) & (sort <= _EARLY_TRAILER)):
        return "early"
    chips = (sort == _HEADER) | (sort == _DATA)
    if not np.any(chips):
        return None
    return "2025" if np.any(lines.prefixes[chips]) else "2024"


def _prepare(lines: Kinds, sort: Bytes, dialect: str | None) -> tuple[Bytes, Whole, Bytes]:
    """Bring numbers of all dialects into the order of 2024; return codes, and events and versions of frames.

    Lines of the other family (early lines among others, or the other way round) keep their sort 0.
    """
    values = lines.values
    code = _first_codes(lines, sort)
    if dialect == "early":
        data, trailers = sort == _EARLY_DATA, sort == _EARLY_TRAILER
        values[data, 2], values[data, 3] = values[data, 3], values[data, 2].copy()
        values[np.ix_(trailers, range(1, 5))] = values[np.ix_(trailers, [2, 3, 4, 1])]
        early = (sort >= _EARLY_HEADER) & (sort <= _EARLY_TRAILER)
        sort[(sort >= _EVENT) & (sort <= _TRAILER)] = 0
        sort[early] -= _EARLY_HEADER - _HEADER
    else:
        sort[(sort >= _EARLY_HEADER) & (sort <= _EARLY_TRAILER)] = 0
        values[sort == _TRAILER, 4] = 0
    events = sort == _EVENT
    versions = np.ones(np.count_nonzero(events), dtype=np.uint8)
    if dialect == "sem":
        values[events, 1] = values[events, 0]
    elif np.any(events):
        versions = _binary_digits(values[events, 0], lines.prefixes[events] & 1).astype(np.uint8)
    short = events & (lines.n_values < 2)
    if dialect != "sem" and np.any(short):
        sort[short] = 0
        code[short] = _REASONS.index("frame header: too few columns")
        versions = versions[~short[events]]
    return code, values[sort == _EVENT, 1].astype(np.int64), versions


def _first_codes(lines: Kinds, sort: Bytes) -> Bytes:
    """Return codes of lines that are no part of a packet or frame; "unknown line" for the others."""
    code = np.full(sort.size, _FIRST_BAD, dtype=np.uint8)
    for own, meaning in (
        (_FILLER, _IS_FILLER),
        (_BROKEN, _IS_BROKEN),
        (_TRIGGER, _IS_TRIGGER),
        (_ETROC1, _IS_ETROC1),
    ):
        code[sort == own] = meaning
    bad = np.flatnonzero((lines.kind > 0) & ~lines.good)
    family = np.array([0, *(_MALFORMED.index(kind.name) for kind, _ in _KINDS)])
    code[bad] = _FIRST_BAD + 1 + 4 * family[lines.kind[bad]] + lines.why[bad] - 2
    return code


def _binary_digits(values: NDArray[Any], prefixed: NDArray[Any]) -> NDArray[Any]:
    """Return what decimal numbers mean whose digits are binary: 10 is 2. Those with a prefix were read as such."""
    digits = np.zeros_like(values)
    for power in range(4):
        digits |= (values // 10**power % 10 & 1) << power
    return np.where(prefixed > 0, values & 15, digits)


def _packets(values: NDArray[np.int32], header_at: Whole, trailer_at: Whole, found: Whole) -> Columns:
    headers, complete = values[header_at], trailer_at >= 0
    trailers = np.where(complete[:, None], values[trailer_at], 0) if len(values) else headers
    packets: Columns = {
        "link": headers[:, 0],
        "l1a": headers[:, 1],
        "type": headers[:, 2],
        "bcid": headers[:, 3],
        "chip_id": trailers[:, 4],
        "status": trailers[:, 1],
        "hits_told": trailers[:, 2],
        "hits_found": np.minimum(found, 65535),
        "crc_ok": complete,
        "complete": complete,
        "crc": trailers[:, 3],
    }
    return {name: column.astype(PACKET_COLUMNS[name]) for name, column in packets.items()}


def _judge_checksums(
    packets: Columns, residual: Bytes, marked: NDArray[np.bool_], dialect: str | None
) -> str:
    """Fill ``crc_ok`` and ``crc_checked``; return how."""
    complete = packets["complete"]
    packets["crc_checked"] = complete.copy()
    if dialect == "2025":
        packets["crc_ok"] = complete & ~marked
        return "marks of the translator"
    if dialect == "early":
        packets["crc_ok"] = complete & (residual == 0)
        return "computed"
    for link in np.flatnonzero(np.bincount(packets["link"][complete], minlength=256)):
        of_link = complete & (packets["link"] == link)
        votes = np.bincount(residual[of_link], minlength=256)
        if votes.sum() >= 3 and 2 * votes.max() > votes.sum():
            packets["crc_ok"][of_link] = residual[of_link] == np.argmax(votes)
        else:
            packets["crc_checked"][of_link] = False
    return "computed for the chip number of most packets"


def _fates(packets: Columns, found: Whole, keep_bad_crc: bool) -> Bytes:
    fate = np.zeros(found.size, dtype=np.uint8)
    if not keep_bad_crc:
        fate[packets["hits_told"] != (found & 255)] = _COUNT
        fate[packets["crc_checked"] & ~packets["crc_ok"]] = _CHECKSUM
    fate[~packets["complete"]] = _NO_TRAILER
    return fate


def _mark(
    code: Bytes, fate: Bytes, header_at: Whole, trailer_at: Whole, hit_at: Whole, of_hit: Bytes
) -> None:
    """Write into the codes of the lines of packets that are not used why they are not."""
    bad = fate != _GOOD
    code[header_at[bad]] = _FIRST_FATE + 3 * fate[bad]
    code[hit_at[of_hit != _GOOD]] = _FIRST_FATE + 3 * of_hit[of_hit != _GOOD] + 1
    ended = bad & (trailer_at >= 0)
    code[trailer_at[ended]] = _FIRST_FATE + 3 * fate[ended] + 2


def _hits(values: NDArray[np.int32], at: Whole, packet: Whole, link: NDArray[Any]) -> Columns:
    columns = np.ascontiguousarray(values[at].T)
    names = ("ea", "row", "col", "toa", "tot", "cal")
    hits = {"record": packet, "link": link[packet], **dict(zip(names, columns[1:7], strict=True))}
    hits["hit_flag"] = np.ones(len(at), dtype=np.bool_)
    return {name: hits[name].astype(kind) for name, kind in HIT_COLUMNS.items()}


def _frames(
    lines: Kinds, frames: Whole, ends: Whole, events: Whole, versions: Bytes, dialect: str | None
) -> Columns:
    """Return the table of frames, in the columns of KC705 files as far as the dialect has them."""
    values, n_values = lines.values[frames], lines.n_values[frames]
    ended = ends >= 0
    last = (
        np.where((ended & (lines.n_values[ends] == 4))[:, None], lines.values[ends], 0)
        if len(frames)
        else values
    )
    type_bits = _binary_digits(values[:, 3], lines.prefixes[frames] >> 3 & 1)
    told = np.where(n_values > 2, values[:, 2], -1)
    new = dialect == "2025"
    words = told if new else np.where(n_values > 3, values[:, 3], 0)
    return {
        "frame_event": events.astype(np.int64),
        "type": (np.where(n_values > 3, type_bits, 0) if new else np.zeros(len(frames))).astype(np.uint8),
        "version": versions.astype(np.uint8),
        "n_words": np.maximum(words, 0).astype(np.uint16),
        "hits_told": np.full(len(frames), -1, dtype=np.int32) if new else told.astype(np.int32),
        "overflow": last[:, 1].astype(np.uint8),
        "hamming": last[:, 2].astype(np.uint8),
        "crc": last[:, 3].astype(np.uint8),
        "state": np.where(ended, 0, 2).astype(np.uint8),
        "line": lines.line[frames].astype(np.int64),
    }


def _chips(packets: Columns) -> dict[int, int]:
    """Return the chip number of most packets of each link, where the file tells it."""
    if "chip_id" not in packets:
        return {}
    chips = {}
    for link in np.unique(packets["link"]):
        told = packets["chip_id"][packets["complete"] & (packets["link"] == link)]
        if told.size:
            numbers, counts = np.unique(told, return_counts=True)
            chips[int(link)] = int(numbers[np.argmax(counts)])
    return chips


def _links(packets: Columns, hits: Columns) -> dict[int, dict[str, int]]:
    counts = {
        "headers": np.bincount(packets["link"], minlength=256),
        "packets": np.bincount(packets["link"][packets["complete"]], minlength=256),
        "hits": np.bincount(hits["link"], minlength=256),
    }
    return {
        int(link): {name: int(values[link]) for name, values in counts.items()}
        for link in np.flatnonzero(counts["headers"])
    }


def looks_like_nem(content: bytes, name: str = "") -> bool:  # noqa: ARG001  (one signature for all formats)
    """Whether the first bytes of a file are text of a translator: nine in ten lines, and a chip or event header.

    Parameters
    ----------
    content : bytes
        The first bytes.
    name : str
        Name of the file; not looked at.
    """
    start = b"\n".join(b" ".join(fields) for fields in white_lines(content))
    if not start:
        return False
    lines = read_kinds(as_bytes(start), tuple(kind for kind, _ in _KINDS), _MARK)
    sort = np.where(lines.good, _SORT[lines.kind], 0)
    opens = np.isin(sort, (_EVENT, _HEADER, _EARLY_HEADER))
    return bool(np.any(opens) and np.count_nonzero(sort) >= 0.9 * sort.size)


def write_nem(decoded: Decoded, target: TextIO | Path | str, *, dialect: str = "2024") -> int:
    """Write a file of event frames as the collaboration's translator does.

    Parameters
    ----------
    decoded : Decoded
        From `firstlight.detectors.etroc.readout.kc705.decode_kc705` or `decode_nem`.
    target : text stream or Path
        Where to; a file appears whole or not at all.
    dialect : {"2024", "2025"}
        How. In 2024 frames without frame trailer are left out, in 2025 written as far as they go. Event checksums are
        never marked as wrong in 2025: their rule is not known.

    Returns
    -------
    int
        Lines written.

    Raises
    ------
    ConfigError
        If the dialect is none of the two.
    InputError
        If what was decoded has no event frames.
    """
    if dialect not in DIALECTS[:2]:
        raise ConfigError.unknown("dialect", dialect, DIALECTS[:2])
    if "frame" not in decoded.packets:
        what = "no event frames: packets of this format are in no frame, which .nem lines need"
        raise InputError(what, hint="write files that were read from KC705 event frames or .nem text")
    lines = list(_lines(decoded, dialect == "2025"))
    text = "".join(f"{line}\n" for line in lines)
    if isinstance(target, (str, Path)):
        with atomic(Path(target)) as path:
            path.write_text(text)
    else:
        target.write(text)
    return len(lines)


def _lines(decoded: Decoded, new: bool) -> Iterator[str]:
    """Yield the lines frame by frame: event, packets of its channels, end."""
    frames, packets = decoded.facts["frames"], decoded.packets
    data = _data_lines(decoded, new)
    headers, trailers = _packet_lines(packets, new)
    n_packets = np.bincount(packets["frame"], minlength=len(frames["state"])).tolist()
    names = ("frame_event", "type", "version", "n_words", "hits_told", "overflow", "hamming", "crc", "state")
    packet = 0
    columns = (frames[name].tolist() for name in names)
    for in_frame, (event, sort, version, n_words, told, overflow, hamming, crc, state) in zip(
        n_packets, zip(*columns, strict=True), strict=True
    ):
        counts = f"{n_words} {sort:02b}" if new else f"{max(told, 0)} {n_words}"
        of_frame = range(packet, packet + in_frame)
        packet += in_frame
        if state != 0 and not new:
            # written when the end of the frame was read, and then it was not
            continue
        yield f"EH {'0b' if new else ''}{version:04b} {event} {counts}"
        for each in of_frame:
            yield headers[each]
            yield from data.get(each, ())
            if trailers[each]:
                yield trailers[each]
        if state == 0:
            yield f"ET {event} {overflow} {hamming} 0b{crc:08b}" if new else f"ET {event}"


def _data_lines(decoded: Decoded, new: bool) -> dict[int, list[str]]:
    """Return the lines of hits by packet, also of packets that were not used."""
    lines: dict[int, list[str]] = {}
    for hits in (decoded.hits, decoded.facts["loose_hits"]):
        names = ("record", "link", "ea", "row", "col", "toa", "tot", "cal")
        for record, link, ea, *codes in zip(*(hits[name].tolist() for name in names), strict=True):
            text = f"0b{ea:02b}" if new else f"{ea}"
            lines.setdefault(record, []).append(f"D {link} {text} {' '.join(map(str, codes))}")
    return lines


def _packet_lines(packets: Any, new: bool) -> tuple[list[str], list[str]]:
    headers, trailers = [], []
    names = ("link", "l1a", "type", "bcid", "status", "hits_told", "crc", "crc_ok", "complete")
    for link, l1a, sort, bcid, status, told, crc, good, complete in zip(
        *(packets[name].tolist() for name in names), strict=True
    ):
        headers.append(f"H {link} {l1a} {'0b' if new else ''}{sort:02b} {bcid}")
        mark = f" {_MARK}" if new and not good else ""
        checksum = f"0b{crc:08b}{mark}" if new else f"{crc}"
        trailers.append(f"T {link} {status} {told} {checksum}" if complete else "")
    return headers, trailers
