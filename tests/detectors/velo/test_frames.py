"""Frames: names, listing of folders, and reading of every kind of good and broken file."""

from __future__ import annotations

import hashlib
import tarfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firstlight.detectors.velo.frames import (
    STATUSES,
    format_shutter,
    frame_name,
    has_frames,
    list_frames,
    parse_shutter,
    read_frame,
    read_frames,
)
from firstlight.errors import InputError, UsageError

PREFIX = "Module0_VP3-1"


def text_of(values: np.ndarray, end: str = "\n", separator: str = ",") -> bytes:
    return "".join(separator.join(map(str, row)) + end for row in values.tolist()).encode()


def some_counts(seed: int, shape: tuple[int, int] = (256, 256), rate: float = 8.0) -> np.ndarray:
    return np.minimum(np.random.default_rng(seed).poisson(rate, shape), 63).astype(np.uint8)


def read_text(tmp_path, content: bytes, shape: tuple[int, int] = (3, 4)):
    path = tmp_path / "frame.csv"
    path.write_bytes(content)
    frames, (record,) = read_frames([path], shape=shape)
    return frames.reshape(shape), record


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s621ms", 2.621), ("0s500ms", 0.5), ("10s0ms", 10.0), ("2s62ms", 2.062), ("2s062ms", 2.062), ("1s", 1.0),
     ("310ms", 0.31), ("1500ms", 1.5)],
)  # fmt: skip
def test_open_times(text, seconds):
    assert parse_shutter(text) == seconds


@given(st.integers(0, 10_000_000))
def test_open_times_there_and_back(milliseconds):
    text = format_shutter(milliseconds / 1000)
    assert parse_shutter(text) == milliseconds / 1000
    assert int(text.split("s")[1].removesuffix("m")) < 1000


@pytest.mark.parametrize("text", ["", "2", "2.621s", "ms", "s", "-1s0ms", "2s621", "2m", "2s 621ms", "²s0ms"])
def test_what_is_no_open_time(text):
    with pytest.raises(UsageError, match="no open time"):
        parse_shutter(text)


def test_milliseconds_beyond_a_second_are_refused_with_what_is_meant():
    with pytest.raises(UsageError, match="2621 ms") as caught:
        parse_shutter("2s2621ms")
    assert caught.value.hint == "4s621ms"


@pytest.mark.parametrize("seconds", [-1.0, 0.0005, float("nan"), float("inf")])
def test_open_times_that_no_name_can_have(seconds):
    with pytest.raises(UsageError, match="whole number of milliseconds"):
        format_shutter(seconds)


def test_names_are_those_of_the_experiment():
    assert frame_name(PREFIX, 2.621, 1494, 18) == "Module0_VP3-1_ECS_data_ST_2s621ms_THR_1494_18.csv"
    assert frame_name(PREFIX, "2s62ms", 1494, 18) == "Module0_VP3-1_ECS_data_ST_2s62ms_THR_1494_18.csv"


# ---------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three thresholds of four acquisitions, and other files."""
    for threshold in (1500, 1480, 1490):
        for acquisition in (10, 2, 0, 1):
            name = frame_name(PREFIX, 2.621, threshold, acquisition)
            (tmp_path / name).write_bytes(b"x" * (threshold + acquisition))
    for other in ("Matrix_Mask", "Trim0_Noise_Mean"):
        (tmp_path / f"{PREFIX}_{other}.csv").touch()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_a_tidy_folder(folder):
    frames = list_frames(folder)
    assert len(frames) == 12
    assert frames.prefixes == (PREFIX,)
    assert frames.thresholds.tolist() == [1480, 1490, 1500]
    assert frames.step == 10
    assert frames.threshold.tolist() == [1480] * 4 + [1490] * 4 + [1500] * 4
    assert frames.acquisition.tolist() == [0, 1, 2, 10] * 3
    assert set(frames.shutter) == {2.621}
    assert frames.size.tolist() == [t + a for t, a in zip(frames.threshold, frames.acquisition, strict=True)]
    assert frames.mtime == pytest.approx([(folder / name).stat().st_mtime for name in frames.names])
    assert frames.notes == ()
    assert frames.odd_names == ()
    assert not frames.repeated.any()
    assert "12 frames of Module0_VP3-1, 3 thresholds 1480 to 1500 DAC" in repr(frames)
    assert has_frames(folder)


def test_nearly_frames_are_told(folder):
    odd = [
        f"{PREFIX}_ECS_data_ST_2s621ms_THR_1494_18.csv.gz",
        f"{PREFIX}_ECS_data_ST_2s621ms_THR_1494.csv",
        f"{PREFIX}_ECS_data_ST_2.6s_THR_1494_1.csv",
        f"{PREFIX}_ECS_data_ST_2s2621ms_THR_1494_1.csv",
        f"{PREFIX}_ECS_data_ST_2s621ms_THR_1494_1.CSV",
        f"{PREFIX}_ECS_data_ST_2s621ms_THR_1494_1 (copy).csv",
        f"{PREFIX}_ecs_data_ST_2s621ms_thr_1494_1.csv",
        "_ECS_data_ST_2s621ms_THR_1494_1.csv",
    ]
    for name in odd:
        (folder / name).touch()
    (folder / f".{PREFIX}_ECS_data_ST_2s621ms_THR_1494_1.csv.swp").touch()
    frames = list_frames(folder)
    assert len(frames) == 12
    assert frames.odd_names == tuple(sorted(odd))
    assert "8 files look like frames" in frames.notes[0]


def test_an_acquisition_that_is_there_twice(folder):
    (folder / f"{PREFIX}_ECS_data_ST_2s621ms_THR_1490_010.csv").touch()
    (folder / frame_name(PREFIX, 1.0, 1490, 1)).touch()
    (folder / frame_name("Module0_VP3-2", 2.621, 1490, 1)).touch()
    frames = list_frames(folder)
    assert frames.duplicates == (
        (frame_name(PREFIX, 2.621, 1490, 10), f"{PREFIX}_ECS_data_ST_2s621ms_THR_1490_010.csv"),
    )
    assert frames.overlapping == ((frame_name(PREFIX, 1.0, 1490, 1), frame_name(PREFIX, 2.621, 1490, 1)),)
    assert frames.names[frames.repeated].tolist() == [f"{PREFIX}_ECS_data_ST_2s621ms_THR_1490_010.csv"]
    assert frames.prefixes == (PREFIX, "Module0_VP3-2")
    notes = " / ".join(frames.notes)
    assert "1 frames are there more than once" in notes
    assert "1 acquisitions are there with several open times" in notes
    assert "frames of 2 open times: 1s0ms (1 frames), 2s621ms (14 frames)" in notes


def test_thresholds_that_are_absent_or_beside_the_steps(tmp_path):
    for threshold in (1480, 1485, 1495, 1500, 1505):
        (tmp_path / frame_name(PREFIX, 1.0, threshold, 0)).touch()
    assert list_frames(tmp_path).notes == ("thresholds without any frame: 1490 DAC",)
    (tmp_path / frame_name(PREFIX, 1.0, 1488, 0)).touch()
    frames = list_frames(tmp_path)
    assert frames.step == 5
    assert frames.notes == ("thresholds beside the steps of 5 DAC: 1488",)


def test_folders_without_frames(tmp_path):
    frames = list_frames(tmp_path)
    assert len(frames) == 0
    assert (frames.prefixes, frames.step, frames.notes, frames.duplicates) == ((), None, (), ())
    assert "no frames" in repr(frames)
    assert not has_frames(tmp_path)
    assert not has_frames(tmp_path / "nothing")
    (tmp_path / "file").touch()
    assert not has_frames(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be listed"):
        list_frames(tmp_path / "nothing")


def test_a_link_that_leads_nowhere_is_a_missing_frame(tmp_path):
    name = frame_name(PREFIX, 1.0, 1480, 0)
    (tmp_path / name).symlink_to(tmp_path / "gone")
    frames = list_frames(tmp_path)
    assert frames.size.tolist() == [0]
    assert read_frames([tmp_path / name])[1][0].status == "missing"


# ---------------------------------------------------------------- reading


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["\n", "\r\n", "\r", " \n", "\n"]),
    st.sampled_from([",", ", ", " ,", " , "]),
    st.sampled_from([b"", b"\n", b"\n \n\t\n", b"\r\n"]),
    st.booleans(),
    st.booleans(),
)
@example(1, 1, 0, "\n", ",", b"", True, False)
def test_everything_that_is_a_frame_is_read(
    tmp_path_factory, rows, columns, seed, end, separator, after, no_newline, bom
):
    values = np.random.default_rng(seed).integers(0, 64, (rows, columns))
    content = text_of(values, end, separator)
    content = content.rstrip(b"\r\n ") if no_newline else content + after
    content = b"\xef\xbb\xbf" + content if bom else content
    found, record = read_text(tmp_path_factory.mktemp("frame"), content, (rows, columns))
    assert record.status == "read", record
    assert record.reason == ""
    assert np.array_equal(found, values)


