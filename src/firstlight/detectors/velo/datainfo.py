"""Reads the original's ``datainfo.py`` as text: which variables have which values for which dataset.

The file is never executed. Literals, lists, ``+ - * /`` on them, names that were set before and
``os.path.join`` are understood; what is not is told with its line.
"""

from __future__ import annotations

import ast
import operator
import posixpath
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["VARIABLES", "Block", "Function", "Given", "Problem", "read_datainfo"]

# what each variable is, without the ending _l
VARIABLES = (
    "datafolder", "FPTfolder", "FPTfilename", "ST", "nacq", "fromThr", "toThr", "stepThr", "label", "bad_cut",
    "condition", "p0", "p0_baseline", "baseline_opt", "separation_opt", "predict_opt", "output_opt", "fit_function",
)  # fmt: skip
_SWITCH = "type_data"
_LONGEST = 10_000


class Function(str):
    """Name of a flux equation that stands for a value."""

    __slots__ = ()


@dataclass(frozen=True)
class Given:
    """A value and the line where it stands."""

    value: Any
    line: int


@dataclass(frozen=True, order=True)
class Problem:
    """Something that was not understood or not taken over.

    Parameters
    ----------
    line : int
        Line of the file; 0 where there is none.
    text : str
        What it is.
    """

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass
class Block:
    """The variables of one dataset.

    Parameters
    ----------
    name : str
        Value of ``type_data``.
    line : int
        Where its block begins.
    values : dict of str to Given
        By name without the ending ``_l``.
    """

    name: str
    line: int
    values: dict[str, Given] = field(default_factory=dict)


def read_datainfo(path: Path) -> tuple[list[Block], list[Problem]]:
    """Return the datasets of a ``datainfo.py``, and what was not understood.

    Parameters
    ----------
    path : Path
        Python source with blocks ``if type_data == 'name':``.

    Raises
    ------
    ConfigError
        If the file is missing, is no Python, or has no such block.
    """
    if not path.is_file():
        what = "no such file"
        known = sorted(each.name for each in path.parent.glob("*.py")) if path.parent.is_dir() else None
        raise ConfigError(what, where=path, known=known)
    try:
        with warnings.catch_warnings():
            # escapes that Python does not know are no matter of ours
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        what = f"is no Python 3 source: {getattr(error, 'msg', None) or error}"
        raise ConfigError(what, where=f"{path}:{line}" if line else path) from None
    reader = _Reader()
    reader.walk(tree.body, {})
    if not reader.blocks:
        what = f"has no block 'if {_SWITCH} == \"name\":'"
        raise ConfigError(
            what, where=path, hint="the file meant is utils/datainfo.py of the original scripts"
        )
    return list(reader.blocks.values()), sorted(reader.problems)


class _Unknown(Exception):
    """A value that is not understood."""


