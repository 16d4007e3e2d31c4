"""Decoders of ETROC2 words: real files with known numbers, and streams with known faults."""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from firstlight.detectors.etroc.readout import words as w
from firstlight.detectors.etroc.readout.emulator import decode_emulator, looks_like_emulator
from firstlight.detectors.etroc.readout.kc705 import DEFAULT_CHIP, decode_kc705, looks_like_kc705
from firstlight.detectors.etroc.readout.packet_kernels import set_checksums
from firstlight.detectors.etroc.readout.packets import HIT_COLUMNS, PACKET_COLUMNS, warm_up
from firstlight.detectors.etroc.readout.tamalero import decode_tamalero, looks_like_tamalero
from firstlight.errors import InputError, UsageError

CHIP = 3316


DATA = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "etroc"


@pytest.fixture(scope="session")
def etroc():
    """Return the folder of the ETROC sample data."""
    if not DATA.is_dir():
        pytest.skip(f"sample data not found in {DATA}")
    return DATA


@pytest.fixture(scope="session")
def sps(etroc):
    """Return the folder of the beam-test files."""
    return etroc / "etroc2_tamalero_sps2025"


# ---------------------------------------------------------------- words


def remainder(content):
    """Return the CRC-8 by long division of polynomials."""
    value = int.from_bytes(content, "big") << 8
    for bit in range(value.bit_length() - 1, 7, -1):
        if (value >> bit) & 1:
            value ^= 0x12F << (bit - 8)
    return value


def test_checksum_is_the_remainder_of_the_polynomial():
    rng = np.random.default_rng(1)
    for size in (1, 2, 5, 40):
        content = rng.bytes(size)
        assert w.crc8(content) == remainder(content)


def test_words_of_real_bytes():
    # first packet of run 119192, e-link 12
    record = int.from_bytes(bytes.fromhex("a607035c3c0c0100"), "little")
    assert record == int(w.record(w.header(12, 0, 1958), 12, start=True))
    assert int.from_bytes(bytes.fromhex("0500003d030c0200"), "little") == int(
        w.record(w.trailer(CHIP, 0, 0, 5), 12, end=True)
    )
    assert w.crc_of_packet([w.header(12, 0, 1958), w.trailer(CHIP, 0, 0)]) == 5


def packet(l1a=0, bcid=0, hits=(), chip=CHIP, status=0, kind=0):
    """Return a packet of hits (ea, col, row, toa, tot, cal)."""
    each = [w.header(l1a, kind, bcid), *(w.data(*hit) for hit in hits), w.trailer(chip, status, len(hits))]
    each = [int(word) for word in each]
    return [*each[:-1], each[-1] | w.crc_of_packet(each)]


def random_hits(rng, n):
    return [tuple(int(rng.integers(0, top)) for top in (4, 16, 16, 1024, 512, 1024)) for _ in range(n)]


def records(words, link=12):
    return w.record(words, link).astype("<u8").tobytes()


def frame(event, *packets, channels=1, told=None):
    """Return the 32-bit words of an event frame."""
    words = [word for each in packets for word in each]
    hits = sum(word >> 39 for word in words) if told is None else told
    head = [0xC3A3C3A0 | channels, (1 << 28) | (event << 12) | (len(words) << 2)]
    return [*head, *w.payload_of(words).tolist(), (0b001011 << 26) | (hits << 14)]


def binary(*frames):
    return np.array([word for each in frames for word in each], dtype="<u4").tobytes()


def as_text(*frames):
    return "".join(f"{word:032b}\n" for each in frames for word in each).encode()


def rows(hits):
    return list(
        zip(*(hits[name].tolist() for name in ("ea", "col", "row", "toa", "tot", "cal")), strict=True)
    )


def adds_up(decoded):
    assert sum(decoded.counters.values()) == decoded.n_words
    assert {name: values.dtype for name, values in decoded.hits.items()} == HIT_COLUMNS
    assert {name: decoded.packets[name].dtype for name in PACKET_COLUMNS} == PACKET_COLUMNS
    assert all(len(values) == decoded.n_records for values in decoded.packets.values())
    payload = decoded.facts.get("payload_counters")
    assert payload is None or sum(payload.values()) == decoded.facts["payload_words"]
    return decoded


def test_packers_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="field of 10 bits"):
        w.data(0, 0, 0, 1024, 0, 0)


def test_set_checksums_equals_the_checksum_of_each_packet():
    rng = np.random.default_rng(2)
    packets = [packet(n, n, random_hits(rng, n)) for n in (0, 1, 7)]
    words = np.array(
        [word & ~255 if word == each[-1] else word for each in packets for word in each], dtype=np.uint64
    )
    set_checksums(words, np.cumsum([0, *map(len, packets)]))
    assert words.tolist() == [word for each in packets for word in each]


def test_test_pattern_says_the_place_twice():
    word = int(w.test_pattern(0, 5, 9, 100, 17))
    assert ((word >> 33) & 15, (word >> 25) & 15) == (5, 5)
    assert ((word >> 29) & 15, (word >> 21) & 15, (word >> 9) & 0xFFF, word & 511) == (9, 9, 100, 17)


# ---------------------------------------------------------------- TAMALERO, real files


def test_sps_files_have_the_numbers_of_the_reference(sps):
    expected = {
        entry["file"]: entry
        for entry in json.loads((sps / "reference" / "expected_decode_these14files.json").read_text())
    }
    total = Counter()
    files = sorted(sps.glob("*.dat"))
    assert len(files) == 14
    for path in files:
        decoded = adds_up(decode_tamalero(path))
        entry = expected[path.name]
        assert decoded.n_words == entry["words"]
        assert decoded.n_records == entry["headers"]
        assert np.count_nonzero(decoded.packets["complete"]) == entry["complete"]
        assert decoded.packets["crc_ok"].sum() == entry["complete"]
        assert len(decoded.hits["toa"]) == entry["hits_in_events"]
        links = decoded.facts["links"]
        assert {str(link): [counts["headers"], counts["hits"]] for link, counts in links.items()} == entry[
            "by_elink"
        ]
        assert set(decoded.facts["chip_ids"].values()) <= {CHIP}
        left = decoded.hits["link"] == 12
        assert np.all((decoded.hits["col"] >= 8) == left)
        total.update(decoded.counters)
    assert total == {"header": 96824, "data": 15884, "trailer": 96824, "header: no trailer": 4}


