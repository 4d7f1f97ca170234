"""What may be called what: one rule for every name that ends up in a path, a page or a command."""

import re

from panda.errors import Invalid

#: Letters, digits and `._-`; starts with a letter or digit; so never `..`, `/`, NUL or a blank.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
ADLER32 = re.compile(r"[0-9a-f]{8}\Z")
MD5 = re.compile(r"[0-9a-f]{32}\Z")
GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")
MAX_NAME = 250


def checked(name: str, where: str) -> str:
    """`name`, if it may be a name. Raises Invalid (`bad_name`) that says where it stood."""
    if len(name) > MAX_NAME or not NAME.match(name):
        raise Invalid(
            f"{name[:60]!r} is no name: letters, digits, '.', '_' and '-', at most {MAX_NAME}, no '/'",
            where=where,
            code="bad_name",
        )
    return name


def split_did(did: str, where: str) -> tuple[str, str]:
    """`scope:name` in its two halves. Raises Invalid."""
    scope, colon, name = did.partition(":")
    if not colon:
        raise Invalid(f"{did[:60]!r} is no dataset: write scope:name", where=where, code="bad_name")
    return checked(scope, where), checked(name, where)


def split_file(reference: str, where: str) -> tuple[str, str, str | None]:
    """`scope:name/lfn`, or `scope:name` for every file of a dataset: (scope, name, lfn or None)."""
    did, slash, lfn = reference.partition("/")
    scope, name = split_did(did, where)
    return scope, name, checked(lfn, where) if slash else None


def counted(n: int, noun: str, *, at_least: bool = False) -> str:
    """So many of something, for a sentence: `1 job`, `3 jobs`, `1000+ jobs` (`at_least`)."""
    return f"{n}{'+' if at_least else ''} {noun}{'' if n == 1 else 's'}"


#: What jobs ask for, and nodes have, in words.
ASKED = {"cores": "cores", "memory_mb": "memory", "disk_mb": "disk", "walltime_s": "wall time", "gpus": "GPUs"}


def megabytes(n_mb: float) -> str:
    """A size as people write it, by powers of a thousand; exactly, as sizes are compared: `512 MB`, `16.001 GB`."""
    for unit, n in (("TB", n_mb / 10**6), ("GB", n_mb / 10**3)):
        if abs(n) >= 1:
            return f"{n:.6f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{n_mb:.6f}".rstrip("0").rstrip(".") + " MB"


def amount(word: str, n: float) -> str:
    """How much of `word`, a key of `ASKED`, without saying of what: `16 GB`, `60 s`, `4`."""
    if word.endswith("_mb"):
        return megabytes(n)
    return f"{n} s" if word.endswith("_s") else str(n)


def amount_of(word: str, n: float) -> str:
    """`16 GB of memory`, `60 s of wall time`, `4 cores`."""
    return f"{amount(word, n)} {'of ' if word.endswith(('_mb', '_s')) else ''}{ASKED[word]}"
