"""Truth pickles: what is read is what was written, and nothing in a file is ever carried out."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest

from firstlight.detectors.lartpc.reading.pickles import GLOBALS, read_pickle, read_truth_pickle, truth_pickle
from firstlight.errors import InputError

OLD = b"numpy.core.multiarray"
NEW = b"numpy._core.multiarray"


def record():
    truth = {
        "num_electrons": np.int64(29834),
        "track_energy": 1000.0,
        "origin": np.zeros(3),
        "initial_direction": np.array([0.6, 0.0, -0.8]),
        "first_interaction": "n/a",
        "r_brem": np.zeros((3, 0)),
        "r_compton": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "energy_brem": np.zeros(0),
        "flags": np.array([True, False]),
        "words": np.array(["pair", "photo"]),
    }
    meta = {
        "raw_lines": ["TITLE", "", "END"],
        "eabs": np.array([50.0, 50.0, 50.0]),
        "wcc": np.float64(50.0),
        "ids": {"electrons": 1},
        "shape": (1, (2.5, None)),
        "huge": 10**30,
        "flag": True,
    }
    return truth, meta


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)
    return type(one) is type(other) and one == other


def write(path, content):
    path.write_bytes(content)
    return path


def call(module, name, *arguments, protocol=b"\x80\x04"):
    """Return a pickle that calls `module.name` with texts."""
    out = protocol + b"c" + module.encode() + b"\n" + name.encode() + b"\n("
    out += b"".join(b"X" + struct.pack("<I", len(each)) + each.encode() for each in arguments)
    return out + b"tR."


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_numbers_and_arrays_come_back(tmp_path, protocol):
    truth, meta = record()
    if protocol == 5:
        # protocol 5 keeps arrays in another way, which the original never wrote
        truth = {key: value for key, value in truth.items() if not isinstance(value, np.ndarray)}
        meta = {key: value for key, value in meta.items() if not isinstance(value, np.ndarray)}
    path = write(tmp_path / "t.pickle", pickle.dumps({"truth": truth, "meta": meta}, protocol=protocol))
    read = read_truth_pickle(path)
    assert same(truth, read[0])
    assert same(meta, read[1])


def test_written_pickle_has_the_names_of_every_numpy_and_protocol_4(tmp_path):
    truth, meta = record()
    data = truth_pickle(truth, meta)
    assert data[:2] == b"\x80\x04"
    assert NEW not in data
    names = {
        argument for opcode, argument, _ in pickletools.genops(data) if opcode.name == "SHORT_BINUNICODE"
    }
    assert {OLD.decode(), "scalar", "_reconstruct", "ndarray"} <= names
    # the plain loader is what the original tools use
    plain = pickle.loads(data)  # noqa: S301
    assert same(truth, plain["truth"])
    assert same(meta, plain["meta"])
    read = read_truth_pickle(write(tmp_path / "t.pickle", data))
    assert same(truth, read[0])
    assert same(meta, read[1])


def test_both_spellings_of_numpy_are_understood(tmp_path):
    data = pickle.dumps({"truth": {"a": np.arange(3)}, "meta": {}}, protocol=3)
    spelled = {OLD: data.replace(b"c" + NEW, b"c" + OLD), NEW: data.replace(b"c" + OLD, b"c" + NEW)}
    assert spelled[OLD] != spelled[NEW]
    for name, content in spelled.items():
        truth, _ = read_truth_pickle(write(tmp_path / f"{name.decode()}.pickle", content))
        assert truth["a"].tolist() == [0, 1, 2]


def test_bytes_of_other_machines_become_those_of_this_one(tmp_path):
    values = np.arange(3, dtype=">i4")
    truth, _ = read_truth_pickle(write(tmp_path / "t.pickle", truth_pickle({"a": values}, {})))
    assert same(truth["a"], np.arange(3, dtype=np.int32))


def test_arrays_that_are_read_belong_to_the_caller(tmp_path):
    path = write(tmp_path / "t.pickle", truth_pickle({"a": np.arange(3.0)}, {}))
    truth, _ = read_truth_pickle(path)
    truth["a"][0] = 7.0
    assert truth["a"].tolist() == [7.0, 1.0, 2.0]


# ---------------------------------------------------------------- hostile


class Hostile:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_command_is_refused_with_its_name_and_not_carried_out(tmp_path, protocol):
    marker = tmp_path / "ran"
    hostile = {"truth": Hostile(os.system, f"touch {marker}"), "meta": {}}
    path = write(tmp_path / "evil.pickle", pickle.dumps(hostile, protocol=protocol))
    with pytest.raises(InputError, match=r"(?s)evil\.pickle: refused.*posix\.system.*do not open it"):
        read_pickle(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # noqa: S301
    assert marker.exists(), "the file was not hostile, the test shows nothing"


ATTACKS = {
    "os.system": call("os", "system", "true"),
    "eval": call("builtins", "eval", "1"),
    "getattr": call("builtins", "getattr", "a", "b"),
    "numpy.load": call("numpy", "load", "x"),
    "numpy.core.multiarray.fromfile": call("numpy.core.multiarray", "fromfile", "x"),
    "numpy.core.numeric._frombuffer": call("numpy.core.numeric", "_frombuffer", "x"),
    "numpy.dtype.newbyteorder": call("numpy", "dtype.newbyteorder", "<"),
    "numpy.ndarray.tofile": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "stack global from the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.",
    "instance": b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n.",
    "object": b"\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "new object": b"\x80\x02cnumpy\nndarray\n(K\x03t\x81.",
    "new object of the four": b"\x80\x04cnumpy\nndarray\n)}\x92.",
    "persistent id": b"\x80\x02Pevil\n.",
    "binary persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "extension 1": b"\x80\x02\x82\x01.",
    "extension 2": b"\x80\x02\x83\x01\x00.",
    "extension 4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "buffer outside": b"\x80\x05\x97.",
    "call of a value": b"\x80\x02K\x01)R.",
    "call of an array": b"\x80\x02cnumpy\ndtype\n)R)R.",
    "change of a name": b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.",
    "change of a dict": b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb.",
    "a name as a value": b"\x80\x02}X\x05\x00\x00\x00truthcnumpy\ndtype\ns.",
    "set": b"\x80\x04\x8f(K\x01\x90.",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"a\.pickle: refused") as caught:
        read_pickle(write(tmp_path / "a.pickle", ATTACKS[name]))
    if "." in name:
        assert name in str(caught.value)
    assert "numpy.dtype" in caught.value.known


def array_pickle(shape=b"K\x03\x85", code=b"f8", raw=b"\0" * 24, state=None, owner=b"cnumpy\nndarray\n"):
    """Return a pickle of one array, part by part."""
    state = state or b"K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
    dtype = b"cnumpy\ndtype\n(X" + struct.pack("<I", len(code)) + code + b"\x89\x88tR(" + state + b"b"
    content = raw if raw.startswith(b"]") else b"B" + struct.pack("<I", len(raw)) + raw
    return (
        b"\x80\x03c" + OLD + b"\n_reconstruct\n(" + owner + b"K\x00\x85C\x01btR(K\x01" + shape + dtype + b"\x89" + content + b"tb."
    )  # fmt: skip


def test_the_pickle_made_by_hand_is_a_good_one(tmp_path):
    made = read_pickle(write(tmp_path / "a.pickle", array_pickle()))
    assert made.tolist() == [0.0, 0.0, 0.0]
    assert same(made, pickle.loads(array_pickle()))  # noqa: S301


FLAGGED = b"K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?t"
FIELDS = (
    b"K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00a\x85}X\x01\x00\x00\x00acnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RK\x00\x86s"
    b"K\x08K\x01K\x1bt"
)
SUBARRAY = b"K\x03X\x01\x00\x00\x00|cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RK\x03\x86NNK\x18K\x08K\x00t"
BAD_ARRAYS = {
    "object": (array_pickle(code=b"O8", raw=b"]"), "Python objects"),
    "object with its flag": (array_pickle(code=b"V8", state=FLAGGED), "Python objects"),
    "object called a number": (array_pickle(raw=b"]"), "Python objects"),
    "fields": (array_pickle(code=b"V8", state=FIELDS), "Python objects"),
    "fields of numbers": (array_pickle(code=b"V8", state=FIELDS.replace(b"K\x1bt", b"K\x10t")), "only numbers and texts"),
    "fields on a number": (array_pickle(code=b"f8", state=FIELDS), "Python objects|only numbers"),
    "sub-array": (array_pickle(code=b"f8", state=SUBARRAY), "only numbers"),
    "a comma list of types": (array_pickle(code=b"f8,O"), "only numbers"),
    "a type by its class": (array_pickle(code=b"object"), "only numbers|Python objects"),
    "dates": (array_pickle(code=b"M8[ns]"), "only numbers"),
    "more than there is": (array_pickle(shape=b"K\x04\x85"), "32 bytes, and holds 24"),
    "a terabyte": (array_pickle(shape=b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85"), "shape"),
    "many terabytes": (array_pickle(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"), "and holds 24"),
    "minus": (array_pickle(shape=b"J\xfd\xff\xff\xff\x85"), "shape"),
    "two minuses": (array_pickle(shape=b"J\xfd\xff\xff\xffJ\xff\xff\xff\xff\x86"), "shape"),
    "true": (array_pickle(shape=b"\x88\x85", raw=b"\0" * 8), "shape"),
    "nine axes": (array_pickle(shape=b"(" + b"K\x01" * 9 + b"t", raw=b"\0" * 8), "shape"),
    "a kind of its own": (array_pickle(owner=b"cnumpy\ndtype\n"), "kind of its own"),
    "no content": (b"\x80\x03c" + OLD + b"\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR.", "without content"),
    "a gigabyte of letters that are not there": (array_pickle(shape=b"J\0\0\0\x40\x85", code=b"S0", raw=b""), "without a byte"),
    "unicode letters that are not there": (array_pickle(shape=b"J\0\0\0\x40\x85", code=b"U0", raw=b""), "without a byte"),
    "a billion empty rows": (array_pickle(shape=b"J\0\0\0\x40K\x00\x86", raw=b""), "arrays without any"),
    "a huge empty one": (
        b"\x80\x03c" + OLD + b"\n_reconstruct\n(cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01btR.", "without content"
    ),
    "ndarray from its shape": (b"\x80\x03cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "shape alone"),
    "text that is none": (array_pickle(code=b"U1", shape=b"K\x01\x85", raw=b"\xff\xff\xff\xff"), "damaged"),
    "scalar of an object": (
        b"\x80\x03c" + OLD + b"\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RC\x08\0\0\0\0\0\0\0\0\x86R.", "Python objects"
    ),
    "scalar of too much": (
        b"\x80\x03c" + OLD + b"\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f8\x85RC\x09\0\0\0\0\0\0\0\0\0\x86R.", "8 bytes, and holds 9"
    ),
    "scalar of nothing": (b"\x80\x03c" + OLD + b"\nscalar\n)R.", "without a number type"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_are_not_numbers_or_lie_about_their_size_are_refused(tmp_path, name):
    content, message = BAD_ARRAYS[name]
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message):
            read_pickle(write(tmp_path / "a.pickle", content))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5e6


def test_bombs_go_off_without_harm(tmp_path):
    doubled = b"".join(b"2\x86" for _ in range(60))
    memo = b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(60))
    lists = b"]q\x00" + b"".join(
        b"]q" + bytes([n + 1]) + b"(h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(60)
    )
    raw = b"B" + struct.pack("<I", 8 * 100_000) + b"\0" * 800_000 + b"q\x01"
    one = array_pickle(shape=b"J\xa0\x86\x01\x00\x85", raw=b"]").split(b"]")[0][2:]
    many = b"\x80\x03" + raw + b"0](" + (one + b"h\x01tb") * 500 + b"e."
    bombs = {
        "memo number": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "memo number in text": b"\x80\x02Np999999999999\n.",
        "doubled tuples": b"\x80\x02)" + doubled + b"}\x85.",
        "tuples from the memo": b"\x80\x02)q\x00" + memo + b".",
        "deep tuples as a key": b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.",
        "lists from the memo": b"\x80\x02" + lists + b".",
        "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "a list in itself": b"\x80\x02]q\x00h\x00a.",
        "a dict in itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
        "many opcodes": b"\x80\x02" + b"N0" * 110_000 + b"N.",
        "one content, many arrays": many,
    }
    for name, content in bombs.items():
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match="refused"):
                read_pickle(write(tmp_path / f"{name}.pickle", content))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2e8, name


# ---------------------------------------------------------------- foreign and damaged


def test_files_that_are_no_pickles_say_what_they_are(tmp_path):
    foreign = {
        b"": "the file is empty",
        b"version https://git-lfs.github.com/spec/v1\n": r"not a pickle: it begins with b'version http",
        b"PK\x03\x04": "not a pickle",
        b"(dp0\n.": "not a pickle",
        b"\x80\x63.": "not a pickle",
    }
    for content, message in foreign.items():
        with pytest.raises(InputError, match=message):
            read_pickle(write(tmp_path / "f.pickle", content))
    with pytest.raises(InputError, match="No such file"):
        read_pickle(tmp_path / "none.pickle")
    with pytest.raises(InputError, match="at most 100"):
        read_pickle(write(tmp_path / "l.pickle", truth_pickle(*record())), largest=100)


def test_protocols_that_are_read_are_told(tmp_path):
    truth, meta = record()
    for protocol in (3, 4):
        path = write(tmp_path / "p.pickle", pickle.dumps({"truth": truth, "meta": meta}, protocol=protocol))
        assert same(read_truth_pickle(path)[0], truth)
    for protocol, name in ((2, "_codecs.encode"), (5, "_frombuffer")):
        content = pickle.dumps({"truth": {"origin": np.zeros(3)}, "meta": {}}, protocol=protocol)
        with pytest.raises(
            InputError, match=f"asks for .*{name}(?s:.*)3 and 4 are read(?s:.*)with protocol 4"
        ):
            read_pickle(write(tmp_path / "p.pickle", content))
        plain = pickle.dumps({"truth": {"origin": [0.0, 0.0]}, "meta": {}}, protocol=protocol)
        assert read_pickle(write(tmp_path / "p.pickle", plain))["truth"] == {"origin": [0.0, 0.0]}
    for content in (b"", b"(dp0\n."):
        with pytest.raises(InputError, match="protocol 3 and 4 are read"):
            read_pickle(write(tmp_path / "p.pickle", content))


def test_one_array_in_many_places_is_not_made_large(tmp_path):
    # a megabyte that a list of 200 has at each place, which becomes lists of numbers in the notes of a track
    shared = np.zeros(131_072)
    few = write(tmp_path / "f.pickle", pickle.dumps([shared] * 30, protocol=4))
    assert len(read_pickle(few)) == 30
    many = write(tmp_path / "m.pickle", pickle.dumps([shared] * 200, protocol=4))
    with pytest.raises(InputError, match="the same bytes in many arrays"):
        read_pickle(many)


def test_every_cut_is_told(tmp_path):
    data = truth_pickle(*record())
    path = tmp_path / "cut.pickle"
    for length in (*range(2, 200), *range(200, len(data), 7)):
        with pytest.raises(InputError, match=r"ends too early|damaged"):
            read_pickle(write(path, data[:length]))


def test_damage_is_told_or_harmless(tmp_path):
    """A byte changed anywhere gives a value or an `InputError`, nothing else, whatever it makes of the program."""
    data = truth_pickle(*record())
    rng = np.random.default_rng(5)
    path = tmp_path / "d.pickle"
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1500):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(InputError):
            outcome = "refused"
            read_pickle(write(path, bytes(damaged)))
            outcome = "read"
        outcomes[outcome] += 1
    assert min(outcomes.values()) > 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a dict"),
        ({"truth": {}}, "no dict 'meta'"),
        ({"meta": {}, "raw": 1}, "no dict 'truth'"),
        ({"truth": [], "meta": {}}, "no dict 'truth'"),
    ],
)
def test_dicts_of_another_kind_are_told(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_truth_pickle(write(tmp_path / "w.pickle", pickle.dumps(content, protocol=4)))


def test_only_the_four_names_are_known():
    names = {name.replace("numpy._core", "numpy.core") for name in GLOBALS}
    assert names == {
        "numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
    }  # fmt: skip
    # that the hand-made programs above are programs at all
    assert list(pickletools.genops(io.BytesIO(array_pickle())))[-1][0].name == "STOP"
