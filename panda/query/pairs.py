"""A filter as the query of an address says it: `status=failed,holding&site=HOL*&owner!=prod.main&priority>=500`.

Each pair is one comparison, and all of them hold. It is the same language: `read` has the last word.
"""

import re

from panda.errors import UnknownName
from panda.query.fields import Fields
from panda.query.reading import read
from panda.query.tree import EVERYTHING, Expression
from panda.query.writing import quoted

#: `owner!`, `priority>`: what stands before the first `=` of `owner!=x` and `priority>=5`.
_BEFORE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*([!<>]?)\Z")
#: `priority>5` has no `=` at all.
_WITHOUT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*([<>])(.+)\Z", re.DOTALL)
#: What `read` takes as it stands; anything else is put in quotes, as one value.
_PLAIN = re.compile(r"[^\s()\"']+\Z")


def read_pair(name: str, value: str, fields: Fields) -> Expression:
    """The comparison that one pair of a query says; without a value: everything.

    Raises:
        UnknownName: `unknown_filter`, there is no such field. BadFilter: it cannot be meant.
    """
    whole = _WITHOUT.match(name) if not value else None
    before = _BEFORE.match(name)
    if whole is not None:
        said, op, value = whole[1], whole[2], whole[3].strip()
    elif before is not None:
        said, op = before[1], f"{before[2]}="
    else:
        said, op = name, "="
    field = fields.find(said)
    if field is None:
        raise UnknownName("filter", said[:60], list(fields))
    if not value:
        return EVERYTHING
    return read(f"{field.name}{op}{value if _PLAIN.match(value) else quoted(value)}", fields)
