"""Truth pickles of the original tools, read without trusting them.

A pickle is a program: whoever opens it with `pickle.load` runs what its author wrote. The truth records of Gampy need
four names of NumPy and plain values, so nothing else is let through here, and even those four names are not NumPy's:

1. The opcodes are walked through first, and none of them is carried out (`_Survey`). Opcodes that make objects of
   classes, fetch persistent ids or look into the extension registry are refused, and so are names other than the four.
   Memo numbers are held small (a single opcode could otherwise ask for 64 GB), and so is the nesting of tuples (a few
   bytes can make one that takes hours to hash).
2. A `pickle.Unpickler` with its own `find_class` then carries them out. The four names lead to stand-ins that only
   keep what they are given (`_Maker`). No function of NumPy sees bytes of the file, and no memory is taken that the file
   does not fill.
3. The stand-ins become arrays and numbers when what they hold has been checked: number types only, and exactly as
   many bytes as the shape asks for.

Pickles of protocol 3 and 4 are read; the original wrote the fourth. In those of 5 arrays ask for another name
(``numpy._core.numeric._frombuffer``), in those of 2 so do arrays and numbers of NumPy (``_codecs.encode``), and are refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["GLOBALS", "LARGEST", "read_pickle", "read_truth_pickle", "truth_pickle"]

LARGEST = 16 * 2**20
"""Bytes a truth pickle may have; those of 50 MeV tracks have 6000."""

# as Python and NumPy wrote them at different times
_NUMPY_1 = "numpy.core.multiarray"
_NUMPY_2 = "numpy._core.multiarray"
GLOBALS = {
    "numpy.dtype": "dtype",
    "numpy.ndarray": "ndarray",
    f"{_NUMPY_1}.scalar": "scalar",
    f"{_NUMPY_1}._reconstruct": "array",
    f"{_NUMPY_2}.scalar": "scalar",
    f"{_NUMPY_2}._reconstruct": "array",
}
"""Names that a truth pickle may hold."""
_KNOWN = ["numpy.dtype", "numpy.ndarray", f"{_NUMPY_1}.scalar", f"{_NUMPY_1}._reconstruct", "plain values"]

_MOST_OPCODES = 200_000
_MOST_MEMO = 100_000
_MOST_VALUES = 200_000
_DEEPEST = 30
_HEAVIEST = 100_000
_LONGEST_AXIS = 2**31
_CODE = re.compile(r"[biufc?SU]\d{0,4}")
_OBJECTS = "has an array of Python objects; those are not read, they are pickles within the pickle"
_READ = "pickles of protocol 3 and 4 are read; of 5 those without arrays, of 2 those without arrays and numbers of NumPy"
_HINT = (
    "it is no truth record as Gampy writes them; do not open it with pickle: that would run what stands in it"
)


# what NumPy asks for in pickles of protocol 2 and 5
_OTHER_PROTOCOLS = ("_codecs.encode", "numeric._frombuffer")


class _RefusedError(Exception):
    """What is wrong with a pickle; becomes an `InputError` with the name of the file."""


def _refuse(what: str) -> NoReturn:
    raise _RefusedError(what)


# ---------------------------------------------------------------- 1. look at the program, carry nothing out

_LEAVES = {
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT",
}  # fmt: skip
_POPS = {"POP": 1, "APPEND": 1, "SETITEM": 2, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TO_MARK = {"TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS", "POP_MARK"}
_PUSHES = {"TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "LIST", "DICT"}
_WHY = {
    "PERSID": "a persistent id", "BINPERSID": "a persistent id",
    "EXT1": "the extension registry", "EXT2": "the extension registry", "EXT4": "the extension registry",
    "INST": "an object of the class", "OBJ": "an object of a class", "NEWOBJ": "an object of a class",
    "NEWOBJ_EX": "an object of a class", "NEXT_BUFFER": "a buffer outside the file", "READONLY_BUFFER": "a buffer outside the file",
}  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """What lies on the stack: how deep and heavy it is, its text if it is one, and whether it may be called or built."""

    depth: int = 0
    weight: int = 1
    text: str | None = None
    kind: str = "value"


_MARK = _Seen(kind="mark")


@dataclass
class _Survey:
    """Walk through the opcodes of a pickle with a stack of what would lie on it."""

    stack: list[_Seen] = field(default_factory=list)
    memo: dict[int, _Seen] = field(default_factory=dict)

    def walk(self, data: bytes) -> None:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if count > _MOST_OPCODES:
                _refuse(f"has more than {_MOST_OPCODES} opcodes")
            try:
                self.step(opcode.name, argument, int(position or 0))
            except (IndexError, KeyError):
                _refuse(f"is damaged at byte {position}: {opcode.name} finds nothing to work on")

    def step(self, name: str, argument: Any, position: int) -> None:
        if name in _LEAVES:
            self.stack.append(_Seen(text=argument if isinstance(argument, str) else None))
        elif name in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            self.keep(len(self.memo) if name == "MEMOIZE" else int(argument))
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[int(argument)])
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in _POPS:
            self.put_together(name, [self.stack.pop() for _ in range(_POPS[name])])
        elif name in _TO_MARK:
            self.put_together(name, self.to_mark())
        elif name in {"GLOBAL", "STACK_GLOBAL"}:
            self.name(argument, position)
        elif name in {"REDUCE", "BUILD"}:
            self.call(name, position)
        elif name not in {"PROTO", "FRAME", "STOP"}:
            what = f"{_WHY.get(name, 'the opcode')} {argument if name == 'INST' else name}"
            _refuse(f"asks for {what} at byte {position}")

    def keep(self, number: int) -> None:
        if not 0 <= number < _MOST_MEMO:
            _refuse(f"uses the memo number {number}: a record has no more than {_MOST_MEMO}")
        self.memo[number] = self.stack[-1]

    def to_mark(self) -> list[_Seen]:
        taken = []
        while (item := self.stack.pop()) is not _MARK:
            taken.append(item)
        return taken

    def put_together(self, name: str, items: list[_Seen]) -> None:
        if name not in _PUSHES:
            return
        depth = 1 + max((item.depth for item in items), default=0)
        weight = 1 + sum(item.weight for item in items)
        if depth > _DEEPEST or weight > _HEAVIEST:
            _refuse("nests tuples so deeply that they cannot be handled")
        self.stack.append(_Seen(depth, weight))

    def name(self, argument: Any, position: int) -> None:
        if argument is None:
            short, module = self.stack.pop().text, self.stack.pop().text
            wanted = f"{module}.{short}"
        else:
            wanted = ".".join(str(argument).split(" ", 1))
        if wanted not in GLOBALS:
            _refuse(f"asks for {wanted} at byte {position}")
        self.stack.append(_Seen(kind="name"))

    def call(self, name: str, position: int) -> None:
        self.stack.pop()
        wanted = "name" if name == "REDUCE" else "made"
        if self.stack.pop().kind != wanted:
            _refuse(f"changes or calls something other than an array at byte {position}")
        self.stack.append(_Seen(kind="made"))


# ---------------------------------------------------------------- 2. carry it out with stand-ins


class _Held:
    """What a call of one of the four names gave: its arguments, and the state that came after."""

    __slots__ = ("arguments", "built", "maker", "state")

    def __init__(self, maker: str, arguments: tuple[Any, ...]) -> None:
        self.maker = maker
        self.arguments = arguments
        self.state: Any = None
        self.built: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Maker:
    """Stand-in for one of the four names."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Held:
        return _Held(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        _refuse("changes a name instead of an array")


class _TruthUnpickler(pickle.Unpickler):
    """Unpickler that knows four names, and they lead to stand-ins."""

    def find_class(self, module: str, name: str, /) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in GLOBALS:
            _refuse(f"asks for {wanted}")
        return _Maker(GLOBALS[wanted])

    def persistent_load(self, pid: Any, /) -> Any:
        _refuse(f"asks for the persistent id {str(pid)[:40]}")


# ---------------------------------------------------------------- 3. check what the stand-ins hold


@dataclass
class _Builder:
    """Make plain values, numbers and arrays of what was read, within limits."""

    most_bytes: int
    n_values: int = 0
    n_bytes: int = 0

    def value(self, thing: Any, depth: int = 0) -> Any:
        self.n_values += 1
        if depth > _DEEPEST or self.n_values > _MOST_VALUES:
            _refuse("nests values too deeply, or holds itself")
        if isinstance(thing, dict):
            if not all(isinstance(key, str | int | float | bool | None) for key in thing):
                _refuse("has a dict with keys that are no plain values")
            return {key: self.value(each, depth + 1) for key, each in thing.items()}
        if isinstance(thing, list):
            return [self.value(each, depth + 1) for each in thing]
        if isinstance(thing, tuple):
            return tuple(self.value(each, depth + 1) for each in thing)
        if isinstance(thing, _Held):
            if thing.built is None:
                thing.built = self.made(thing)
            else:
                # few bytes may ask for the same large array many times
                self.count(thing.built)
            return thing.built
        if isinstance(thing, _Maker):
            _refuse(f"holds the name {thing.name} itself instead of a value")
        return thing

    def count(self, made: Any) -> None:
        """Refuse more values than a record has; arrays without content count by the rows that they claim."""
        if isinstance(made, np.ndarray):
            self.n_bytes += made.nbytes
            self.n_values += math.prod(max(each, 1) for each in made.shape) if made.size == 0 else 0
        if self.n_bytes > self.most_bytes or self.n_values > _MOST_VALUES:
            _refuse("holds the same bytes in many arrays, or arrays without any")

    def made(self, held: _Held) -> Any:
        if held.maker == "array":
            return self.array(held)
        if held.maker == "scalar":
            kind, raw, *_ = (*held.arguments, None, None)
            return self.from_bytes(kind, raw, (), "C")[()]
        if held.maker == "dtype":
            return self.number_type(held)
        _refuse("makes an array from a shape alone")

    def array(self, held: _Held) -> NDArray[Any]:
        owner = held.arguments[0] if held.arguments else None
        if not (isinstance(owner, _Maker) and owner.name == "ndarray"):
            _refuse("makes an array of a kind of its own")
        if not (isinstance(held.state, tuple) and len(held.state) == 5):
            _refuse("has an array without content")
        _, shape, kind, by_column, raw = held.state
        if isinstance(raw, list):
            _refuse(_OBJECTS)
        return self.from_bytes(kind, raw, shape, "F" if by_column else "C")

    def from_bytes(self, kind: Any, raw: Any, shape: Any, order: Any) -> NDArray[Any]:
        dtype = self.number_type(kind)
        if not (isinstance(shape, tuple) and len(shape) <= 8 and all(type(each) is int for each in shape)):
            _refuse(f"has an array of the shape {str(shape)[:80]}")
        if any(not 0 <= each < _LONGEST_AXIS for each in shape):
            _refuse(f"has an array of the shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        if not isinstance(raw, bytes) or len(raw) != size:
            found = f"{len(raw)} bytes" if isinstance(raw, bytes) else type(raw).__name__
            _refuse(
                f"has an array of the shape {shape} and type {dtype.str}, {size} bytes, and holds {found}"
            )
        if not size and math.prod(shape) > 1:
            # NumPy would make room for letters that are not there
            _refuse(
                f"has an array of the shape {shape} and type {dtype.str}, {math.prod(shape)} values without a byte"
            )
        flat = np.frombuffer(raw, dtype).copy() if size else np.zeros(math.prod(shape), dtype)
        self.count(flat.reshape(shape))
        if dtype.kind == "U":
            flat.tolist()  # texts that are none raise here and not later
        # in the byte order of this machine, as NumPy does it
        return flat.astype(dtype.newbyteorder("="), copy=False).reshape(shape, order=order)

    def number_type(self, held: Any) -> np.dtype[Any]:
        if not (isinstance(held, _Held) and held.maker == "dtype" and held.arguments):
            _refuse("has an array without a number type")
        code = held.arguments[0]
        if not isinstance(code, str):
            _refuse("has an array with a number type that is no text")
        state = held.state if isinstance(held.state, tuple) else ()
        # version, byte order, sub-array, names, fields, size, alignment, flags
        if code.startswith("O") or (len(state) > 7 and isinstance(state[7], int) and state[7] & 1):
            _refuse(_OBJECTS)
        if not _CODE.fullmatch(code) or any(each is not None for each in state[2:5]):
            _refuse(f"has an array of the type {code[:40]!r}: only numbers and texts are read")
        dtype = np.dtype(code)
        if len(state) > 1 and state[1] in {"<", ">"}:
            dtype = dtype.newbyteorder(state[1])
        return dtype


# ---------------------------------------------------------------- faces


def read_pickle(path: Path, *, largest: int = LARGEST) -> Any:
    """Return the plain values, numbers and arrays of a pickle, and refuse everything else.

    Parameters
    ----------
    path : Path
        The file.
    largest : int
        Bytes it may have.

    Returns
    -------
    object
        Dicts, lists, tuples, texts, numbers; NumPy arrays and numbers where the file has them.

    Raises
    ------
    InputError
        If the file is missing, too large, no pickle, cut off, or holds anything but those values. A name that is not one
        of the four is told.
    """
    try:
        size = path.stat().st_size
        if size > largest:
            what = f"has {size} bytes: a truth record has at most {largest}"
            raise InputError(what, where=path)
        data = path.read_bytes()
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError(what, where=path) from error
    if len(data) < 2 or data[0] != 0x80 or data[1] > pickle.HIGHEST_PROTOCOL:
        what = "the file is empty" if not data else f"not a pickle: it begins with {data[:12]!r}"
        raise InputError(what, where=path, hint=_READ)
    return _carry_out(data, path, largest)


def _carry_out(data: bytes, path: Path, largest: int) -> Any:
    try:
        _Survey().walk(data)
        read = _TruthUnpickler(io.BytesIO(data)).load()
        return _Builder(4 * largest).value(read)
    except _RefusedError as error:
        what = f"refused: it {error}"
        other = str(error).startswith("asks for") and any(name in str(error) for name in _OTHER_PROTOCOLS)
        hint = f"{_READ}: have it written again with protocol 4" if other else _HINT
        raise InputError(what, where=path, known=_KNOWN, hint=hint) from None
    except (MemoryError, RecursionError) as error:
        what = "refused: it needs more memory than a truth record does"
        raise InputError(what, where=path) from error
    except Exception as error:
        # damaged content makes unpicklers raise anything
        ends = "exhausted" in str(error) or "truncated" in str(error) or "bytes, but only" in str(error)
        what = (
            "the pickle ends too early: it is cut off, or is being written"
            if ends or isinstance(error, EOFError)
            else f"the pickle is damaged: {str(error)[:200] or type(error).__name__}"
        )
        raise InputError(what, where=path, hint="was it copied whole?") from error


def read_truth_pickle(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a truth pickle says of the primary (`truth`) and of the simulation (`meta`).

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple of dict
        With the keys of the file.

    Raises
    ------
    InputError
        As `read_pickle`, and if the file is not a dict with the dicts ``truth`` and ``meta``.
    """
    content = read_pickle(path)
    if not isinstance(content, dict):
        what = f"holds a {type(content).__name__}, not a dict with 'truth' and 'meta'"
        raise InputError(what, where=path)
    for key in ("truth", "meta"):
        if not isinstance(content.get(key), dict):
            keys = [str(each) for each in content]
            what = f"has no dict {key!r}: it is not the truth record of a track"
            raise InputError(what, where=path, known=keys)
    return content["truth"], content["meta"]


def truth_pickle(truth: Mapping[str, Any], meta: Mapping[str, Any]) -> bytes:
    """Return the pickle (protocol 4) of a truth record, with the names that every NumPy knows.

    NumPy 2 writes names that NumPy 1 before 1.26 cannot find; the original tools run on those. The names that NumPy 1 used
    are still understood by NumPy 2.
    """
    data = pickle.dumps({"truth": dict(truth), "meta": dict(meta)}, protocol=4)
    steps = [(opcode.name, argument, position) for opcode, argument, position in pickletools.genops(data)]
    ends = [position for _, _, position in steps[1:]] + [len(data)]
    old = _NUMPY_1.encode()
    parts = []
    for (name, argument, start), end in zip(steps, ends, strict=True):
        if name == "SHORT_BINUNICODE" and argument == _NUMPY_2:
            parts.append(b"\x8c" + bytes([len(old)]) + old)
        elif name != "FRAME":  # frames hold lengths that no longer hold; they are not needed
            parts.append(data[start:end])
    return b"".join(parts)
