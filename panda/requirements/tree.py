"""A requirement as a tree. Each node knows its type and where it stands in the text."""

from dataclasses import dataclass

from panda.requirements.names import Type

#: What a node's answer may be.
Value = float | str | bool | frozenset[str]


@dataclass(frozen=True, slots=True)
class Span:
    """From a character of the text to before another."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Constant:
    type: Type
    span: Span
    value: Value


@dataclass(frozen=True, slots=True)
class Property:
    """`job.…` or `queue.…`"""

    type: Type
    span: Span
    name: str


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`first`, then each operation in turn: + and -, or * and /. A negation is a subtraction from 0."""

    type: Type
    span: Span
    first: "Node"
    rest: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`op` is one of == != < <= > >= in like."""

    type: Type
    span: Span
    op: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Junction:
    """All (`and`) or any (`or`) of the parts."""

    type: Type
    span: Span
    op: str
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Not:
    type: Type
    span: Span
    part: "Node"


Node = Constant | Property | Arithmetic | Comparison | Junction | Not


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below this one."""
    if isinstance(node, Arithmetic):
        return (node.first, *(each for _, each in node.rest))
    if isinstance(node, Comparison):
        return (node.left, node.right)
    if isinstance(node, Junction):
        return node.parts
    return (node.part,) if isinstance(node, Not) else ()


def size(node: Node) -> int:
    """How many nodes there are, which is how many steps an answer takes at most."""
    return 1 + sum(size(each) for each in children(node))
