"""Rules are read strictly, and what they find is told from figures alone."""

from pathlib import Path

import pytest

from panda.errors import ConfigError, Invalid, UnknownName
from panda.local.shipped import shipped
from panda.settings import load
from panda.sites import rules
from panda.sites.judging import Tally, black_holes, failing_queues
from panda.sites.rules import NodeRule, QueueRule

QUEUES = QueueRule(name="q", window_s=3600, at_least=10, failed_percent=80)
NODES = NodeRule(name="n", window_s=1800, at_least=5, failed_percent=90, quick_s=60)


def tally(n_finished=0, wall_s=10.0, **failed):
    made = Tally()
    made.add("", n_finished, 1_000.0 * n_finished)
    for code, n in failed.items():
        made.add(code, n, wall_s * n)
    return made


def test_the_shipped_rules_are_the_built_in_ones():
    file, built_in = rules.load_file(shipped("config/site-rules.toml")), rules.built_in()

    assert (file.queues, file.nodes, file.tests) == (built_in.queues, built_in.nodes, built_in.tests)
    assert [rule.name for rule in file.all] == ["queue-fails", "black-hole", "back-online"]


def test_a_file_that_changes_counts_from_the_next_look_on(tmp_path):
    settings = load([], {"PANDA_DATA_DIR": str(tmp_path)})
    assert [rule.name for rule in rules.current(settings).all] == ["queue-fails", "black-hole", "back-online"]

    (tmp_path / "site-rules.toml").write_text('[rules.back]\nof = "tests"\njobs = 3\nneeded = 2\n')
    assert [(rule.name, rule.jobs) for rule in rules.current(settings).all] == [("back", 3)]
    (tmp_path / "site-rules.toml").write_text("[rules.back]\n")
    with pytest.raises(UnknownName):
        rules.current(settings)
    with pytest.raises(ConfigError, match=r"nowhere.toml: No such file"):
        rules.current(load([], {"PANDA_DATA_DIR": str(tmp_path), "PANDA_SITES_RULES": "nowhere.toml"}))


QUEUE = 'of = "queues"\nwindow_s = 3600\nat_least = 20\nfailed_percent = 80\n'
NODE = QUEUE.replace("queues", "nodes") + "quick_s = 60\n"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[rules.x]\n" + QUEUE + "treshold = 1", UnknownName, "unknown setting 'treshold'"),
        ("[rules.x]\n" + QUEUE.replace("window_s = 3600\n", ""), ConfigError, r"\[rules.x\]: window_s is missing"),
        ("[rules.x]\n" + QUEUE.replace("3600", '"1h"'), ConfigError, "window_s wants int, got '1h'"),
        ("[rules.x]\n" + QUEUE.replace("3600", "90000"), ConfigError, "window_s is 90000; it must lie between 60 and 86400"),
        ("[rules.x]\n" + QUEUE.replace("80", "101"), ConfigError, "failed_percent is 101"),
        ("[rules.x]\n" + QUEUE.replace("80", "true"), ConfigError, "failed_percent wants int, got True"),
        ("[rules.x]\n" + QUEUE + 'then = "online"', UnknownName, "unknown queue status 'online'"),
        ("[rules.x]\n" + QUEUE + "errors = []", ConfigError, "errors wants a list of words"),
        ("[rules.x]\n" + QUEUE + "passive = 1", ConfigError, "passive wants bool"),
        ("[rules.x]\n" + NODE + "for_s = 0", ConfigError, "for_s is 0"),
        ("[rules.x]\n" + NODE.replace("quick_s = 60\n", ""), ConfigError, "quick_s is missing"),
        ('[rules.x]\nof = "tests"\nneeded = 6', ConfigError, "needed is 6, more than jobs = 5"),
        ('[rules.x]\nof = "tests"\n[rules.y]\nof = "tests"', ConfigError, "x and y are both of tests"),
        ('[rules.x]\nof = "queue"', UnknownName, "unknown of 'queue'; did you mean 'queues'"),
        ('[rules."../x"]\nof = "tests"', Invalid, "is no name"),
        ("rules = 3", ConfigError, "wants tables"),
        ("[rules]\nx = 3", ConfigError, "wants a table"),
        ("[rule.x]", UnknownName, "unknown section 'rule'"),
        ("[rules.x", ConfigError, "site-rules.toml: "),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text, error, words):
    path = tmp_path / "site-rules.toml"
    path.write_text(text)

    with pytest.raises(error, match=words):
        rules.load_file(path)


@pytest.mark.parametrize(
    ("code", "counts"),
    [("dispatch:lost_heartbeat", True), ("stage_in:deadline", True), ("pilot:1099", True), ("pilot:1213", False),
     ("payload:1", False), ("define:no_input", False)],
)  # fmt: skip
def test_what_lies_with_the_payload_does_not_count_against_a_queue(code, counts):
    assert QUEUES.counts(code) is counts
    assert NODES.counts(code)


@pytest.mark.parametrize(
    ("tallies", "found"),
    [
        ({("Q", "n1"): tally(2, x=8)}, ["Q"]),
        ({("Q", "n1"): tally(3, x=7)}, []),
        ({("Q", "n1"): tally(0, x=9)}, []),
        ({("Q", "n1"): tally(2, x=4), ("Q", "n2"): tally(0, x=4)}, ["Q"]),
        ({("Q", "n1"): tally(0, x=9), ("R", "n1"): tally(0, x=9)}, []),
    ],
)
def test_a_queue_fails_when_enough_of_enough_failed(tallies, found):
    assert list(failing_queues(QUEUES, tallies)) == found


@pytest.mark.parametrize(
    ("tallies", "found"),
    [
        ({("Q", "bad"): tally(0, x=5), ("Q", "good"): tally(5)}, [("Q", "bad")]),
        ({("Q", "bad"): tally(0, x=4), ("Q", "good"): tally(5)}, []),
        ({("Q", "bad"): tally(1, x=5), ("Q", "good"): tally(5)}, []),
        ({("Q", "bad"): tally(0, wall_s=61, x=5), ("Q", "good"): tally(5)}, []),
        ({("Q", "bad"): tally(0, x=5), ("Q", "good"): tally(4)}, []),
        ({("Q", "bad"): tally(0, x=5), ("Q", "good"): tally(2, x=3)}, []),
        ({("Q", "bad"): tally(0, x=5), ("R", "good"): tally(50)}, []),
        ({("Q", ""): tally(0, x=5), ("Q", "good"): tally(5)}, []),
    ],
)
def test_a_black_hole_fails_quickly_what_other_nodes_do_not(tallies, found):
    assert list(black_holes(NODES, tallies)) == found


def test_figures_are_told_in_words():
    assert tally(3, x=7, y=1).words(3600) == "8 of 11 attempts failed in 60 min (x 7 times, y 1 times)"
