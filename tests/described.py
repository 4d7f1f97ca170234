"""The API's description of itself, and whether an answer is what it says."""

import re
from functools import cache
from typing import Any

import jsonschema_rs
from falcon.testing import Result

from panda.api.app import create_app
from panda.api.openapi import document
from panda.db.session import begin_of, make_engine
from panda.settings import Settings

#: An error of ours, and one of the frame before any route is known: no call describes them.
NOT_DESCRIBED = (405, 500)


@cache
def described() -> dict[str, Any]:
    """The OpenAPI document of the whole API."""
    return document(create_app(begin_of(make_engine("postgresql://nobody@nowhere/none")), Settings()))


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """Paths with more fixed words first."""
    paths = sorted(described()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + r"/?\Z"), path) for path in paths]


@cache
def validator(*where: str) -> jsonschema_rs.Validator:
    """For the schema at this place in the document."""
    schema: Any = described()
    for word in where:
        schema = schema[word]
    return jsonschema_rs.Draft202012Validator({**schema, "components": described()["components"]})


def check(method: str, path: str, answer: Result) -> None:
    """Fails unless the description knows of this answer: its status, its type, each of its fields."""
    template = next((known for pattern, known in _templates() if pattern.match(path.partition("?")[0])), None)
    call = described()["paths"].get(template, {}).get(method.lower())
    if call is None or answer.status_code in NOT_DESCRIBED:
        return
    name = f"{method} {template}"
    responses = call["responses"]
    told = answer.text[:300] if answer.content.isascii() else ""
    assert str(answer.status_code) in responses, f"{name} says nothing of {answer.status_code}: {told}"
    media = (answer.headers.get("Content-Type") or "").partition(";")[0]
    content = responses[str(answer.status_code)].get("content", {})
    if not answer.content or not content:
        return
    assert media in content, f"{name} {answer.status_code} says nothing of {media}"
    if media.endswith("json") and content[media]["schema"]:
        steps = ("paths", template, method.lower(), "responses", str(answer.status_code), "content", media, "schema")
        wrong = [problem.message for problem in validator(*steps).iter_errors(answer.json)]
        assert not wrong, f"{name} {answer.status_code}: {wrong[:3]} in {told}"
