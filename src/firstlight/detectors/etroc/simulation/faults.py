"""Faults of read-out, planted in simulated ETROC2 packets with known counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.etroc.simulation.packets import (
    DATA,
    FIFO_EMPTY,
    FILLER,
    HEADER,
    HIT_COLUMNS,
    TRAILER,
    Packets,
    Stream,
    filler_words,
    to_stream,
)
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

__all__ = ["FAULTS", "numbers_of", "with_faults"]

FAULTS = {
    "dropped_header": "packets without their header: data and trailer belong to nothing",
    "dropped_trailer": "packets without their trailer: their hits do not count",
    "dropped_data": "packets with one data word less: hit count and checksum wrong",
    "bit_flip": "packets with a turned bit in the codes of a hit: checksum wrong",
    "trailer_flip": "packets with a turned bit in the chip number: checksum and chip wrong",
    "alarm_1": "packets with a hit whose error bits (EA) are 1",
    "alarm_2": "the same for 2",
    "alarm_3": "the same for 3",
    "wrong_chip": "packets with the number of another chip, checksum right",
    "full_packet": "packets with 256 hits, which the trailer counts as 0",
    "l1a_jump": "events at which the trigger counters of all links jump",
    "same_bcid": "events with the bunch crossing of the event before",
    "filler": "filler words of the chip between packets",
    "firmware_filler": "filler words of the firmware between packets",
    "fifo_empty": "records of an empty FIFO anywhere (TAMALERO)",
    "truncated": "1: the last word of the file, a trailer, is not there",
}
OTHER_CHIP = 0x0BAD
JUMP = 37  # what the trigger counter jumps by
_NEEDS_HITS = frozenset(("dropped_data", "bit_flip", "alarm_1", "alarm_2", "alarm_3"))
_OF_PACKETS = tuple(FAULTS)[:10]
_LOST = ("dropped_header", "dropped_trailer")
_BAD_CRC = ("dropped_data", "bit_flip", "trailer_flip")


def with_faults(
    packets: Packets,
    seed: int | np.random.Generator = 1,
    faults: Mapping[str, int] | None = None,
    *,
    interleave: bool = False,
) -> tuple[Stream, dict[str, Any]]:
    """Return the words of packets with faults, and what a decoder must find.

    No packet has two faults, and on its link there are good packets before and after it, so that the counts
    below are what they are for every decoder.

    Parameters
    ----------
    packets : Packets
        Good ones.
    seed : int or Generator
        Chooses the victims.
    faults : mapping of str to int, optional
        How many of each kind: see `FAULTS`.
    interleave : bool
        Whether words of the links alternate within an event, as read-out with several links may do.

    Returns
    -------
    stream : Stream
        The words.
    expected : dict
        ``faults``; ``words``, ``header``, ``data``, ``trailer``, ``filler``, ``fifo_empty`` (adding up);
        ``complete`` (packets with header and trailer), ``good`` (of these with right checksum), ``bad_crc``;
        ``hits`` (data words in complete packets), ``good_hits`` (in packets with right checksum), by link
        ``hits_by_link``; ``data_without_header``, ``trailers_without_header``, ``headers_without_trailer``,
        ``data_without_trailer``; ``wrong_chip``, ``data_of_wrong_chip``; ``wrong_hit_count`` (modulo 256);
        ``known_hits`` (good, and of the right chip); ``alarms`` by value; ``l1a_jumps``, ``same_bcid``
        (events); ``victims`` (index of packets, or events, by fault).

    Raises
    ------
    ConfigError
        If a fault does not exist, or there are not enough packets for it.
    """
    rng = np.random.default_rng(seed)
    wanted = numbers_of(faults, FAULTS)
    victims = _choose(rng, packets, wanted)
    packets = _change(rng, packets, victims)
    stream = to_stream(packets)
    if interleave:
        position = np.arange(len(stream)) - np.flatnonzero(stream.kind == HEADER)[stream.packet]
        stream = stream.taken(np.lexsort((stream.packet, position, stream.event)))
    stream = _corrupt(rng, stream, victims)
    if wanted["truncated"]:
        if not len(stream):
            what = "an empty stream cannot be truncated"
            raise ConfigError(what)
        victims["truncated"] = stream.packet[-1:]
        stream = stream.taken(np.arange(len(stream) - 1))
    stream = _padded(rng, stream, packets, wanted)
    expected = _expected(stream, packets, victims)
    shown = {name: np.asarray(index).tolist() for name, index in victims.items()}
    return stream, {"faults": {k: v for k, v in wanted.items() if v}, **expected, "victims": shown}


def numbers_of(faults: Mapping[str, int] | None, known: Mapping[str, str]) -> dict[str, int]:
    """Return how many there shall be of every known fault; what cannot be is refused with a `ConfigError`."""
    wanted = dict.fromkeys(known, 0)
    for name, number in (faults or {}).items():
        if name not in known:
            raise ConfigError.unknown("fault", name, known)
        if number < 0 or (name == "truncated" and number > 1):
            what = f"{number} faults of the kind {name} cannot be"
            raise ConfigError(what, hint="0 or 1" if name == "truncated" else "0 or more")
        wanted[name] = int(number)
    return wanted


def _choose(rng: np.random.Generator, packets: Packets, wanted: Mapping[str, int]) -> dict[str, IntArray]:
    """Return victims: packets apart from each other on their link, and events for faults of counters."""
    n_hits = packets.n_hits
    free = np.zeros(len(packets), dtype=np.bool_)
    before, after = np.full(len(packets), -1), np.full(len(packets), -1)
    for link in np.unique(packets.link):
        own = np.flatnonzero(packets.link == link)
        free[own[1:-2]] = True  # first and last ones have good neighbours, the last may be truncated
        after[own[:-1]], before[own[1:]] = own[1:], own[:-1]
    victims = {}
    for name in sorted(_OF_PACKETS, key=lambda one: one not in _NEEDS_HITS):
        found: list[int] = []
        for packet in rng.permutation(np.flatnonzero(free)).tolist() if wanted[name] else ():
            if len(found) == wanted[name]:
                break
            if free[packet] and (name not in _NEEDS_HITS or n_hits[packet] > 0):
                found.append(packet)
                free[[packet, before[packet], after[packet]]] = False
        if len(found) < wanted[name]:
            what = f"there are packets for {len(found)} faults of the kind {name}, not for {wanted[name]}"
            raise ConfigError(what, hint="more events, or fewer faults")
        victims[name] = np.sort(np.asarray(found, dtype=np.int64))
    events = np.unique(packets.event)[1:]
    places = rng.permutation(events)
    number = wanted["l1a_jump"] + wanted["same_bcid"]
    if number > places.size:
        what = f"there are events for {places.size} faults of counters, not for {number}"
        raise ConfigError(what, hint="more events, or fewer faults")
    victims["l1a_jump"] = np.sort(places[: wanted["l1a_jump"]])
    victims["same_bcid"] = np.sort(places[wanted["l1a_jump"] : number])
    return victims


def _change(rng: np.random.Generator, packets: Packets, victims: Mapping[str, IntArray]) -> Packets:
    """Return packets with the faults that a chip makes itself: their checksum is right."""
    hits = {name: values.copy() for name, values in packets.hits.items()}
    chip = packets.chip_id.copy()
    chip[victims["wrong_chip"]] = OTHER_CHIP
    for value in (1, 2, 3):
        hits["ea"][_one_hit(rng, hits["packet"], victims[f"alarm_{value}"])] = value
    full = victims["full_packet"]
    if full.size:
        keep = ~np.isin(hits["packet"], full)
        new = {
            "packet": np.repeat(full, 256),
            "row": np.tile(np.arange(256) // 16, full.size),
            "col": np.tile(np.arange(256) % 16, full.size),
            "toa": rng.integers(100, 500, 256 * full.size),
            "tot": rng.integers(50, 150, 256 * full.size),
            "cal": rng.integers(168, 182, 256 * full.size),
            "ea": np.zeros(256 * full.size, dtype=np.int64),
        }
        hits = {name: np.concatenate([hits[name][keep], new[name]]) for name in HIT_COLUMNS}
        order = np.argsort(hits["packet"], kind="stable")
        hits = {name: values[order] for name, values in hits.items()}
    jumps = np.searchsorted(victims["l1a_jump"], packets.event, side="right")
    events, first = np.unique(packets.event, return_index=True)
    crossing = packets.bcid[first]
    for place in np.searchsorted(
        events, victims["same_bcid"]
    ).tolist():  # in order: a row of them has one value
        crossing[place] = crossing[place - 1]
    bcid = crossing[np.searchsorted(events, packets.event)]
    return packets.replaced(hits=hits, chip_id=chip, bcid=bcid, l1a=(packets.l1a + JUMP * jumps) % 256)


def _one_hit(rng: np.random.Generator, packet: IntArray, victims: IntArray) -> IntArray:
    """Return a random hit (or data word) of each victim."""
    first = np.searchsorted(packet, victims, side="left")
    number = np.searchsorted(packet, victims, side="right") - first
    return np.asarray(first + rng.integers(0, np.maximum(number, 1)), dtype=np.int64)


def _corrupt(rng: np.random.Generator, stream: Stream, victims: Mapping[str, IntArray]) -> Stream:
    """Return a stream with turned bits and without the words that are lost."""
    words = stream.words.copy()
    data = np.flatnonzero(stream.kind == DATA)
    data = data[np.argsort(stream.packet[data], kind="stable")]
    for name, bits in (("bit_flip", (0, 29)), ("trailer_flip", (22, 39))):
        if name == "bit_flip":
            place = data[_one_hit(rng, stream.packet[data], victims[name])]
        else:
            place = np.flatnonzero((stream.kind == TRAILER) & np.isin(stream.packet, victims[name]))
        words[place] ^= np.uint64(1) << rng.integers(*bits, place.size).astype(np.uint64)
    keep = np.ones(words.size, dtype=np.bool_)
    keep[(stream.kind == HEADER) & np.isin(stream.packet, victims["dropped_header"])] = False
    keep[(stream.kind == TRAILER) & np.isin(stream.packet, victims["dropped_trailer"])] = False
    keep[data[_one_hit(rng, stream.packet[data], victims["dropped_data"])]] = False
    return Stream(words, stream.kind, stream.link, stream.packet, stream.event).taken(keep)


def _padded(rng: np.random.Generator, stream: Stream, packets: Packets, wanted: Mapping[str, int]) -> Stream:
    """Return a stream with fillers before packets and records of an empty FIFO anywhere."""
    n_frame, n_firmware, n_empty = wanted["filler"], wanted["firmware_filler"], wanted["fifo_empty"]
    heads = np.flatnonzero(stream.kind == HEADER)
    if n_frame + n_firmware:
        if not heads.size:
            what = "there are no packets to put fillers between"
            raise ConfigError(what)
        before = np.sort(rng.choice(heads, n_frame + n_firmware))
        firmware = np.zeros(before.size, dtype=np.bool_)
        firmware[rng.choice(before.size, n_firmware, replace=False)] = True
        crossing = rng.integers(0, 3564, before.size)
        l1a = packets.l1a[stream.packet[before]]
        words = np.where(firmware, filler_words(l1a, crossing, firmware=True), filler_words(l1a, crossing))
        stream = stream.inserted(before, _loose(words, FILLER, stream.link[before], stream.event[before]))
    if n_empty:
        before = np.sort(rng.integers(0, len(stream) + 1, n_empty))
        words = rng.integers(0, 257, n_empty).astype(np.uint64)
        near = np.minimum(before, max(len(stream) - 1, 0))
        event = stream.event[near] if len(stream) else np.zeros(n_empty, dtype=np.int64)
        stream = stream.inserted(before, _loose(words, FIFO_EMPTY, np.zeros(n_empty, dtype=np.int64), event))
    return stream


def _loose(words: NDArray[np.uint64], kind: int, link: IntArray, event: IntArray) -> Stream:
    return Stream(words, np.full(words.size, kind), link, np.full(words.size, -1), event)


def _expected(stream: Stream, packets: Packets, victims: Mapping[str, IntArray]) -> dict[str, Any]:
    kind, packet = stream.kind, stream.packet
    truncated = victims.get("truncated", np.empty(0, dtype=np.int64))
    headless = victims["dropped_header"]
    tailless = np.concatenate([victims["dropped_trailer"], truncated])
    bad = np.concatenate([victims[name] for name in _BAD_CRC])
    n_packets = len(packets)
    complete = np.ones(n_packets, dtype=np.bool_)
    complete[headless] = complete[tailless] = False
    right = complete.copy()
    right[bad] = False
    foreign = np.concatenate([victims["wrong_chip"], victims["trailer_flip"]])
    data = packet[kind == DATA]
    of_hits = packets.hits["packet"]
    events, first = np.unique(packets.event, return_index=True)
    crossing = packets.bcid[first]
    return {
        "words": len(stream),
        "header": int((kind == HEADER).sum()),
        "data": int((kind == DATA).sum()),
        "trailer": int((kind == TRAILER).sum()),
        "filler": int((kind == FILLER).sum()),
        "fifo_empty": int((kind == FIFO_EMPTY).sum()),
        "complete": int(complete.sum()),
        "good": int(right.sum()),
        "bad_crc": int(bad.size),
        "hits": int(complete[data].sum()),
        "good_hits": int(right[data].sum()),
        "hits_by_link": {
            str(link): int(complete[data][packets.link[data] == link].sum())
            for link in np.unique(packets.link)
        },
        "headers_by_link": {
            str(link): int(((kind == HEADER) & (stream.link == link)).sum())
            for link in np.unique(packets.link)
        },
        "trailers_without_header": int(headless.size),
        "data_without_header": int(np.isin(data, headless).sum()),
        "headers_without_trailer": int(tailless.size),
        "data_without_trailer": int(np.isin(data, tailless).sum()),
        "wrong_chip": int(foreign.size),
        "data_of_wrong_chip": int(np.isin(data, foreign).sum()),
        "known_hits": int((right[data] & ~np.isin(data, foreign)).sum()),
        "wrong_hit_count": int(victims["dropped_data"].size),
        "alarms": {
            str(value): int((packets.hits["ea"][complete[of_hits]] == value).sum()) for value in (1, 2, 3)
        },
        "events": int(events.size),
        "l1a_jumps": int(victims["l1a_jump"].size),
        "same_bcid": int((np.diff(crossing) == 0).sum()),
    }
