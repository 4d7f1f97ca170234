"""The filter language: what it means, what it says of mistakes, and that nothing of it ever becomes SQL."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panda.jobs.nouns import JOB_FIELDS
from panda.query import (
    EVERYTHING,
    Ago,
    And,
    BadFilter,
    Comparison,
    Field,
    Fields,
    Kind,
    Not,
    Op,
    Or,
    Pattern,
    Span,
    all_of,
    condition,
    equal_to,
    read,
    settled,
    words_of,
    write,
)

FIELDS = Fields(
    Field("status", Kind.WORD, "r.status", words=("running", "failed"), aliases=("state",)),
    Field("site", Kind.TEXT, "r.site", is_nullable=True),
    Field("name", Kind.TEXT, "r.name"),
    Field("tag", Kind.WORDS, "r.tags"),
    Field("priority", Kind.WHOLE, "r.priority"),
    Field("wall", Kind.NUMBER, "r.wall_s", is_nullable=True),
    Field("changed", Kind.TIME, "r.changed_at", is_nullable=True),
    Field("archived", Kind.FLAG, "r.archived"),
)
STATUS, SITE, NAME, TAG, PRIORITY, WALL, CHANGED, ARCHIVED = FIELDS.values()
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", EVERYTHING),
        ("   ", EVERYTHING),
        ("status:failed", Comparison(STATUS, Op.IS, ("failed",))),
        ("state=FAILED", Comparison(STATUS, Op.IS, ("failed",))),
        ("status:failed,running", Comparison(STATUS, Op.IS, ("failed", "running"))),
        ("status: failed , running", Comparison(STATUS, Op.IS, ("failed", "running"))),
        ("site:HOL*", Comparison(SITE, Op.IS, (Pattern("HOL*"),))),
        ('site:"HOL*"', Comparison(SITE, Op.IS, ("HOL*",))),
        ("site:none", Comparison(SITE, Op.IS, (None,))),
        ('site:"none"', Comparison(SITE, Op.IS, ("none",))),
        ("name:none", Comparison(NAME, Op.IS, ("none",))),
        ("name:stageout:*", Comparison(NAME, Op.IS, (Pattern("stageout:*"),))),
        ("name:'it is \\'so\\''", Comparison(NAME, Op.IS, ("it is 'so'",))),
        ("site!=A", Comparison(SITE, Op.IS_NOT, ("A",))),
        ("priority >= 500", Comparison(PRIORITY, Op.AT_LEAST, (500,))),
        ("priority<-5", Comparison(PRIORITY, Op.BELOW, (-5,))),
        ("wall>1.5e3", Comparison(WALL, Op.ABOVE, (1500.0,))),
        ("tag:gpu", Comparison(TAG, Op.IS, ("gpu",))),
        ("archived:yes", Comparison(ARCHIVED, Op.IS, (True,))),
        ("changed:24h", Comparison(CHANGED, Op.IS, (Ago(86_400),))),
        ("changed:2026-11-20", Comparison(CHANGED, Op.IS, (Span(DAY, DAY + timedelta(days=1)),))),
        ("changed:2026-11-20/2026-11-20T12:00Z", Comparison(CHANGED, Op.IS, (Span(DAY, NOON),))),
        ("changed:/2026-11-20", Comparison(CHANGED, Op.IS, (Span(None, DAY),))),
        ("changed<2026-11-20T13:00+01:00", Comparison(CHANGED, Op.BELOW, (NOON,))),
        ("site:A site:B", And((equal_to(SITE, "A"), equal_to(SITE, "B")))),
        ("site:A and site:B", And((equal_to(SITE, "A"), equal_to(SITE, "B")))),
        ("site:A or site:B name:C", Or((equal_to(SITE, "A"), And((equal_to(SITE, "B"), equal_to(NAME, "C")))))),
        ("(site:A or site:B) name:C", And((Or((equal_to(SITE, "A"), equal_to(SITE, "B"))), equal_to(NAME, "C")))),
        ("not site:A name:C", And((Not(equal_to(SITE, "A")), equal_to(NAME, "C")))),
        ("NOT (site:A)", Not(equal_to(SITE, "A"))),
    ],
)
def test_a_text_means_a_tree(text, meant):
    assert read(text, FIELDS) == meant


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("sitee:HOL*", 1, "there is no field 'sitee'; did you mean 'site'?"),
        ("status:failed sitee:X", 15, "did you mean 'site'?"),
        ("status:faild", 8, "'faild' is no status; did you mean 'failed'?"),
        ("status:running,faild", 16, "did you mean 'failed'?"),
        ("status", 7, "a comparison follows a field"),
        ("status:", 8, "a value of status is missing"),
        ("status:,", 8, "a value of status is missing"),
        ("42", 1, "here stands the name of a field"),
        ("site>A", 6, "site has no order"),
        ("priority:many", 10, "priority is a whole number"),
        ("priority:99999999999999999999", 10, "priority is a whole number"),
        ("priority:none", 10, "priority always has a value"),
        ("priority>1,2", 1, "> takes one value"),
        ("wall:nan", 6, "wall is a number"),
        ("wall:1e999", 6, "wall is a number"),
        ("changed:yesterday", 9, "is no time"),
        ("changed>24h", 9, "write changed:24h for the last 24h"),
        ("changed:999999999w", 9, "longer than a hundred years"),
        ("changed:2026-11-21/2026-11-20", 9, "ends before it begins"),
        ("changed:/", 9, "a beginning or an end"),
        ("archived:maybe", 10, "true or false"),
        ("tag:g*", 5, "whole words"),
        ("name:***********", 6, "at most 10 stars"),
        ("name:a\x00b", 6, "cannot be stored"),
        ("name:\ud800", 6, "cannot be stored"),
        ('name:"open', 6, "this quote is never closed"),
        ("(name:a", 1, "this bracket is never closed"),
        ("name:a)", 7, "this bracket was never opened"),
        ("()", 2, "here stands the name of a field"),
        ("or name:a", 1, "something is missing before this word"),
        ("name:a or", 10, "here stands the name of a field"),
        ("not", 4, "here stands the name of a field"),
        ("(" * 30 + "name:a" + ")" * 30, 22, "nested more than 20 deep"),
        ("not " * 30 + "name:a", 85, "nested more than 20 deep"),
        ("name:a " * 60, 351, "more than 50 comparisons"),
        ("name:" + "a," * 1000 + "a", 2006, "more than 1000 values"),
        ("name:" + "a" * 8000, 8001, "at most 8000 characters"),
        ("'; DROP TABLE jobs; --", 1, "here stands the name of a field"),
    ],
)
def test_a_mistake_is_told_with_its_column(text, column, says):
    with pytest.raises(BadFilter) as problem:
        read(text, FIELDS)

    assert problem.value.code == "bad_filter"
    assert problem.value.column == column
    assert says in str(problem.value)


def test_what_is_settled_says_the_same_tomorrow():
    recent = read("not changed:24h or changed!=1h", FIELDS)

    assert write(settled(recent, NOON)) == "not changed:2026-11-19T12:00:00Z/ or changed!=2026-11-20T11:00:00Z/"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("site:A name:x", ["A"]),
        ("(name:x (site:A,B)) priority>1", ["A", "B"]),
        ("site:A,B site:B,C", ["B"]),
        ("site:A or name:x", None),
        ("not site:A", None),
        ("site!=A", None),
        ("site:A*", None),
        ("site:A,none", None),
    ],
)
def test_what_holds_in_any_case_is_known(text, known):
    assert words_of(read(text, FIELDS), "site") == known


# ---- whatever is written -------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=20)
patterns = st.from_regex(r"[A-Za-z0-9_.%\\\\]{0,5}\*[A-Za-z0-9:*_'%]{0,5}", fullmatch=True).filter(
    lambda t: t.count("*") <= 10
)
instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
spans = st.tuples(instants, instants).filter(lambda both: both[0] < both[1]).map(lambda both: Span(*both))


def equalities(field, values, *more):
    equal = st.lists(st.one_of(values, *more), min_size=1, max_size=4).map(tuple)
    return st.builds(Comparison, st.just(field), st.sampled_from([Op.IS, Op.IS_NOT]), equal)


def ordered(field, values):
    return st.builds(
        Comparison, st.just(field), st.sampled_from(sorted(set(Op) - {Op.IS, Op.IS_NOT})), st.tuples(values)
    )


wholes = st.integers(-(2**63) + 1, 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
single = st.one_of(
    equalities(STATUS, st.sampled_from(STATUS.words)),
    equalities(SITE, texts, patterns.map(Pattern), st.none()),
    equalities(NAME, texts, patterns.map(Pattern)),
    equalities(TAG, texts),
    equalities(PRIORITY, wholes),
    ordered(PRIORITY, wholes),
    ordered(WALL, floats),
    equalities(CHANGED, st.integers(0, 10**8).map(Ago), spans, st.none()),
    ordered(CHANGED, instants),
    equalities(ARCHIVED, st.booleans()),
)
trees = st.recursive(
    single,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
        inner.map(Not),
    ),
    max_leaves=8,
)


@given(trees)
def test_what_is_written_is_read_as_the_same(tree):
    assert read(write(tree), FIELDS) == tree


SQL_WORDS = re.compile(
    r"r\.[a-z_]+|%\(q[0-9]+\)s|::[a-z0-9]+(\[\])?|ANY|LIKE|AND|OR|IS (NOT )?(NULL|TRUE)|true|&&|<=|>=|!=|[=<>()-]"
    r"|SELECT|panda_now|make_interval|secs =>|\s"
)


@given(trees)
def test_a_condition_holds_nothing_but_words_of_ours(tree):
    made = condition(tree)

    assert SQL_WORDS.sub("", made.sql) == ""
    assert set(re.findall(r"%\((\w+)\)s", made.sql)) == set(made.values)


pieces = st.sampled_from(
    ["status", "site", "priority", "changed", ":", "=", "!=", "<", ">=", "failed", "24h", "none", "*", ",", "(", ")", " ",
     "and ", "or ", "not ", '"', "'", "\\", "\x00", "\ud800", "9" * 30, "%s", "%(q0)s", "; DROP TABLE jobs; --", "2026-11-20", "/"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(pieces, max_size=30).map("".join)))
def test_whatever_is_sent_is_a_tree_or_a_bad_filter(text):
    try:
        tree = read(text, FIELDS)
    except BadFilter as problem:
        assert 1 <= problem.column <= len(text) + 1
    else:
        assert read(write(tree), FIELDS) == tree
        assert SQL_WORDS.sub("", condition(tree).sql) == ""


def test_a_null_is_not_equal_to_anything():
    assert condition(read("site!=A", FIELDS)).sql == "((r.site = ANY(%(q0)s::text[])) IS NOT TRUE)"


def test_signs_of_like_are_plain_in_a_pattern():
    assert condition(read(r"name:50%_\*", FIELDS)).values == {"q0": [r"50\%\_\\%"]}


def test_what_says_nothing_is_left_out():
    one = equal_to(SITE, "A")

    assert all_of(EVERYTHING, one, EVERYTHING) == one
    assert condition(all_of()).sql == "true"


def test_every_field_of_a_job_says_what_it_costs():
    assert {JOB_FIELDS[name].cost.value for name in ("owner", "priority", "site")} == {"index", "row", "probe"}
    assert JOB_FIELDS.find("state") is JOB_FIELDS["status"]
