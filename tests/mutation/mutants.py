"""Which single changes of a module's source count as mutants: numbers, words, comparisons, arithmetic, min and max, and, or, not, abs.

A mutant is a splice of the source, so that all its lines keep their numbers. What only describes is left alone: annotations, also
those that are given a name (`Fraction = Annotated[float, Meta(le=1.0)]`), decorators, imports, docstrings, `__all__`, what a rule says
of itself (`RuleInfo`; tests/unit/test_rules_catalogue.py holds that against docs/rules.md), the text of exceptions and the plain text
of f-strings.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Final, NamedTuple

COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, tuple[str, ...]]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
ARITHMETIC: Final[dict[type[ast.operator], tuple[str, str]]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}
UNARY: Final[dict[type[ast.unaryop], str]] = {ast.Not: "not", ast.USub: "-", ast.Invert: "~"}
KINDS: Final = frozenset({"constant", "text", "comparison", "arithmetic", "boolean", "call"})
CALLS: Final = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "abs": "", "fabs": ""}


class Mutant(NamedTuple):
    """One change of one file; `was` and `becomes` are the lines that it touches, joined by blanks, and name it in the list of survivors."""

    file: str
    line: int
    kind: str
    was: str
    becomes: str
    source: bytes  # of the whole module


class _Splice(NamedTuple):
    start: int  # bytes from the start of the source
    end: int
    text: str
    kind: str


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """Every mutant of a module in the order of its source; `file` is only carried along. SyntaxError if it is no Python."""
    found = []
    for splice in sorted(set(_Finder(source).splices(ast.parse(source)))):
        first = source.rfind(b"\n", 0, splice.start) + 1
        last = (source.find(b"\n", splice.end) + 1 or len(source) + 1) - 1
        text = splice.text.encode()
        becomes = source[first : splice.start] + text + source[splice.end : last]
        line = source.count(b"\n", 0, splice.start) + 1
        mutated = source[: splice.start] + text + source[splice.end :]
        found.append(Mutant(file, line, splice.kind, _one_line(source[first:last]), _one_line(becomes), mutated))
    return found


def _one_line(source: bytes) -> str:
    return " ".join(source.decode().split())


class _Finder:
    """Walks one module; offsets are those of its bytes, as `ast` counts columns."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def splices(self, node: ast.AST) -> Iterator[_Splice]:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()) | ast.Raise():
                return
            case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.Call(func=ast.Name(id="RuleInfo")):
                return
            case ast.Subscript(value=ast.Name(id="Annotated")):
                return
            case ast.ClassDef():
                for statement in node.body:
                    yield from self.splices(statement)
                return
            case ast.FunctionDef():
                for default in [*node.args.defaults, *node.args.kw_defaults]:
                    if default is not None:
                        yield from self.splices(default)
                for statement in node.body:
                    yield from self.splices(statement)
                return
            case ast.AnnAssign():
                if node.value is not None:
                    yield from self.splices(node.value)
                return
            case ast.Assert():
                yield from self.splices(node.test)
                return
            case ast.JoinedStr():
                yield from self._of_text(node)
                return
            case ast.Constant():
                yield from self._of_constant(node, node.value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                yield from self._of_constant(node, -value)
                return
            case ast.UnaryOp():
                yield from self._without_operator(node)
            case ast.Compare():
                yield from self._of_comparison(node)
            case ast.BinOp():
                symbol, other = ARITHMETIC[type(node.op)]
                yield self._between(node.left, node.right, symbol, other, "arithmetic")
            case ast.AugAssign():
                symbol, other = ARITHMETIC[type(node.op)]
                yield self._between(node.target, node.value, symbol + "=", other + "=", "arithmetic")
            case ast.BoolOp():
                symbol, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield self._between(left, right, symbol, other, "boolean")
            case ast.Call():
                yield from self._of_call(node)
        for child in ast.iter_child_nodes(node):
            yield from self.splices(child)

    def _of_constant(self, node: ast.expr, value: object) -> Iterator[_Splice]:
        """One more, none, and the negative of a number; the other truth; another word."""
        if isinstance(value, bool):
            others = [str(not value)]
        elif isinstance(value, int | float):
            more = value + 1 if value + 1 != value else 2 * value
            others = [repr(more), repr(-value), repr(type(value)(0))] if value else [repr(more), repr(value - 1)]
        elif isinstance(value, str):
            others = [repr(value + "~")]
        else:
            return
        for other in others:
            text = f"({other})" if other.startswith("-") else other
            yield _Splice(self._start(node), self._end(node), text, "text" if isinstance(value, str) else "constant")

    def _of_comparison(self, node: ast.Compare) -> Iterator[_Splice]:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            symbol, others = COMPARISONS[type(operator)]
            for other in others:
                yield self._between(left, right, symbol, other, "comparison")

    def _of_call(self, node: ast.Call) -> Iterator[_Splice]:
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name not in CALLS:
            return
        end = self._end(node.func)
        # `abs` has no counterpart: without it, its parentheses stay.
        start = end - len(name) if CALLS[name] else self._start(node.func)
        yield _Splice(start, end, CALLS[name], "call")

    def _of_text(self, node: ast.JoinedStr) -> Iterator[_Splice]:
        """The expressions of an f-string, whose places in the source Python 3.11 does not tell: the whole of it is written anew."""
        for at, part in enumerate(node.values):
            if not isinstance(part, ast.FormattedValue):
                continue
            inner = ast.unparse(part.value).encode()
            for splice in _Finder(inner).splices(ast.parse(inner, mode="eval").body):
                text = inner[: splice.start] + splice.text.encode() + inner[splice.end :]
                other = copy.deepcopy(node)
                changed = other.values[at]
                assert isinstance(changed, ast.FormattedValue)
                changed.value = ast.parse(text, mode="eval").body
                yield _Splice(self._start(node), self._end(node), ast.unparse(other), splice.kind)

    def _without_operator(self, node: ast.UnaryOp) -> Iterator[_Splice]:
        start = self._start(node)
        symbol = UNARY.get(type(node.op))
        if symbol is not None:
            yield _Splice(start, start + len(symbol), "", "boolean" if symbol == "not" else "arithmetic")

    def _between(self, left: ast.expr, right: ast.expr, symbol: str, other: str, kind: str) -> _Splice:
        """The operator lies between its operands, with nothing there but blanks and parentheses."""
        at = self._source.index(symbol.encode(), self._end(left), self._start(right))
        return _Splice(at, at + len(symbol), other, kind)

    def _start(self, node: ast.expr) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset
