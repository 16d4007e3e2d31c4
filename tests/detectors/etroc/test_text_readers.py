"""Text readers: sample files against independent parses, dialects written by hand, and text that is broken on purpose."""

from __future__ import annotations

import io
import json
from calendar import timegm
from datetime import date
from time import strptime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.detectors.etroc.readout.beam import decode_beam, looks_like_beam
from firstlight.detectors.etroc.readout.injection_text import decode_injection, looks_like_injection
from firstlight.detectors.etroc.readout.kc705 import decode_kc705
from firstlight.detectors.etroc.readout.lines import WORD, as_bytes, read_columns
from firstlight.detectors.etroc.readout.names import no_template, pixel_place, read_name
from firstlight.detectors.etroc.readout.nem import decode_nem, looks_like_nem, write_nem
from firstlight.detectors.etroc.readout.raw32 import (
    decode_debug,
    decode_raw32,
    looks_like_debug,
    looks_like_raw32,
)
from firstlight.detectors.etroc.readout.words import crc_of_packet, data, header, trailer
from firstlight.errors import ConfigError, InputError, UsageError

CODES = ("toa", "tot", "cal")


@pytest.fixture(scope="session")
def etroc(sample_data):
    folder = sample_data / "etroc"
    if not folder.is_dir():
        pytest.skip(f"no ETROC sample data in {sample_data}")
    return folder


@pytest.fixture(scope="session")
def beam_file(etroc):
    return etroc / "synthetic_etroc1_telescope" / "F9P5_F11P5_F5P5_Beam_0.txt"


def same_hits(one, other):
    return one.hits.keys() == other.hits.keys() and all(
        np.array_equal(one.hits[name], other.hits[name]) for name in one.hits
    )


def adds_up(decoded, content: bytes):
    lines = [line for line in content.split(b"\n") if line.strip(b" \t\r\x0b\x0c")]
    assert decoded.n_words == len(lines) == sum(decoded.counters.values())
    sizes = {len(values) for values in decoded.hits.values()}
    assert len(sizes) == 1
    assert np.all(np.diff(decoded.hits["record"].astype(int)) >= 0)
    for number, reason in decoded.rejected:
        assert content.split(b"\n")[number - 1].strip()
        assert decoded.counters[reason] > 0


# ---------------------------------------------------------------- beam


def test_beam_sample_equals_an_independent_parse(beam_file):
    lines = beam_file.read_text().splitlines()
    rows = [line.split() for line in lines[1:]]
    decoded = decode_beam(beam_file)
    assert decoded.n_words == 58803
    assert decoded.counters == {"hit": 58802, "header line": 1}
    assert decoded.facts["header"] == "min file index: 0, max file index: 99"
    for column, name in enumerate(("link", "toa", "tot", "cal", "hit_flag")):
        assert np.array_equal(decoded.hits[name], [int(row[column]) for row in rows]), name
    stamps = [timegm(strptime(f"{row[5]} {row[6]}", "%Y-%m-%d %H:%M:%S")) for row in rows[::500]]
    assert decoded.hits["time"][::500].tolist() == stamps
    assert decoded.facts["links"] == [0, 1, 3]


def test_beam_same_hits_however_lines_end(beam_file):
    content = beam_file.read_bytes()
    clean = decode_beam(content)
    bare = content.split(b"\n", 1)[1]
    variants = {
        "no header": bare,
        "CRLF": content.replace(b"\n", b"\r\n"),
        "trailing blanks": content + b"\n   \n\n",
        "no final newline": content.rstrip(b"\n"),
        "tabs": bare.replace(b" ", b"\t"),
        "merged with log lines": content[: content.index(b"\n", 20000) + 1] + content[:38] + content[content.index(b"\n", 20000) + 1 :],
    }  # fmt: skip
    for name, variant in variants.items():
        assert same_hits(decode_beam(variant), clean), name
    assert decode_beam(variants["merged with log lines"]).counters["header line"] == 2
    alone = decode_beam(b"min file index: 0, max file index: 99\n")
    assert alone.n_records == 0
    assert alone.counters == {"header line": 1}
    assert alone.facts["header"].startswith("min file index")