class _Reader:
    """Walks the statements and collects datasets."""

    def __init__(self) -> None:
        self.blocks: dict[str, Block] = {}
        self.problems: list[Problem] = []

    def tell(self, line: int, text: str) -> None:
        """Keep a problem."""
        self.problems.append(Problem(line, text))

    def walk(self, body: Sequence[ast.stmt], names: dict[str, Given], block: Block | None = None) -> None:
        """Go through statements; `names` are the values known so far, and grow."""
        for statement in body:
            if isinstance(statement, ast.If):
                self.branch(statement, names, block)
            elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
                self.assign(statement, names, block)
            elif isinstance(statement, ast.ClassDef | ast.FunctionDef) and block is None:
                if _switches(statement):
                    self.walk(statement.body, dict(names))
            elif isinstance(statement, ast.With | ast.Try) and block is None:
                self.walk(statement.body, names)
            elif _sets_variables(statement):
                kind = type(statement).__name__.lower()
                self.tell(
                    statement.lineno,
                    f"{_of(block)}a {kind} statement sets variables: not understood, left out",
                )

    def branch(self, statement: ast.If, names: dict[str, Given], block: Block | None) -> None:
        """Take the branches of ``if type_data == ...``, an ``elif`` only for names that were not there before."""
        seen: set[str] = set()
        current: ast.If | None = statement
        while current is not None:
            chosen = None if block is not None else _chosen(current.test)
            if chosen is None:
                self.other_branch(current, names, block)
                return
            for name in chosen:
                if name in seen:
                    self.tell(
                        current.lineno,
                        f"dataset {name!r}: a second branch of the same if, never reached; left out",
                    )
                    continue
                seen.add(name)
                self.dataset(name, current, names)
            following = current.orelse
            current = following[0] if len(following) == 1 and isinstance(following[0], ast.If) else None
            if current is None and any(_sets_variables(each) for each in following):
                self.tell(following[0].lineno, "the else branch is for names that do not exist; left out")

    def dataset(self, name: str, statement: ast.If, names: dict[str, Given]) -> None:
        """Read the block of one dataset."""
        before = self.blocks.get(name)
        if before is not None:
            self.tell(
                statement.lineno, f"dataset {name!r} was there in line {before.line}: this block overrides it"
            )
        block = self.blocks.setdefault(name, Block(name, statement.lineno))
        known = {**names, **block.values}
        self.walk(statement.body, known, block)
        block.values = {key: value for key, value in known.items() if _plain(key) in VARIABLES}

    def other_branch(self, statement: ast.If, names: dict[str, Given], block: Block | None) -> None:
        """Look into a condition on something else."""
        if _switches(statement):
            self.walk(statement.body, names, block)
            self.walk(statement.orelse, names, block)
        elif _sets_variables(statement):
            test = _shown(statement.test)
            self.tell(statement.lineno, f"{_of(block)}'if {test}' sets variables: not understood, left out")

    def assign(
        self,
        statement: ast.Assign | ast.AnnAssign | ast.AugAssign,
        names: dict[str, Given],
        block: Block | None,
    ) -> None:
        """Take over the value of a variable, or say why not."""
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if statement.value is None:
            return
        value: ast.expr = statement.value
        if isinstance(statement, ast.AugAssign):
            value = ast.BinOp(left=statement.target, op=statement.op, right=statement.value)
        for target, part in _pairs(targets, value):
            name = _name(target)
            if name is None:
                continue
            key = _plain(name)
            try:
                names[key] = Given(_value(part, names), statement.lineno)
            except (_Unknown, ArithmeticError, TypeError, ValueError, RecursionError) as error:
                names.pop(key, None)
                if block is not None or key in VARIABLES:
                    text = _shown(part)
                    reason = f" ({error})" if str(error) else ""
                    self.tell(
                        statement.lineno, f"{_of(block)}{name} = {text} is not understood{reason}; left out"
                    )
                continue
            if block is not None and key not in VARIABLES:
                self.tell(statement.lineno, f"{_of(block)}{name} is no variable of a dataset; without effect")


def _shown(node: ast.expr) -> str:
    """Return the text of an expression, shortened."""
    try:
        text = ast.unparse(node)
    except RecursionError:
        return "..."
    return text if len(text) <= 60 else f"{text[:57]}..."


def _of(block: Block | None) -> str:
    return f"dataset {block.name!r}: " if block is not None else ""


def _plain(name: str) -> str:
    return name.removesuffix("_l") if name.removesuffix("_l") in VARIABLES else name


def _name(target: ast.expr) -> str | None:
    if isinstance(target, ast.Name):
        return target.id
    return target.attr if isinstance(target, ast.Attribute) else None


