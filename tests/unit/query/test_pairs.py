"""A filter as the query of an address."""

from urllib.parse import parse_qsl

import pytest

from panda.errors import UnknownName
from panda.jobs.nouns import JOB_FIELDS
from panda.query import EVERYTHING, BadFilter, all_of, read, read_pair, write


def said(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return write(all_of(*(read_pair(name, value, JOB_FIELDS) for name, value in pairs)))


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("status=failed,holding&site=HOL*", "status:failed,holding site:HOL*"),
        ("state=failed&user!=prod.main", "status:failed owner!=prod.main"),
        ("priority>=500&attempt<3&cores>8", "priority>=500 attempt<3 cores>8"),
        ("priority%3E%3D500&cores%3C8", "priority>=500 cores<8"),
        ("changed=24h&ended!=24h&changed=2026-11-20T00Z/2026-11-21T00Z",
         "changed:1d ended!=1d changed:2026-11-20T00:00:00Z/2026-11-21T00:00:00Z"),
        ("name=two+words&error=none", 'name:"two words" error:none'),
        ("name=a(b)&message=it%27s+%22so%22", 'name:"a(b)" message:"it\'s \\"so\\""'),
        ("owner=&status=failed", "status:failed"),
    ],
)  # fmt: skip
def test_pairs_say_what_the_text_says(query: str, text: str) -> None:
    assert read(said(query), JOB_FIELDS) == read(text, JOB_FIELDS)


@pytest.mark.parametrize(
    "query", ["status=runing", "priority>=many", "owner>=anna", "name=%00", "status=failed,", "cores>x"]
)
def test_a_pair_that_cannot_be_meant_is_refused(query: str) -> None:
    with pytest.raises(BadFilter):
        said(query)


@pytest.mark.parametrize("query", ["stauts=failed", "=5", "lunch=&status=failed", "a;b=1", "status~=x"])
def test_a_name_that_is_no_field_is_refused(query: str) -> None:
    with pytest.raises(UnknownName) as refused:
        said(query)

    assert refused.value.code == "unknown_filter"


def test_a_misspelt_field_is_told_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'status'"):
        read_pair("stauts", "failed", JOB_FIELDS)
    assert read_pair("status", "", JOB_FIELDS) == EVERYTHING
