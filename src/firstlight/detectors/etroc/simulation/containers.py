"""Files around simulated words, to the bit as the read-out systems write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from firstlight.detectors.etroc.simulation.packets import DATA, FIFO_EMPTY, HEADER, TRAILER, checksums
from firstlight.errors import ConfigError
from firstlight.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.etroc.simulation.packets import Packets, Stream

    WordArray = NDArray[np.uint32]

__all__ = [
    "Frames",
    "emulator_words",
    "event_frames",
    "raw32_words",
    "tamalero_records",
    "write_emulator",
    "write_frames",
    "write_nem",
    "write_raw32",
    "write_tamalero",
]

FRAME_MAGIC = 0xC3A3C3A << 4
FRAME_TRAILER = 0b001011 << 26
FRAME_FILLERS = {"old": (0x5555, 16), "firmware": (0x556, 20), "check": (0x559, 20)}
MAX_WORDS = 1023  # of a frame: 10 bits
START_OF_FRAME, END_OF_FRAME = 1 << 48, 1 << 49


def _write_bytes(path: Path, content: bytes) -> Path:
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path


def tamalero_records(stream: Stream) -> NDArray[np.uint64]:
    """Return TAMALERO records: word, e-link, flags of first and last word of a packet.

    Parameters
    ----------
    stream : Stream
        Words in the order of the file.

    Returns
    -------
    ndarray of little-endian uint64, shape (n_words,)
        A record of 8 bytes each.
    """
    flags = np.where(stream.kind == HEADER, START_OF_FRAME, 0)
    flags |= np.where(stream.kind == TRAILER, END_OF_FRAME, 0)
    records = stream.words | (stream.link << 40 | flags).astype(np.uint64)
    return np.asarray(records, dtype="<u8")


def write_tamalero(path: Path, stream: Stream, *, stray_bytes: int = 0) -> Path:
    """Write a TAMALERO file, ``output_run_<n>_rb<k>.dat``; without words it has 0 bytes.

    Parameters
    ----------
    path : Path
        The file.
    stream : Stream
        Its words.
    stray_bytes : int
        Bytes of one more record that was not written to its end, 0 to 7.
    """
    if not 0 <= stray_bytes < 8:
        what = f"stray_bytes = {stray_bytes} cannot be"
        raise ConfigError(what, hint="0 to 7")
    return _write_bytes(path, tamalero_records(stream).tobytes() + b"\x5c" * stray_bytes)


class Frames(NamedTuple):
    """Event frames: the 32-bit words, and what is in them."""

    words: WordArray
    truth: dict[str, Any]


def event_frames(
    stream: Stream,
    *,
    seed: int = 1,
    fillers: int = 0,
    filler_kind: Literal["old", "firmware", "check"] = "firmware",
    leftovers: int = 0,
    event_type: int = 0,
) -> Frames:
    """Return KC705 event frames, one for each event of the stream.

    Parameters
    ----------
    stream : Stream
        Words with links (channels) 0 to 3, in order of events.
    seed : int
        Places the fillers.
    fillers : int
        Filler words between frames.
    filler_kind : {"old", "firmware", "check"}
        0x5555, 0x556, or 0x559 of the 40 Hz link check.
    leftovers : int
        Frames that an earlier run left in the FIFO, before event 0; the first one lost its head. They are
        copies of the first frames with event numbers from 1725 on.
    event_type : int
        Type bits of the event header.

    Returns
    -------
    Frames
        Words, and the truth: ``frames`` (without leftovers), ``fillers``, ``leftover_frames`` (with their
        head), ``leftover_words`` (all words before event 0 but fillers), ``words``.

    Raises
    ------
    ConfigError
        If a frame is too long, a link is no channel, or a word cannot be in a frame.

    Notes ----- The rule by which the read-out makes the checksum of a frame is not known; here it is the
    CRC-8 of the chip over the payload, which no reader should test.
    """
    if len(stream) and (int(stream.link.max()) > 3 or (stream.kind == FIFO_EMPTY).any()):
        what = "these words cannot be in event frames"
        raise ConfigError(what, hint="links 0 to 3, no records of an empty FIFO")
    if (np.diff(stream.event) < 0).any():
        what = "the events of these words are not in order"
        raise ConfigError(what)
    events, first, number = np.unique(stream.event, return_index=True, return_counts=True)
    if number.max(initial=0) > MAX_WORDS:
        what = f"an event of {number.max()} words does not fit into a frame"
        raise ConfigError(what, hint=f"at most {MAX_WORDS}")
    frame = np.repeat(np.arange(events.size), number)
    payload = -(-number * 5 // 4)
    length = payload + 3
    start = np.cumsum(length) - length
    words = np.zeros(int(length.sum()), dtype=np.uint32)
    mask = np.zeros(events.size, dtype=np.int64)
    np.bitwise_or.at(mask, frame, 1 << stream.link)
    hits = np.bincount(frame[stream.kind == DATA], minlength=events.size)
    content = np.zeros((words.size, 4), dtype=np.uint8)
    position = np.arange(len(stream)) - first[frame]
    place = 4 * (start[frame] + 2) + 5 * position
    content.reshape(-1)[place[:, None] + np.arange(5)] = _bytes_of(stream.words)
    words |= content.view(">u4").ravel().astype(np.uint32)
    told = events & 0xFFFF
    crc = checksums(stream.words, first, number, last_bytes=5).astype(np.int64)
    words[start] = (FRAME_MAGIC | mask).astype(np.uint32)
    words[start + 1] = (1 << 28 | told << 12 | number << 2 | event_type & 3).astype(np.uint32)
    words[start + length - 1] = (FRAME_TRAILER | (hits & 0xFFF) << 14 | crc).astype(np.uint32)
    truth: dict[str, Any] = {"frames": int(events.size), "fillers": fillers}
    before = start
    if leftovers:
        old, n_old = _leftovers(words, start, length, leftovers)
        words, before = np.concatenate([old, words]), np.concatenate([[0], start + old.size])
        truth |= {"leftover_frames": n_old, "leftover_words": int(old.size)}
    if fillers:
        rng = np.random.default_rng(seed)
        magic, bits = FRAME_FILLERS[filler_kind]
        new = (magic << bits | rng.integers(0, 1 << bits, fillers)).astype(np.uint32)
        words = np.insert(words, np.sort(rng.choice(np.append(before, words.size), fillers)), new)
    return Frames(words, truth | {"words": int(words.size)})


def _leftovers(
    words: WordArray, start: NDArray[np.int64], length: NDArray[np.int64], number: int
) -> tuple[WordArray, int]:
    """Return frames of an earlier run, the first without its head, and how many have theirs."""
    number = min(number, start.size)
    if not number:
        return words[:0].copy(), 0
    old = words[: int(start[number - 1] + length[number - 1])].copy()
    second = old[start[:number] + 1].astype(np.int64)
    numbers = 1725 + np.arange(number)
    old[start[:number] + 1] = (second & ~(0xFFFF << 12) | numbers << 12).astype(np.uint32)
    return old[3:], number - 1


def _bytes_of(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return the five bytes of each 40-bit word, most significant first, shape (n_words, 5)."""
    return np.asarray(words, dtype=">u8").view(np.uint8).reshape(-1, 8)[:, 3:]


