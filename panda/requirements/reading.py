"""A text becomes a tree. Every problem is told with its column, and nothing is ignored.

any     = all { "or" all }
all     = one { "and" one }
one     = "not" one | test
test    = sum [ OP sum ]
sum     = product { ("+" | "-") product }
product = factor { ("*" | "/") factor }
factor  = "-" factor | value
value   = NUMBER | "text" | 'text' | true | false | NAME.NAME | "(" any ")" | "[" text { "," text } "]"
OP      = == | != | < | <= | > | >= | in | not in | like | not like
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache

from panda.requirements.names import NAMES, Type
from panda.requirements.problems import BadRequirement
from panda.requirements.requirement import Requirement
from panda.requirements.tree import Arithmetic, Comparison, Constant, Junction, Node, Not, Property, Span

MAX_LENGTH = 1_000
MAX_DEPTH = 20
MAX_NODES = 200
#: Digits of a number; more are never meant.
MAX_DIGITS = 15

_BLANK = re.compile(r"\s*")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(?![A-Za-z0-9_.])")
_QUOTED = re.compile(r"\"([^\"\\\n]*)\"|'([^'\\\n]*)'")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]*)*")
_SYMBOL = re.compile(r"==|!=|<=|>=|[<>]")
#: Mistakes that are easily made, and what to write instead.
_MISTAKES = {"=": "==", "&&": "and", "||": "or", "!": "not", "&": "and", "|": "or"}
_KEYWORDS = frozenset({"and", "or", "not", "in", "like", "true", "false"})
_ORDERS = frozenset({"<", "<=", ">", ">="})


@lru_cache(maxsize=2_000)
def read(text: str) -> Requirement:
    """What `text` requires.

    Raises:
        BadRequirement: it cannot be meant; with the column.
    """
    if len(text) > MAX_LENGTH:
        raise BadRequirement(f"a requirement has at most {MAX_LENGTH} characters", text, MAX_LENGTH)
    return Requirement(text, _Reader(text).whole())


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._n_nodes = text, 0, 0
        self._end = 0
        """Where the last token ended."""

    def whole(self) -> Node:
        self._skip()
        if self._at == len(self._text):
            raise self._problem("a requirement says something, as in queue.cores >= 8")
        found = self._any(0)
        if self._at < len(self._text):
            raise self._problem(self._left_over())
        return self._must_be(found, Type.FLAG, "the whole must be true or false, as in queue.cores >= 8")

    def _any(self, depth: int) -> Node:
        return self._junction("or", depth, lambda: self._junction("and", depth, lambda: self._one(depth)))

    def _junction(self, word: str, depth: int, part: Callable[[], Node]) -> Node:
        start = self._at
        parts = [part()]
        while self._take_word(word):
            self._must_be(parts[-1], Type.FLAG, f"before {word!r} stands something that is true or false")
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        self._must_be(parts[-1], Type.FLAG, f"after {word!r} stands something that is true or false")
        return self._node(Junction(Type.FLAG, self._span(start), word, tuple(parts)))

    def _one(self, depth: int) -> Node:
        start = self._at
        if not self._take_word("not"):
            return self._test(depth)
        self._check_depth(depth)
        part = self._must_be(self._one(depth + 1), Type.FLAG, "after 'not' stands something that is true or false")
        return self._node(Not(Type.FLAG, self._span(start), part))

    def _test(self, depth: int) -> Node:
        start = self._at
        left = self._sum(depth)
        at = self._at
        op, is_not = self._operator()
        if not op:
            return left
        right = self._sum(depth)
        self._check_comparison(op, left, right, at)
        span = self._span(start)
        if self._operator()[0]:
            raise BadRequirement("one comparison at a time: join them with 'and'", self._text, start)
        test = self._node(Comparison(Type.FLAG, span, op, left, right))
        return self._node(Not(Type.FLAG, span, test)) if is_not else test

    def _operator(self) -> tuple[str, bool]:
        """The comparison that stands here, and whether `not` stood before it; empty: none."""
        symbol = _SYMBOL.match(self._text, self._at)
        if symbol:
            self._advance(symbol.end())
            return symbol[0], False
        before = self._at
        is_not = self._take_word("not")
        for word in ("in", "like"):
            if self._take_word(word):
                return word, is_not
        self._at = before
        return "", False

    def _sum(self, depth: int) -> Node:
        return self._chain("+-", depth, lambda: self._chain("*/", depth, lambda: self._factor(depth)))

    def _chain(self, ops: str, depth: int, part: Callable[[], Node]) -> Node:
        start = self._at
        first = part()
        rest: list[tuple[str, Node]] = []
        while self._at < len(self._text) and self._text[self._at] in ops:
            op = self._text[self._at]
            self._must_be(rest[-1][1] if rest else first, Type.NUMBER, f"before {op!r} stands a number")
            self._advance(self._at + 1)
            rest.append((op, self._must_be(part(), Type.NUMBER, f"after {op!r} stands a number")))
        return self._node(Arithmetic(Type.NUMBER, self._span(start), first, tuple(rest))) if rest else first

    def _factor(self, depth: int) -> Node:
        start = self._at
        if self._text[start : start + 1] != "-":
            return self._value(depth)
        self._check_depth(depth)
        self._advance(start + 1)
        part = self._must_be(self._factor(depth + 1), Type.NUMBER, "after '-' stands a number")
        zero = self._node(Constant(Type.NUMBER, Span(start, start), 0.0))
        return self._node(Arithmetic(Type.NUMBER, self._span(start), zero, (("-", part),)))

    def _value(self, depth: int) -> Node:
        start, first = self._at, self._text[self._at : self._at + 1]
        if first == "(":
            return self._bracket(depth)
        if first == "[":
            return self._list()
        if first in ('"', "'"):
            return self._node(Constant(Type.TEXT, self._span(start), self._quoted()))
        number = _NUMBER.match(self._text, start)
        if number:
            if len(number[0]) > MAX_DIGITS:
                raise self._problem(f"a number has at most {MAX_DIGITS} digits")
            self._advance(number.end())
            return self._node(Constant(Type.NUMBER, self._span(start), float(number[0])))
        return self._word()

    def _word(self) -> Node:
        start = self._at
        word = _WORD.match(self._text, start)
        if word is None:
            raise self._problem(self._not_a_value())
        text = word[0]
        if text in ("true", "false"):
            self._advance(word.end())
            return self._node(Constant(Type.FLAG, self._span(start), text == "true"))
        if text in _KEYWORDS:
            raise self._problem("something is missing before this word")
        known = NAMES.get(text)
        if known is None:
            if self._text[word.end() : word.end() + 1] == "(":
                raise self._problem("nothing can be called here")
            near = get_close_matches(text, NAMES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "a text stands in quotes, a name is job.… or queue.…"
            raise self._problem(f"there is no {text[:60]!r}; {hint}")
        self._advance(word.end())
        return self._node(Property(known.type, self._span(start), text))

    def _bracket(self, depth: int) -> Node:
        opened = self._at
        self._check_depth(depth)
        self._advance(opened + 1)
        inside = self._any(depth + 1)
        if self._text[self._at : self._at + 1] != ")":
            if self._at < len(self._text):
                raise self._problem(self._left_over())
            raise BadRequirement("this bracket is never closed", self._text, opened)
        self._advance(self._at + 1)
        return inside

    def _list(self) -> Node:
        opened = self._at
        texts: list[str] = []
        self._advance(opened + 1)
        while True:
            if self._text[self._at : self._at + 1] not in ('"', "'"):
                raise self._problem("a list holds texts in quotes")
            texts.append(self._quoted())
            if self._text[self._at : self._at + 1] != ",":
                break
            self._advance(self._at + 1)
        if self._text[self._at : self._at + 1] != "]":
            raise BadRequirement("this bracket is never closed", self._text, opened)
        self._advance(self._at + 1)
        return self._node(Constant(Type.TEXTS, self._span(opened), frozenset(texts)))

    def _quoted(self) -> str:
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            raise self._problem("this quote is never closed (a text is one line without '\\')")
        self._advance(found.end())
        return found[1] if found[1] is not None else found[2]

    # ---- checks --------------------------------------------------------------------------------

    def _check_comparison(self, op: str, left: Node, right: Node, at: int) -> None:
        if op == "in":
            self._must_be(left, Type.TEXT, "before 'in' stands a text")
            self._must_be(right, Type.TEXTS, "after 'in' stands a list of texts, as queue.tags or ['A', 'B']")
        elif op == "like":
            self._must_be(left, Type.TEXT, "before 'like' stands a text")
            if not isinstance(right, Constant) or right.type is not Type.TEXT:
                message = "after 'like' stands a text in quotes, in which * is anything"
                raise BadRequirement(message, self._text, right.span.start)
        elif left.type is not right.type:
            raise BadRequirement(f"{left.type} cannot be compared with {right.type}", self._text, at)
        elif op in _ORDERS and left.type is not Type.NUMBER:
            raise BadRequirement(f"{left.type} is neither above nor below another one", self._text, at)

    def _must_be(self, node: Node, wanted: Type, message: str) -> Node:
        if node.type is not wanted:
            raise BadRequirement(f"{message}; this is {node.type}", self._text, node.span.start)
        return node

    def _check_depth(self, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise self._problem(f"nested more than {MAX_DEPTH} deep")

    def _node(self, node: Node) -> Node:
        self._n_nodes += 1
        if self._n_nodes > MAX_NODES:
            raise BadRequirement(f"more than {MAX_NODES} parts", self._text, node.span.start)
        return node

    def _left_over(self) -> str:
        if self._text[self._at] == ")":
            return "this bracket was never opened"
        for mistake, word in _MISTAKES.items():
            if self._text.startswith(mistake, self._at):
                return f"write {word!r} for {mistake!r}"
        return "not understood: 'and', 'or' or a comparison is missing before it"

    def _not_a_value(self) -> str:
        if self._at == len(self._text):
            return "something is missing here"
        if _NUMBER.match(self._text[self._at : self._at + 1]):
            return "this is no number: write 4000 or 1.5"
        return (
            "write 'not' for '!'" if self._text[self._at] == "!" else "a value stands here, as 8, 'text' or job.cores"
        )

    # ---- steps ---------------------------------------------------------------------------------

    def _take_word(self, word: str) -> bool:
        found = _WORD.match(self._text, self._at)
        if found is None or found[0] != word:
            return False
        self._advance(found.end())
        return True

    def _advance(self, end: int) -> None:
        self._at = self._end = end
        self._skip()

    def _skip(self) -> None:
        found = _BLANK.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _span(self, start: int) -> Span:
        return Span(start, self._end)

    def _problem(self, message: str) -> BadRequirement:
        return BadRequirement(message, self._text, self._at)
