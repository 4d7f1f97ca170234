"""What a server says while it copies by itself is read to the end, and believed in nothing else."""

import pytest

from panda.dataservice.movers import markers
from panda.dataservice.movers.base import still


def marker(n: int) -> bytes:
    return b"Perf Marker\nTimestamp: 1\nStripe Index: 0\nStripe Bytes Transferred: %d\nTotal Stripe Count: 1\nEnd\n" % n


@pytest.mark.parametrize("last", [b"success: Created", b"success: Created\r\n", b"Success\n\n", b"SUCCESS: 201"])
def test_a_last_line_that_says_success_is_one(last):
    markers.follow([marker(0), marker(3), last], 3, still)


def test_every_line_is_a_sign_of_life_however_the_bytes_are_cut():
    ticks = []
    said = marker(0) + marker(2) + b"success: Created"

    markers.follow([said[n : n + 1] for n in range(len(said))], 3, lambda: ticks.append(1))

    assert len(ticks) == 13


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([marker(0), b"failure: Remote side failed with status code 404"], "could not fetch it: failure: Remote side"),
        ([marker(0), b"aborted: \x1b[31mno"], r"aborted: \?\[31mno"),
        ([marker(3)], "could not fetch it: End"),
        ([], "broke off without a word"),
        ([b"success: Created\n", marker(3)], "could not fetch it: End"),
        ([marker(4), b"success: Created"], "fetched 4 bytes of 3"),
        ([b"<html>" + b"x" * 5000], "no text of markers"),
        ([b"x" * 3000, b"y" * 3000], "no text of markers"),
        ([b"<html>maintenance</html>"], "could not fetch it: <html>"),
    ],
)  # fmt: skip
def test_anything_else_is_a_failure(said, problem):
    with pytest.raises(OSError, match=problem):
        markers.follow(said, 3, still)


def test_not_a_word_is_enough_only_where_the_status_said_all():
    markers.follow([], 3, still, may_be_silent=True)
    with pytest.raises(OSError, match="failure"):
        markers.follow([b"failure: x"], 3, still, may_be_silent=True)


def test_markers_without_a_byte_more_are_a_source_that_hangs(monkeypatch):
    monkeypatch.setattr(markers, "STALL_S", -1.0)
    with pytest.raises(OSError, match="nothing more"):
        markers.follow([marker(1), marker(1), b"success: Created"], 3, still)


def test_a_tick_that_raises_ends_it():
    def stop():
        raise InterruptedError("stop")

    with pytest.raises(InterruptedError):
        markers.follow([marker(1)], 3, stop)