def test_beam_counts_every_line_by_reason():
    good = b"0 273 75 139 1 2022-04-09 01:18:00\n"
    cases = {
        b"0 273 75 139 1\n": "not 7 columns",
        b"0 273 75 139 1 2022-04-09 01:18:00 4\n": "not 7 columns",
        b"0 27x 75 139 1 2022-04-09 01:18:00\n": "not a number",
        b"0 27\x003 75 139 1 2022-04-09 01:18:00\n": "not a number",
        b"0 1.5 75 139 1 2022-04-09 01:18:00\n": "not a number",
        b"0 273 75 139 1 2022-02-29 01:18:00\n": "not a number",
        b"0 273 75 139 1 2022-04-09 24:18:00\n": "not a number",
        b"256 273 75 139 1 2022-04-09 01:18:00\n": "board out of range",
        b"0 1024 75 139 1 2022-04-09 01:18:00\n": "TOA out of range",
        b"0 273 512 139 1 2022-04-09 01:18:00\n": "TOT out of range",
        b"0 273 75 -1 1 2022-04-09 01:18:00\n": "CAL out of range",
        b"0 " + b"9" * 300 + b" 75 139 1 2022-04-09 01:18:00\n": "TOA out of range",
        b"0 18446744073709551888 75 139 1 2022-04-09 01:18:00\n": "TOA out of range",  # 273 modulo 2^64
        b"0 273 75 139 2 2022-04-09 01:18:00\n": "hit flag out of range",
    }
    for line, reason in cases.items():
        decoded = decode_beam(good + line + good)
        assert decoded.counters == {"hit": 2, reason: 1}, line
        assert decoded.rejected == ((2, reason),)
    flags = decode_beam(good + good.replace(b" 1 2022", b" 0 2022") + b"\n")
    assert flags.hits["hit_flag"].tolist() == [True, False]
    assert flags.facts["hit_flag_0"] == 1


@given(st.dates(date(1970, 1, 1), date(2199, 12, 31)), st.integers(0, 86399), st.integers(0, 10**6))
def test_date_and_time_as_in_the_standard_library(day, second, fraction):
    text = f"{day.isoformat()} {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    decoded = decode_beam(f"0 1 2 3 1 {text}\n0 1 2 3 1 {text}.{fraction}".encode())
    expected = timegm(strptime(text, "%Y-%m-%d %H:%M:%S"))
    assert decoded.hits["time"].tolist() == [expected, expected]


# ---------------------------------------------------------------- charge injection, raw words, single boards


def test_charge_injection_sample(etroc):
    files = sorted((etroc / "synthetic_etroc1_charge_injection").glob("*.dat"))
    hits, first_splits, below = 0, 0, 0
    for path in files:
        decoded, fields = decode_injection(path), read_name(path.name)
        assert looks_like_injection(path.read_bytes()[:4096], path.name)
        assert decoded.counters == ({"hit": decoded.n_words} if decoded.n_words else {})
        assert fields.kind == "injection"
        hits += decoded.n_records
        first_splits += decoded.n_records * (fields.split == 0)
        below += int(np.sum(decoded.hits["cal"] < 200))
    assert (len(files), hits, first_splits, below) == (140, 70188, 57322, 69877)
    assert len({read_name(path.name).run for path in files}) == 104
    path = max(files, key=lambda each: each.stat().st_size)
    expected = np.loadtxt(path, dtype=int, ndmin=2)
    decoded = decode_injection(path)
    assert np.array_equal(
        np.stack([decoded.hits[name] for name in ("link", *CODES, "hit_flag")], axis=1), expected
    )


def test_empty_charge_injection_file_has_no_hits():
    decoded = decode_injection(b"")
    assert decoded.n_words == decoded.n_records == 0
    assert decoded.hits["toa"].shape == (0,)
    assert looks_like_injection(
        b"", "TDC_Data_PhaseAdj0_F9P5_QSel0_DAC535_F11P5_QSel1_DAC4_F5P5_QSel0_DAC7_Split_0.dat"
    )
    assert not looks_like_injection(b"", "run.dat")


