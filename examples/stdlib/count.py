"""Count what is in Python sources: tokens, functions, the longest line. A job's payload.

    count.py OUTPUT FILE...

Writes one JSON object to OUTPUT. Only the standard library, so that it runs on any node.
"""

import json
import sys
import tokenize
from collections import Counter
from pathlib import Path


def counts_of(paths: list[str]) -> dict[str, int | dict[str, int]]:
    """Tokens (by kind), functions and lines of these files together; files that are no Python are counted too."""
    kinds: Counter[str] = Counter()
    functions = lines = longest = unreadable = 0
    for path in paths:
        text = Path(path).read_bytes()
        rows = text.splitlines()
        lines += len(rows)
        longest = max(longest, max(map(len, rows), default=0))
        try:
            with tokenize.open(path) as source:
                for token in tokenize.generate_tokens(source.readline):
                    kinds[tokenize.tok_name[token.type]] += 1
                    functions += token.type == tokenize.NAME and token.string == "def"
        except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
            unreadable += 1
    return {"files": len(paths), "lines": lines, "functions": functions, "longest_line": longest,
            "unreadable": unreadable, "tokens": dict(sorted(kinds.items()))}  # fmt: skip


def merged(parts: list[dict]) -> dict:
    """Counts of several groups as one."""
    kinds: Counter[str] = Counter()
    for part in parts:
        kinds.update(part["tokens"])
    whole = {key: sum(part[key] for part in parts) for key in ("files", "lines", "functions", "unreadable")}
    longest = max((part["longest_line"] for part in parts), default=0)
    return {**whole, "longest_line": longest, "tokens": dict(sorted(kinds.items()))}


if __name__ == "__main__":
    output, *files = sys.argv[1:]
    Path(output).write_text(json.dumps(counts_of(files)))
    print(f"{len(files)} files counted")
