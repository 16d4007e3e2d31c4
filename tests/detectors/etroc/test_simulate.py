"""Simulated ETROC files: is their content what the truth says, and are they what the experiment writes?"""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from firstlight.detectors.etroc.readout.beam import decode_beam
from firstlight.detectors.etroc.simulate import KINDS, load_truth, simulate
from firstlight.detectors.etroc.simulation import containers
from firstlight.detectors.etroc.simulation.beam import simulate_telescope, tot_codes, write_beam
from firstlight.detectors.etroc.simulation.charge import BoardScan, Jitter, simulate_injection
from firstlight.detectors.etroc.simulation.chips import pixel_calibration, simulate_chips, simulate_probe
from firstlight.detectors.etroc.simulation.faults import FAULTS, with_faults
from firstlight.detectors.etroc.simulation.packets import make_packets, to_stream
from firstlight.errors import ConfigError, UsageError

MANY = {name: 1 if name == "truncated" else 3 for name in FAULTS}
CODES = ("board", "toa", "tot", "cal", "flag")


# ---------------------------------------------------------------- independent readers, slow and plain


def read_text(path):
    """Return the five codes and the time stamps of a beam file."""
    lines = [line.split() for line in path.read_text().splitlines() if line and line[0].isdigit()]
    return np.array([[int(v) for v in line[:5]] for line in lines]).reshape(-1, 5), [
        line[5:] for line in lines
    ]


def crc8(data):
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1) ^ 0x12F if value & 0x80 else value << 1
    return value


def packets_of(words):
    """Return what a plain reader finds in the words of one link."""
    found, current = Counter(), None
    packets = []
    for word in words:
        if word >> 39:
            if current is None:
                found["data_without_header"] += 1
            else:
                current.append(word)
        elif word >> 24 == 0x3C5C:
            if (word >> 22) & 3:
                found["filler"] += 1
                continue
            if current is not None:
                found["headers_without_trailer"] += 1
                found["data_without_trailer"] += len(current) - 1
            current = [word]
        elif current is None:
            found["trailers_without_header"] += 1
        else:
            packets.append([*current, word])
            current = None
    if current is not None:
        found["headers_without_trailer"] += 1
        found["data_without_trailer"] += len(current) - 1
    return packets, found


def judge(packets, chips):
    """Return counts of packets of one link."""
    found = Counter()
    for packet in packets:
        data, trailer = packet[1:-1], packet[-1]
        good = crc8(b"".join(word.to_bytes(5, "big") for word in packet)) == 0
        found["complete"] += 1
        found["hits"] += len(data)
        found["good"] += good
        found["bad_crc"] += not good
        found["good_hits"] += good * len(data)
        found["wrong_chip"] += trailer >> 22 not in chips
        found["wrong_hit_count"] += (trailer >> 8) & 0xFF != len(data) % 256
        found["full"] += len(data) == 256
        for word in data:
            found[f"alarm {(word >> 37) & 3}"] += 1
    return found


