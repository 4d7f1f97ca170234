"""The interface describes itself, to programs and to people."""

import re
import shlex
from html import unescape

import jsonschema_rs

from tests.described import described


def test_the_document_is_openapi(client):
    answer = client.simulate_get("/openapi.json")

    assert answer.json["openapi"] == "3.1.0"
    assert answer.json["paths"] == described()["paths"]
    for schema in answer.json["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_reference_leads_somewhere(client):
    text = client.simulate_get("/openapi.json").text

    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in described()["components"]["schemas"]


def test_the_page_needs_no_script_and_no_other_host(client):
    answer = client.simulate_get("/docs")

    assert answer.headers["Content-Type"].startswith("text/html")
    assert "script" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "<script" not in answer.text
    assert not re.search(r"(src|href)=['\"](https?:)?//", answer.text)
    assert " style=" not in answer.text


def test_the_page_shows_every_call_with_a_command(client):
    text = client.simulate_get("/docs").text

    for item in described()["paths"].values():
        for operation in item.values():
            assert f"id='{operation['operationId']}'" in text
    commands = re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)
    assert len(commands) == sum(map(len, described()["paths"].values()))
    assert all(command.startswith("curl") for command in commands)


def test_links_on_the_page_lead_somewhere(client):
    text = client.simulate_get("/docs").text

    ids = set(re.findall(r" id='([^']+)'", text))
    assert {link for link in re.findall(r"href='#([^']+)'", text)} <= ids
    assert len(re.findall(r" id='([^']+)'", text)) == len(ids)


def test_commands_are_words_of_a_shell(client):
    for command in re.findall(r"<pre>(.*?)</pre>", client.simulate_get("/docs").text, re.DOTALL):
        assert len(shlex.split(unescape(command))) >= 2