def test_raw32_sample(etroc):
    folder = etroc / "synthetic_etroc1_raw32"
    expected = json.loads((folder / "expected.json").read_text())
    path = next(folder.glob("*.dat"))
    decoded = decode_raw32(path)
    assert {str(b): int(np.sum(decoded.hits["link"] == b)) for b in (0, 1, 3)} == expected["hits"]
    assert decoded.counters == {
        "hit": sum(expected["hits"].values()), "filler": expected["zero_lines"], "board 2": expected["board2_words"],
        "hit flag 0": expected["hitflag0_words"],
    }  # fmt: skip
    assert decoded.n_words == expected["lines"]
    assert [int(decoded.hits[name].sum()) for name in CODES] == [expected[f"sum_{name}"] for name in CODES]
    bits = "".join(f"{int(line):032b}\r\n" for line in path.read_text().split()).encode()
    assert same_hits(decode_raw32(bits), decoded)
    assert looks_like_raw32(bits[:4096], "x.dat")
    assert looks_like_raw32(path.read_bytes()[:4096], "x.dat")


def test_raw32_fields_and_reasons():
    word = 3 << 30 | 99 << 21 | 700 << 11 | 140 << 1 | 1
    decoded = decode_raw32(f"{word}\n{word:032b}\n{2**32}\n-4\nabc\n1 2\n{'2' * 32}\n".encode())
    assert [decoded.hits[name].tolist() for name in ("link", *CODES)] == [
        [3, 3],
        [700] * 2,
        [99] * 2,
        [140] * 2,
    ]
    assert decoded.counters == {"hit": 2, "word out of range": 3, "not a number": 1, "not 1 column": 1}


def test_single_board_text(tmp_path):
    decoded = decode_debug(b"300 100 140 1\n301 101 141 0\n1024 1 1 1\n", board=3)
    assert decoded.hits["link"].tolist() == [3, 3]
    assert decoded.hits["tot"].tolist() == [100, 101]
    assert decoded.hits["hit_flag"].tolist() == [True, False]
    assert decoded.counters == {"hit": 2, "TOA out of range": 1}
    path = tmp_path / "Array_T_Pixel=5_DAC_P5=400_QSel=20_PhaseAdj=0_B1_3200_04-09_01-18-00.dat"
    path.write_bytes(b"300 100 140 1\n")
    assert decode_debug(path).hits["link"].tolist() == [1]
    assert decode_debug(path).facts["board_known"]
    assert not decode_debug(b"300 100 140 1\n").facts["board_known"]


def test_missing_file_is_named(tmp_path):
    for decode in (decode_beam, decode_injection, decode_raw32, decode_debug, decode_nem):
        with pytest.raises(InputError) as error:
            decode(tmp_path / "absent.txt")
        assert str(tmp_path / "absent.txt") in str(error.value)


# ---------------------------------------------------------------- translated text


def probe_runs(etroc):
    return sorted(path.parent for path in (etroc / "etroc2_probe_qinj_jan2024").glob("*/*.nem"))


def test_lines_written_from_raw_files_are_those_of_the_collaboration(etroc):
    runs = probe_runs(etroc)
    assert len(runs) == 11
    for run in runs:
        stream = io.StringIO()
        decoded = decode_kc705(run / "TDC_Data_0.dat")
        n_lines = write_nem(decoded, stream)
        expected = (run / "TDC_Data_translated_0.nem").read_text()
        assert stream.getvalue() == expected, run.name
        assert n_lines == expected.count("\n")


def test_translated_text_gives_what_raw_files_give(etroc, tmp_path):
    for run in probe_runs(etroc):
        raw, text = decode_kc705(run / "TDC_Data_0.dat"), decode_nem(run / "TDC_Data_translated_0.nem")
        assert same_hits(raw, text), run.name
        for name in set(text.packets) & set(raw.packets) - {"frame"}:
            assert np.array_equal(text.packets[name], raw.packets[name]), (run.name, name)
        assert text.facts["dialect"] == "2024"
        again = decode_nem_of(text, "2025", tmp_path)
        assert same_hits(again, text)
        assert again.facts["dialect"] == "2025"


def decode_nem_of(decoded, dialect, folder):
    write_nem(decoded, folder / "written.nem", dialect=dialect)
    return decode_nem(folder / "written.nem")


