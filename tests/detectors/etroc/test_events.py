"""Events: patterns, read-out order, counters of links, one hit of a board."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstlight.detectors.etroc import events
from firstlight.errors import UsageError


def number(built, what, unit):
    (found,) = [count for word, of, count in built.counts if (word, of) == (what, unit)]
    return found


def total(built, unit):
    return sum(count for _, of, count in built.counts if of == unit)


def packets(path):
    words = np.fromfile(path, dtype="<u8")
    header = ((words >> 22) & 0x3FFFF) == (0x3C5C << 2)
    chosen = words[header].astype(np.int64)
    return (chosen >> 40) & 0xFF, (chosen >> 14) & 0xFF, chosen & 0xFFF


@pytest.fixture(scope="module")
def beam(sample_data):
    path = sample_data / "etroc" / "synthetic_etroc1_telescope" / "F9P5_F11P5_F5P5_Beam_0.txt"
    lines = [line.split() for line in path.read_text().splitlines()[1:]]
    codes = np.array([[int(value) for value in line[:5]] for line in lines])
    seconds = np.array([np.datetime64(f"{line[5]}T{line[6]}", "s").astype(np.int64) for line in lines])
    return codes, seconds


def test_pattern_events_of_the_beam_file(beam):
    codes, _ = beam
    built = events.build_by_pattern(codes[:, 0], (0, 1, 3))
    used = built.event >= 0
    assert len(codes) == total(built, "hits") == 58802
    assert built.n_events == 18269
    assert used.sum() == 54807
    assert codes[used, 1:4].sum(axis=0).tolist() == [14316860, 5295659, 7710238]
    assert (np.bincount(built.event[used]) == 3).all()


def test_read_out_order_finds_the_same_complete_events_and_incomplete_ones(beam):
    codes, seconds = beam
    pattern = events.build_by_pattern(codes[:, 0], (0, 1, 3))
    built = events.build_by_order(codes[:, 0], seconds, (0, 1, 3))
    assert number(built, "complete events", "events") == 18269
    sizes = np.bincount(built.event[built.event >= 0])
    assert sizes.min() == 2
    np.testing.assert_array_equal(sizes[built.event[pattern.event >= 0]], 3)
    assert total(built, "hits") == 58802
    assert number(built, "single", "hits") + (built.event >= 0).sum() == 58802


def rolling(board, pattern):
    """Return the events of the original: every hit of a match, numbered through."""
    hit = np.zeros(len(board), dtype=bool)
    for at in range(len(board) - len(pattern) + 1):
        if list(board[at : at + len(pattern)]) == list(pattern):
            hit[at : at + len(pattern)] = True
    event = np.full(len(board), -1)
    event[hit] = np.arange(hit.sum()) // len(pattern)
    return event


@given(
    st.lists(st.sampled_from([0, 1, 3]), max_size=60),
    st.sampled_from([(0, 1, 3), (0, 1), (0, 3), (1, 3), (0, 3, 1), (1,)]),
)
def test_pattern_is_that_of_the_original(boards, pattern):
    built = events.build_by_pattern(boards, pattern)
    np.testing.assert_array_equal(built.event, rolling(boards, pattern))
    assert total(built, "hits") == len(boards)


def test_matches_that_overlap_are_taken_from_the_left():
    built = events.build_by_pattern([0, 0, 0, 1, 0, 0], (0, 0))
    assert built.event.tolist() == [0, 0, -1, -1, 1, 1]
    assert number(built, "matches given up because they overlap another", "matches") == 1


def test_a_match_does_not_go_over_the_end_of_a_file():
    assert events.build_by_pattern([0, 1, 3], (0, 1, 3), [0, 0, 1]).n_events == 0


@pytest.mark.parametrize("pattern", [(), (256,), (-1,)])
def test_a_wrong_pattern_is_refused(pattern):
    with pytest.raises(UsageError):
        events.build_by_pattern([0, 1], pattern)


def test_read_out_order_by_hand():
    #  complete | repeated board | second boundary | too late | foreign board | single
    board = [0, 1, 3, 0, 3, 3, 1, 0, 1, 0, 3, 7, 1, 0]
    time = [5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 9, 9, 9, 9]
    built = events.build_by_order(board, time, (0, 1, 3))
    assert built.event.tolist() == [0, 0, 0, 1, 1, -1, -1, 2, 2, -1, -1, -1, -1, -1]
    assert number(built, "single", "hits") == 6
    assert number(built, "of a board that is not in the read-out order", "hits") == 1
    assert events.build_by_order(board, time, (0, 1, 3), least=1).event.tolist() == [
        0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 6, -1, 7, 8,
    ]  # fmt: skip


def test_an_order_with_a_board_twice_is_refused():
    with pytest.raises(UsageError, match="0, 1, 0"):
        events.build_by_order([0], None, (0, 1, 0))


def test_events_of_the_sps_files(sample_data):
    columns, expected, same_crossing = [], 0, 0
    for index, path in enumerate(sorted((sample_data / "etroc" / "etroc2_tamalero_sps2025").glob("*.dat"))):
        link, l1a, bcid = packets(path)
        columns.append((np.full(link.size, index), link, l1a, bcid))
        expected += int((link == 12).sum())
        same_crossing += int((np.diff(bcid[link == 12]) == 0).sum())
    stream, link, l1a, bcid = (np.concatenate(column) for column in zip(*columns, strict=True))
    built = events.build_by_counters(stream, link, l1a, bcid)
    # every trigger is on e-link 12; 11 have the BCID of the one before and would be lost with AND
    assert built.n_events == expected == 48414
    assert same_crossing == 11
    assert number(built, "complete events", "events") == 48414
    assert total(built, "packets") == link.size == 96828
    assert not built.offsets


def test_links_of_the_emulator_have_constant_offsets(sample_data):
    link, l1a, bcid = packets(sample_data / "etroc" / "etroc2_emulator_tamalero" / "output_example.dat")
    built = events.build_by_counters(np.zeros(link.size), link, l1a, bcid)
    assert set(built.offsets) == {(0, 6), (0, 44)}
    assert built.offsets[0, 6] == built.offsets[0, 44] == (139 - 21, (2276 - 2825) % 3564)
    assert built.n_events == int((link == 2).sum()) == 1704
    assert number(built, "without a packet of link 44", "events") == 1704 - 1690
    assert total(built, "packets") == 5092


def telescope(triggers, links, loss, seed, offsets=None):
    """Return packets of links that lose some, and the trigger of each."""
    rng = np.random.default_rng(seed)
    bcid = rng.integers(0, 3564, triggers)
    bcid[1::50] = bcid[0::50][: bcid[1::50].size]  # the BCID of the trigger before
    trigger, link = (part.ravel() for part in np.mgrid[:triggers, :links])
    kept = rng.random(trigger.size) >= loss
    trigger, link = trigger[kept], link[kept]
    shift = np.zeros((links, 2), dtype=int) if offsets is None else np.array(offsets)
    return link, (trigger + shift[link, 0]) % 256, (bcid[trigger] + shift[link, 1]) % 3564, trigger


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("offsets", [None, [(0, 0), (118, 3015), (3, 7)]])
def test_lost_packets_are_found(loss, offsets):
    link, l1a, bcid, trigger = telescope(4000, 3, loss, 5, offsets)
    built = events.build_by_counters(np.zeros(link.size), link, l1a, bcid)
    seen, truth = np.unique(trigger, return_inverse=True)
    assert built.n_events == seen.size
    np.testing.assert_array_equal(built.event, truth)
    complete = np.bincount(truth) == 3
    assert number(built, "complete events", "events") == complete.sum()


def test_a_damaged_trigger_counter_is_matched_but_not_two_triggers_of_one_crossing():
    # link 0 lost trigger 5 and link 1 trigger 4, both of BCID 9; then link 1 tells a wrong L1A
    link = [0] * 5 + [1] * 5
    l1a = [3, 4, 6, 7, 8, 3, 5, 6, 135, 8]
    bcid = [1, 9, 2, 3, 4, 1, 9, 2, 3, 4]
    built = events.build_by_counters([0] * 10, link, l1a, bcid)
    assert built.event.tolist() == [0, 1, 3, 4, 5, 0, 2, 3, 4, 5]
    assert number(built, "with a packet of which one counter differs", "events") == 1


def test_a_link_may_lose_many_packets_in_a_row():
    link, l1a, bcid, trigger = telescope(3000, 2, 0.0, 6)
    kept = ~((link == 1) & (trigger >= 500) & (trigger < 1300))
    built = events.build_by_counters(np.zeros(kept.sum()), link[kept], l1a[kept], bcid[kept])
    np.testing.assert_array_equal(built.event, trigger[kept])


def test_duplicates_orphans_and_damaged_counters_are_counted():
    link, l1a, bcid, trigger = telescope(1000, 2, 0.0, 7)
    damaged = np.flatnonzero((link == 1) & (trigger == 100))
    lost = np.flatnonzero((link == 1) & (trigger == 200))
    bcid[damaged] ^= 4
    l1a[lost], bcid[lost] = (l1a[lost] + 77) % 256, (bcid[lost] + 1000) % 3564
    again = np.flatnonzero((link == 0) & (trigger == 300))
    order = np.insert(np.arange(link.size), again + 1, again)
    built = events.build_by_counters(np.zeros(order.size), link[order], l1a[order], bcid[order])
    truth = trigger[order].copy()
    truth[again + 1] = -1
    truth[lost] = -1
    np.testing.assert_array_equal(built.event, truth)
    assert built.n_events == 1000
    assert number(built, "duplicate", "packets") == 1
    assert number(built, "orphan", "packets") == 1
    assert number(built, "with a packet of which one counter differs", "events") == 1
    assert total(built, "packets") == order.size


@given(st.integers(0, 2**32 - 1), st.integers(0, 300), st.integers(1, 5), st.integers(1, 4))
def test_any_packets_are_all_accounted_for(seed, size, links, spread):
    rng = np.random.default_rng(seed)
    stream = np.sort(rng.integers(0, 3, size))
    columns = [rng.integers(0, high, size) for high in (links, 4**spread, 4096 if spread > 2 else 3)]
    built = events.build_by_counters(stream, *columns)
    assert total(built, "packets") == size
    used = built.event[built.event >= 0]
    assert np.unique(used).tolist() == list(range(built.n_events))
    # an event has one packet of a link, at most
    pairs = np.stack([built.event, columns[0]])[:, built.event >= 0]
    assert np.unique(pairs, axis=1).shape[1] == pairs.shape[1]


def test_packets_out_of_the_order_of_files_are_refused():
    with pytest.raises(UsageError, match="order"):
        events.build_by_counters([1, 0], [0, 0], [0, 1], [5, 6])


def test_frames_are_events():
    stream = [0, 0, 0, 0, 0, 0, 1]
    frame = [0, 0, 2, 2, 3, 3, 0]
    link = [0, 1, 0, 0, 0, 0, 5]
    l1a = [1, 1, 2, 2, 3, 4, 9]
    bcid = [7, 7, 8, 8, 9, 9, 1]
    built = events.build_by_frame(stream, link, frame, [10, 10, 12, 12, 13, 13, 900], l1a, bcid)
    assert built.event.tolist() == [0, 0, 1, -1, 2, 2, 3]
    assert number(built, "complete events", "events") == 2
    assert number(built, "event numbers left out by the read-out board", "events") == 1
    assert number(built, "with two packets of a link", "events") == 1
    assert total(built, "packets") == 7


def test_hits_take_the_events_of_their_packets():
    link, l1a, bcid = [0, 1, 0, 0, 1], [1, 1, 2, 2, 2], [5, 5, 6, 6, 6]
    packets_built = events.build_by_counters([0] * 5, link, l1a, bcid)
    assert packets_built.event.tolist() == [0, 0, 1, -1, 1]
    built = events.hits_of_packets(packets_built, [0] * 5, range(5), [0, 0, 0, 0, 1], [1, 1, 3, 4, 0])
    assert built.event.tolist() == [0, 0, -1, 1, -1]
    assert total(built, "hits") == 5
    assert number(built, "of a duplicate packet", "hits") == 1
    assert number(built, "without a packet", "hits") == 1
    assert events.event_counts(built).height == len(built.counts)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("keep", [True] * 8),
        ("drop", [True, False, False, False, True, True, True, True]),
        ("first", [True, False, True, False, True, True, True, True]),
        ("largest_tot", [True, True, False, False, True, True, True, True]),
    ],
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_one_hit_of_a_board(rule, expected, shuffled):
    event = np.array([0, 0, 0, 0, 1, 1, -1, -1])
    board = np.array([0, 1, 1, 1, 0, 1, 1, 1])
    toa = np.array([10, 20, 30, 30, 5, 5, 5, 5])
    tot = np.array([1, 9, 8, 9, 1, 1, 1, 1])
    order = np.array([4, 0, 6, 1, 2, 5, 3, 7]) if shuffled else np.arange(8)
    keep, counts = events.select_one_hit(event[order], board[order], toa[order], tot[order], rule)
    assert keep.tolist() == np.array(expected)[order].tolist()
    assert [count for *_, count in counts] == [1, 1, 8 - sum(expected)]


def test_an_unknown_rule_is_refused():
    with pytest.raises(UsageError, match="largest_tot"):
        events.select_one_hit([0], [0], [0], [0], "largest")
