"""The description of the API is whole: nothing can be called that it does not tell of."""

import inspect

import msgspec
import pytest

from panda.api.app import create_app
from panda.api.body import Body
from panda.api.described import Page, Raw, description_of
from panda.api.openapi import EXAMPLES, HEADERS, document, operations, structs_of
from panda.api.parameters import SCHEMAS
from panda.auth.access import ANY_PARAMETER, access_of
from panda.db.session import begin_of, make_engine
from panda.settings import Settings

APP = create_app(begin_of(make_engine("postgresql://nobody@nowhere/none")), Settings())
CALLS = {each.call: each for each in operations(APP)}
DOCUMENT = document(APP)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_described(call):
    each = CALLS[call]
    told = description_of(each.responder)

    assert told is not None, f"{call} wants a @gives"
    assert inspect.getdoc(each.responder), f"{call} wants a docstring"
    assert access_of(each.responder).parameters - {ANY_PARAMETER} <= set(SCHEMAS) | set(told.parameters)
    assert set(told.parameters) <= access_of(each.responder).parameters
    assert set(told.headers) <= set(HEADERS)


@pytest.mark.parametrize("call", CALLS)
def test_the_body_that_is_described_is_the_one_that_is_read(call):
    each = CALLS[call]
    told = description_of(each.responder)
    source = inspect.getsource(each.responder)

    bodies = {name: body for name, body in vars(each.resource).items() if isinstance(body, Body)}
    read = [body for name, body in bodies.items() if f"self.{name}.read" in source]
    takes = None if told.takes is None or isinstance(told.takes, Raw) else told.takes
    assert takes == (read[0].kind if read else None)
    assert told.takes_nothing_too == (read[0].may_be_empty if read else False)


@pytest.mark.parametrize("call", CALLS)
def test_the_message_that_is_described_is_the_one_that_is_shown(call):
    each = CALLS[call]
    message = description_of(each.responder).gives
    source = inspect.getsource(each.responder)

    if isinstance(message, Page):
        assert "show_page(" in source or "show_" in source
    elif message is not None and not isinstance(message, Raw):
        assert "show(" in source


def test_every_call_has_a_name_of_its_own():
    names = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]

    assert len(names) == len(set(names))


def test_every_example_of_a_body_is_understood():
    for each in CALLS.values():
        told = description_of(each.responder)
        takes = told.takes
        if isinstance(takes, type) and issubclass(takes, msgspec.Struct) and takes.__name__ in EXAMPLES:
            msgspec.convert(EXAMPLES[takes.__name__], takes)


def test_messages_have_names_of_their_own():
    structs = structs_of(list(CALLS.values()))

    assert set(DOCUMENT["components"]["schemas"]) >= {struct.__name__ for struct in structs}


def test_notes_below_fields_are_told():
    job_set = DOCUMENT["components"]["schemas"]["JobSetRequest"]

    assert "made if it does not exist" in job_set["properties"]["output_dataset"]["description"]