def write_frames(path: Path, words: WordArray, *, binary: bool = False) -> Path:
    """Write 32-bit words: little-endian bytes (``file_*.bin``) or lines of 0 and 1 (``TDC_Data_*.dat``).

    Parameters
    ----------
    path : Path
        The file.
    words : ndarray of uint32, shape (n_words,)
        From `event_frames`.
    binary : bool
        Bytes, not text.
    """
    if binary:
        return _write_bytes(path, np.asarray(words, dtype="<u4").tobytes())
    bits = np.unpackbits(np.asarray(words, dtype=">u4").view(np.uint8)).reshape(-1, 32) + ord("0")
    lines = np.full((bits.shape[0], 33), ord("\n"), dtype=np.uint8)
    lines[:, :32] = bits
    return _write_bytes(path, lines.tobytes())


def emulator_words(packets: Packets) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the words of the early emulator, each data and trailer word of even parity, and their packet.

    Parameters
    ----------
    packets : Packets
        At most 511 hits each; links, counters and chips are not in these words.
    """
    n_hits = packets.n_hits
    number = n_hits + 2
    first = np.cumsum(number) - number
    packet = np.repeat(np.arange(len(packets)), number)
    words = np.zeros(packet.size, dtype=np.int64)
    last = first + number - 1
    data = np.ones(words.size, dtype=np.bool_)
    data[first] = data[last] = False
    hits = packets.hits
    codes = hits["toa"] << 20 | hits["tot"] << 11 | hits["cal"] << 1
    words[data] = 1 << 38 | hits["row"] << 34 | hits["col"] << 30 | codes
    words[first] = 0x3555555 << 12 | packets.bcid
    words[last] = 0x9555555400 | (n_hits & 0x1FF) << 1
    odd = np.unpackbits(words.view(np.uint8)).reshape(-1, 64).sum(axis=1, dtype=np.int64) & 1
    odd[first] = 0
    return (words | odd).astype(np.uint64), packet


def write_emulator(path: Path, words: NDArray[np.uint64], *, fillers: int = 0, seed: int = 1) -> Path:
    """Write words of the early emulator, five hexadecimal bytes a line.

    Parameters
    ----------
    path : Path
        The file.
    words : ndarray of uint64, shape (n_words,)
        From `emulator_words`.
    fillers : int
        Filler words 0xC00AAAAAAA anywhere.
    seed : int
        Places the fillers.
    """
    if fillers:
        rng = np.random.default_rng(seed)
        place = np.sort(rng.integers(0, words.size + 1, fillers))
        words = np.insert(words, place, np.full(fillers, 0xC00AAAAAAA, dtype=np.uint64))
    text = _bytes_of(words).tobytes().hex(" ").split(" ") if words.size else []
    lines = (" ".join(text[k : k + 5]) + " \n" for k in range(0, len(text), 5))
    return _write_bytes(path, "".join(lines).encode())


def raw32_words(columns: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return ETROC1 words of 32 bits: board, TOT, TOA, CAL, hit flag.

    Parameters
    ----------
    columns : dict of str to ndarray, shape (n,)
        ``board`` (0 to 3), ``toa``, ``tot``, ``cal``, ``flag``.
    """
    c = {name: np.asarray(columns[name], dtype=np.int64) for name in ("board", "toa", "tot", "cal", "flag")}
    return np.asarray(c["board"] << 30 | c["tot"] << 21 | c["toa"] << 11 | c["cal"] << 1 | c["flag"])