def test_translated_sample_has_the_numbers_of_the_readme(etroc):
    folder = etroc / "etroc2_probe_qinj_jan2024"
    for name, expected in json.loads((folder / "expected.json").read_text()).items():
        session, run = name.split("/")
        decoded = decode_nem(folder / f"{session[:10]}__{run}" / "TDC_Data_translated_0.nem")
        assert decoded.counters["frame header"] == expected["EH"]
        assert decoded.counters["trailer"] == expected["T"]
        assert len(decoded.hits["toa"]) == expected["D"]
        if not expected["D"]:
            continue
        hits = decoded.hits
        on = (hits["row"] == expected["pix"][0]) & (hits["col"] == expected["pix"][1])
        assert int(on.sum()) == expected["n"]
        for code in CODES:
            assert hits[code][on].mean() == pytest.approx(expected[f"{code}_mean"], abs=6e-5)
            assert hits[code][on].std(ddof=1) == pytest.approx(expected[f"{code}_std"], abs=6e-5)
        jitter = 3125 / hits["cal"][on].mean() * hits["toa"][on].std(ddof=1)
        assert jitter == pytest.approx(expected["jitter_ps"], abs=6e-4)


NEW = b"""Filler: 0b0101010101010101
EH 0b0001 7 5 10
H 0 12 0b00 719
D 0 0b00 3 9 200 60 130
D 0 0b11 4 10 201 61 131
T 0 0 2 0b10000001
H 2 12 0b01 719
T 2 8 0 0b00000011 CRC Mismatch
ET 7 1 2 0b11110000 CRC Mismatch
FW Filler: 0b01010101010101010101
40Hz Filler: 0b01010101010101010101
THIS IS A BROKEN EVENT SINCE MORE HEADERS THAN MASK FOUND
"""


def test_dialect_of_2025():
    decoded = decode_nem(NEW)
    assert decoded.facts["dialect"] == "2025"
    assert decoded.hits["ea"].tolist() == [0, 3]
    assert decoded.hits["row"].tolist() == [3, 4]
    assert decoded.hits["col"].tolist() == [9, 10]
    assert decoded.packets["crc"].tolist() == [129, 3]
    assert decoded.packets["crc_ok"].tolist() == [True, False]
    assert decoded.packets["type"].tolist() == [0, 1]
    assert decoded.packets["link"].tolist() == [0, 2]
    assert decoded.packets["frame_event"].tolist() == [7, 7]
    frames = decoded.facts["frames"]
    assert [frames[name].tolist() for name in ("type", "n_words", "overflow", "hamming", "crc")] == [
        [2],
        [5],
        [1],
        [2],
        [240],
    ]
    assert decoded.counters["filler"] == 3
    assert decoded.counters["broken event"] == 1
    assert decoded.counters["trailer: wrong checksum"] == 1
    adds_up(decoded, NEW)


def test_dialect_of_sem_has_the_event_first():
    text = "".join(
        f"EH {event} 0 2\nH 0 {event} 00 719\nT 0 0 0 {event}\nET {event}\n" for event in (10, 11, 1000)
    )
    decoded = decode_nem(
        text.encode().replace(b"H 0 1000", b"H 0 200").replace(b"T 0 0 0 1000", b"T 0 0 0 9")
    )
    assert decoded.facts["dialect"] == "sem"
    assert decoded.packets["frame_event"].tolist() == [10, 11, 1000]
    assert decoded.packets["frame"].tolist() == [0, 1, 2]


def early_text(packets, chip=0x17F0F):
    lines = []
    for l1a, bcid, hits in packets:
        words = [header(l1a, 0, bcid), *(data(*hit) for hit in hits), trailer(chip, 5, len(hits))]
        crc = crc_of_packet(np.array([int(word) for word in words], dtype=np.uint64))
        lines.append(f"ETROC2 1 HEADER L1COUNTER {l1a:08b} TYPE 00 BCID {bcid:012b}")
        for ea, col, row, toa, tot, cal in hits:
            lines.append(
                f"ETROC2 1 DATA EA {ea:02b} COL {col} ROW {row} TOA {toa} TOT {tot} CAL {cal} 0101 0101 000000000000 0"
            )
        lines.append(
            f"ETROC2 1 TRAILER CHIPID 0x{chip:05x} STATUS {5:06b} HITS {len(hits):08b} CRC {crc:08b}"
        )
    return "\n".join(lines).encode()


