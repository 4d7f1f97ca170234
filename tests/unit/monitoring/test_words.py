"""What pages say of brokerage's funnel and of log lines."""

import pytest

from monitoring.show import funnel, logtext

REFUSED = [
    {"criterion": "status", "left": 5, "refused": {"A": "the queue is offline", "B": "the queue is offline"}},
    {"criterion": "storage", "left": 5, "refused": {}},
    {"criterion": "wishes", "left": 5, "refused": {}},
    {"criterion": "resources", "left": 0, "refused": {
        "C": "needs 16 GB of memory, the queue has 12 GB", "D": "needs 16 GB of memory, the queue has 12 GB",
        "E": "needs 16 GB of memory, the queue has 8 GB", "F": "needs 8 cores, the queue has 4",
        "G": "needs 90000 s of wall time (scaled), the queue has 86400 s"}},
]  # fmt: skip


def test_the_funnel_is_told_in_steps_and_reasons_that_differ_in_numbers_are_one():
    first, kept, last = funnel.steps(REFUSED)

    assert funnel.known(REFUSED) == 7
    assert (first.left, first.reasons) == (5, [("the queue is offline", 2, "A")])
    assert kept.words == "2 more criteria refused none"
    assert kept.passed == ("their storage is online", "where the job set wants to go")
    assert last.reasons[0] == ("needs 16 GB of memory, the queue has 12 GB", 3, "C")


def test_what_would_help_is_the_largest_that_any_queue_has():
    assert funnel.hints(REFUSED) == [
        "With 12 GB of memory it would fit 2 queues more (C, D).",
        "With 1 d of wall time it would fit one queue more (G).",
        "With 4 cores it would fit one queue more (F).",
    ]
    assert funnel.hints([]) == []
    assert funnel.known([]) == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("plain <b>", "plain &lt;b&gt;"),
        ("\x1b[31mred\x1b[0m rest", '<span class="ansi-red">red</span> rest'),
        (
            "\x1b[1;32mok\x1b[39m bold\x1b[m",
            '<span class="ansi-bold ansi-green">ok</span><span class="ansi-bold"> bold</span>',
        ),
        ("\x1b[2K\x1b]0;title\x07done\x00", "done"),
        ("\x1b[31m<script>", '<span class="ansi-red">&lt;script&gt;</span>'),
        ("\x1b[999999999999mx", "x"),
        (f"\x1b[31m\x1b[{'9' * 5000}mx", '<span class="ansi-red">x</span>'),
    ],
)
def test_colours_of_a_log_line_become_classes_and_nothing_else_gets_through(line, told):
    assert logtext.coloured(line) == told


@pytest.mark.parametrize(
    ("line", "is_one"),
    [("ERROR the disk is full", True), ("Traceback (most recent call last):", True), ("ValueError: x", True),
     ("no errors today", False), ("RuntimeException raised", True), ("java.lang.Exception", True)],
)  # fmt: skip
def test_lines_that_tell_of_an_error_are_known_by_their_words(line, is_one):
    assert logtext.is_error(line) == is_one
