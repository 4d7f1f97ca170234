"""A text becomes a tree. Every problem is told with its column, and nothing is ignored.

any   = all { "or" all }
all   = one { ["and"] one }
one   = "not" one | "(" any ")" | FIELD OP value { "," value }
OP    = ":" | "=" | "!=" | "<" | "<=" | ">" | ">="
value = word | "quoted" | 'quoted'
"""

import re

from panda.query.fields import Fields
from panda.query.problems import BadFilter
from panda.query.tree import EVERYTHING, And, Comparison, Expression, Not, Op, Or, Value
from panda.query.values import value_of

MAX_LENGTH = 8_000
MAX_DEPTH = 20
MAX_TESTS = 50
MAX_VALUES = 1_000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OP = re.compile(r"\s*(!=|<=|>=|[:=<>])\s*")
_WORD = re.compile(r"[^\s,()\"']+[^\s,()]*")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
_BETWEEN = re.compile(r"\s*,\s*")
_BLANK = re.compile(r"\s*")
_KEYWORD = re.compile(r"(and|or|not)(?![A-Za-z0-9_]|\s*(?:!=|[:=<>]))", re.IGNORECASE)


def read(text: str, fields: Fields) -> Expression:
    """The tree that `text` says; an empty text says everything.

    Raises:
        BadFilter: it cannot be meant; with the column, and the nearest field or word.
    """
    if len(text) > MAX_LENGTH:
        raise BadFilter(f"a filter has at most {MAX_LENGTH} characters", text, MAX_LENGTH)
    return _Reader(text, fields).whole()


class _Reader:
    def __init__(self, text: str, fields: Fields) -> None:
        self._text, self._fields, self._at = text, fields, 0
        self._n_tests = self._n_values = 0

    def whole(self) -> Expression:
        self._skip(_BLANK)
        if self._at == len(self._text):
            return EVERYTHING
        found = self._any(0)
        if self._at < len(self._text):
            raise self._problem("this bracket was never opened" if self._text[self._at] == ")" else "not understood")
        return found

    def _any(self, depth: int) -> Expression:
        parts = [self._all(depth)]
        while self._take_keyword("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self, depth: int) -> Expression:
        parts = [self._one(depth)]
        while self._at < len(self._text) and self._text[self._at] != ")" and self._keyword() != "or":
            self._take_keyword("and")
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise self._problem(f"nested more than {MAX_DEPTH} deep")
        if self._take_keyword("not"):
            return Not(self._one(depth + 1))
        if self._keyword():
            raise self._problem("something is missing before this word")
        if self._text[self._at : self._at + 1] == "(":
            opened = self._at
            self._at += 1
            self._skip(_BLANK)
            inside = self._any(depth + 1)
            if self._text[self._at : self._at + 1] != ")":
                raise BadFilter("this bracket is never closed", self._text, opened)
            self._at += 1
            self._skip(_BLANK)
            return inside
        return self._test()

    def _test(self) -> Comparison:
        start = self._at
        self._n_tests += 1
        if self._n_tests > MAX_TESTS:
            raise self._problem(f"more than {MAX_TESTS} comparisons")
        name = _NAME.match(self._text, start)
        if name is None:
            raise self._problem("here stands the name of a field, as in status:failed")
        op = _OP.match(self._text, name.end())
        field = self._fields.find(name[0])
        if field is None:
            raise self._problem(f"there is no field {name[0][:60]!r}; {self._fields.nearest(name[0])}")
        if op is None:
            self._at = name.end()
            raise self._problem(f"a comparison follows a field, as in {field.name}:VALUE")
        self._at = op.end()
        comparison = Op.IS if op[1] == ":" else Op(op[1])
        values = [self._value(field.name, comparison)]
        while self._skip(_BETWEEN):
            values.append(self._value(field.name, comparison))
        self._skip(_BLANK)
        if len(values) > 1 and comparison not in (Op.IS, Op.IS_NOT):
            raise BadFilter(f"{comparison} takes one value", self._text, start)
        return Comparison(field, comparison, tuple(values))

    def _value(self, name: str, op: Op) -> Value:
        start = self._at
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise self._problem(f"more than {MAX_VALUES} values")
        quoted = _QUOTED.match(self._text, start)
        word = None if quoted else _WORD.match(self._text, start)
        found = quoted or word
        if found is None:
            is_open = self._text[start : start + 1] in ("'", '"') and start < len(self._text)
            raise self._problem("this quote is never closed" if is_open else f"a value of {name} is missing")
        self._at = found.end()
        if quoted:
            inside = quoted[1] if quoted[1] is not None else quoted[2]
            text = re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL)
        else:
            text = found[0]
        try:
            return value_of(self._fields[name], op, text, is_quoted=quoted is not None)
        except ValueError as problem:
            raise BadFilter(str(problem), self._text, start) from None

    def _keyword(self) -> str:
        found = _KEYWORD.match(self._text, self._at)
        return found[1].lower() if found else ""

    def _take_keyword(self, word: str) -> bool:
        if self._keyword() != word:
            return False
        self._at += len(word)
        self._skip(_BLANK)
        return True

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return bool(found and found[0])

    def _problem(self, message: str) -> BadFilter:
        return BadFilter(message, self._text, self._at)