@pytest.mark.parametrize("run", [119192, 121733, 121734])
@pytest.mark.parametrize(("port", "link"), [("L", 12), ("R", 42)])
def test_hits_equal_those_of_the_reference_decoder(sps, run, port, link):
    decoded = decode_tamalero(sps / f"output_run_{run}_rb0.dat")
    with (sps / "reference" / f"output_run_{run}_rb0_Port_{port}_hit_stream.csv").open() as stream:
        reference = list(csv.DictReader(stream))
    of_link = decoded.hits["link"] == link
    hits = {name: values[of_link] for name, values in decoded.hits.items()}
    event = np.cumsum(decoded.packets["link"] == link)[hits["record"]] - 1
    whole = {
        "EventID": event,
        "Row": hits["row"],
        "Col": hits["col"],
        "CAL_Code": hits["cal"],
        "EA_Code": hits["ea"],
    }
    for name, values in whole.items():
        assert values.tolist() == [int(row[name]) for row in reference], name
    some = hits["cal"] > 0
    width = 3.125 / np.where(some, hits["cal"], 1)
    tot = hits["tot"].astype(int)
    told = np.array([(float(row["TOA_ns"]), float(row["TOT_ns"])) for row in reference])
    assert np.allclose((width * hits["toa"])[some], told[some, 0], atol=1e-6)
    assert np.allclose((width * (2 * tot - tot // 32))[some], told[some, 1], atol=1e-6)


def test_file_of_no_bytes_is_an_empty_run():
    for decoded in (
        decode_tamalero(b""),
        decode_kc705(b""),
        decode_kc705(b"", binary=True),
        decode_emulator(b""),
    ):
        adds_up(decoded)
        assert decoded.n_words == decoded.n_records == 0
        assert len(decoded.hits["toa"]) == 0


def test_emulator_file_through_tamalero(etroc):
    decoded = adds_up(decode_tamalero(etroc / "etroc2_emulator_tamalero" / "output_example.dat"))
    assert decoded.n_words == 17085
    assert decoded.counters == {
        "header": 5091, "header: no trailer": 1,
        "data": 6872, "data: no header": 10, "data: no trailer": 2,
        "trailer": 5091, "trailer: no header": 18,
    }  # fmt: skip
    assert {
        link: (counts["headers"], counts["hits"]) for link, counts in decoded.facts["links"].items()
    } == {2: (1704, 3400), 6: (1698, 3472), 44: (1690, 0)}  # fmt: skip
    assert decoded.facts["status"][8] == 227
    assert set(decoded.facts["chip_ids"].values()) == {0x1ABCD}
    assert set(decoded.packets["type"].tolist()) == {1}
    assert decoded.facts["test_patterns"] == 5092
    assert len(decoded.facts["loose_hits"]["toa"]) == 2
    assert len(decoded.rejected) == 20
    assert decoded.rejected[0] == (237, "data: no header")


# ---------------------------------------------------------------- packets with faults


def test_fields_survive():
    rng = np.random.default_rng(3)
    hits = random_hits(rng, 50)
    decoded = adds_up(decode_tamalero(records(packet(200, 3563, hits, status=8, kind=1), 44)))
    assert rows(decoded.hits) == hits
    assert {name: values[0] for name, values in decoded.packets.items() if name != "crc"} == {
        "link": 44, "l1a": 200, "type": 1, "bcid": 3563, "chip_id": CHIP, "status": 8, "hits_told": 50, "hits_found": 50,
        "crc_ok": True, "complete": True,
    }  # fmt: skip


def test_links_may_interleave():
    rng = np.random.default_rng(4)
    alone = {link: [packet(n, n, random_hits(rng, n % 4)) for n in range(30)] for link in (3, 12, 42)}
    queues = {link: [word for each in packets for word in each] for link, packets in alone.items()}
    content, waiting = b"", dict.fromkeys(queues, 0)
    while waiting:
        link = int(rng.choice(list(waiting)))
        content += records([queues[link][waiting[link]]], link)
        waiting[link] += 1
        if waiting[link] == len(queues[link]):
            del waiting[link]
    decoded = adds_up(decode_tamalero(content))
    assert decoded.counters.keys() == {"header", "data", "trailer"}
    assert np.all(np.diff(decoded.hits["record"].astype(int)) >= 0)
    for link, packets in alone.items():
        own = decode_tamalero(records([word for each in packets for word in each], link))
        of_link = decoded.hits["link"] == link
        assert rows({name: values[of_link] for name, values in decoded.hits.items()}) == rows(own.hits)
        assert decoded.packets["link"][decoded.hits["record"][of_link]].tolist() == [link] * int(
            of_link.sum()
        )


def test_packet_of_256_hits_tells_0():
    rng = np.random.default_rng(5)
    decoded = decode_tamalero(records(packet(0, 0, random_hits(rng, 256))))
    assert decoded.packets["hits_told"][0] == 0
    assert decoded.packets["hits_found"][0] == 256
    assert len(decoded.hits["toa"]) == 256


def stream_with(change, n=20):
    """Return a stream of packets of two hits, of which the fifth is changed."""
    rng = np.random.default_rng(6)
    packets = [packet(k, k, random_hits(rng, 2)) for k in range(n)]
    packets[4] = change(packets[4])
    return records([word for each in packets for word in each])


@pytest.mark.parametrize(
    ("change", "counters", "complete"),
    [
        (lambda p: p[1:], {"data: no header": 2, "trailer: no header": 1}, 19),
        (lambda p: p[:-1], {"header: no trailer": 1, "data: no trailer": 2}, 19),
        (lambda p: [p[0], p[1] ^ 4, *p[2:]], {"header: wrong checksum": 1, "data: wrong checksum": 2, "trailer: wrong checksum": 1}, 20),
        (lambda p: [p[0], p[1], p[3]], {"header: wrong checksum": 1, "data: wrong checksum": 1, "trailer: wrong checksum": 1}, 20),
        (lambda p: [*p[:3], p[3] ^ 1 << 30], {"header: no trailer": 1, "data: no trailer": 2, "trailer: unknown chip": 1}, 19),
        (lambda p: [p[0], p[1] ^ 1 << 39, *p[2:]],
         {"header: wrong checksum": 1, "data: wrong checksum": 1, "trailer: wrong checksum": 1, "trailer: unknown chip": 1}, 20),
        (lambda p: [p[0] ^ 1 << 39, *p[1:]], {"data: no header": 3, "trailer: no header": 1}, 19),
        (lambda p: [*p[:2], int(w.frame_filler(3)), int(w.firmware_filler(9)), *p[2:]], {"filler": 2}, 20),
        (lambda p: [*p[:2], 0, 256, *p[2:]], {"FIFO empty": 2}, 20),
        (lambda p: [*p, 0x3C5C000000 | 1 << 22], {"unknown word": 1}, 20),
    ],
    ids=["header lost", "trailer lost", "bit in data", "data lost", "bit in chip", "data as trailer", "header as data", "fillers", "empty", "unknown"],
)  # fmt: skip
def test_faults_are_counted(change, counters, complete):
    decoded = adds_up(decode_tamalero(stream_with(change)))
    assert {
        name: count for name, count in decoded.counters.items() if name not in ("header", "data", "trailer")
    } == counters
    assert np.count_nonzero(decoded.packets["complete"]) == complete
    lost = any(":" in name for name in counters)
    assert len(decoded.hits["toa"]) == (38 if lost else 40)


def test_wrong_hit_count_with_right_checksum():
    each = packet(0, 0, random_hits(np.random.default_rng(7), 3))
    each[-1] = (each[-1] & ~0xFFFF) | 2 << 8
    each[-1] |= w.crc_of_packet(each)
    decoded = adds_up(decode_tamalero(records(each)))
    assert decoded.counters == {
        "header: wrong hit count": 1, "data: wrong hit count": 3, "trailer: wrong hit count": 1,
    }  # fmt: skip
    assert decoded.packets["crc_ok"].all()
    assert len(decoded.facts["loose_hits"]["toa"]) == 3
    assert len(decode_tamalero(records(each), keep_bad_crc=True).hits["toa"]) == 3


def test_bad_packets_can_be_kept():
    content = stream_with(lambda p: [p[0], p[1] ^ 4, *p[2:]])
    decoded = adds_up(decode_tamalero(content, keep_bad_crc=True))
    assert decoded.counters == {"header": 20, "data": 40, "trailer": 20}
    assert np.count_nonzero(~decoded.packets["crc_ok"]) == 1


def test_given_chip_number_decides():
    content = stream_with(lambda p: p)
    assert len(decode_tamalero(content, chip_ids={12: CHIP}).hits["toa"]) == 40
    other = adds_up(decode_tamalero(content, chip_ids={12: 77}))
    assert other.counters["trailer: unknown chip"] == 20
    assert len(other.hits["toa"]) == 0
    assert len(other.facts["loose_hits"]["toa"]) == 40
    with pytest.raises(UsageError, match="chip number"):
        decode_tamalero(content, chip_ids={12: 1 << 17})


def test_bytes_after_the_last_record_are_counted():
    content = stream_with(lambda p: p)
    decoded = adds_up(decode_tamalero(content + b"\x01\x02\x03"))
    assert decoded.counters["incomplete record"] == 1
    assert decoded.rejected[-1] == (81, "incomplete record")
    cut = adds_up(decode_tamalero(content[:-3]))
    assert cut.counters == {
        "header": 19, "data": 38, "trailer": 19, "header: no trailer": 1, "data: no trailer": 2, "incomplete record": 1,
    }  # fmt: skip


def test_flags_are_counted():
    content = np.frombuffer(stream_with(lambda p: p), dtype="<u8").copy()
    content[3] |= np.uint64(1 << 50)
    content[5] |= np.uint64(3 << 52)
    flags = decode_tamalero(content.tobytes()).facts["flags"]
    assert (flags["full"], flags["any full"], flags["global full"]) == (1, 0, 1)
    assert flags["headers without start flag"] == 20


def test_missing_file_is_told(tmp_path):
    for decode in (decode_tamalero, decode_kc705, decode_emulator):
        with pytest.raises(InputError, match="No such file"):
            decode(tmp_path / "none.dat")


# ---------------------------------------------------------------- KC705


BROKEN = ("C9R1", "C10R1")


def lines_of(decoded):
    """Return the lines of the collaboration's text of 2024."""
    lines, frames, packets = [], decoded.facts["frames"], decoded.packets
    hits = {
        name: np.concatenate([decoded.hits[name], decoded.facts["loose_hits"][name]]) for name in decoded.hits
    }
    order = np.argsort(hits["record"], kind="stable")
    of_record = {}
    for at in order.tolist():
        of_record.setdefault(int(hits["record"][at]), []).append(at)
    of_frame = {}
    for record, number in enumerate(packets["frame"].tolist()):
        of_frame.setdefault(number, []).append(record)
    for number, event in enumerate(frames["frame_event"].tolist()):
        if frames["state"][number] != 0:
            continue
        lines.append(
            f"EH {frames['version'][number]:04b} {event} {frames['hits_told'][number]} {frames['n_words'][number]}"
        )
        for record in of_frame.get(number, []):
            own = {name: values[record] for name, values in packets.items()}
            lines.append(f"H {own['link']} {own['l1a']} {own['type']:02b} {own['bcid']}")
            lines.extend(
                "D "
                + " ".join(str(hits[name][at]) for name in ("link", "ea", "row", "col", "toa", "tot", "cal"))
                for at in of_record.get(record, [])
            )
            if own["complete"]:
                lines.append(f"T {own['link']} {own['status']} {own['hits_told']} {own['crc']}")
        lines.append(f"ET {event}")
    return lines


def test_probe_files_give_the_lines_of_the_collaboration(etroc):
    runs = sorted(path.parent for path in (etroc / "etroc2_probe_qinj_jan2024").glob("*/TDC_Data_0.dat"))
    assert len(runs) == 11
    expected = {
        name.split("/")[1]: entry
        for name, entry in json.loads(
            (etroc / "etroc2_probe_qinj_jan2024" / "expected.json").read_text()
        ).items()
    }
    for run in runs:
        decoded = adds_up(decode_kc705(run / "TDC_Data_0.dat"))
        assert lines_of(decoded) == (run / "TDC_Data_translated_0.nem").read_text().split("\n")[:-1], run.name
        unknown = decoded.facts["payload_counters"].get("trailer: unknown chip", 0)
        assert unknown == any(f"_{die}_" in run.name for die in BROKEN)
        assert decoded.facts["chip_ids"] == {0: DEFAULT_CHIP}
        assert decoded.facts["wrong_hit_counts"] == 0
        entry = expected.get(run.name.split("__")[1])
        if entry is not None and "toa_mean" in entry:
            here = (decoded.hits["row"] == entry["pix"][0]) & (decoded.hits["col"] == entry["pix"][1])
            assert np.count_nonzero(here) == entry["n"]
            assert decoded.hits["toa"][here].mean() == pytest.approx(entry["toa_mean"], abs=6e-5)
            assert decoded.hits["toa"][here].std(ddof=1) == pytest.approx(entry["toa_std"], abs=6e-5)
            assert decoded.hits["cal"][here].mean() == pytest.approx(entry["cal_mean"], abs=6e-5)


def some_frames(n=6, per_frame=2):
    rng = np.random.default_rng(8)
    return [
        frame(event, *(packet(event, event, random_hits(rng, 3)) for _ in range(per_frame)), channels=0b1010)
        for event in range(n)
    ]


def test_binary_and_text_are_the_same():
    frames = some_frames()
    first, second = adds_up(decode_kc705(binary(*frames))), adds_up(decode_kc705(as_text(*frames)))
    assert (first.facts["binary"], second.facts["binary"]) == (True, False)
    assert first.counters == second.counters == {"frame header": 12, "payload": 6 * 13, "frame trailer": 6}
    assert rows(first.hits) == rows(second.hits)
    assert len(first.hits["toa"]) == 36
    assert first.packets["link"].tolist() == [1, 3] * 6
    assert first.packets["frame_event"].tolist() == np.repeat(np.arange(6), 2).tolist()


@pytest.mark.parametrize(
    "change", [lambda t: t.replace(b"\n", b"\r\n"), lambda t: t[:-1], lambda t: t + b"\n \r\n\n"]
)
def test_line_ends_do_not_matter(change):
    plain = as_text(*some_frames())
    assert decode_kc705(change(plain)).counters == decode_kc705(plain).counters


def test_frames_left_in_buffers_are_ignored():
    early = [frame(event, packet(1, 1, [(0, 1, 2, 3, 4, 5)])) for event in (700, 701)]
    late = [frame(event, packet(2, 2, [(0, 6, 7, 8, 9, 10)])) for event in (1, 2, 0)]
    content = binary([0x55550001], *early, *late)
    decoded = adds_up(decode_kc705(content))
    assert decoded.counters["before event 0 or 1"] == 1 + 2 * len(early[0])
    assert decoded.facts["frames"]["frame_event"].tolist() == [1, 2, 0]
    assert decoded.facts["frames"]["line"][0] == 2 + 2 * len(early[0])
    assert rows(decoded.hits) == [(0, 6, 7, 8, 9, 10)] * 3
    everything = adds_up(decode_kc705(content, start_at_event_zero=False))
    assert len(everything.hits["toa"]) == 5
    assert everything.counters["filler"] == 1
    nothing = adds_up(decode_kc705(binary(*early)))
    assert nothing.counters == {"before event 0 or 1": 2 * len(early[0])}


def test_faults_of_frames_are_counted():
    frames = some_frames()
    whole = decode_kc705(binary(*frames))
    no_trailer = adds_up(decode_kc705(binary(*frames[:2], frames[2][:-1], *frames[3:])))
    assert no_trailer.counters["frame header: no frame trailer"] == 2
    assert rows(no_trailer.hits) == rows(whole.hits)
    cut = adds_up(decode_kc705(binary(*frames[:2], frames[2][:7], *frames[3:])))
    assert cut.counters["frame header: frame cut"] == 2
    assert cut.counters["payload: frame cut"] == 5
    assert cut.facts["frame_states"] == {"complete": 5, "cut": 1}
    assert len(cut.hits["toa"]) == 30
    end = adds_up(decode_kc705(binary(*frames)[:-6]))
    assert end.counters["incomplete word"] == 1
    assert end.facts["frame_states"] == {"complete": 5, "cut": 1}
    fillers = adds_up(
        decode_kc705(binary(frames[0], [0x55551234, 0x55612345, 0x55912345, 7, 0x2C000000], *frames[1:]))
    )
    assert (fillers.counters["filler"], fillers.counters["outside frames"]) == (3, 1)
    assert fillers.counters["frame trailer: no frame header"] == 1
    lonely = adds_up(decode_kc705(binary(frames[0], [0xC3A3C3A1], *frames[1:])))
    assert lonely.counters["frame header: no second word"] == 1
    assert rows(lonely.hits) == rows(whole.hits)


def test_hit_count_of_the_frame_is_checked():
    each = packet(0, 0, [(0, 1, 2, 3, 4, 5)])
    decoded = adds_up(decode_kc705(binary(frame(0, each), frame(1, each, told=2))))
    assert decoded.counters["frame trailer: wrong hit count"] == 1
    assert decoded.facts["wrong_hit_counts"] == 1
    assert decoded.facts["frames"]["hits_found"].tolist() == [1, 1]
    assert decoded.facts["frames"]["hits_told"].tolist() == [1, 2]


def test_frames_without_packets_are_told():
    decoded = adds_up(decode_kc705(binary(frame(0), frame(1, packet()), frame(2), frame(3))))
    assert decoded.facts["frames"]["n_words"].tolist() == [0, 2, 0, 0]
    assert decoded.packets["frame"].tolist() == [1]


def test_lost_header_keeps_the_channels_in_order():
    rng = np.random.default_rng(9)
    packets = [packet(n, n, random_hits(rng, 1)) for n in range(3)]
    decoded = adds_up(
        decode_kc705(
            binary(frame(0, packets[0][1:], *packets[1:], channels=0b0111)),
            chip_ids=dict.fromkeys(range(4), CHIP),
        )
    )
    assert decoded.packets["link"].tolist() == [1, 2]
    assert decoded.facts["payload_counters"]["trailer: no header"] == 1
    surplus = adds_up(decode_kc705(binary(frame(0, *packets, channels=0b0100)), chip_ids={2: CHIP}))
    assert surplus.packets["link"].tolist() == [2]
    assert surplus.facts["payload_counters"]["header: more packets than channels"] == 2


def test_bad_lines_are_told_with_their_number():
    lines = as_text(*some_frames()).split(b"\n")
    lines[20] = b"what is this"
    decoded = adds_up(decode_kc705(b"\n".join(lines)))
    assert decoded.counters["not 32 characters 0 or 1"] == 1
    assert (21, "not 32 characters 0 or 1") in decoded.rejected
    assert decoded.facts["frame_states"]["complete"] == 5


# ---------------------------------------------------------------- early emulator


def test_early_emulator_file(etroc):
    path = etroc / "etroc2_emulator_early40bit" / "dump.txt"
    decoded = adds_up(decode_emulator(path))
    assert decoded.counters == {"header": 143, "data": 313, "trailer": 143}
    assert decoded.n_words == 599
    assert decoded.packets["complete"].all()
    assert decoded.packets["crc_ok"].all()
    assert np.array_equal(decoded.packets["hits_told"], decoded.packets["hits_found"])
    raw = bytes.fromhex(path.read_text())
    again = adds_up(decode_emulator(raw))
    assert again.facts["binary"]
    assert rows(again.hits) == rows(decoded.hits)
    # second line: 51 c7 8f 56 9e
    word = 0x51C78F569E
    first = [
        (word >> 30) & 15,
        (word >> 34) & 15,
        (word >> 20) & 1023,
        (word >> 11) & 511,
        (word >> 1) & 1023,
    ]
    assert rows(decoded.hits)[0] == (0, *first)
    assert first[:2] == [7, 4]


def test_faults_of_the_early_emulator_are_counted(etroc):
    lines = (etroc / "etroc2_emulator_early40bit" / "dump.txt").read_text().splitlines()[:20]
    assert lines[1].startswith("51")
    whole = decode_emulator("\n".join(lines).encode())
    assert whole.n_words == 20
    assert len(whole.hits["toa"]) == whole.counters["data"]
    parity = adds_up(decode_emulator("\n".join([lines[0], "51 c7 8f 56 9f", *lines[2:]]).encode()))
    assert parity.counters["data: wrong parity"] == 1
    assert len(parity.hits["toa"]) == len(whole.hits["toa"]) - 1
    assert not parity.packets["crc_ok"][0]
    lost = adds_up(decode_emulator("\n".join([lines[0], *lines[2:]]).encode()))
    assert lost.counters["header: wrong hit count"] == 1
    no_header = adds_up(decode_emulator("\n".join(lines[1:]).encode()))
    assert no_header.counters["data: no header"] == 2
    assert no_header.counters["trailer: no header"] == 1
    strange = adds_up(
        decode_emulator("\n".join([*lines, "c0 0a aa aa aa", "", "zz", "00 00 00 00 00"]).encode())
    )
    assert (strange.counters["filler"], strange.counters["blank line"]) == (1, 1)
    assert (strange.counters["not five hexadecimal bytes"], strange.counters["unknown word"]) == (1, 1)


# ---------------------------------------------------------------- which format


def test_formats_are_told_apart(etroc):
    kinds = (looks_like_tamalero, looks_like_kc705, looks_like_emulator)
    frames = some_frames()
    known = [
        (etroc / "etroc2_emulator_tamalero" / "output_example.dat", 0),
        *((path, 0) for path in (etroc / "etroc2_tamalero_sps2025").glob("*.dat") if path.stat().st_size),
        *((path, 1) for path in (etroc / "etroc2_probe_qinj_jan2024").glob("*/*.dat")),
        (etroc / "etroc2_emulator_early40bit" / "dump.txt", 2),
    ]  # fmt: skip
    contents = [(path.read_bytes()[:65536], kind) for path, kind in known]
    contents += [(binary(*frames), 1), (as_text(*frames), 1), (stream_with(lambda p: p), 0)]
    contents.append((bytes.fromhex(known[-1][0].read_text()), 2))
    for content, kind in contents:
        assert [bool(looks(content)) for looks in kinds] == [number == kind for number in range(3)]


def test_other_files_are_not_of_these_formats(etroc):
    kinds = (looks_like_tamalero, looks_like_kc705, looks_like_emulator)
    rng = np.random.default_rng(10)
    others = [path for path in etroc.rglob("*") if path.suffix in (".nem", ".txt", ".csv", ".json", ".md")]
    others = [path for path in others if path.name != "dump.txt"][:60]
    contents = [path.read_bytes()[:65536] for path in others]
    contents += [rng.bytes(size) for size in (0, 1, 8, 40, 1000, 65536)] + [
        bytes(8000),
        b"\n" * 100,
        b"\xff" * 8000,
    ]
    for content in contents:
        assert not any(looks(content) for looks in kinds)


def test_large_files_are_fast():
    warm_up()
    hits = [(0, 1, 2, 3, 4, 5)]
    rates = []
    for content, decode in (
        (records(packet(1, 2, hits) * 300_000), decode_tamalero),
        (binary(frame(0, packet(1, 2, hits))) * 150_000, decode_kc705),
        (as_text(frame(0, packet(1, 2, hits))) * 150_000, decode_kc705),
    ):
        times = []
        for _ in range(3):
            start = time.process_time()
            decoded = decode(content)
            times.append(time.process_time() - start)
        rates.append(decoded.n_words / min(times) / 1e6)
    # measured 20 to 40; a fifth of it leaves room for slow machines
    assert min(rates) > 4, rates
