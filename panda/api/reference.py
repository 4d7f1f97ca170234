"""/openapi.json, and /docs: the same as a page for people.

One static page: no scripts, no other host, its one style named by its hash in the content security policy.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from typing import Any

import falcon

from panda.api.access import public
from panda.api.answers import ENCODER
from panda.api.described import Raw, gives
from panda.api.openapi import App, Document, document

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --link: #0b62c4; }
@media (prefers-color-scheme: dark) { :root { --link: #7db7ff; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem 1.5rem 4rem; }
a { color: var(--link); } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin: 2rem 0 .3rem; font-size: 1rem; } code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .6rem .8rem; overflow-x: auto; border-radius: 4px; }
table { border-collapse: collapse; margin: .5rem 0; } th, td { text-align: left; vertical-align: top;
padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); font-size: 14px; }
nav li { display: inline-block; margin-right: 1rem; } nav ul { padding: 0; }
""".strip()
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; frame-ancestors 'none'"
#: What stands in the examples for a field of a path.
FILLED = {"panda_id": "42", "jobset_id": "7", "attempt_nr": "1", "did": "user.anna:calibration", "lfn": "a.root"}


class OpenApiResource:
    """/openapi.json"""

    def __init__(self, app: App) -> None:
        self._app = app

    @public()
    @gives(Raw("application/json"))
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """This interface as OpenAPI 3.1."""
        resp.data = self._encoded
        resp.set_header("Cache-Control", "public, max-age=300")

    @cached_property
    def _encoded(self) -> bytes:
        return ENCODER.encode(document(self._app))


class DocsResource:
    """/docs"""

    def __init__(self, app: App) -> None:
        self._app = app

    @public()
    @gives(Raw("text/html"))
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """This interface as a page for people."""
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header("Content-Security-Policy", POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Cache-Control", "public, max-age=300")
        resp.data = self._page

    @cached_property
    def _page(self) -> bytes:
        return page(document(self._app)).encode()


def curl(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """A command that makes this call; `PANDA_URL` and `PANDA_TOKEN` are the caller's."""
    words = ["curl"] if method == "get" else ["curl --head" if method == "head" else f"curl -X {method.upper()}"]
    if operation.get("security") != []:
        words.append('-H "Authorization: Bearer $PANDA_TOKEN"')
    words += [
        f"-H '{each['name']}: …'" for each in operation["parameters"] if each["in"] == "header" and each["required"]
    ]
    body = operation.get("requestBody")
    if body is not None and "application/json" in body["content"]:
        example = json.dumps(body["content"]["application/json"].get("example", {}))
        words += ["-H 'Content-Type: application/json'", f"-d '{example}'"]
    elif body is not None:
        words.append("--data-binary @FILE")
    for name in [each["name"] for each in operation["parameters"] if each["in"] == "path"]:
        path = path.replace(f"{{{name}}}", FILLED.get(name, name.upper()))
    return " \\\n  ".join([*words, f'"$PANDA_URL{path}"'])


def type_of(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(type_of(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(json.dumps(each) for each in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        kind = f"list of {type_of(schema.get('items', {}))}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind = f"map to {type_of(schema['additionalProperties'])}"
    limits = ["minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "minItems", "maxItems", "pattern"]
    told = [f"{name} {schema[name]}" for name in limits if name in schema]
    return f"{kind} ({', '.join(told)})" if told else str(kind)


def message_of(content: Mapping[str, Any]) -> str:
    """The name of the message that a body holds; "": it has none."""
    schema = content["schema"]
    known = [schema, *schema.get("allOf", ()), schema.get("properties", {}).get("data", {}).get("items", {})]
    return next((type_of(each) for each in known if "$ref" in each), "")


def contents(content: Mapping[str, Any]) -> str:
    """Bodies in words: ``"`application/json` Job"``."""
    return " or ".join(f"`{media}` {message_of(each)}".strip() for media, each in content.items())


def page(made: Document) -> str:
    """The document as HTML."""
    calls = [(path, method, each) for path, item in made["paths"].items() for method, each in item.items()]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width"><title>PanDA: HTTP</title>',
        f"<style>{STYLE}</style></head><body><main><h1>PanDA {escape(made['info']['version'])}: HTTP</h1>",
        f"<p>{_prose(made['info']['description'])}</p>",
        "<p>The same for programs: <a href='/openapi.json'>openapi.json</a>.</p>",
        "<nav aria-label='Parts'><ul>",
        *(f"<li><a href='#{escape(tag['name'])}'>{escape(tag['name'])}</a></li>" for tag in made["tags"]),
        "<li><a href='#messages'>messages</a></li></ul></nav>",
    ]
    for tag in made["tags"]:
        parts.append(f"<h2 id='{escape(tag['name'])}'>{escape(tag['name'])}</h2>")
        for path, method, each in calls:
            if each["tags"] == [tag["name"]]:
                parts += _call(path, method, each)
    parts.append("<h2 id='messages'>Messages</h2>")
    for name, schema in made["components"]["schemas"].items():
        parts += _message(name, schema)
    return "\n".join([*parts, "</main></body></html>"])


def _call(path: str, method: str, each: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3 id='{each['operationId']}'><code>{method.upper()} {escape(path)}</code></h3>"
    who = each.get("x-needs-leave-to")
    yield f"<p>{_prose(each['summary'])} {_prose(each.get('description', ''))}</p>"
    yield f"<p>A caller who may <em>{escape(who)}</em>.</p>" if who else "<p>Everybody, without a token.</p>"
    rows = [
        (
            each["name"],
            each["in"] + (", needed" if each["required"] else ""),
            type_of(each["schema"]),
            each["description"],
        )
        for each in each["parameters"]
    ]
    if rows:
        yield _table(("parameter", "in", "type", ""), rows)
    yield f"<pre>{escape(curl(method, path, each))}</pre>"
    body = each.get("requestBody")
    if body is not None:
        yield f"<p>Takes {' or '.join(_linked(m, c) for m, c in body['content'].items())}.</p>"
    answers = [
        (status, " or ".join(_linked(media, content) for media, content in answer.get("content", {}).items()),
         _prose(answer["description"]))
        for status, answer in each["responses"].items()
    ]  # fmt: skip
    yield _table(("status", "answer", ""), answers, is_html=True)


def _linked(media: str, content: Mapping[str, Any]) -> str:
    name = message_of(content)
    link = f" <a href='#{escape(name)}'>{escape(name)}</a>" if name else ""
    return f"<code>{escape(media)}</code>{link}"


def _message(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3 id='{escape(name)}'><code>{escape(name)}</code></h3>"
    if schema.get("description"):
        yield f"<p>{_prose(schema['description'])}</p>"
    needed = schema.get("required", ())
    rows = [
        (field, "needed" if field in needed else "", type_of(kind), kind.get("description", ""))
        for field, kind in schema.get("properties", {}).items()
    ]
    if rows:
        yield _table(("field", "", "type", ""), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, is_html: bool = False) -> str:
    def cell(nr: int, text: str) -> str:
        return (
            f"<td>{text if is_html else _prose(text) if nr == len(head) - 1 else f'<code>{escape(text)}</code>'}</td>"
        )

    lines = ["<tr>" + "".join(cell(nr, text) for nr, text in enumerate(row)) + "</tr>" for row in rows]
    return f"<table><tr>{''.join(f'<th>{word}</th>' for word in head)}</tr>{''.join(lines)}</table>"


def _prose(text: str) -> str:
    """Escaped, with `words` between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if nr % 2 else part for nr, part in enumerate(parts))
