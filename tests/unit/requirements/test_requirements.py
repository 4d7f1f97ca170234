"""Requirements are read or refused with their place, and always answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panda.requirements import MAX_LENGTH, MAX_NODES, NAMES, BadRequirement, Type, read, requirement
from panda.requirements.tree import size

VALUES = {
    Type.NUMBER: 4.0,
    Type.TEXT: "NORTH-Q",
    Type.TEXTS: frozenset({"linux", "avx2"}),
    Type.FLAG: True,
}
SUBJECT = {name: VALUES[known.type] for name, known in NAMES.items()} | {
    "queue.memory_mb": 4000,
    "job.memory_mb": 3000,
    "job.gpus": 0,
}


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ("queue.memory_mb >= 2 * job.memory_mb", False),
        ("queue.memory_mb >= job.memory_mb and 'avx2' in queue.tags", True),
        ("'sse9' in queue.tags or queue.cores == 4", True),
        ("not 'sse9' in queue.tags", True),
        ("'sse9' not in queue.tags", True),
        ("queue.name like 'NORTH-*'", True),
        ("queue.name not like 'NORTH-*'", False),
        ("queue.site in ['NORTH-Q', \"SOUTH\"]", True),
        ("queue.cores - 1 - 1 == 2", True),  # from left to right
        ("queue.cores - (1 - 1) == 4", True),
        ("1 + 2 * 3 == 7", True),
        ("8 / 4 / 2 == 1", True),
        ("-queue.cores == - 4", True),
        ("true and not false", True),
        ("(queue.cores > 3) == true", True),
        ("false and queue.cores / 0 > 1", False),  # what comes after is not asked
        ("queue.cores / job.gpus > 1", False),
        ("1 > 2 or 2 > 1 and 1 > 2", False),  # and binds more
        ("queue.memory_mb>=job.memory_mb", True),
        ("queue.storage != 'A' and\n queue.cloud == \"NORTH-Q\"", True),
    ],
)
def test_a_requirement_says_what_it_means(text, is_met):
    assert (read(text).unmet(SUBJECT) is None) is is_met


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "says something"),
        ("  ", 3, "says something"),
        ("queue.cores", 1, "the whole must be true or false"),
        ("queue.cores >= ", 16, "something is missing"),
        ("queue.cores = 8", 13, "write '==' for '='"),
        ("queue.cores == 8 && true", 18, "write 'and' for '&&'"),
        ("!true", 1, "write 'not' for '!'"),
        ("queue.core == 8", 1, "did you mean 'queue.cores'?"),
        ("node.cores == 8", 1, "there is no 'node.cores'"),
        ("linux in queue.tags", 1, "a text stands in quotes"),
        ("__import__('os')", 1, "nothing can be called here"),
        ("queue.cores.real == 4", 1, "there is no 'queue.cores.real'"),
        ("queue.cores > 'a'", 13, "a number cannot be compared with a text"),
        ("queue.name > 'a'", 12, "neither above nor below"),
        ("queue.tags == 'a'", 12, "a list of texts cannot be compared with a text"),
        ("queue.cores in queue.tags", 1, "before 'in' stands a text"),
        ("'a' in 'abc'", 8, "after 'in' stands a list"),
        ("queue.name like queue.site", 17, "after 'like' stands a text in quotes"),
        ("'a' + 'b' == 'ab'", 1, "before '+' stands a number"),
        ("1 + true == 2", 5, "after '+' stands a number"),
        ("queue.cores and true", 1, "before 'and' stands something that is true or false"),
        ("true or 1", 9, "after 'or' stands something that is true or false"),
        ("not 1", 5, "after 'not' stands something that is true or false"),
        ("1 < 2 < 3", 1, "one comparison at a time"),
        ("(true", 1, "this bracket is never closed"),
        ("true)", 5, "this bracket was never opened"),
        ("(true or)", 9, "a value stands here"),
        ("'a in queue.tags", 1, "this quote is never closed"),
        ("queue.site in []", 16, "a list holds texts in quotes"),
        ("queue.site in ['a' 'b']", 15, "this bracket is never closed"),
        ("true true", 6, "not understood"),
        ("and true", 1, "something is missing before this word"),
        ("1..2 == 1", 1, "this is no number"),
        ("0x10 == 16", 1, "this is no number"),
        ("1234567890123456 == 1", 1, "at most 15 digits"),
        ("true ; true", 6, "not understood"),
        ("true or " * 200 + "true", 1001, "at most 1000 characters"),
        ("(" * 30 + "true" + ")" * 30, 21, "nested more than 20 deep"),
        ("not " * 30 + "true", 85, "nested more than 20 deep"),
        ("--------------------------1 == 1", 21, "nested more than 20 deep"),
        ("1+" * 250 + "1 == 1", 401, "more than 200 parts"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_place(text, column, words):
    with pytest.raises(BadRequirement) as caught:
        read(text)

    assert words in str(caught.value)
    assert (caught.value.code, caught.value.column) == ("bad_requirement", column)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "'avx2' in queue.tags and queue.memory_mb >= 2 * job.memory_mb",
            "`queue.memory_mb >= 2 * job.memory_mb`, but queue.memory_mb is 4000, job.memory_mb is 3000",
        ),
        ("'sse9' in queue.tags", "`'sse9' in queue.tags`, but queue.tags is [avx2, linux]"),
        (
            "queue.cores / job.gpus > 2",
            "`queue.cores / job.gpus > 2`, which divides by 0: queue.cores is 4, job.gpus is 0",
        ),
        ("true and (1 > 2 or queue.name == 'A')", "`1 > 2 or queue.name == 'A'`, but queue.name is 'NORTH-Q'"),
        ("false", "`false`, but that is never so"),
    ],
)
def test_what_is_not_met_is_told_with_its_values(text, why):
    assert read(text).unmet(SUBJECT) == why


def test_a_requirement_can_be_had_without_one_of_its_parts():
    wanted = read("(queue.cores > 8 or 1 > 2) and true and (true and 3 > 4)")
    parts = wanted.parts()

    assert [wanted.words(part) for part in parts] == ["queue.cores > 8 or 1 > 2", "true", "true", "3 > 4"]
    assert wanted.without(parts[3]) == "(queue.cores > 8 or 1 > 2) and true and true"
    assert read(wanted.without(parts[0])).parts()
    assert read("true").without(read("true").parts()[0]) == ""


@pytest.mark.parametrize(
    ("text", "pattern", "is_so"),
    [
        ("MERIDIAN-3", "MERIDIAN-*", True),
        ("MERIDIAN", "MERIDIAN-*", False),
        ("abc", "*b*", True),
        ("abc", "*c*b*", False),
        ("aba", "aba*a", False),
        ("", "*", True),
        ("a*", "a", False),
        ("a" * 900, "*a" * 400 + "*b", False),
    ],
)
def test_a_star_stands_for_anything(text, pattern, is_so):
    assert requirement.is_like(text, pattern) is is_so


WORDS = st.sampled_from(
    [*NAMES, "and", "or", "not", "in", "like", "true", "false", "(", ")", "[", "]", ",", "==", "!=", "<", ">=", "+",
     "-", "*", "/", "1", "0", "2.5", "'a'", '"linux"', "'*a*'", "=", "&&", "$", "\\", "job", "é", "\x00", "9" * 40]
)  # fmt: skip


@given(st.one_of(st.text(max_size=MAX_LENGTH + 5), st.lists(WORDS, max_size=60).map(" ".join)))
def test_whatever_is_written_is_read_or_refused_and_answered_in_few_steps(text):
    try:
        wanted = read(text)
    except BadRequirement as problem:
        assert 1 <= problem.column <= len(text) + 1
        return

    assert size(wanted.root) <= MAX_NODES
    wanted.unmet(SUBJECT)


@st.composite
def flags(draw, depth=3):
    """A requirement that can be meant."""
    if depth == 0 or draw(st.booleans()):
        left = draw(st.sampled_from(["queue.cores", "2 * job.gpus", "-1.5", "8 / job.gpus", "(1 + 2)"]))
        right = draw(st.sampled_from(["job.cores", "0", "queue.memory_mb / 1000 - 3"]))
        number = f"{left} {draw(st.sampled_from(['==', '!=', '<', '<=', '>', '>=']))} {right}"
        return draw(st.sampled_from([number, "'linux' in queue.tags", "queue.name like '*Q'", "true"]))
    if draw(st.booleans()):
        return f"not ({draw(flags(depth=depth - 1))})"
    return f"({draw(flags(depth=depth - 1))}) {draw(st.sampled_from(['and', 'or']))} {draw(flags(depth=depth - 1))}"


@given(flags())
def test_each_part_of_a_requirement_is_looked_at_once(text):
    wanted = read(text)
    steps = []
    plain = requirement.answer

    def counted(node, values):
        steps.append(id(node))
        return plain(node, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requirement, "answer", counted)
        wanted.unmet(SUBJECT)

    assert len(steps) <= size(wanted.root)
    assert len(set(steps)) == len(steps)