def write_raw32(path: Path, words: NDArray[np.int64]) -> Path:
    """Write ETROC1 words, one decimal number a line; 0 is a filler.

    Parameters
    ----------
    path : Path
        ``TDC_Data_PhaseAdj..._<n>.dat``.
    words : ndarray of int, shape (n_lines,)
        From `raw32_words`.
    """
    return _write_bytes(path, "".join(f"{word}\n" for word in words.tolist()).encode())


def write_nem(
    path: Path, packets: Packets, *, dialect: Literal["2024", "2025", "sem"] = "2025", mismatch: bool = False
) -> Path:
    """Write packets as the collaboration's translated text, an event a trigger.

    Parameters
    ----------
    path : Path
        ``*.nem``, or ``*.sem``.
    packets : Packets
        In order of events; links are channels.
    dialect : {"2024", "2025", "sem"}
        Probe station; test beams from 2025 on; with the event number first.
    mismatch : bool
        Whether all trailers tell of a wrong checksum (2025).
    """
    from firstlight.detectors.etroc.simulation.packets import to_stream

    stream = to_stream(packets)
    crcs = (stream.words[stream.kind == TRAILER] & np.uint64(0xFF)).tolist()
    hits = np.stack(
        [packets.hits[name] for name in ("ea", "row", "col", "toa", "tot", "cal")], axis=1
    ).tolist()
    n_hits = packets.n_hits
    last = np.cumsum(n_hits).tolist()
    lines: list[str] = []
    events, first, number = np.unique(packets.event, return_index=True, return_counts=True)
    new = dialect == "2025"
    for event, start, count in zip(events.tolist(), first.tolist(), number.tolist(), strict=True):
        total = int(n_hits[start : start + count].sum())
        head = {
            "2024": f"EH 0001 {event} {total} {total + 2 * count}",
            "2025": f"EH 0b0001 {event} {total + 2 * count} 0",
            "sem": f"EH {event} 0001 {total} {total + 2 * count}",
        }
        lines.append(head[dialect])
        for k in range(start, start + count):
            channel, kind = packets.link[k], f"{packets.type[k]:02b}"
            lines.append(f"H {channel} {packets.l1a[k]} {'0b' if new else ''}{kind} {packets.bcid[k]}")
            for ea, *rest in hits[last[k] - int(n_hits[k]) : last[k]]:
                alarm = f"0b{ea:02b}" if new else str(ea)
                lines.append(f"D {channel} {alarm} {' '.join(map(str, rest))}")
            crc = f"0b{crcs[k]:08b}" + (" CRC Mismatch" if mismatch else "") if new else str(crcs[k])
            lines.append(f"T {channel} {packets.status[k]} {int(n_hits[k]) & 0xFF} {crc}")
        lines.append(f"ET {event} 0 0 0b00000000" if new else f"ET {event}")
    return _write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