def test_early_text_has_the_column_first_and_a_checksum_that_can_be_computed():
    text = early_text([(10, 1000, [(0, 1, 2, 300, 100, 170)]), (11, 3000, [])])
    decoded = decode_nem(text)
    assert decoded.facts["dialect"] == "early"
    assert (decoded.hits["row"].tolist(), decoded.hits["col"].tolist()) == ([2], [1])
    assert decoded.packets["crc_ok"].tolist() == [True, True]
    assert decoded.packets["chip_id"].tolist() == [0x17F0F] * 2
    assert decoded.packets["bcid"].tolist() == [1000, 3000]
    assert decoded.packets["status"].tolist() == [5, 5]
    assert decoded.facts["chip_ids"] == {1: 0x17F0F}
    assert "frame" not in decoded.packets
    bad = decode_nem(text.replace(b"TOA 300", b"TOA 301"))
    assert bad.counters["data: wrong checksum"] == 1
    assert len(bad.facts["loose_hits"]["toa"]) == 1
    assert bad.packets["crc_ok"].tolist() == [False, True]
    decimal = text.replace(b"BCID " + f"{1000:012b}".encode(), b"BCID 1000")
    assert same_hits(decode_nem(decimal), decoded)
    with pytest.raises(InputError, match="no event frames"):
        write_nem(decoded, io.StringIO())


def test_wrong_checksum_is_found_without_the_chip_number(etroc):
    content = (probe_runs(etroc)[0] / "TDC_Data_translated_0.nem").read_bytes()
    changed = content.replace(b"D 0 0 14 14 190 58 132\n", b"D 0 0 14 14 191 58 132\n", 1)
    decoded = decode_nem(changed)
    assert np.count_nonzero(~decoded.packets["crc_ok"]) == 1
    assert decoded.counters["data: wrong checksum"] == 1
    assert len(decoded.hits["toa"]) == 725
    assert len(decode_nem(changed, keep_bad_crc=True).hits["toa"]) == 726
    one = decode_nem(content[: content.index(b"EH", 5)])
    assert one.packets["crc_checked"].tolist() == [False]


def test_lines_out_of_place_are_counted():
    text = b"""D 0 0 1 2 3 4 5
ET 3
H 0 1 00 2
EH 0001 1 1 3
D 0 0 1 2 3 4 5
H 0 1 00 2
D 1 0 1 2 3 4 5
D 0 0 16 2 3 4 5
D 0 0 1 2 3 4
D 0 0 1 2 3 4 5 6
D 0 0 1 x 3 4 5
T 0 0 1 7
ET 2
Q
EH 0001 2 1 3
H 0 1 00 2
D 0 0 1 2 3 4 5
"""
    decoded = decode_nem(text)
    adds_up(decoded, text)
    assert decoded.counters == {
        "frame header": 2, "frame trailer: no frame header": 1, "frame trailer: other event": 1, "header: no frame header": 1,
        "data: no header": 3, "header: no trailer": 1, "data: no trailer": 1, "header: wrong hit count": 1,
        "trailer: wrong hit count": 1, "unknown line": 1, "data: not a number": 1, "data: value out of range": 1,
        "data: too few columns": 1, "data: too many columns": 1,
    }  # fmt: skip
    assert decoded.facts["frame_states"] == {"no trailer": 2}
    with pytest.raises(ConfigError):
        write_nem(decoded, io.StringIO(), dialect="sem")


# ---------------------------------------------------------------- which format


