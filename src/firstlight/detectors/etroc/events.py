"""Events: hits of several boards that belong together.

Three ways. `build_by_pattern` is that of the original: boards that follow each other in the file exactly as in a pattern.
`build_by_order` is for the same text files, and allows boards to be missing. `build_by_counters` is for ETROC2, whose
packets carry counters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.etroc import event_kernels as kernels
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Whole = NDArray[np.int64]

__all__ = [
    "HIT_RULES",
    "Built",
    "build_by_counters",
    "build_by_frame",
    "build_by_order",
    "build_by_pattern",
    "event_counts",
    "hits_of_packets",
    "select_one_hit",
]

HIT_RULES = ("keep", *kernels.RULES)
"""What to do with several hits of a board in an event."""

_BOARDS = 256
_LINK_REACH = 16  # packets that the links may be apart where their offset is looked for
_OFFSET_PACKETS = 2048  # packets of a link that its offset is looked for in
_LOOK_AHEAD = 1024  # packets: four periods of the trigger counter
_FRAME_EVENTS = 1 << 16

# what a packet is; the first four are those of event_kernels
_IN_COMPLETE, _IN_INCOMPLETE, _DUPLICATE, _ORPHAN = range(4)
_PACKET_WORDS = ("in complete events", "in incomplete events", "duplicate", "orphan")


@dataclass(frozen=True)
class Built:
    """Events of hits, or of packets.

    Parameters
    ----------
    event : ndarray of int64, shape (n,)
        Event of each hit (or packet), -1 for none. Events are numbered from 0 in the order of the data.
    n_events : int
        Events; with packets also those without hits.
    counts : list of (str, str, int)
        What, unit and how many; those of unit ``hits`` (``packets``) add up to all hits (packets).
    category : ndarray of int8, shape (n,)
        For packets: 0 in a complete event, 1 in an incomplete one, 2 a duplicate, 3 an orphan. Empty for hits.
    offsets : dict of (int, int) to (int, int)
        By stream and link: offsets of L1A and BCID from those of the link with most packets; only those that are not 0.
    """

    event: Whole
    n_events: int
    counts: list[tuple[str, str, int]]
    category: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))
    offsets: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)


def _whole(values: ArrayLike, name: str, size: int | None = None) -> Whole:
    array = np.ascontiguousarray(values, dtype=np.int64)
    if array.ndim != 1 or (size is not None and array.size != size):
        what = f"{name} has the shape {array.shape}, must have {'one axis' if size is None else f'({size},)'}"
        raise UsageError(what)
    return array


def _boards(values: ArrayLike, name: str, size: int | None = None) -> Whole:
    array = _whole(values, name, size)
    if array.size and (array.min() < 0 or array.max() >= _BOARDS):
        what = f"{name} has a board outside 0-{_BOARDS - 1}: {array.min()} to {array.max()}"
        raise UsageError(what)
    return array


def _files(file: ArrayLike | None, size: int) -> Whole:
    return np.zeros(size, dtype=np.int64) if file is None else _whole(file, "file", size)


def build_by_pattern(board: ArrayLike, pattern: Sequence[int], file: ArrayLike | None = None) -> Built:
    """Make an event of hits whose boards follow each other exactly as in a pattern, as the original does.

    Matches are taken from left to right and share no hit. The original numbers all hits of all matches through and divides
    by the length of the pattern; that is the same for its patterns, which cannot overlap with themselves, and mixes hits
    of different matches for others (0,0 in 0,0,0).

    Parameters
    ----------
    board : array_like of int, shape (n_hits,)
        Boards of the hits as they come; leave hits with hit flag 0 out before.
    pattern : sequence of int
        One or more boards: ``(0, 1, 3)``.
    file : array_like of int, shape (n_hits,), optional
        Files of the hits; a match does not go over the end of one.

    Returns
    -------
    Built

    Raises
    ------
    UsageError
        Empty pattern, or boards outside 0-255.
    """
    boards = _boards(board, "board")
    wanted = _boards(pattern, "pattern")
    if not wanted.size:
        raise UsageError("the pattern has no board", hint="a pattern such as 0,1,3")
    event = np.empty(boards.size, dtype=np.int64)
    n_events, overlaps = kernels.by_pattern(boards, _files(file, boards.size), wanted, event)
    used = int(n_events) * wanted.size
    counts = [
        ("complete events", "events", int(n_events)),
        ("matches given up because they overlap another", "matches", int(overlaps)),
        ("in complete events", "hits", used),
        ("in no event", "hits", boards.size - used),
    ]
    return Built(event, int(n_events), counts)


def build_by_order(
    board: ArrayLike,
    time: ArrayLike | None,
    order: Sequence[int],
    file: ArrayLike | None = None,
    *,
    seconds: int = 1,
    least: int = 2,
) -> Built:
    """Make an event of consecutive hits whose boards come in the order of the read-out; boards may be missing.

    A board that comes again, or that is read out before the last one, begins a new event. So does a time stamp that is
    more than `seconds` away from that of the first hit: a second may begin within an event.

    Parameters
    ----------
    board : array_like of int, shape (n_hits,)
        Boards of the hits as they come.
    time : array_like of int, shape (n_hits,), optional
        Time stamps [s].
    order : sequence of int
        Boards in the order of the read-out: ``(0, 1, 3)``.
    file : array_like of int, shape (n_hits,), optional
        Files of the hits; an event does not go over the end of one.
    seconds : int
        Largest difference of time stamps in an event.
    least : int
        Hits of an event; what has fewer is counted and in no event. A board alone says nothing of the others, and cannot
        be told from noise. One hit is enough where `order` has one board.

    Returns
    -------
    Built
        An event is complete where it has all boards of `order`.

    Raises
    ------
    UsageError
        Order without boards or with a board twice, or boards outside 0-255.
    """
    boards = _boards(board, "board")
    wanted = _boards(order, "order")
    if not wanted.size or np.unique(wanted).size != wanted.size:
        what = f"the order of the read-out is {', '.join(map(str, wanted)) or 'empty'}"
        raise UsageError(what, hint="every board once, such as 0,1,3")
    place = np.full(_BOARDS, -1, dtype=np.int64)
    place[wanted] = np.arange(wanted.size)
    times = np.zeros(boards.size, dtype=np.int64) if time is None else _whole(time, "time", boards.size)
    event, kind = np.empty(boards.size, dtype=np.int64), np.empty(boards.size, dtype=np.int64)
    files = _files(file, boards.size)
    fewest = min(least, wanted.size)
    n_events = int(kernels.by_order(boards, files, times, place, seconds, fewest, event, kind))
    sizes = np.bincount(event[event >= 0], minlength=n_events)
    complete = sizes == wanted.size
    by_kind = np.bincount(kind, minlength=4)
    counts = [
        ("complete events", "events", int(complete.sum())),
        ("incomplete events", "events", int(n_events - complete.sum())),
        ("in complete events", "hits", int(sizes[complete].sum())),
        ("in incomplete events", "hits", int(sizes[~complete].sum())),
        ("single", "hits", int(by_kind[kernels.SINGLE])),
        ("of a board that is not in the read-out order", "hits", int(by_kind[kernels.FOREIGN])),
    ]
    return Built(event, n_events, counts)


def build_by_frame(
    stream: ArrayLike,
    link: ArrayLike,
    frame: ArrayLike,
    frame_event: ArrayLike,
    l1a: ArrayLike,
    bcid: ArrayLike,
) -> Built:
    """Make an event of the packets of an event frame (KC705 read-out).

    A packet that a link repeats in a frame is a duplicate. A link with a second packet of other counters is counted; its
    packets stay.

    Parameters
    ----------
    stream, link, frame, frame_event, l1a, bcid : array_like of int, shape (n_packets,)
        File, link, number of the frame in the file, event number of the read-out board, and counters.

    Returns
    -------
    Built
        For packets. An event is complete where it has all links of its file.
    """
    streams = _whole(stream, "stream")
    size = streams.size
    links, frames = _whole(link, "link", size), _whole(frame, "frame", size)
    numbers = _whole(frame_event, "frame_event", size)
    triggers, crossings = _whole(l1a, "l1a", size), _whole(bcid, "bcid", size)
    order = np.lexsort((crossings, triggers, links, frames, streams))
    columns = [streams, frames, links, triggers, crossings]
    differs = np.ones((len(columns), size), dtype=bool)
    for row, column in enumerate(columns):
        differs[row, 1:] = column[order][1:] != column[order][:-1]
    is_new = np.logical_or.accumulate(differs, axis=0)
    event, category = np.empty(size, dtype=np.int64), np.zeros(size, dtype=np.int8)
    sorted_event = np.cumsum(is_new[1]) - 1
    n_events = int(sorted_event[-1]) + 1 if size else 0
    present = np.bincount(sorted_event[is_new[2]], minlength=n_events)
    stream_links = _links_of_streams(streams, links)
    event_stream = streams[order][is_new[1]]
    expected = np.array([len(stream_links[int(number)]) for number in event_stream], dtype=np.int64)
    complete = present == expected
    category[order] = np.where(
        ~is_new[4], _DUPLICATE, np.where(complete[sorted_event], _IN_COMPLETE, _IN_INCOMPLETE)
    )
    event[order] = np.where(is_new[4], sorted_event, -1)
    first = order[is_new[1]]
    jumps = (np.diff(numbers[first]) - 1) % _FRAME_EVENTS
    same_file = np.diff(event_stream) == 0
    # a counter that begins again is no jump of almost its whole range
    jumps = jumps[same_file & (jumps < _FRAME_EVENTS // 2)]
    counts = [
        ("complete events", "events", int(complete.sum())),
        ("incomplete events", "events", int(n_events - complete.sum())),
        ("event numbers left out by the read-out board", "events", int(jumps.sum())),
        ("with two packets of a link", "events", _events_with(sorted_event[is_new[4] & ~is_new[2]])),
        *_packet_counts(category),
    ]
    return Built(event, n_events, counts, category)


def _events_with(event: Whole) -> int:
    return int(np.unique(event).size)


def _packet_counts(category: NDArray[np.int8]) -> list[tuple[str, str, int]]:
    numbers = np.bincount(category, minlength=len(_PACKET_WORDS))
    return [(word, "packets", int(number)) for word, number in zip(_PACKET_WORDS, numbers, strict=True)]


def _links_of_streams(streams: Whole, links: Whole) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    pairs = np.unique(streams * (1 << 32) + links) if streams.size else streams
    for pair in pairs.tolist():
        found.setdefault(pair >> 32, []).append(pair & 0xFFFFFFFF)
    return found


def build_by_counters(
    stream: ArrayLike,
    link: ArrayLike,
    l1a: ArrayLike,
    bcid: ArrayLike,
    *,
    look_ahead: int = _LOOK_AHEAD,
) -> Built:
    """Make an event of the packets of several links that have the same counters.

    Packets are matched in their order, link by link. Where the counters of two links differ, the link whose packet the other
    link does not have until later is one trigger ahead, so the other one has lost a packet. Triggers are the same only
    where L1A **and** BCID are: two in a row may well have the same BCID. A packet with one counter changed is still
    matched where the packets after it agree.

    The counters of links may have constant offsets (emulators); those of a link are the most frequent difference from the
    link with most packets.

    Parameters
    ----------
    stream : array_like of int, shape (n_packets,)
        What was read out together: the file, or the run where several files are parts of one read-out. Never falls.
    link : array_like of int, shape (n_packets,)
        Link of the packet, from 0; the packets of a link stand in the order of their triggers.
    l1a, bcid : array_like of int, shape (n_packets,)
        Trigger counter (modulo 256) and bunch crossing (modulo 3564).
    look_ahead : int
        How many packets a link may lose in a row, at most.

    Returns
    -------
    Built
        For packets. An event is complete where it has all links of its stream. A duplicate is a packet that a link
        repeats; an orphan one whose counters no other link has and whose L1A is out of order on its own link.
    """
    streams = _whole(stream, "stream")
    size = streams.size
    links = _whole(link, "link", size)
    triggers = _whole(l1a, "l1a", size) % 256
    crossings = _whole(bcid, "bcid", size)
    if size and (links.min() < 0 or streams.min() < 0 or streams.max() >= 1 << 31):
        raise UsageError("streams and links are numbered from 0")
    if size and (np.diff(streams) < 0).any():
        raise UsageError("the packets are not in the order of their streams", hint="sort them by file")
    event, category = np.full(size, -1, dtype=np.int64), np.zeros(size, dtype=np.int8)
    bounds = [*np.flatnonzero(np.diff(streams, prepend=-1)).tolist(), size] if size else []
    scratch = np.zeros(256 * 3564, dtype=np.int32)
    offsets: dict[tuple[int, int], tuple[int, int]] = {}
    without: dict[int, int] = {}
    n_events, n_complete, n_disagree = 0, 0, 0
    for start, stop in pairwise(bounds):
        part = slice(start, stop)
        one = _match_stream(links[part], triggers[part], crossings[part], scratch, look_ahead)
        category[part] = one.category
        event[part] = np.where(one.event >= 0, one.event + n_events, -1)
        for name, shift in one.offsets.items():
            offsets[int(streams[start]), name] = shift
        for name, missing in one.without.items():
            without[name] = without.get(name, 0) + missing
        n_events += one.n_events
        n_complete += one.n_complete
        n_disagree += one.n_disagree
    counts = [
        ("complete events", "events", n_complete),
        ("incomplete events", "events", n_events - n_complete),
        *((f"without a packet of link {name}", "events", without[name]) for name in sorted(without)),
        ("with a packet of which one counter differs", "events", n_disagree),
        *_packet_counts(category),
    ]
    return Built(event, n_events, counts, category, offsets)


@dataclass(frozen=True)
class _Stream:
    event: Whole
    category: NDArray[np.int8]
    n_events: int
    n_complete: int
    n_disagree: int
    offsets: dict[int, tuple[int, int]]
    without: dict[int, int]


def _match_stream(
    links: Whole, triggers: Whole, crossings: Whole, scratch: NDArray[np.int32], look_ahead: int
) -> _Stream:
    by_link = np.argsort(links, kind="stable")
    names, begins = np.unique(links[by_link], return_index=True)
    starts = np.append(begins, links.size).astype(np.int64)
    l1a, bcid = triggers[by_link], crossings[by_link]
    offsets = _remove_offsets(l1a, bcid, names, starts, scratch)
    key = l1a * (int(bcid.max()) + 1) + bcid
    order = np.argsort(key, kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(order.size)
    is_new = np.diff(key[order], prepend=-1) != 0
    group = np.cumsum(is_new) - 1
    group_starts = np.append(np.flatnonzero(is_new), order.size)
    low, high = group_starts[group][ranks], group_starts[group + 1][ranks]
    event, kind = np.empty(key.size, dtype=np.int64), np.empty(key.size, dtype=np.int64)
    n_events, n_disagree = kernels.match_links(
        l1a, bcid, key, starts, order, low, high, look_ahead, event, kind
    )
    if names.size > 1:
        n_events = kernels.drop_orphans(l1a, starts, n_events, event, kind)
    # a file of one link has no other to wait for
    used = event >= 0
    sizes = np.bincount(event[used], minlength=n_events)
    complete = sizes == names.size
    category = np.where(kind == kernels.DUPLICATE, _DUPLICATE, _ORPHAN).astype(np.int8)
    category[used] = np.where(complete[event[used]], _IN_COMPLETE, _IN_INCOMPLETE)
    present = [int((event[first:last] >= 0).sum()) for first, last in pairwise(starts)]
    without = {int(name): int(n_events) - number for name, number in zip(names, present, strict=True)}
    back_event, back_category = np.empty_like(event), np.empty_like(category)
    back_event[by_link], back_category[by_link] = event, category
    return _Stream(
        back_event, back_category, int(n_events), int(complete.sum()), int(n_disagree), offsets, without
    )


def _remove_offsets(
    l1a: Whole, bcid: Whole, names: Whole, starts: Whole, scratch: NDArray[np.int32]
) -> dict[int, tuple[int, int]]:
    """Take the offsets of links off their counters, in place, and return those that are not 0."""
    reference = int(np.argmax(np.diff(starts)))
    known = slice(starts[reference], min(starts[reference] + _OFFSET_PACKETS, starts[reference + 1]))
    l1a_reference, bcid_reference = l1a[known].copy(), bcid[known].copy()
    found = {}
    for index, name in enumerate(names.tolist()):
        whole = slice(starts[index], starts[index + 1])
        head = slice(starts[index], min(starts[index] + _OFFSET_PACKETS, starts[index + 1]))
        if index == reference:
            continue
        trigger, crossing = kernels.link_offset(
            l1a[head], bcid[head], l1a_reference, bcid_reference, _LINK_REACH, scratch
        )
        if trigger or crossing:
            found[name] = (int(trigger), int(crossing))
            l1a[whole] = (l1a[whole] - trigger) % 256
            bcid[whole] = (bcid[whole] - crossing) % 3564
    return found


def hits_of_packets(
    packets: Built,
    packet_file: ArrayLike,
    packet_record: ArrayLike,
    hit_file: ArrayLike,
    hit_record: ArrayLike,
) -> Built:
    """Give hits the events of their packets.

    Parameters
    ----------
    packets : Built
        As `build_by_counters` or `build_by_frame` returns it.
    packet_file, packet_record : array_like of int, shape (n_packets,)
        File and number of each packet, in order.
    hit_file, hit_record : array_like of int, shape (n_hits,)
        File of each hit, and the number of its packet.

    Returns
    -------
    Built
        For hits; the counts are those of the packets, and those of hits. `n_events` counts events without hits too.
    """
    numbers = (_whole(packet_file, "packet_file") << 32) + _whole(packet_record, "packet_record")
    wanted = (_whole(hit_file, "hit_file") << 32) + _whole(hit_record, "hit_record")
    if (np.diff(numbers) <= 0).any():
        raise UsageError("the packets are not in order", hint="sort them by file and record")
    event, category = np.full(wanted.size, -1, dtype=np.int64), np.full(wanted.size, -1, dtype=np.int64)
    if numbers.size:
        at = np.minimum(np.searchsorted(numbers, wanted), numbers.size - 1)
        found = numbers[at] == wanted
        event[found], category[found] = packets.event[at[found]], packets.category[at[found]]
    by_category = np.bincount(category + 1, minlength=len(_PACKET_WORDS) + 1)
    words = ("without a packet", *_PACKET_WORDS[:2], "of a duplicate packet", "of an orphan packet")
    rows = [(word, "hits", int(number)) for word, number in zip(words, by_category, strict=True)]
    return Built(event, packets.n_events, [*packets.counts, *rows[1:], rows[0]])


def select_one_hit(
    event: ArrayLike, board: ArrayLike, toa: ArrayLike, tot: ArrayLike, rule: str = "drop"
) -> tuple[NDArray[np.bool_], list[tuple[str, str, int]]]:
    """Choose one hit of a board in an event, which is what timing needs.

    Parameters
    ----------
    event, board, toa, tot : array_like of int, shape (n_hits,)
        Event (-1 for none: such hits are kept), board, and codes.
    rule : str
        ``drop``: a board with several hits in an event loses them all, so that the event is not used for its resolution.
        ``first``: the earliest hit stays, which has the largest TOA code. ``largest_tot``: that of the largest TOT code.
        Of equal ones the first in the data stays. ``keep``: all stay.

    Returns
    -------
    keep : ndarray of bool, shape (n_hits,)
        Hits that stay.
    counts : list of (str, str, int)
        Affected events and boards of events, and hits that go.

    Raises
    ------
    UsageError
        Unknown rule.
    """
    if rule not in HIT_RULES:
        raise UsageError.unknown("rule for several hits", rule, HIT_RULES)
    events = _whole(event, "event")
    boards = _boards(board, "board", events.size)
    first, largest = _whole(toa, "toa", events.size), _whole(tot, "tot", events.size)
    keep = np.ones(events.size, dtype=bool)
    number = kernels.RULES.index(rule) if rule in kernels.RULES else 1
    used = events[events >= 0]
    if (np.diff(used) >= 0).all():
        affected, several = kernels.keep_one(events, boards, first, largest, number, keep)
    else:
        order = np.argsort(events, kind="stable")
        sorted_keep = keep.copy()
        affected, several = kernels.keep_one(
            events[order], boards[order], first[order], largest[order], number, sorted_keep
        )
        keep[order] = sorted_keep
    if rule == "keep":
        keep[:] = True
    counts: list[tuple[str, str, int]] = [
        ("with several hits of a board", "events", int(affected)),
        ("with several hits in an event", "boards", int(several)),
        (f"left out by the rule {rule!r} for several hits", "left-out hits", int((~keep).sum())),
    ]
    return keep, counts


def event_counts(built: Built, more: Sequence[tuple[str, str, int]] = ()) -> Any:
    """Return the counts of built events as a frame of the schema EVENT_COUNTS."""
    import polars as pl

    from firstlight.detectors.etroc.tables import EVENT_COUNTS

    return pl.DataFrame([*built.counts, *more], schema=EVENT_COUNTS.dtypes, orient="row")
