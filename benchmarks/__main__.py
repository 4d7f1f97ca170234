"""`python -m benchmarks [--only B2,B4]`: measure, and write benchmarks/latest.json and the reference page."""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks import catalogue, claims, footprint, moves, pages, real_processes, submissions, whole_life
from benchmarks.figures import Benchmark, Figure, machine, table, write

HERE = Path(__file__).parent
DATA = HERE / "latest.json"
PAGE = HERE.parent / "docs" / "reference" / "benchmarks.md"

ALL: dict[str, Benchmark] = {
    "B1": whole_life.one_by_one,
    "B2": whole_life.in_bulk,
    "B3": real_processes.through_the_pilot,
    "B4": claims.flat,
    "B5": submissions.claimable,
    "B6": submissions.one_job,
    "B7": footprint.memory,
    "B8": pages.at_full_size,
    "B9": footprint.starts,
    "D1": catalogue.entered,
    "D2": catalogue.dealt,
    "D3": moves.between_folders,
    "D4": moves.to_xrootd,
    "D5": catalogue.grown,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(ALL), help=f"some of {', '.join(ALL)}, with commas between them")
    wanted = parser.parse_args().only.split(",")
    unknown = sorted(set(wanted) - set(ALL))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; known: {', '.join(ALL)}")
    figures: dict[str, Figure] = {}
    for name in wanted:
        began = time.monotonic()
        figures[name] = ALL[name]()
        print(f"{name} measured in {time.monotonic() - began:.0f} s", file=sys.stderr)
        write({name: figures[name]}, machine(), DATA, PAGE)
    print(table({name: asdict(figure) for name, figure in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