@given(st.binary(max_size=60))
@example(b"1,2,3,4\n5,6,7,8\n9,10,11,12\n")
@example(b"1,2,3,4,5,6,7,8,9,10,11\n12")
@example(b",1,2,3,4\n5,6,7,8\n9,10,11,1")
@example(b"1,2,3,4\n5,6,7\n8,9,10,11,12\n")
@example(b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n")
def test_no_bytes_make_the_reader_fail(tmp_path_factory, content):
    found, record = read_text(tmp_path_factory.mktemp("frame"), content)
    assert record.status in STATUSES
    assert record.size == len(content)
    assert (record.reason == "") == (record.status == "read")
    if record.status == "read":
        lines = content.removeprefix(b"\xef\xbb\xbf").decode().split()
        assert np.array_equal(found, [[int(n) for n in "".join(lines[i]).split(",")] for i in range(3)])
    else:
        assert not found.any()


GOOD = b"1,2,3,4\n5,6,7,8\n9,10,11,12\n"
WRONG = [
    (b"", "empty file", "no bytes"),
    (b" \n\n", "empty file", "nothing but blanks"),
    (b"1,2,3,4\n5,6,7,8\n", "truncated", "ends after line 2, 3 are expected"),
    (b"1,2,3,4\n5,6,7,8", "truncated", "ends after line 2, 3 are expected"),
    (b"1,2,3,4\n5,6,7,8\n9,10", "truncated", "ends in line 3 of 3, after 2 of 4 values"),
    (b"1,2,3,4\n5,6,", "truncated", "ends in line 2 of 3, after 2 of 4 values"),
    (b"1,2,3,4\n5,6,7,8\n9,10\x00\x00\x00\x00", "text", "line 3, column 2: '10????' is no whole number"),
    (b"1,2,3,4\n\x00\x00\x00\x00", "text", "line 2, column 1: bytes 0, as after a crash"),
    (b"1,2,3\n5,6,7\n9,10,11\n", "not square", "line 1 has 3 values, 4 are expected"),
    (b"1,2,3,4\n5,6,7,8,9\n9,10,11,12\n", "not square", "line 2 has 5 values, 4 are expected"),
    (b"1,2,3,4\n5,6,7\n8,9,10,11,12\n", "not square", "line 2 has 3 values, 4 are expected"),
    (b"1,2,3,4,\n5,6,7,8,\n9,10,11,12,\n", "not square", "line 1 has 5 values"),
    (GOOD + b"1,2,3,4\n1,2\n", "not square", "has 5 lines, 3 are expected"),
    (b"1,2,3,4\n5,x7,7,8\n9,10,11,12\n", "text", "line 2, column 2: 'x7' is no whole number"),
    (b"1,2,3,4\n5,6.0,7,8\n9,10,11,12\n", "text", "line 2, column 2: '6.0' is no whole number"),
    (b"1,2,3,4\n5,,7,8\n9,10,11,12\n", "text", "line 2, column 2: nothing between two commas"),
    (b",1,2,3,4\n5,6,7,8\n9,10,11,1", "text", "line 1, column 1: nothing between two commas"),
    (b"1,2,3,4\n5,nan,7,8\n9,10,11,12\n", "text", "'nan'"),
    (b"1,2,3,4\n5,1 2,7,8\n9,10,11,12\n", "text", "line 2, column 2: values are separated by spaces"),
    (b"1;2;3;4\n5;6;7;8\n9;10;11;12\n", "text", "values are separated by semicolons, commas are expected"),
    (b"1\t2\t3\t4\n5\t6\t7\t8\n9\t10\t11\t12\n", "text", "values are separated by tabs"),
    (b"1 2 3 4\n5 6 7 8\n9 10 11 12\n", "text", "values are separated by spaces"),
    (b"# header\n" + GOOD, "text", "line 1, column 1: '# header' is no whole number"),
    (b"<html>\n", "text", "'<html>'"),
    (b"\xff\xfe1\x00,\x002\x00", "text", "line 1, column 1"),
    (b"1,2,3,4\n5,64,7,8\n9,10,11,12\n", "out of range", "line 2, column 2: '64' is above 63"),
    (b"1,2,3,4\n5,300,7,8\n9,10,11,12\n", "out of range", "line 2, column 2: '300' is above 63"),
    (b"1,2,3,4\n5,-1,7,8\n9,10,11,12\n", "out of range", "line 2, column 2: '-1' is negative"),
    (b"1,2,3,4\n5," + b"9" * 40 + b",7,8\n9,10,11,12\n", "out of range", "'999999999999999999999...' is above 63"),
    (b"\n1,2,3,4\n5,6,x,8\n9,10,11,12\n", "text", "line 3, column 3"),
    (b"1,2,3,4\r\n5,6,7,8\r\n9,10,11,99\r\n", "out of range", "line 3, column 4: '99'"),
    (b"1,2,3,4\n5,6,7,8\n9,10,11,99", "out of range", "line 3, column 4: '99'"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "status", "reason"), WRONG, ids=[str(each[0][:24]) for each in WRONG])
def test_what_is_wrong_and_where(tmp_path, content, status, reason):
    found, record = read_text(tmp_path, content)
    assert record.status == status
    assert reason in record.reason
    assert not found.any()
    assert record.size == len(content)
    assert record.digest == (hashlib.sha256(content).hexdigest()[:24] if content else "")


def test_the_same_faults_in_whole_frames(tmp_path):
    """Large frames go the fast way first; it must refuse what the careful way refuses."""
    values = some_counts(3)
    content = text_of(values)
    lines = content.split(b"\n")
    cases = {
        "good": (content, "read", ""),
        "no newline": (content[:-1], "read", ""),
        "leading zeros": (content.replace(b",7,", b",007,"), "read", ""),
        "short": (b"\n".join(lines[:200]) + b"\n", "truncated", "ends after line 200, 256 are expected"),
        "cut": (content[: len(content) // 2].rstrip(b",\n"), "truncated", "of 256 values"),
        "255": (text_of(values[:, :-1]), "not square", "line 1 has 255 values, 256 are expected"),
        "shifted": (content.replace(b"\n", b",", 1).replace(b",", b"\n", 1), "not square", "line 1 has 1 values"),
        "swapped": (
            b"\n".join([*lines[:5], b",".join(lines[5].split(b",")[:-1]), lines[5].split(b",")[-1] + b"," + lines[6],
                        *lines[7:]]), "not square", "line 6 has 255 values"),
        "large": (content.replace(b",7,", b",64,", 1), "out of range", "'64' is above 63"),
        "text": (content.replace(b",7,", b",ERR,", 1), "text", "'ERR' is no whole number"),
        "colon": (content.replace(b",7,", b":7,", 1), "text", "is no whole number"),
        "slash": (content.replace(b",7,", b",7/", 1), "text", "is no whole number"),
        "more": (content + b"1,2\n", "not square", "has 257 lines"),
    }  # fmt: skip
    for name, (text, status, reason) in cases.items():
        found, record = read_text(tmp_path, text, (256, 256))
        assert record.status == status, (name, record)
        assert reason in record.reason, (name, record)
        if status == "read":
            assert np.array_equal(found, values), name


def test_files_that_cannot_be_opened(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "good.csv").write_bytes(GOOD)
    paths = [tmp_path / "folder.csv", tmp_path / "no.csv", tmp_path / "good.csv"]
    frames, records = read_frames(paths, shape=(3, 4))
    assert [record.status for record in records] == ["unreadable", "missing", "read"]
    assert "directory" in records[0].reason
    assert frames.sum(axis=1).tolist() == [0, 0, 78]


def test_many_frames_with_any_number_of_threads(tmp_path):
    values = [some_counts(seed, (8, 8)) for seed in range(70)]
    paths = []
    for index, each in enumerate(values):
        paths.append(tmp_path / f"{index}.csv")
        paths[-1].write_bytes(text_of(each) if index % 9 else b"1,2")
    one, records = read_frames(paths, 1, shape=(8, 8))
    several, others = read_frames([str(path) for path in paths], 5, shape=(8, 8))
    assert np.array_equal(one, several)
    assert records == others
    assert [record.status for record in records] == [
        "read" if index % 9 else "truncated" for index in range(70)
    ]
    for index, each in enumerate(values):
        assert np.array_equal(one[index].reshape(8, 8), each if index % 9 else np.zeros((8, 8)))
    nothing, none = read_frames([])
    assert nothing.shape == (0, 65536)
    assert none == []


def test_other_chips(tmp_path):
    values = np.random.default_rng(4).integers(0, 256, (2, 5))
    path = tmp_path / "frame.csv"
    path.write_bytes(text_of(values))
    assert np.array_equal(read_frame(path, shape=(2, 5), largest=255), values)
    with pytest.raises(InputError, match="not square"):
        read_frame(path, shape=(5, 2), largest=255)
    for wrong in ({"shape": (0, 5)}, {"largest": 256}, {"threads": 0}):
        with pytest.raises(UsageError):
            read_frames([path], **wrong)


def test_the_sample_is_read_as_other_readers_do(sample_data, tmp_path):
    wanted = (0, 60, 130, 190)
    with tarfile.open(sample_data / "velo" / "synthetic_fe55_scan_dev.tar.xz") as archive:
        names = []
        for member in archive:
            if "_THR_" in member.name and member.isfile():
                names.append(member.name)
                if len(names) - 1 in wanted or "THR_1535_2." in member.name:
                    (tmp_path / member.name.rsplit("/", 1)[-1]).write_bytes(
                        archive.extractfile(member).read()
                    )
    assert len(names) == 197
    frames = list_frames(tmp_path)
    assert len(frames) == 5
    images, records = read_frames([tmp_path / name for name in frames.names])
    for name, image, record in zip(frames.names, images, records, strict=True):
        if "THR_1535_2." in name:
            assert (record.status, record.reason) == ("truncated", "ends after line 200, 256 are expected")
            assert not image.any()
        else:
            assert record.status == "read"
            assert np.array_equal(
                image.reshape(256, 256), np.loadtxt(tmp_path / name, delimiter=",", dtype=int)
            )
