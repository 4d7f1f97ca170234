"""`shares.toml` is read strictly; a mistake stops the start with a sentence."""

import pytest

from panda.errors import ConfigError, Invalid, UnknownName
from panda.jobs import shares
from panda.jobs.share_tree import Share

FILE = """
[shares.production]
weight = 60
[shares.production.simulation]
weight = 3
[shares.production.reconstruction]
weight = 1.5
[shares.default]
weight = 10
"""


def load(tmp_path, text=FILE):
    path = tmp_path / "shares.toml"
    path.write_text(text)
    return shares.load_file(path)


def test_a_tree_is_read_from_the_top_down(tmp_path):
    assert load(tmp_path) == [
        Share("production", None, 60), Share("simulation", "production", 3),
        Share("reconstruction", "production", 1.5), Share("default", None, 10),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("was", "now", "error", "words"),
    [
        ("weight = 3", "wieght = 3", UnknownName,
         r"\[shares.production.simulation\]: unknown setting 'wieght'; did you mean 'weight'"),
        ("weight = 3", "", ConfigError, r"\[shares.production.simulation\]: weight is missing"),
        ("weight = 3", "weight = 0", ConfigError, "weight is 0; it must be above 0"),
        ("weight = 3", "weight = -1", ConfigError, "weight is -1; it must be above 0"),
        ("weight = 3", "weight = inf", ConfigError, "weight is inf; it must be above 0 and at most"),
        ("weight = 3", "weight = nan", ConfigError, "weight is nan; it must be above 0 and at most"),
        ("weight = 3", f"weight = {10**400}", ConfigError, "it must be above 0 and at most"),
        ("weight = 3", 'weight = "3"', ConfigError, "weight wants a number, got '3'"),
        ("weight = 3", "weight = true", ConfigError, "weight wants a number, got True"),
        ("production.simulation", "production.production", ConfigError, "production stands below itself"),
        ("production.simulation", "production.default", ConfigError,
         r"\[shares.default\]: there is a share default already, \[shares.production.default\]"),
        ("[shares.default]", "[shares.other]", ConfigError, r"there is no \[shares.default\]"),
        ("[shares.default]", "[shares.default.a]\nweight = 1\n[shares.default]", ConfigError,
         r"default has shares below it \(a\), so no job set could pay with it"),
        ("[shares.production]", '[shares."../x"]', Invalid, "is no name"),
        ("[shares.production]", "[share.production]", UnknownName, "unknown section 'share'; did you mean 'shares'"),
        ("[shares.default]\nweight = 10", "[shares]\ndefault = 10", ConfigError, "share default wants a table"),
        ("[shares.production]", "[shares.production", ConfigError, "shares.toml: "),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named(tmp_path, was, now, error, words):
    with pytest.raises(error, match=words):
        load(tmp_path, FILE.replace(was, now, 1))


def test_an_empty_file_has_no_default(tmp_path):
    with pytest.raises(ConfigError, match="there is no"):
        load(tmp_path, "")
    with pytest.raises(ConfigError, match="wants tables"):
        load(tmp_path, "shares = 3")
