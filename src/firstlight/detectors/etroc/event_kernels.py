"""Kernels that go through hits and packets one by one: events, one hit of a board, matched links."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

__all__ = [
    "ALONE", "DUPLICATE", "FOREIGN", "IN_EVENT", "ORPHAN", "RULES", "SINGLE", "by_order", "by_pattern",
    "drop_orphans", "keep_one", "link_offset", "match_links",
]  # fmt: skip

IN_EVENT, ALONE, DUPLICATE, ORPHAN = range(4)
"""What `match_links` and `drop_orphans` say of a packet."""

SINGLE, FOREIGN = 2, 3
"""What `by_order` says of a hit besides `IN_EVENT`: alone, or of a board that is not read out."""

RULES = ("drop", "first", "largest_tot")
"""Rules of `keep_one`, by number."""

_TRIGGERS, _CROSSINGS = 256, 3564  # periods of L1A and BCID
_FAR = 1 << 40  # a distance of packets that are not found


@kernel
def by_pattern(board: Whole, file: Whole, pattern: Whole, event: Whole) -> tuple[int, int]:
    """Fill the event of hits whose boards follow each other as in the pattern, from left to right.

    Returns the number of events, and of matches given up because they begin in an event that is found already.
    """
    length, n_events, overlaps, at = pattern.size, 0, 0, 0
    free = 0
    event[:] = -1
    while at + length <= board.size:
        same = file[at] == file[at + length - 1]
        step = 0
        while same and step < length:
            same = board[at + step] == pattern[step]
            step += 1
        if same and at < free:
            overlaps += 1
        elif same:
            event[at : at + length] = n_events
            n_events += 1
            free = at + length
        at += 1
    return n_events, overlaps


@kernel
def by_order(
    board: Whole, file: Whole, time: Whole, place: Whole, most: int, least: int, event: Whole, kind: Whole
) -> int:
    """Fill event and kind of hits that are written board by board; returns the number of events.

    A hit of a board that does not come later in the read-out, of another file, or of a time stamp more than `most`
    away from the first hit begins a new event. Events of fewer than `least` hits are undone.
    """
    n_events, first, size = 0, -1, 0
    last_place = -1
    for at in range(board.size):
        here = place[board[at]]
        if here < 0:
            event[at], kind[at] = -1, FOREIGN
            continue
        goes_on = (
            first >= 0
            and here > last_place
            and file[at] == file[first]
            and abs(time[at] - time[first]) <= most
        )
        if not goes_on:
            n_events = _close(first, at, size, least, n_events, event, kind)
            first, size = at, 0
        event[at], kind[at] = n_events, IN_EVENT
        size += 1
        last_place = here
    return _close(first, board.size, size, least, n_events, event, kind)


@kernel
def _close(first: int, stop: int, size: int, least: int, number: int, event: Whole, kind: Whole) -> int:
    if first < 0:
        return number
    if size >= least:
        return number + 1
    for at in range(first, stop):
        if kind[at] == IN_EVENT and event[at] == number:
            event[at], kind[at] = -1, SINGLE
    return number


@kernel
def keep_one(
    event: Whole, board: Whole, toa: Whole, tot: Whole, rule: int, keep: NDArray[np.bool_]
) -> tuple[int, int]:
    """Clear `keep` of all but one hit of a board in an event (of all, for rule 0); events must not fall.

    Returns how many events have several hits of a board, and how many boards in events that are.
    """
    seen = np.full(256, -1, dtype=np.int64)
    best = np.zeros(256, dtype=np.int64)
    several = np.full(256, -1, dtype=np.int64)
    n_events, n_boards, last = 0, 0, -1
    for at in range(event.size):
        number, here = event[at], board[at]
        if number < 0:
            continue
        if seen[here] != number:
            seen[here], best[here] = number, at
            continue
        if several[here] != number:
            several[here] = number
            n_boards += 1
            n_events += number != last
            last = number
        old = best[here]
        better = (rule == 1 and toa[at] > toa[old]) or (rule == 2 and tot[at] > tot[old])
        if rule == 0:
            keep[old] = keep[at] = False
        elif better:
            keep[old], best[here] = False, at
        else:
            keep[at] = False
    return n_events, n_boards


@kernel
def link_offset(
    l1a: Whole,
    bcid: Whole,
    l1a_reference: Whole,
    bcid_reference: Whole,
    reach: int,
    counts: NDArray[np.int32],
) -> tuple[int, int]:
    """Return the most frequent difference of the counters of two links, at equal ordinal or up to `reach` beside it.

    `counts` has 256 * 3564 zeros, and has them again afterwards. (0, 0) where no difference is frequent.
    """
    size = min(l1a.size, l1a_reference.size)
    best, best_count = 0, 0
    for shift in range(-reach, reach + 1):
        for at in range(max(0, -shift), min(l1a.size, l1a_reference.size - shift)):
            trigger = (l1a[at] - l1a_reference[at + shift]) % _TRIGGERS
            code = trigger * _CROSSINGS + (bcid[at] - bcid_reference[at + shift]) % _CROSSINGS
            counts[code] += 1
            if counts[code] > best_count:
                best, best_count = code, counts[code]
    agreed = counts[0]
    for shift in range(-reach, reach + 1):
        for at in range(max(0, -shift), min(l1a.size, l1a_reference.size - shift)):
            trigger = (l1a[at] - l1a_reference[at + shift]) % _TRIGGERS
            counts[trigger * _CROSSINGS + (bcid[at] - bcid_reference[at + shift]) % _CROSSINGS] = 0
    # differences of packets that do not belong together are spread: a few of them agree by chance
    if best_count < max(3, size // 50) or 2 * agreed >= best_count:
        return 0, 0
    return best // _CROSSINGS, best % _CROSSINGS


@kernel
def _distance(packet: int, start: int, stop: int, order: Whole, low: Whole, high: Whole, limit: int) -> int:
    """Return how many packets after `start` a link has the counters of a packet.

    `order` are the packets ordered by counters and then as they come; those with the same counters as `packet` stand in
    it from low[packet] to high[packet].
    """
    first, last = low[packet], high[packet]
    while first < last:
        middle = (first + last) // 2
        if order[middle] < start:
            first = middle + 1
        else:
            last = middle
    if first < high[packet] and order[first] < min(stop, start + limit):
        return int(order[first] - start)
    return _FAR


@kernel
def _is_earlier(one: int, two: int, distance_one: int, distance_two: int, l1a: Whole) -> bool:
    """Return whether the next packet of link one is of an earlier trigger than that of link two.

    It is where link one will have the packet of link two later on; where neither has the other's, the trigger counter
    decides.
    """
    if distance_one == _FAR and distance_two == _FAR:
        behind = (l1a[one] - l1a[two]) % _TRIGGERS
        return bool(behind >= _TRIGGERS // 2)
    return bool(0 < distance_two < distance_one)


@kernel
def _earliest(
    at: Whole, starts: Whole, l1a: Whole, key: Whole, order: Whole, low: Whole, high: Whole, limit: int
) -> int:
    """Return the link whose next packet is of the earliest trigger; -1 where no link has one."""
    n_links = at.size
    chosen, differ = -1, False
    for link in range(n_links):
        if at[link] < starts[link + 1]:
            if chosen < 0:
                chosen = link
            differ |= key[at[link]] != key[at[chosen]]
    if not differ:
        return chosen
    visited = np.zeros(n_links, dtype=np.bool_)
    found = True
    while found:
        visited[chosen] = True
        found = False
        for link in range(n_links):
            if visited[link] or at[link] >= starts[link + 1] or key[at[link]] == key[at[chosen]]:
                continue
            of_link = _distance(at[link], at[chosen], starts[chosen + 1], order, low, high, limit)
            of_chosen = _distance(at[chosen], at[link], starts[link + 1], order, low, high, limit)
            if _is_earlier(at[link], at[chosen], of_link, of_chosen, l1a):
                chosen, found = link, True
                break
    return chosen


@kernel
def _in_order(packet: int, start: int, stop: int, l1a: Whole) -> bool:
    """Return whether the trigger counter of a packet lies between those before and after it on its link."""
    if packet == start or packet + 1 >= stop:
        return True
    span = (l1a[packet + 1] - l1a[packet - 1]) % _TRIGGERS
    step = (l1a[packet] - l1a[packet - 1]) % _TRIGGERS
    return bool(0 < step < (span or _TRIGGERS))


@kernel
def _is_damaged(
    one: int, two: int, start_one: int, stop_one: int, start_two: int, stop_two: int, l1a: Whole, bcid: Whole, key: Whole
) -> bool:  # fmt: skip
    """Return whether two packets are of one trigger although one counter of one of them differs.

    The other counter must be equal, and so must the packets after them. Equal crossings alone say little, as two
    triggers in a row may have them: then one of the trigger counters must be out of order too.
    """
    if one + 1 >= stop_one or two + 1 >= stop_two or key[one + 1] != key[two + 1]:
        return False
    if l1a[one] == l1a[two]:
        return True
    if bcid[one] != bcid[two]:
        return False
    return not (_in_order(one, start_one, stop_one, l1a) and _in_order(two, start_two, stop_two, l1a))


@kernel
def match_links(
    l1a: Whole, bcid: Whole, key: Whole, starts: Whole, order: Whole, low: Whole, high: Whole, limit: int,
    event: Whole, kind: Whole,
) -> tuple[int, int]:  # fmt: skip
    """Give packets of several links with the same counters the same event.

    Parameters
    ----------
    l1a, bcid, key : ndarray, shape (n_packets,)
        Counters, without the offsets of links; `key` is both in one. Link after link.
    starts : ndarray, shape (n_links + 1,)
        Where the packets of a link begin.
    order, low, high : ndarray, shape (n_packets,)
        As `_distance` has it.
    limit : int
        Packets to look ahead.
    event, kind : ndarray, shape (n_packets,)
        Filled.

    Returns
    -------
    n_events, n_disagree : int
        Events, and packets that are in an event although one of their two counters differs.
    """
    n_links = starts.size - 1
    at = starts[:-1].copy()
    n_events, n_disagree = 0, 0
    while True:
        for link in range(n_links):
            while starts[link] < at[link] < starts[link + 1] and key[at[link]] == key[at[link] - 1]:
                event[at[link]], kind[at[link]] = -1, DUPLICATE
                at[link] += 1
        chosen = _earliest(at, starts, l1a, key, order, low, high, limit)
        if chosen < 0:
            break
        packet = at[chosen]
        members = 0
        for link in range(n_links):
            other = at[link]
            if other >= starts[link + 1]:
                continue
            if key[other] != key[packet]:
                if not _is_damaged(other, packet, starts[link], starts[link + 1], starts[chosen], starts[chosen + 1],
                                   l1a, bcid, key):  # fmt: skip
                    continue
                n_disagree += 1
            event[other], kind[other] = n_events, IN_EVENT
            at[link] += 1
            members += 1
        if members == 1:
            kind[packet] = ALONE
        n_events += 1
    return n_events, n_disagree


@kernel
def drop_orphans(l1a: Whole, starts: Whole, n_events: int, event: Whole, kind: Whole) -> int:
    """Take packets out of their events that are alone and out of the order of their link; returns the events left.

    A packet is in order where its trigger counter lies between those of the packets before and after it.
    """
    gone = np.zeros(n_events, dtype=np.int64)
    for link in range(starts.size - 1):
        before = -1
        for at in range(starts[link], starts[link + 1]):
            if kind[at] == DUPLICATE:
                continue
            if kind[at] == ALONE and before >= 0 and at + 1 < starts[link + 1]:
                span = (l1a[at + 1] - l1a[before]) % _TRIGGERS
                step = (l1a[at] - l1a[before]) % _TRIGGERS
                if step == 0 or step >= (span or _TRIGGERS):
                    gone[event[at]] = 1
                    event[at], kind[at] = -1, ORPHAN
                    continue
            before = at
    lower = np.cumsum(gone)
    for at in range(event.size):
        if event[at] >= 0:
            event[at] -= lower[event[at]]
    return int(n_events - lower[-1]) if n_events else 0
