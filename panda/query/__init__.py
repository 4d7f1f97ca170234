"""One filter language for the API, the command line, the client and the pages.

    status:failed,holding site:HOL* (priority>=500 or not owner:prod.main) changed:24h

`read` turns a text into a typed tree over the fields that a noun declares, `write` turns the tree back into
text, `sql` into a condition with bound values. Nothing of a caller's text ever becomes part of a statement.
Pure: no database here, no HTTP.
"""

from panda.query.fields import Cost, Field, Fields, Kind
from panda.query.pairs import read_pair
from panda.query.problems import BadFilter
from panda.query.reading import read
from panda.query.tree import (
    EVERYTHING,
    Ago,
    And,
    Comparison,
    Expression,
    Not,
    Op,
    Or,
    Pattern,
    Span,
    all_of,
    equal_to,
    settled,
    words_of,
)
from panda.query.where import Condition, condition
from panda.query.writing import quoted, word, write

__all__ = [
    "EVERYTHING",
    "Ago",
    "And",
    "BadFilter",
    "Comparison",
    "Condition",
    "Cost",
    "Expression",
    "Field",
    "Fields",
    "Kind",
    "Not",
    "Op",
    "Or",
    "Pattern",
    "Span",
    "all_of",
    "condition",
    "equal_to",
    "quoted",
    "read",
    "read_pair",
    "settled",
    "word",
    "words_of",
    "write",
]