def _pairs(targets: Sequence[ast.expr], value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """Return targets with their values; ``a, b = 1, 2`` is taken apart."""
    found: list[tuple[ast.expr, ast.expr]] = []
    for target in targets:
        if not isinstance(target, ast.Tuple | ast.List):
            found.append((target, value))
        elif isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
            found += zip(target.elts, value.elts, strict=True)
        else:
            parts = (ast.Subscript(value, ast.Constant(index)) for index in range(len(target.elts)))
            found += zip(target.elts, parts, strict=True)
    return found


def _chosen(test: ast.expr) -> list[str] | None:
    """Return the names of datasets that a condition asks for, or None where it asks for something else."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        parts = [_chosen(value) for value in test.values]
        if any(part is None for part in parts):
            return None
        return [name for part in parts if part is not None for name in part]
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    left, right = test.left, test.comparators[0]
    if isinstance(test.ops[0], ast.Eq) and isinstance(left, ast.Constant):
        left, right = right, left
    if _name(left) != _SWITCH:
        return None
    if isinstance(test.ops[0], ast.Eq):
        wanted = [right]
    elif isinstance(test.ops[0], ast.In) and isinstance(right, ast.List | ast.Tuple | ast.Set):
        wanted = right.elts
    else:
        return None
    names = [each.value for each in wanted if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return names if len(names) == len(wanted) else None


def _switches(node: ast.AST) -> bool:
    """Return whether a dataset is chosen anywhere inside."""
    return any(isinstance(inner, ast.If) and _chosen(inner.test) is not None for inner in ast.walk(node))


def _sets_variables(node: ast.AST) -> bool:
    return any(
        isinstance(inner, ast.Name | ast.Attribute)
        and isinstance(inner.ctx, ast.Store)
        and _plain(_name(inner) or "") in VARIABLES
        for inner in ast.walk(node)
    )


# ---------------------------------------------------------------- values


def _value(node: ast.expr, names: dict[str, Given]) -> Any:
    """Return the value of an expression of literals.

    Raises
    ------
    _Unknown
        If there is anything else in it.
    """
    found = _EXPRESSIONS.get(type(node))
    if found is None:
        raise _Unknown
    return found(node, names)


def _constant(node: Any, _: dict[str, Given]) -> Any:
    if node.value is None or isinstance(node.value, str | int | float):
        return node.value
    raise _Unknown


def _list(node: Any, names: dict[str, Given]) -> list[Any]:
    return [_value(each, names) for each in node.elts]


def _sign(node: Any, names: dict[str, Given]) -> Any:
    value = _value(node.operand, names)
    if isinstance(node.op, ast.Not):
        return not value
    if isinstance(node.op, ast.Invert) or not isinstance(value, int | float):
        raise _Unknown
    return -value if isinstance(node.op, ast.USub) else value


_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def _operation(node: Any, names: dict[str, Given]) -> Any:
    operation = _OPERATIONS.get(type(node.op))
    left, right = _value(node.left, names), _value(node.right, names)
    if operation is None:
        raise _Unknown
    sizes = [len(each) for each in (left, right) if isinstance(each, str | list)]
    factors = [each for each in (left, right) if isinstance(each, int)]
    if sizes and factors and sizes[0] * factors[0] > _LONGEST:
        what = f"more than {_LONGEST} entries"
        raise _Unknown(what)
    result = operation(left, right)
    if isinstance(result, int) and abs(result) > 10**15:
        what = "the number is too large"
        raise _Unknown(what)
    return result


def _variable(node: Any, names: dict[str, Given]) -> Any:
    name = _name(node) or ""
    given = names.get(_plain(name))
    if given is not None:
        return given.value
    if name.startswith("fitfunc"):
        return Function(name)
    what = f"{name} is not known here"
    raise _Unknown(what)


def _text(node: Any, names: dict[str, Given]) -> str:
    parts = [
        _value(part.value if isinstance(part, ast.FormattedValue) else part, names) for part in node.values
    ]
    if any(isinstance(part, ast.FormattedValue) and part.format_spec is not None for part in node.values):
        raise _Unknown
    return "".join(str(part) for part in parts)


def _item(node: Any, names: dict[str, Given]) -> Any:
    values, index = _value(node.value, names), _value(node.slice, names)
    if isinstance(values, list) and isinstance(index, int) and -len(values) <= index < len(values):
        return values[index]
    raise _Unknown


def _call(node: Any, names: dict[str, Given]) -> Any:
    function = _shown(node.func)
    if node.keywords:
        raise _Unknown
    arguments = [_value(each, names) for each in node.args]
    if function in {"os.path.join", "path.join", "join"} and all(isinstance(each, str) for each in arguments):
        return posixpath.join(*arguments)
    if function in {"list", "tuple", "np.array", "numpy.array"} and len(arguments) == 1:
        if isinstance(arguments[0], list):
            return arguments[0]
    elif function == "str" and len(arguments) == 1:
        return str(arguments[0])
    what = f"{function}() is not called"
    raise _Unknown(what)


_EXPRESSIONS: dict[type[ast.expr], Callable[[Any, dict[str, Given]], Any]] = {
    ast.Constant: _constant, ast.List: _list, ast.Tuple: _list, ast.UnaryOp: _sign, ast.BinOp: _operation,
    ast.Name: _variable, ast.Attribute: _variable, ast.JoinedStr: _text, ast.Subscript: _item, ast.Call: _call,
}  # fmt: skip
