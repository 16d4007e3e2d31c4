"""Broken streams: no decoder may fail, count wrongly, or lose packets that are whole.

Every example makes many streams, so that together they are more than 10,000.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.detectors.etroc.readout import words as w
from firstlight.detectors.etroc.readout.emulator import decode_emulator, looks_like_emulator
from firstlight.detectors.etroc.readout.kc705 import decode_kc705, looks_like_kc705
from firstlight.detectors.etroc.readout.packet_kernels import set_checksums
from firstlight.detectors.etroc.readout.tamalero import decode_tamalero, looks_like_tamalero

EXAMPLES, STREAMS = 140, 25  # for each of three formats: 10,500 streams
RANGES = {"row": 15, "col": 15, "toa": 1023, "tot": 511, "cal": 1023, "ea": 3}
CHIP = 3316
SEEDS = st.integers(0, 2**32 - 1)


def sound(decoded):
    """Check what must be true of the result of any stream."""
    assert sum(decoded.counters.values()) == decoded.n_words
    assert all(count > 0 for count in decoded.counters.values())
    n_packets = decoded.n_records
    for hits in (decoded.hits, decoded.facts["loose_hits"]):
        assert len({len(values) for values in hits.values()}) == 1
        for name, largest in RANGES.items():
            assert np.all(hits[name] <= largest), name
        assert np.all(hits["record"] < n_packets)
        assert np.all(np.diff(hits["record"].astype(int)) >= 0)
    assert {len(values) for values in decoded.packets.values()} == {n_packets}
    words = decoded.facts.get("payload_counters", decoded.counters)
    assert sum(words.values()) == decoded.facts.get("payload_words", decoded.n_words)
    told = [
        sum(count for name, count in words.items() if name.split(":")[0] == kind)
        for kind in ("header", "trailer")
    ]
    assert told[0] - words.get("header: more packets than channels", 0) == n_packets
    assert told[1] >= np.count_nonzero(decoded.packets["complete"])
    assert words.get("data", 0) == len(decoded.hits["toa"])
    assert words.get("header", 0) == words.get("trailer", 0) <= np.count_nonzero(decoded.packets["complete"])
    assert len(decoded.rejected) <= 20
    assert all(1 <= place <= decoded.n_words for place, _ in decoded.rejected)
    return decoded


def random_packets(rng, n, chip=CHIP):
    """Return 40-bit words of packets, and the first word of each."""
    sizes = rng.integers(0, 5, n)
    first = np.concatenate([[0], np.cumsum(sizes + 2)])
    words = np.zeros(first[-1], dtype=np.uint64)
    total = len(words)
    words[:] = w.data(
        rng.integers(0, 4, total), rng.integers(0, 16, total), rng.integers(0, 16, total),
        rng.integers(1, 1024, total), rng.integers(1, 512, total), rng.integers(0, 1024, total),
    )  # fmt: skip
    words[first[:-1]] = w.header(rng.integers(0, 256, n), 0, rng.integers(0, w.BCIDS, n))
    words[first[1:] - 1] = w.trailer(chip, 0, sizes)
    set_checksums(words, first)
    return words, first


def payloads(hits):
    """Return how often each hit stands in a list of hits."""
    whole = sum(hits[name].astype(np.int64) << shift for name, shift in
                (("ea", 37), ("col", 33), ("row", 29), ("toa", 19), ("tot", 10), ("cal", 0)))  # fmt: skip
    return np.unique(whole, return_counts=True)


def contains(hits, words):
    """Whether all data words are among the hits, as often."""
    have, counts = payloads(hits)
    need, at_least = np.unique(words.astype(np.int64) & ((1 << 39) - 1), return_counts=True)
    at = np.searchsorted(have, need)
    return bool(np.all(at < len(have)) and np.all(have[at] == need) and np.all(counts[at] >= at_least))


def mutated(rng, words, bits):
    """Flip bits, drop and repeat some words; return the words and which were touched."""
    words, touched = words.copy(), np.zeros(len(words), dtype=bool)
    repeats = np.ones(len(words), dtype=int)
    for at in rng.integers(0, len(words), rng.integers(1, 5)):
        touched[at] = True
        kind = rng.integers(0, 4)
        if kind < 2:
            words[at] ^= words.dtype.type(1) << words.dtype.type(rng.integers(0, bits))
        elif kind == 2:
            repeats[at] = 0
        else:
            repeats[at] = 2
    return np.repeat(words, repeats), touched


def untouched(touched, first):
    """Return which data words belong to packets of which no word was touched."""
    hit = np.add.reduceat(touched, first[:-1]) > 0
    data = np.ones(len(touched), dtype=bool)
    data[first[:-1]] = data[first[1:] - 1] = False
    return data & ~np.repeat(hit, np.diff(first))


def broken(rng, content):
    """Break bytes of a file anywhere: change, cut, add."""
    kind = rng.integers(0, 4)
    at = int(rng.integers(0, len(content) + 1))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + rng.bytes(int(rng.integers(1, 9))) + content[at:]
    if kind == 2:
        return content[:at] + content[at + int(rng.integers(1, 9)) :]
    changed = np.frombuffer(content, dtype=np.uint8).copy()
    places = rng.integers(0, len(changed), 5)
    changed[places] = rng.integers(0, 256, 5)
    return changed.tobytes()


@settings(max_examples=EXAMPLES)
@given(SEEDS)
def test_tamalero(seed):
    rng = np.random.default_rng(seed)
    words, first = random_packets(rng, 12)
    link = np.repeat(rng.choice([2, 12, 42], 12), np.diff(first))
    stream = w.record(words, link)
    given = dict.fromkeys((2, 12, 42), CHIP)
    for number in range(STREAMS):
        changed, touched = mutated(rng, stream, bits=64 if number % 2 else 40)
        content = changed.astype("<u8").tobytes()
        decoded = sound(decode_tamalero(content, chip_ids=given))
        assert contains(decoded.hits, words[untouched(touched, first)])
        if number % 5 == 0:
            sound(decode_tamalero(broken(rng, content), keep_bad_crc=number % 10 == 0))


@settings(max_examples=EXAMPLES)
@given(SEEDS)
def test_kc705(seed):
    rng = np.random.default_rng(seed)
    words, first = random_packets(rng, 12)
    frames, ends = [], [0]
    for event in range(6):
        payload = words[first[2 * event] : first[2 * event + 2]]
        hits = int(np.sum(payload >> np.uint64(39)))
        head = [0xC3A3C3A6, (1 << 28) | (event << 12) | (len(payload) << 2)]
        frames.append([*head, *w.payload_of(payload).tolist(), (0b001011 << 26) | (hits << 14)])
        ends.append(ends[-1] + len(frames[-1]))
    stream = np.array([word for each in frames for word in each], dtype=np.uint32)
    of_frame = np.repeat(np.arange(6), np.diff(first[::2]))
    data = (words >> np.uint64(39)) == 1
    for number in range(STREAMS):
        changed, touched = mutated(rng, stream, bits=32)
        content = changed.astype("<u4").tobytes()
        if number % 3 == 0:
            content = "".join(f"{word:032b}\n" for word in changed.tolist()).encode()
        decoded = sound(
            decode_kc705(
                content, start_at_event_zero=False, binary=number % 3 != 0, chip_ids={1: CHIP, 2: CHIP}
            )
        )
        whole = np.add.reduceat(touched, ends[:-1]) == 0
        assert contains(decoded.hits, words[data & whole[of_frame]])
        if number % 5 == 0:
            sound(decode_kc705(broken(rng, content), keep_bad_crc=number % 10 == 0))


@settings(max_examples=EXAMPLES)
@given(SEEDS)
def test_emulator(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 5, 12)
    first = np.concatenate([[0], np.cumsum(sizes + 2)])
    words = (1 << 38) | (rng.integers(0, 1 << 37, first[-1], dtype=np.int64) << 1)
    words[first[:-1]] = (0x3555555 << 12) | rng.integers(0, 3564, 12)
    words[first[1:] - 1] = (0x9555555 << 12) | (1 << 10) | (sizes << 1)
    parity = np.array([int(word).bit_count() & 1 for word in words])
    parity[first[:-1]] = 0
    words = (words | parity).astype(np.uint64)
    for number in range(STREAMS):
        changed, touched = mutated(rng, words, bits=40)
        content = "".join(f"{word:010x}\n" for word in changed.tolist()).encode()
        if number % 2:
            content = bytes.fromhex(content.decode())
        decoded = sound(decode_emulator(content, binary=bool(number % 2)))
        need = words[untouched(touched, first)]
        assert len(decoded.hits["toa"]) >= len(need)
        have = set(
            zip(*(decoded.hits[name].tolist() for name in ("row", "col", "toa", "tot", "cal")), strict=True)
        )
        fields = zip(*((need >> np.uint64(shift) & np.uint64(mask)).tolist() for shift, mask in
                       ((34, 15), (30, 15), (20, 1023), (11, 511), (1, 1023))), strict=True)  # fmt: skip
        assert set(fields) <= have
        if number % 5 == 0:
            sound(decode_emulator(broken(rng, content), keep_bad_crc=number % 10 == 0))


@settings(max_examples=100)
@given(st.binary(max_size=600), SEEDS)
def test_any_bytes(content, seed):
    rng = np.random.default_rng(seed)
    digits = rng.choice(np.frombuffer(b"01\n", dtype=np.uint8), 300, p=[0.5, 0.45, 0.05]).tobytes()
    marks = np.where(rng.random(60) < 0.3, 0xC3A3C3A1, rng.integers(0, 1 << 32, 60)).astype("<u4").tobytes()
    openings = (
        (rng.integers(0, 1 << 24, 40) | np.where(rng.random(40) < 0.5, 0x3C5C000000, 0))
        .astype("<u8")
        .tobytes()
    )
    for each in (content, digits, marks, openings, rng.bytes(512)):
        sound(decode_tamalero(each))
        sound(decode_kc705(each))
        sound(decode_kc705(each, binary=True, start_at_event_zero=False))
        sound(decode_emulator(each))
        sound(decode_emulator(each, binary=True))
        for looks in (looks_like_tamalero, looks_like_kc705, looks_like_emulator):
            assert looks(each) in (True, False)
