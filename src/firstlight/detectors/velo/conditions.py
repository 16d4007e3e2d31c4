"""Conditions on threshold and acquisition: which frames to leave out, as a text or as a list of frames.

The text is parsed, never executed. It knows ``thr`` and ``acq``, numbers, comparisons, ``in``, ``and``,
``or``, ``not`` and the arithmetic ``+ - * %``.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from firstlight.errors import ConfigError, nearest

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[Any]

__all__ = ["NAMES", "Condition", "parse_condition"]

NAMES = {"thr": "threshold [DAC]", "acq": "number of the acquisition"}
"""What a condition may be about."""

_LONGEST = 100_000
_DEEPEST = 60
_LARGEST = 1_000_000_000
_EXISTS = (
    "thr", "acq", "numbers", "== != < <= > >=", "in (1, 2)", "and", "or", "not", "+ - * %", "True", "False",
)  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Mod: np.mod,
}
# what is refused, in words, and what to write instead
_REFUSED: dict[type[ast.AST], tuple[str, str | None]] = {
    ast.Call: ("a call", "25 <= acq < 50 says a range"),
    ast.Attribute: ("an attribute", None),
    ast.Lambda: ("a lambda", None),
    ast.Subscript: ("an index", None),
    ast.IfExp: ("an if expression", "and, or, not do the same"),
    ast.NamedExpr: ("an assignment", "== compares"),
    ast.ListComp: ("a comprehension", None),
    ast.SetComp: ("a comprehension", None),
    ast.DictComp: ("a comprehension", None),
    ast.GeneratorExp: ("a comprehension", None),
    ast.JoinedStr: ("a text", None),
    ast.Dict: ("a dictionary", None),
    ast.Starred: ("a star", None),
    ast.Tuple: ("a tuple", "a list of numbers stands behind in"),
    ast.List: ("a list", "a list of numbers stands behind in"),
    ast.Set: ("a set", "a list of numbers stands behind in"),
    ast.Pow: ("a power", None),
    ast.BitAnd: ("the operator &", "and"),
    ast.BitOr: ("the operator |", "or"),
    ast.BitXor: ("the operator ^", None),
    ast.Invert: ("the operator ~", "not"),
    ast.Div: ("the operator /", None),
    ast.FloorDiv: ("the operator //", "acq - acq % 10 == 30 says acq // 10 == 3"),
    ast.MatMult: ("the operator @", None),
    ast.LShift: ("the operator <<", None),
    ast.RShift: ("the operator >>", None),
    ast.Is: ("is", "== compares"),
    ast.IsNot: ("is not", "!= compares"),
}


class _Part(NamedTuple):
    """A piece of a condition: whether it is true or false or a number, and how it is computed."""

    is_condition: bool
    compute: Callable[[Values, Values], Any]


@dataclass(frozen=True)
class Condition:
    """A condition on frames.

    Parameters
    ----------
    text : str
        As in ``"(thr == 1494 and acq == 18) or (thr == 1527 and acq == 78)"``; ``"False"`` is true of no
        frame.

    Raises
    ------
    ConfigError
        If the text is not understood; names the place and what exists.
    """

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", " ".join(self.text.split()))
        _compiled(self.text)

    def __str__(self) -> str:
        return self.text

    def matches(self, thr: ArrayLike, acq: ArrayLike) -> NDArray[np.bool_]:
        """Return for which frames the condition is true.

        Parameters
        ----------
        thr, acq : array-like
            Thresholds [DAC] and numbers of acquisitions, broadcast against each other.

        Returns
        -------
        ndarray of bool
            Of the broadcast shape. Remainders of a division by 0 compare as false.
        """
        threshold, acquisition = np.broadcast_arrays(
            np.asarray(thr, dtype=np.float64), np.asarray(acq, dtype=np.float64)
        )
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            found = _compiled(self.text).compute(threshold, acquisition)
        return np.array(np.broadcast_to(found, threshold.shape), dtype=np.bool_)


def parse_condition(given: str | Sequence[Mapping[str, float]]) -> Condition:
    """Return the condition that a text or a list of frames stands for.

    Parameters
    ----------
    given : str or sequence of mappings
        ``"thr > 1500 and not acq in (3, 4)"``, or ``[{"thr": 1494, "acq": 18}]``: frames with this threshold
        and this acquisition; with one of the two, all frames that have it. Nothing at all is true of no
        frame.

    Returns
    -------
    Condition
        Its text is always of the first form.

    Raises
    ------
    ConfigError
        If it is not understood; names the unknown variable or construct, its place, and what exists.
    """
    whatever: Any = given
    if isinstance(whatever, str):
        return Condition(whatever if whatever.strip() else "False")
    if not isinstance(whatever, Sequence):
        what = f"a condition is a text or a list of frames, not {_kind(whatever)}"
        raise ConfigError(what, hint="'thr == 1494 and acq == 18', or [{thr = 1494, acq = 18}]")
    return Condition(
        " or ".join(f"({_frame(entry, index)})" for index, entry in enumerate(whatever)) or "False"
    )


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _frame(entry: Any, index: int) -> str:
    """Return the text for one entry of a list of frames."""
    where = f"entry {index + 1} of the list of frames"
    if not isinstance(entry, Mapping):
        what = f"{where} is {_kind(entry)}, not a table"
        raise ConfigError(what, hint="{thr = 1494, acq = 18}")
    if not entry:
        what = f"{where} names neither thr nor acq"
        raise ConfigError(what, hint="{thr = 1494, acq = 18}")
    for name, value in entry.items():
        if name not in NAMES:
            raise ConfigError.unknown("variable", str(name), NAMES, where=where)
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
            what = f"{where}: {name} is {value!r}, not a whole number"
            raise ConfigError(what)
    return " and ".join(f"{name} == {int(value)}" for name, value in entry.items())


class _Reader:
    """Builds the computation of a condition from its syntax tree."""

    def __init__(self, text: str) -> None:
        self.text = text

    def refuse(self, node: ast.AST, what: str, hint: str | None = None) -> ConfigError:
        """Return the error for a place in the text."""
        offset = getattr(node, "col_offset", None)
        place = ""
        if offset is not None:
            # the parser counts bytes
            before = len(self.text.encode()[:offset].decode(errors="replace"))
            end = len(self.text.encode()[: getattr(node, "end_col_offset", offset)].decode(errors="replace"))
            piece = self.text[before:end]
            piece = piece if len(piece) <= 40 else f"{piece[:37]}..."
            place = f" at character {before + 1} ({piece})"
        shown = self.text if len(self.text) <= 200 else f"{self.text[:197]}..."
        return ConfigError(f"{what}{place}", where=f"condition '{shown}'", known=_EXISTS, hint=hint)

    def read(self, node: ast.AST, depth: int = 0) -> _Part:
        """Return a piece of the condition."""
        if depth > _DEEPEST:
            raise self.refuse(node, f"more than {_DEEPEST} levels of brackets")
        if isinstance(node, ast.Constant):
            return self.constant(node)
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.BoolOp):
            return self.joined(node, depth + 1)
        if isinstance(node, ast.UnaryOp):
            return self.unary(node, depth + 1)
        if isinstance(node, ast.BinOp):
            return self.arithmetic(node, depth + 1)
        if isinstance(node, ast.Compare):
            return self.comparison(node, depth + 1)
        raise self.unknown(node, node)

    def unknown(self, node: ast.AST, kind: ast.AST) -> ConfigError:
        """Return the error for a construct that does not exist here."""
        words, instead = _REFUSED.get(type(kind), (f"a {type(kind).__name__}", None))
        return self.refuse(node, f"a condition cannot have {words}", instead)

    def constant(self, node: ast.Constant) -> _Part:
        """Read a number, True or False."""
        value = node.value
        if isinstance(value, bool):
            return _Part(True, lambda thr, _: np.full(thr.shape, value))
        if isinstance(value, str):
            raise self.refuse(node, "a condition cannot have a text", "numbers stand without quotes")
        if not isinstance(value, int | float):
            raise self.refuse(node, f"a condition cannot have {_kind(value)}")
        if not abs(value) <= _LARGEST or not math.isfinite(value):
            raise self.refuse(node, "a number is too large")
        number = float(value)
        return _Part(False, lambda *_: number)

    def name(self, node: ast.Name) -> _Part:
        """Read a variable."""
        if node.id == "thr":
            return _Part(False, lambda thr, _: thr)
        if node.id == "acq":
            return _Part(False, lambda _, acq: acq)
        close = nearest(node.id, NAMES) or (["thr"] if node.id.lower().startswith("thr") else [])
        close = close or (["acq"] if node.id.lower().startswith("acq") else [])
        hint = f"did you mean {close[0]!r}?" if close else "thr is the threshold, acq the acquisition"
        raise self.refuse(node, f"unknown variable {node.id!r}", hint)

    def truth(self, node: ast.AST, depth: int) -> _Part:
        """Read a piece that must be true or false."""
        part = self.read(node, depth)
        if not part.is_condition:
            raise self.refuse(
                node, "a number stands where something true or false must", "compare it: acq == 3"
            )
        return part

    def number(self, node: ast.AST, depth: int) -> _Part:
        """Read a piece that must be a number."""
        part = self.read(node, depth)
        if part.is_condition:
            raise self.refuse(node, "something true or false stands where a number must")
        return part

    def joined(self, node: ast.BoolOp, depth: int) -> _Part:
        """Read ``a and b and c``, or the same with ``or``."""
        parts = [self.truth(value, depth).compute for value in node.values]
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or

        def compute(thr: Values, acq: Values) -> Any:
            found = parts[0](thr, acq)
            for part in parts[1:]:
                found = join(found, part(thr, acq))
            return found

        return _Part(True, compute)

    def unary(self, node: ast.UnaryOp, depth: int) -> _Part:
        """Read ``not a``, ``-a`` and ``+a``."""
        if isinstance(node.op, ast.Not):
            inner = self.truth(node.operand, depth).compute
            return _Part(True, lambda thr, acq: np.logical_not(inner(thr, acq)))
        if isinstance(node.op, ast.Invert):
            raise self.unknown(node, node.op)
        value = self.number(node.operand, depth).compute
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        return _Part(False, lambda thr, acq: sign * value(thr, acq))

    def arithmetic(self, node: ast.BinOp, depth: int) -> _Part:
        """Read ``a + b``, ``a - b``, ``a * b`` and ``a % b``."""
        operation = _ARITHMETIC.get(type(node.op))
        if operation is None:
            raise self.unknown(node, node.op)
        left, right = self.number(node.left, depth).compute, self.number(node.right, depth).compute
        if isinstance(node.op, ast.Mod) and isinstance(node.right, ast.Constant) and not node.right.value:
            raise self.refuse(node, "the remainder of a division by 0")
        return _Part(False, lambda thr, acq: operation(left(thr, acq), right(thr, acq)))

    def comparison(self, node: ast.Compare, depth: int) -> _Part:
        """Read ``a < b <= c``, ``a in (1, 2)`` and ``a not in (1, 2)``."""
        tests = []
        left: ast.AST = node.left
        for kind, right in zip(node.ops, node.comparators, strict=True):
            tests.append(self.test(node, left, kind, right, depth))
            left = right

        def compute(thr: Values, acq: Values) -> Any:
            found = tests[0](thr, acq)
            for test in tests[1:]:
                found = np.logical_and(found, test(thr, acq))
            return found

        return _Part(True, compute)

    def test(
        self, node: ast.Compare, left: ast.AST, kind: ast.cmpop, right: ast.AST, depth: int
    ) -> Callable[[Values, Values], Any]:
        """Read one link of a chain of comparisons."""
        if isinstance(kind, ast.In | ast.NotIn):
            return self.membership(left, kind, right, depth)
        operation = _COMPARISONS.get(type(kind))
        if operation is None:
            raise self.unknown(node, kind)
        one, other = self.number(left, depth).compute, self.number(right, depth).compute
        return lambda thr, acq: operation(one(thr, acq), other(thr, acq))

    def membership(
        self, left: ast.AST, kind: ast.cmpop, right: ast.AST, depth: int
    ) -> Callable[[Values, Values], Any]:
        """Read ``a in (1, 2)``."""
        value = self.number(left, depth).compute
        if not isinstance(right, ast.Tuple | ast.List | ast.Set):
            raise self.refuse(right, "in needs a list of numbers", "acq in (3, 4); one number: acq in (3,)")
        members = [self.number(member, depth).compute for member in right.elts]
        wanted = isinstance(kind, ast.In)

        def compute(thr: Values, acq: Values) -> Any:
            own = np.asarray(value(thr, acq))
            found = np.zeros(np.broadcast_shapes(own.shape, thr.shape), dtype=np.bool_)
            for member in members:
                found |= own == member(thr, acq)
            return found if wanted else ~found

        return compute


@lru_cache(maxsize=64)
def _compiled(text: str) -> _Part:
    """Return the computation of a condition."""
    if len(text) > _LONGEST:
        what = f"the condition has {len(text)} characters, more than {_LONGEST}"
        raise ConfigError(what, hint="a list of frames, or fewer of them")
    reader = _Reader(text)
    try:
        with warnings.catch_warnings():
            # Python's advice on style is no matter of ours
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        place = f" at character {error.offset}" if error.offset else ""
        hint = "== compares" if "==" in (error.msg or "") else "thr == 1494 and acq == 18"
        shown = text if len(text) <= 200 else f"{text[:197]}..."
        what = f"the condition is not understood: {error.msg}{place}"
        raise ConfigError(what, where=f"condition '{shown}'", known=_EXISTS, hint=hint) from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        what = f"the condition is not understood: {str(error) or 'too many brackets'}"
        raise ConfigError(what, where=f"condition '{text[:60]}...'", known=_EXISTS) from None
    return reader.truth(tree.body, 0)