def test_every_format_is_recognised_by_its_own_reader_only(etroc, beam_file):
    lookers = {
        "beam": looks_like_beam, "injection": looks_like_injection, "raw32": looks_like_raw32, "debug": looks_like_debug,
        "nem": looks_like_nem,
    }  # fmt: skip
    injection = max(
        (etroc / "synthetic_etroc1_charge_injection").glob("*.dat"), key=lambda path: path.stat().st_size
    )
    probe = probe_runs(etroc)[0]
    contents = {
        "beam": beam_file.read_bytes(),
        "injection": injection.read_bytes(),
        "raw32": next((etroc / "synthetic_etroc1_raw32").glob("*.dat")).read_bytes(),
        "debug": b"300 100 140 1\n" * 50,
        "nem": (probe / "TDC_Data_translated_0.nem").read_bytes(),
    }
    others = [
        (probe / "TDC_Data_0.dat").read_bytes(),
        (etroc / "etroc2_emulator_early40bit" / "dump.txt").read_bytes(),
        (etroc / "etroc2_emulator_tamalero" / "output_example.dat").read_bytes(),
        (etroc / "README.md").read_bytes(),
        np.random.default_rng(4).bytes(4096), b"", b"\n\n", b"hello\n", b"1,2,3\n", b"{}",
    ]  # fmt: skip
    for kind, content in contents.items():
        for start in (content[:4096], content[:1001]):
            assert [name for name, looks in lookers.items() if looks(start, "x.dat")] == [kind]
    for content in others:
        assert not [name for name, looks in lookers.items() if looks(content[:4096], "x.dat")]
    assert looks_like_beam(contents["beam"].split(b"\n", 1)[1][:999].replace(b"\n", b"\r\n"))
    assert looks_like_nem(NEW)
    assert looks_like_nem(early_text([(1, 2, [])]))
    for run in probe_runs(etroc):
        assert not looks_like_raw32((run / "TDC_Data_0.dat").read_bytes()[:4096], "TDC_Data_0.dat")


# ---------------------------------------------------------------- names

INJECTION = "TDC_Data_PhaseAdj0_F9P5_QSel0_DAC535_F11P5_QSel10.5_DAC324_F5P5_QSel0_DAC720_Split_12.dat"


def test_name_of_a_charge_injection_file():
    fields = read_name(INJECTION)
    assert (fields.kind, fields.split, fields.phase) == ("injection", 12, 0)
    assert fields.run == INJECTION.removesuffix("_Split_12.dat")
    assert [(b.board, b.pixel, b.charge, b.threshold) for b in fields.boards] == [
        (0, "F9P5", 0, 535), (1, "F11P5", 10.5, 324), (3, "F5P5", 0, 720),
    ]  # fmt: skip
    assert [board.board for board in read_name(INJECTION, boards=(4, 5, 6)).boards] == [4, 5, 6]
    assert read_name(INJECTION, boards=(0, 1)).matched is None


def test_names_of_other_files():
    beam = read_name("F9P5_F11P5_F5P5_Beam_HV235_46.txt")
    assert (beam.kind, beam.bias, beam.extra) == ("beam", 235.0, {"number": 46})
    assert [board.pixel for board in beam.boards] == ["F9P5", "F11P5", "F5P5"]
    assert read_name("F9P5_F11P5_F5P5_Beam_0.txt").bias is None
    probe = read_name("2024-01-16__cernJan162024_probe_run_second_04C3_C4R7_R14_C14_qinj")
    assert {key: probe.extra[key] for key in ("wafer", "die_col", "die_row", "row", "col")} == {
        "wafer": "04C3", "die_col": 4, "die_row": 7, "row": 14, "col": 14,
    }  # fmt: skip
    sps = read_name("output_run_119192_rb0.dat")
    assert (sps.kind, sps.extra) == ("tamalero", {"number": 119192, "readout_board": 0})
    debug = read_name(
        "Array_T_Pixel=5_DAC_P5=400_QSel=20_CLSel=1_RfSel=2_IBSel=7_PhaseAdj=0_B3_3200_04-09_01-18-00.dat"
    )
    assert (debug.kind, debug.phase) == ("debug", 0)
    assert [(b.board, b.charge, b.threshold) for b in debug.boards] == [(3, 20.0, 400.0)]
    assert debug.extra["RfSel"] == 2


def test_name_that_fits_nothing_gives_nothing():
    for name in (
        "", "x.dat", "F9P5_F11P5_Beam_0.txt", "A_F9P5_F11P5_F5P5_Beam_0.txt", "F9P5_F11P5_F5P99_Beam_0.txt",
        INJECTION.replace("DAC324", "DAC"), INJECTION.replace("_Split", "_Part"), "a=b=c.dat",
    ):  # fmt: skip
        fields = read_name(name)
        assert fields.matched is None, name
        assert (fields.boards, fields.split, fields.phase, fields.bias) == ((), None, None, None)
    assert "[{pixel}_]Beam_{number:d}.txt" in no_template("x.dat")


def test_own_templates_come_first():
    fields = read_name(
        "scan_q12_t400_b1_k3.dat", ["nothing_{x:d}", "scan_q{charge_1:f}_t{threshold_1:d}_b1_k{split:d}.dat"]
    )
    assert (fields.run, fields.split, fields.kind) == ("scan_q12_t400_b1", 3, "custom")
    assert [(b.board, b.charge, b.threshold) for b in fields.boards] == [(1, 12.0, 400.0)]
    middle = read_name("part07_q3.txt", ["part{split:d}_q{charge_2:f}.txt"])
    assert (middle.run, middle.split) == ("_q3", 7)
    for bad in ("no field", "{a:d}{a:d}", "{a:x}"):
        with pytest.raises(UsageError):
            read_name("x", [bad])


def test_pixel_places():
    assert pixel_place("F9P5") == (9, 1, 1)
    assert pixel_place("F11P14") == (11, 2, 3)
    for wrong in ("", "P5", "F9P16", "F9", "9P5", "F9P5_F1P1"):
        assert pixel_place(wrong) is None


# ---------------------------------------------------------------- broken text

DECODERS = {
    "beam": decode_beam, "injection": decode_injection, "raw32": decode_raw32, "debug": decode_debug, "nem": decode_nem,
}  # fmt: skip
CHOICES = {**DECODERS, "early": decode_nem}
SEEDS = {
    "beam": b"min file index: 0, max file index: 9\n0 273 75 139 1 2022-04-09 01:18:00\n3 1 2 3 0 2022-04-09 01:18:01\r\n\n",
    "injection": b" 1 243  61 138 1\n 0   1   2   3 1\n",
    "raw32": b"0\n189538585\n1277919509\n" + b"01" * 16 + b"\n",
    "debug": b"300 100 140 1\n301 101 141 0\n",
    "nem": b"EH 0001 0 1 3\nH 0 255 00 719\nD 0 0 14 14 190 58 132\nT 0 0 1 2\nET 0\n"
    + NEW
    + early_text([(1, 2, [])]),
    "early": early_text([(10, 1000, [(0, 1, 2, 300, 100, 170)]), (11, 3000, [])])
    + b"\nNORMTRIG 5\nETROC2 1 FRAMEFILLER 0 0\n",
}
LOOKERS = (looks_like_beam, looks_like_injection, looks_like_raw32, looks_like_debug, looks_like_nem)
PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"\n", b"\r\n", b" ", b"\t", b"\x00", b"-", b"0b", b"0x", b"9" * 40, b"1024", b"D 0 0 1 2 3 4 5\n", b"EH", b"T 0"]),
)  # fmt: skip


@settings(max_examples=300)
@given(st.data())
def test_mutated_text_never_breaks_a_reader(data):
    for kind, decode in CHOICES.items():
        content = bytearray(SEEDS[kind] * data.draw(st.integers(1, 3)))
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(content)))
            length = data.draw(st.integers(0, 9))
            content[at : at + length] = data.draw(PIECES)
        adds_up(decode(bytes(content)), bytes(content))
        for looks in LOOKERS:
            looks(bytes(content), "x.dat")


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=30).map(b"".join))
def test_random_text_never_breaks_a_reader(content):
    for decode in DECODERS.values():
        adds_up(decode(content), content)
    for looks in LOOKERS:
        looks(content, "x.dat")


@given(
    st.lists(st.tuples(*(st.integers(0, 2**33) for _ in range(2))), max_size=20),
    st.sampled_from([b"\n", b"\r\n", b" \n\n"]),
)
def test_columns_as_python_reads_them(rows, newline):
    content = newline.join(b"%d\t %d" % row for row in rows)
    read = read_columns(as_bytes(content), ("a", "b"), (1000, 2**32 - 1), (WORD, WORD))
    expected = [list(row) for row in rows if row[0] <= 1000 and row[1] < 2**32]
    assert read.values.tolist() == expected
    assert read.n_lines == len(rows)
