"""On the path of the fault lab's processes alone: `time.time()` is off by so much as CHAOS_CLOCKS says."""

import os
import sys
import time


def _off_by_s() -> float:
    words = " ".join(sys.orig_argv)
    for each in os.environ.get("CHAOS_CLOCKS", "").split(";"):
        word, _, hours = each.partition("=")
        if word and word in words:
            return float(hours) * 3600
    return 0.0


def _set_wrong(by_s: float) -> None:
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + by_s
    time.time_ns = lambda: right_ns() + int(by_s * 1e9)


if _by_s := _off_by_s():
    _set_wrong(_by_s)