def by_link(path):
    """Return the words of each link of a TAMALERO file, and the number of records of an empty FIFO."""
    links, empty = {}, 0
    raw = path.read_bytes()
    for start in range(0, len(raw) // 8 * 8, 8):
        record = int.from_bytes(raw[start : start + 8], "little")
        if record & 0xFFFFFFFF <= 256:
            empty += 1
        else:
            links.setdefault((record >> 40) & 0xFF, []).append(record & (2**40 - 1))
    return links, empty


def frames_of(words):
    """Return (event number, mask, payload words, hit count) of the frames, and the words outside."""
    frames, outside, k = [], [], 0
    while k < len(words):
        if words[k] >> 4 != 0xC3A3C3A:
            outside.append(words[k])
            k += 1
            continue
        second = words[k + 1]
        assert second >> 28 == 1
        n = (second >> 2) & 0x3FF
        length = -(-40 * n // 32)
        bits = "".join(f"{word:032b}" for word in words[k + 2 : k + 2 + length])
        trailer = words[k + 2 + length]
        assert trailer >> 26 == 0b001011
        assert set(bits[40 * n :]) <= {"0"}
        payload = [int(bits[40 * i : 40 * i + 40], 2) for i in range(n)]
        frames.append(((second >> 12) & 0xFFFF, words[k] & 15, payload, (trailer >> 14) & 0xFFF))
        k += 3 + length
    return frames, outside


# ---------------------------------------------------------------- the beam


def test_beam_file_holds_what_the_truth_says(tmp_path):
    (path,) = simulate(tmp_path, 3, n_events=4000)
    truth = load_truth(tmp_path)
    assert path.name == "F9P5_F11P5_F5P5_Beam_HV235_0.txt"
    codes, stamps = read_text(path)
    assert path.read_text().splitlines()[0] == "min file index: 0, max file index: 99"
    assert truth["lines"] == len(codes)
    counts = {str(b): int((codes[:, 0] == b).sum()) for b in (0, 1, 3)}
    assert counts == {b: truth["hits"][b] + truth["noise_hits"][b] for b in counts}
    board = codes[:, 0].tolist()
    pattern = sum(board[k : k + 3] == [0, 1, 3] for k in range(len(board)))
    assert truth["pattern_events"] == pattern
    assert (stamps[0], stamps[-1]) == (["2022-04-09", "01:18:00"], ["2022-04-09", "01:18:09"])
    assert ((codes[:, 1] > 0) & (codes[:, 1] < 1023)).all()


@pytest.mark.parametrize(
    "options", [{}, {"boards": (0, 1, 2, 3)}, {"boards": (3, 1)}, {"walk": "exponential"}]
)
def test_jitter_and_codes_follow_the_formulas(options):
    columns, truth = simulate_telescope(5, 20_000, noise_fraction=0.05, **options)
    for k, board in enumerate(truth["boards"]):
        own = (columns["board"] == board) & (columns["event"] >= 0)
        sigma = columns["jitter_ns"][own].std()
        assert abs(sigma - truth["sigma_ns"][k]) < 4 * truth["sigma_ns"][k] / math.sqrt(2 * own.sum())
        bin_ns = 3.125 / truth["cal_mean"][k]
        rest = 12.5 - bin_ns * columns["toa"][own] - columns["time_ns"][own]
        assert ((rest >= -1e-9) & (rest < bin_ns + 1e-9)).all()
        assert abs(rest.std() / (bin_ns / math.sqrt(12)) - 1) < 0.03
        code = columns["tot"][own]
        assert ((2 * code - code // 32) * bin_ns <= columns["tot_ns"][own]).all()
        assert ((2 * (code + 1) - (code + 1) // 32) * bin_ns > columns["tot_ns"][own]).all()
    real = columns["event"] >= 0
    hits = np.bincount(columns["event"][real], minlength=20_000)
    assert truth["complete_events"] == (hits == len(truth["boards"])).sum()


def test_resolution_of_the_truth_comes_back_from_the_codes():
    """With the true walk taken off, the scatter of differences is that of the jitter and the bins."""
    columns, truth = simulate_telescope(8, 40_000, noise_fraction=0.0, efficiency=1.0, cal_outliers=0.0)
    times = []
    for k, board in enumerate(truth["boards"]):
        own = columns["board"] == board
        bin_ns = 3.125 / truth["cal_mean"][k]
        time = np.full(40_000, np.nan)
        distance = columns["tot_ns"][own] - truth["TOT0"][k]
        walk = truth["c1"][k] * distance + truth["c2"][k] * distance**2
        time[columns["event"][own]] = 12.5 - bin_ns * columns["toa"][own] - walk
        times.append(time)
    v01, v02, v12 = (np.nanvar(times[i] - times[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    found = np.sqrt([(v01 + v02 - v12) / 2, (v01 + v12 - v02) / 2, (v02 + v12 - v01) / 2])
    assert found == pytest.approx(truth["expected_sigma_ns"], rel=0.02)


def test_beam_looks_like_the_sample(sample_data):
    folder = sample_data / "etroc" / "synthetic_etroc1_telescope"
    if not folder.is_dir():
        pytest.skip(f"no ETROC sample in {sample_data}")
    sample, _ = read_text(next(folder.glob("*.txt")))
    columns, truth = simulate_telescope(11)
    own = np.stack([columns[name] for name in CODES], axis=1)
    assert abs(len(own) - len(sample)) < 5 * math.hypot(40, 40)
    assert abs(truth["pattern_events"] - 18269) < 5 * math.sqrt(2 * 20_000 * 0.913 * 0.087)
    for board in (0, 1, 3):
        a, b = sample[sample[:, 0] == board], own[own[:, 0] == board]
        for column in (1, 2):
            assert stats.ks_2samp(a[:, column], b[:, column]).pvalue > 1e-3
        usual = [np.abs(c[:, 3] - np.median(c[:, 3])) < 3 for c in (a, b)]
        assert a[usual[0], 3].std() == pytest.approx(b[usual[1], 3].std(), rel=0.05)
    outliers = [(np.abs(c[:, 3] - 138) > 12).mean() for c in (sample, own)]
    assert outliers[0] == pytest.approx(outliers[1], abs=4 * math.sqrt(2 * 0.0098 / 58_800))
    written = json.loads((folder / "truth.json").read_text())[0]
    for name in ("sigma_ns", "cal_mean", "c1", "c2", "TOT0", "offset_ns"):
        assert truth[name] == pytest.approx(written[name])


def test_tails_drift_and_line_ends(tmp_path):
    columns, _ = simulate_telescope(2, 40_000, tail_fraction=0.05, cal_slope=8.0, noise_fraction=0.0)
    own = columns["board"] == 0
    wide = np.abs(columns["jitter_ns"][own]) > 3.5 * 0.040
    expected = 0.05 * 2 * stats.norm.sf(3.5 / 4) + 0.95 * 2 * stats.norm.sf(3.5)
    assert wide.mean() == pytest.approx(expected, abs=4 * math.sqrt(expected / own.sum()))
    cal, position = columns["cal"][own], columns["position"][own]
    usual = np.abs(cal - 140) < 10
    assert np.polyfit(position[usual] / 40_000, cal[usual], 1)[0] == pytest.approx(8.0, abs=0.1)
    assert columns["jitter_ns"][own].std() == pytest.approx(0.04 * math.sqrt(1 + 0.05 * 15), rel=0.04)
    part = {name: values[:100] for name, values in columns.items()}
    bare = write_beam(tmp_path / "a.txt", part, header=False, crlf=True).read_bytes()
    assert bare.count(b"\r\n") == 100
    assert bare.startswith(f"0 {part['toa'][0]} ".encode())
    empty = {name: values[:0] for name, values in columns.items()}
    assert write_beam(tmp_path / "b.txt", empty).read_text().count("\n") == 1


def test_tot_codes_of_the_chip():
    bin_ns = 3.125 / 140
    assert tot_codes(np.array([195.01, 62.0, 63.0, 126.0, 0.0, -5.0]) * bin_ns + 1e-12, bin_ns).tolist() == [
        99, 31, 32, 64, 0, 0,
    ]  # fmt: skip


def test_files_of_a_run_hold_it_all(tmp_path):
    whole = simulate(tmp_path / "a", 4, n_events=3000)
    parts = simulate(tmp_path / "b", 4, n_events=3000, n_files=4, details=True)
    assert [path.name[-5:] for path in parts] == ["0.txt", "1.txt", "2.txt", "3.txt"]
    together = np.concatenate([read_text(path)[0] for path in parts])
    assert (together == read_text(whole[0])[0]).all()
    import polars as pl

    table = pl.read_parquet(tmp_path / "b" / "truth_hits.parquet")
    assert table["toa"].to_list() == together[:, 1].tolist()
    # a smaller run in the same place leaves nothing of the larger one
    simulate(tmp_path / "b", 4, n_events=30)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == [whole[0].name, "truth.json"]


def test_spoilt_lines_of_a_telescope_are_those_that_are_counted(tmp_path):
    clean = simulate(tmp_path / "a", 4, n_events=3000, n_files=2)
    for crlf in (False, True):
        files = simulate(
            tmp_path / "b", 4, n_events=3000, n_files=2, header=not crlf, crlf=crlf,
            faults={"cut_line": 30, "large_code": 7},
        )  # fmt: skip
        assert [path.name for path in files] == [path.name for path in clean]
        told = load_truth(tmp_path / "b")["files"]
        found = [decode_beam(path) for path in files]
        assert sum(file.counters.get("TOA out of range", 0) for file in found) == 7
        for file, truth in zip(found, told, strict=True):
            spoilt = truth.get("cut_line", 0) + truth.get("large_code", 0)
            assert file.counters.get("hit", 0) == truth["lines"] - spoilt
        assert sum(truth.get("cut_line", 0) for truth in told) == 30
        lines = [set(path.read_bytes().splitlines()) for path in files]
        assert all(
            len(ours - set(path.read_bytes().splitlines())) <= 37
            for ours, path in zip(lines, clean, strict=True)
        )


# ---------------------------------------------------------------- charge injection


def read_scan(files):
    points = {}
    for path in files:
        fields = path.stem.split("_")
        rows = [[int(v) for v in line.split()] for line in path.read_text().splitlines()]
        key = (int(fields[7][4:]), int(fields[8][3:]))
        points.setdefault(key, []).append(np.array(rows, dtype=np.int64).reshape(-1, 5))
    return points


def test_scan_holds_what_the_truth_says(tmp_path):
    files = simulate(tmp_path, 2, kind="injection")
    truth = load_truth(tmp_path)
    points = read_scan(files)
    assert len(points) == truth["runs"] == 104
    assert truth["files"] == len(files) == len(truth["names"])
    assert 5 < truth["runs_with_several_splits"] == sum(len(p) > 1 for p in points.values()) < 35
    assert sum(len(part) for p in points.values() for part in p) == truth["total_hits"]
    assert sum(len(p[0]) for p in points.values()) == truth["hits_in_split0_only"]
    all_hits = np.concatenate([part for p in points.values() for part in p])
    assert (all_hits[:, 3] < 200).sum() == truth["hits_with_cal_below_200"]
    assert 1 - truth["hits_with_cal_below_200"] / truth["total_hits"] == pytest.approx(0.004, abs=0.0012)
    assert any(path.stat().st_size == 0 for path in files)
    assert {len(line) for path in files for line in path.read_text().splitlines()} == {16}
    by_key = {(p["charge"], p["threshold"]): p for p in truth["points"]}
    chi2 = number = 0
    for key, parts in points.items():
        hits, point = sum(map(len, parts)), by_key[key]
        assert hits == point["hits"]
        if point["noise"]:
            assert 1400 <= hits <= 2600
        elif point["probability"] is None:
            assert hits == 0
        else:
            p = 0.5 * math.erfc((key[1] - 330 - 9 * key[0]) / (3 * math.sqrt(2)))
            assert point["probability"] == pytest.approx(p)
            if 0.01 < p < 0.99:
                chi2, number = chi2 + (hits - 1000 * p) ** 2 / (1000 * p * (1 - p)), number + 1
    assert number >= 4
    assert chi2 < stats.chi2.isf(1e-4, number)


def test_scan_is_like_the_sample(sample_data, tmp_path):
    folder = sample_data / "etroc" / "synthetic_etroc1_charge_injection"
    if not folder.is_dir():
        pytest.skip(f"no ETROC sample in {sample_data}")
    files = simulate(tmp_path, 1, kind="injection")
    known, own = json.loads((folder / "truth.json").read_text()), load_truth(tmp_path)
    assert set(known) <= set(own)
    assert set(known["config"][0]) <= set(own["config"][0])
    assert own["total_hits"] == pytest.approx(known["total_hits"], rel=0.05)
    splits = {path.name for path in folder.glob("*Split_0.dat")}
    assert splits == {path.name for path in files if path.name.endswith("Split_0.dat")}
    a, b = read_scan(sorted(folder.glob("*.dat"))), read_scan(files)
    for key in ((10, 374), (25, 374), (25, 454)):
        first, second = (np.concatenate(scan[key]).mean(axis=0) for scan in (a, b))
        assert abs(first[1] - second[1]) < 2.5
        assert abs(first[2] - second[2]) < 3.5


def test_jitter_falls_with_charge_and_several_boards_are_scanned(tmp_path):
    jitter = Jitter(floor=6.0, slope=500.0)
    scans = [
        BoardScan(board, (10, 30), (352, 380, 1000), injections=4000, plateau=0.9, jitter=jitter, band=(0, 0))
        for board in (0, 3)
    ]
    files, truth = simulate_injection(tmp_path, 1, scans, cal_outliers=0.0, split_fraction=0.0)
    assert len(files) == 12
    assert truth["jitter_ps"]["3"]["10"] == pytest.approx(math.hypot(6, 50))
    for board, field in ((0, 3), (3, 9)):
        for charge in (10, 30):
            name = next(
                f for f in files if f.stem.split("_")[field + 1 : field + 3] == [f"QSel{charge}", "DAC352"]
            )
            codes = np.loadtxt(name, dtype=int)
            assert set(codes[:, 0]) == {board}
            width = codes[:, 1].std() * 3125 / 138
            expected = math.hypot(jitter.at(charge, 330 + 9 * charge - 352), 3125 / 138 / math.sqrt(12))
            assert width == pytest.approx(expected, rel=0.08)
            assert len(codes) == pytest.approx(3600, abs=5 * math.sqrt(4000 * 0.09))
    with pytest.raises(ConfigError, match=r"board.*7"):
        simulate_injection(tmp_path, 1, [BoardScan(7)])
    with pytest.raises(ConfigError, match="cannot be simulated"):
        BoardScan(noise=-1.0)


# ---------------------------------------------------------------- ETROC2 words


def test_words_have_their_bits_and_a_right_checksum():
    hits = {
        "packet": [1, 0],
        "ea": [0, 2],
        "row": [3, 15],
        "col": [12, 0],
        "toa": [1023, 5],
        "tot": [1, 511],
        "cal": [7, 170],
    }
    packets = make_packets([12, 42], [0x0C, 300], [1958, 3563], [0, 0], hits, chip_id=3316, status=[0, 8])
    stream = to_stream(packets)
    words = [int(word) for word in stream.words]
    # the example of the format: header of e-link 12 with counter 12 and crossing 1958
    assert containers.tamalero_records(stream).tobytes()[:8] == bytes.fromhex("a607035c3c0c0100")
    assert words[1] == 1 << 39 | 2 << 37 | 0 << 33 | 15 << 29 | 5 << 19 | 511 << 10 | 170
    assert words[4] == 1 << 39 | 12 << 33 | 3 << 29 | 1023 << 19 | 1 << 10 | 7
    assert words[5] >> 8 == 3316 << 14 | 8 << 8 | 1
    assert (words[3] >> 14) & 0xFF == 300 % 256
    for packet in (words[:3], words[3:]):
        assert crc8(b"".join(word.to_bytes(5, "big") for word in packet)) == 0
        assert crc8(b"".join(w.to_bytes(5, "big") for w in packet)[:-1]) == packet[-1] & 0xFF
    with pytest.raises(ConfigError, match="cal"):
        make_packets([0], [0], [0], [0], hits | {"packet": [0, 0], "cal": [1024, 0]})


def test_checksum_is_that_of_real_packets(sample_data):
    path = sample_data / "etroc" / "etroc2_tamalero_sps2025" / "output_run_121717_rb0.dat"
    if not path.is_file():
        pytest.skip(f"no ETROC sample in {sample_data}")
    links, _ = by_link(path)
    for words in links.values():
        packets, _ = packets_of(words)
        for header, trailer in packets:
            bits = (header >> 14) & 255, header & 4095
            hits = dict.fromkeys(("packet", "row", "col", "toa", "tot", "cal"), ())
            made = make_packets([0], [bits[0]], [bits[1]], [0], hits, chip_id=3316)
            assert to_stream(made).words.tolist() == [header, trailer]


@pytest.mark.parametrize("interleave", [False, True])
def test_every_fault_is_counted(tmp_path, interleave):
    packets, truth, _ = simulate_chips(6, 600, links=(12, 42, 6), noise_fraction=0.3)
    stream, expected = with_faults(packets, 7, MANY, interleave=interleave)
    path = containers.write_tamalero(tmp_path / "run.dat", stream, stray_bytes=3)
    assert path.stat().st_size == 8 * expected["words"] + 3
    links, empty = by_link(path)
    assert empty == expected["fifo_empty"] == 3
    total = Counter()
    for link, words in links.items():
        found, lost = packets_of(words)
        counts = judge(found, truth["chip_ids"])
        assert counts["hits"] == expected["hits_by_link"][str(link)]
        total += counts + lost
    for name in ("complete", "good", "bad_crc", "hits", "good_hits", "wrong_chip", "wrong_hit_count", "filler",
                 "data_without_header", "trailers_without_header", "headers_without_trailer", "data_without_trailer"):  # fmt: skip
        assert total[name] == expected[name], name
    assert total["full"] == 3
    assert {v: total[f"alarm {v}"] for v in (1, 2, 3)} == {int(k): v for k, v in expected["alarms"].items()}
    assert expected["alarms"] == {"1": 3, "2": 3, "3": 3}
    assert expected["bad_crc"] == 9
    assert expected["headers_without_trailer"] == 4
    assert expected["wrong_chip"] == 6
    parts = ("header", "data", "trailer", "filler", "fifo_empty")
    assert sum(expected[name] for name in parts) == expected["words"]


def test_counters_jump_and_crossings_repeat():
    packets, _, _ = simulate_chips(1, 400, links=(0, 4), l1a_offsets=(0, 9), missing_fraction=0.0)
    for link, offset in ((0, 0), (4, 9)):
        own = packets.link == link
        assert (packets.l1a[own] == (np.arange(400) + offset) % 256).all()
    stream, expected = with_faults(packets, 2, {"l1a_jump": 4, "same_bcid": 5})
    heads = stream.words[(stream.kind == 0) & (stream.link == 4)].astype(np.int64)
    steps = np.diff((heads >> 14) & 0xFF) % 256
    assert (steps != 1).sum() == expected["l1a_jumps"] == 4
    assert (np.diff(heads & 0xFFF) == 0).sum() == expected["same_bcid"] == 5
    assert expected["good"] == expected["complete"] == 800


@pytest.mark.parametrize(
    ("faults", "match"),
    [({"broken": 1}, "broken"), ({"truncated": 2}, "truncated"), ({"bit_flip": 9000}, "bit_flip"), ({"l1a_jump": 99}, "counters")],
)  # fmt: skip
def test_impossible_faults_are_refused(faults, match):
    packets, _, _ = simulate_chips(1, 20)
    with pytest.raises(ConfigError, match=match):
        with_faults(packets, 1, faults)


def test_chips_have_a_spot_a_step_and_the_true_resolution():
    packets, truth, arrays = simulate_chips(3, 20_000, second_fraction=0.03, cal_outliers=0.0)
    hits = packets.hits
    particle = arrays["source"] == 0
    assert abs(np.average(hits["col"][particle]) - 7.5) < 1.5
    first, second, noise = np.bincount(arrays["source"], minlength=3)
    assert (second, noise) == (truth["second_hits"], truth["noise_hits"])
    assert second / first == pytest.approx(0.03, abs=0.005)
    medians = [np.median(hits["cal"][particle & (hits["col"] // 8 == half)]) for half in (0, 1)]
    assert medians == [pytest.approx(179, abs=1), pytest.approx(170, abs=1)]
    assert truth["packets"] + truth["missing_packets"] == 60_000
    assert truth["hits"] == packets.n_hits.sum() == hits["toa"].size
    times = np.full((3, 20_000), np.nan)
    for k in range(3):
        own = particle & (arrays["chip"] == k)
        bins = 3.125 / arrays["calibration"][k][hits["row"][own], hits["col"][own]]
        distance = arrays["tot_ns"][own] - truth["TOT0"][k]
        walk = truth["c1"][k] * distance + truth["c2"][k] * distance**2
        times[k, packets.event[hits["packet"][own]]] = 12.5 - bins * hits["toa"][own] - walk
    assert np.isfinite(times).all(axis=0).sum() == truth["complete_events"] > 10_000
    v01, v02, v12 = (np.nanvar(times[i] - times[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    found = np.sqrt([(v01 + v02 - v12) / 2, (v01 + v12 - v02) / 2, (v02 + v12 - v01) / 2])
    assert found == pytest.approx(truth["expected_sigma_ns"], rel=0.04)
    calibration = pixel_calibration(np.random.default_rng(1), 0.0)
    assert (calibration[0, 7], calibration[15, 8]) == (179, 170)


def test_event_frames_text_and_binary(tmp_path):
    packets, _, _ = simulate_chips(4, 80, links=(0, 1, 3), missing_fraction=0.05)
    stream, expected = with_faults(packets, 1, {"full_packet": 1})
    frames = containers.event_frames(stream, fillers=7, leftovers=3)
    text = containers.write_frames(tmp_path / "TDC_Data_0.dat", frames.words)
    binary = containers.write_frames(tmp_path / "file_0.bin", frames.words, binary=True)
    words = [int(line, 2) for line in text.read_text().splitlines()]
    assert {len(line) for line in text.read_text().splitlines()} == {32}
    assert np.frombuffer(binary.read_bytes(), "<u4").tolist() == words
    found, outside = frames_of(words)
    assert len(words) == frames.truth["words"]
    start = next(k for k, frame in enumerate(found) if frame[0] <= 1)
    assert start == frames.truth["leftover_frames"] == 2
    assert sum(word >> 20 == 0x556 for word in outside) == 7
    found = found[start:]
    assert [frame[0] for frame in found] == np.unique(packets.event).tolist()
    payload = [word for frame in found for word in frame[2]]
    assert payload == [int(word) for word in stream.words]
    assert all(frame[3] == sum(word >> 39 for word in frame[2]) for frame in found)
    assert sum(frame[3] for frame in found) == expected["hits"]
    masks = np.zeros(80, dtype=int)
    np.bitwise_or.at(masks, packets.event, 1 << packets.link)
    assert [frame[1] for frame in found] == masks[masks > 0].tolist()
    with pytest.raises(ConfigError, match="event frames"):
        containers.event_frames(to_stream(simulate_chips(4, 8, links=(0, 12))[0]))


def test_probe_files_have_the_jitter_of_the_truth(tmp_path):
    files = simulate(tmp_path, 5, kind="probe", n_events=2000)
    truth = load_truth(tmp_path)["files"]
    for path, one in zip(files, truth, strict=True):
        found, _ = frames_of([int(line, 2) for line in path.read_text().splitlines()])
        start = next(k for k, frame in enumerate(found) if frame[0] <= 1)
        data = np.array([word for frame in found[start:] for word in frame[2][1:-1]])
        assert data.size == one["hits"] == 2000
        ea, toa, cal = (data >> 37) & 3, (data >> 19) & 1023, data & 1023
        assert set(zip((data >> 29) & 15, (data >> 33) & 15, strict=True)) == {tuple(one["pixel"])}
        assert (ea > 0).sum() == one["alarms"]
        jitter = 3125 / cal.mean() * toa[ea == 0].std(ddof=1)
        assert jitter == pytest.approx(one["expected_jitter_ps"], rel=0.06)
        if one["alarms"]:
            assert ea[0] == 3
            assert 3125 / cal.mean() * toa.std(ddof=1) > 2 * jitter
    assert [one["stuck"] for one in truth] == [False, False, True]
    _, known = simulate_probe(1, 10, jitter_ps=10.0, toa_mean=190.5, cal=132.0)
    assert known["expected_jitter_ps"] == pytest.approx(11.2, abs=2.0)


def test_raw32_counts_and_sums(tmp_path):
    (path,) = simulate(tmp_path, 3, kind="raw32")
    truth = load_truth(tmp_path)
    words = [int(line) for line in path.read_text().split()]
    hits, sums, other = Counter(), Counter(), Counter()
    for word in words:
        board = word >> 30
        if word == 0:
            other["zero_lines"] += 1
        elif board == 2:
            other["board2_words"] += 1
        elif not word & 1:
            other["hitflag0_words"] += 1
        else:
            hits[str(board)] += 1
            sums["sum_toa"] += (word >> 11) & 1023
            sums["sum_tot"] += (word >> 21) & 511
            sums["sum_cal"] += (word >> 1) & 1023
    assert truth["lines"] == len(words)
    assert truth["hits"] == hits
    assert all(truth[name] == value > 0 for name, value in (sums + other).items())


def test_emulator_words_have_even_parity(tmp_path):
    (path,) = simulate(tmp_path, 3, kind="emulator")
    truth = load_truth(tmp_path)
    words = [int(line.replace(" ", ""), 16) for line in path.read_text().splitlines()]
    frames, hits, count = 0, 0, None
    for word in words:
        if word >> 12 == 0x3555555:
            frames, count = frames + 1, 0
        elif word >> 38 == 1:
            assert word.bit_count() % 2 == 0
            count += 1
        elif word >> 10 == 0x9555555400 >> 10:
            assert word.bit_count() % 2 == 0
            assert (word >> 1) & 0x1FF == count
            hits += count
        else:
            assert word == 0xC00AAAAAAA
    assert (len(words), frames, hits) == (truth["words"], truth["frames"], truth["hits"])


# ---------------------------------------------------------------- what users call


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bytes(tmp_path, kind):
    number = {"injection": 20}.get(kind, 60)
    made = [simulate(tmp_path / str(k), (1, 1, 2)[k], kind=kind, n_events=number) for k in range(3)]
    contents = [
        [(path.relative_to(tmp_path / str(k)), path.read_bytes()) for path in files]
        for k, files in enumerate(made)
    ]
    assert contents[0] == contents[1] != contents[2]
    texts = [(tmp_path / str(k) / "truth.json").read_text() for k in range(2)]
    assert texts[0] == texts[1]
    truth = load_truth(tmp_path / "0")
    assert (truth["kind"], truth["seed"]) == (kind, 1)
    assert truth["names"] == [name.as_posix() for name, _ in contents[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_may_be_empty(tmp_path, kind):
    if kind == "injection":
        with pytest.raises(ConfigError, match="board 1"):
            simulate(tmp_path, kind=kind, n_events=0)
        return
    files = simulate(tmp_path, kind=kind, n_events=0)
    assert all(path.is_file() for path in files)
    if kind == "telescope2":
        assert files[0].stat().st_size == 0


def test_wrong_requests_are_refused(tmp_path):
    with pytest.raises(UsageError, match="telescoop") as caught:
        simulate(tmp_path, kind="telescoop")
    assert set(caught.value.known) >= {"telescope"}
    for options in (
        {"n_files": 0},
        {"boards": (1,)},
        {"walk": "line"},
        {"tail_fraction": 2.0},
        {"seed": -1},
        {"sigma_ns": (-1.0,)},
        {"kind": "kc705", "faults": {"leftover": -1}},
        {"kind": "kc705", "faults": {"fifo_empty": 1}},
        {"kind": "kc705", "boards": (0, 4)},
        {"kind": "telescope2", "faults": {"lost": 1}},
        {"faults": {"bit_flip": 1}},
        {"faults": {"cut_line": -1}},
        {"n_events": 2, "faults": {"cut_line": 100}},
    ):
        with pytest.raises(ConfigError):
            simulate(tmp_path, **options)
    with pytest.raises(ConfigError, match="interleave"):
        simulate(tmp_path, kind="kc705", n_events=10, interleave=True)
    with pytest.raises(UsageError, match=r"truth\.json"):
        load_truth(tmp_path / "nothing")
    documented = inspect.getdoc(simulate)
    assert all(name in documented for name in FAULTS)
    assert all(name in documented for name in inspect.signature(simulate).parameters)


# ---------------------------------------------------------------- the decoders of the package


def test_decoder_of_tamalero_finds_every_fault(tmp_path):
    tamalero = pytest.importorskip("firstlight.detectors.etroc.readout.tamalero")
    for interleave in (False, True):
        (path,) = simulate(tmp_path, 9, kind="telescope2", n_events=800, faults=MANY, interleave=interleave)
        expected = load_truth(tmp_path)["expected"]
        decoded = tamalero.decode_tamalero(path)
        counters = Counter(decoded.counters)
        assert decoded.n_words == expected["words"] == counters.total()
        # a trailer of another chip is none for this decoder
        foreign, lost = expected["wrong_chip"], expected["data_of_wrong_chip"]
        assert counters == {
            "header": (good := expected["good"] - MANY["wrong_chip"]),
            "data": expected["known_hits"],
            "trailer": good,
            "filler": expected["filler"],
            "FIFO empty": expected["fifo_empty"],
            "data: no header": expected["data_without_header"],
            "trailer: no header": expected["trailers_without_header"],
            "header: no trailer": expected["headers_without_trailer"] + foreign,
            "data: no trailer": expected["data_without_trailer"] + lost,
            "trailer: unknown chip": foreign,
            "header: wrong checksum": (bad := expected["bad_crc"] - MANY["trailer_flip"]),
            "trailer: wrong checksum": bad,
            "data: wrong checksum": expected["hits"] - expected["known_hits"] - lost,
        }
        assert decoded.hits["toa"].size == expected["known_hits"]
        assert {str(v): int((decoded.hits["ea"] == v).sum()) for v in (1, 2, 3)} == expected["alarms"]
        assert (decoded.packets["hits_found"] == 256).sum() == MANY["full_packet"]
        assert len(decoded.packets["link"]) == expected["header"]


def test_decoder_of_frames_finds_every_hit(tmp_path):
    kc705 = pytest.importorskip("firstlight.detectors.etroc.readout.kc705")
    for binary in (False, True):
        files = simulate(
            tmp_path, 9, kind="kc705", n_events=600, n_files=2, faults={"bit_flip": 3}, binary=binary
        )
        truth = load_truth(tmp_path)
        decoded = [kc705.decode_kc705(path) for path in files]
        assert [d.n_words for d in decoded] == [one["words"] for one in truth["files"]]
        assert sum(d.hits["toa"].size for d in decoded) == truth["expected"]["good_hits"]
        assert sum(int((~d.packets["crc_ok"]).sum()) for d in decoded) == 3


def test_readers_of_text_find_every_hit(tmp_path):
    beam = pytest.importorskip("firstlight.detectors.etroc.readout.beam")
    raw32 = pytest.importorskip("firstlight.detectors.etroc.readout.raw32")
    injection = pytest.importorskip("firstlight.detectors.etroc.readout.injection_text")
    emulator = pytest.importorskip("firstlight.detectors.etroc.readout.emulator")
    (path,) = simulate(tmp_path / "beam", 1, n_events=500, crlf=True)
    hits = beam.decode_beam(path).hits
    codes, _ = read_text(path)
    assert [hits[name].tolist() for name in ("link", "toa", "tot", "cal")] == codes[:, :4].T.tolist()
    (path,) = simulate(tmp_path / "raw", 1, kind="raw32")
    truth = load_truth(tmp_path / "raw")
    decoded = raw32.decode_raw32(path)
    assert decoded.n_words == truth["lines"]
    assert decoded.counters == {
        "hit": sum(truth["hits"].values()),
        "filler": truth["zero_lines"],
        "board 2": truth["board2_words"],
        "hit flag 0": truth["hitflag0_words"],
    }
    for name in ("toa", "tot", "cal"):
        assert int(decoded.hits[name].sum(dtype=np.int64)) == truth[f"sum_{name}"]
    files = simulate(tmp_path / "scan", 1, kind="injection", n_events=50)
    number = sum(injection.decode_injection(path).hits["toa"].size for path in files)
    assert number == load_truth(tmp_path / "scan")["total_hits"]
    (path,) = simulate(tmp_path / "emulator", 1, kind="emulator")
    truth = load_truth(tmp_path / "emulator")
    decoded = emulator.decode_emulator(path)
    assert (decoded.hits["toa"].size, decoded.n_records) == (truth["hits"], truth["frames"])
    assert decoded.counters["filler"] == truth["fillers"]


@pytest.mark.parametrize("dialect", ["2024", "2025", "sem"])
def test_reader_of_translated_text_finds_every_hit(tmp_path, dialect):
    nem = pytest.importorskip("firstlight.detectors.etroc.readout.nem")
    packets, truth, _ = simulate_chips(3, 300, links=(0, 1, 3))
    path = containers.write_nem(tmp_path / "TDC_Data_translated_0.nem", packets, dialect=dialect)
    decoded = nem.decode_nem(path)
    assert decoded.hits["toa"].size == truth["hits"]
    for name in ("row", "col", "toa", "tot", "cal"):
        assert decoded.hits[name].tolist() == packets.hits[name].tolist()
    assert decoded.packets["bcid"].tolist() == packets.bcid.tolist()
