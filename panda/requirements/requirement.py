"""A requirement that was read, and what it says of one job and one queue."""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from panda.requirements.tree import Arithmetic, Comparison, Constant, Junction, Node, Not, Property, Value, children

#: Characters of a part that a sentence quotes.
QUOTED = 120


class _DividesByZero(Exception):
    pass


@dataclass(frozen=True)
class Requirement:
    """What must be true of a job and a queue that meet."""

    text: str
    root: Node

    def unmet(self, values: Mapping[str, Value]) -> str | None:
        """The first part that is not true, in words that go on after "… requires"; None: all are.

        Args:
            values: by name, for every name of `names.NAMES` that the text uses.
        """
        for part in self.parts():
            try:
                if answer(part, values):
                    continue
                but = "but"
            except _DividesByZero:
                but = "which divides by 0:"
            told = ", ".join(f"{name} is {_shown(values[name])}" for name in dict.fromkeys(_names(part)))
            return f"`{self._words(part)}`, {but} {told or 'that is never so'}"
        return None

    def parts(self) -> list[Node]:
        """What has to be true in any case, one by one."""
        return list(_conjuncts(self.root))

    def without(self, part: Node) -> str:
        """The text that requires everything but this part; empty: nothing is left."""
        kept = [each for each in self.parts() if each is not part]
        return " and ".join(
            f"({self.words(each)})" if isinstance(each, Junction) else self.words(each) for each in kept
        )

    def words(self, part: Node) -> str:
        """A part as it stands in the text."""
        return self.text[part.span.start : part.span.end]

    def _words(self, part: Node) -> str:
        text = self.words(part)
        return text if len(text) <= QUOTED else f"{text[:QUOTED]}…"


def answer(node: Node, values: Mapping[str, Value]) -> Value:
    """What a node says. Each node below it is looked at no more than once.

    Raises:
        _DividesByZero
    """
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Property):
        return values[node.name]
    if isinstance(node, Arithmetic):
        return _calculated(node, values)
    if isinstance(node, Comparison):
        return bool(_OPERATIONS[node.op](answer(node.left, values), answer(node.right, values)))
    if isinstance(node, Not):
        return not answer(node.part, values)
    ends = node.op == "or"  # at the first part that is so; `and` at the first that is not
    return ends if any(bool(answer(part, values)) is ends for part in node.parts) else not ends


def _calculated(node: Arithmetic, values: Mapping[str, Value]) -> float:
    total = float(answer(node.first, values))  # type: ignore[arg-type]
    for op, part in node.rest:
        number = float(answer(part, values))  # type: ignore[arg-type]
        if op == "/" and number == 0:
            raise _DividesByZero
        total = _OPERATIONS[op](total, number)
    return total


def _is_among(text: Any, texts: Any) -> bool:
    return text in texts


def is_like(text: str, pattern: str) -> bool:
    """Whether `text` is what `pattern` means, in which `*` stands for anything; the pieces are looked for from left
    to right, each at its first place, so the time is at most the product of the lengths."""
    pieces = pattern.split("*")
    if len(pieces) == 1:
        return text == pattern
    first, last = pieces[0], pieces[-1]
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in pieces[1:-1]:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _conjuncts(node: Node) -> Iterator[Node]:
    if not isinstance(node, Junction) or node.op != "and":
        yield node
        return
    for part in node.parts:
        yield from _conjuncts(part)


def _names(node: Node) -> Iterator[str]:
    if isinstance(node, Property):
        yield node.name
    for each in children(node):
        yield from _names(each)


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, frozenset):
        return f"[{', '.join(sorted(value))}]"
    return f"{value!r}" if isinstance(value, str) else f"{value:.10g}"


#: What each sign does with two values of the types that `reading` let it have.
_OPERATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": _is_among,
    "like": is_like,
}
