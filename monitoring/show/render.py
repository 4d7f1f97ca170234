"""From data to an answer: a page for people, the same data as JSON for programs."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import falcon
import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from monitoring.gate import Session
from monitoring.reads.blocks import Block
from monitoring.show import codes, funnel, logtext, looks, pictures
from monitoring.show.commands import command_of

FOLDER = Path(__file__).parents[1]
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "panda_theme"
#: Whose clock times are shown by; the browser turns them, since only it knows its own.
ZONES = ("utc", "local")
ZONE_COOKIE = "panda_zone"
STATIC_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

#: Numbers beside the entries of the menu, while nobody has counted.
NO_NAV: dict[str, int | None] = {"jobs": None, "queues": None, "workers": None, "incidents": None, "troubles": None}

#: Everything comes from us; no script and no style stands inside a page.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def load_static() -> dict[str, tuple[bytes, str]]:
    """Name -> (bytes, media type) of the files that pages need, ours and those of others (`vendor/`); read once."""
    return {
        file.name: (file.read_bytes(), STATIC_TYPES[file.suffix])
        for file in sorted((FOLDER / "static").rglob("*"))
        if file.suffix in STATIC_TYPES
    }


class Renderer:
    """Templates, with the words and pictures that they may use."""

    def __init__(self, static: dict[str, tuple[bytes, str]]) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(
            count=looks.count, percent=looks.percent, duration=looks.duration, size=looks.size,
            megabytes=looks.megabytes, moment=looks.moment, iso=looks.iso, pretty=_pretty, short=looks.short,
            hours=looks.hours, compact=_compact, several=looks.several,
        )  # fmt: skip
        self._environment.globals.update(
            looks=looks,
            command_of=command_of,
            pictures=pictures,
            codes=codes,
            funnel=funnel,
            logtext=logtext,
            static={name: f"/static/{name}?v={_digest(body)}" for name, (body, _) in static.items()},
        )

    def page(self, template: str, **facts: Any) -> str:
        """The HTML of `template`."""
        return self._environment.get_template(template).render(**facts)

    def fragment(self, template: str, **facts: Any) -> Markup:
        """HTML that may stand inside a page."""
        return Markup(self.page(template, **facts))


def _pretty(document: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _compact(document: Any) -> str:
    return msgspec.json.encode(document).decode()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:12]


def wants_json(req: falcon.Request) -> bool:
    """`?json`, or JSON preferred over HTML."""
    if "json" in req.params:
        return True
    return "text/html" not in req.accept and "application/json" in req.accept


def wants_csv(req: falcon.Request) -> bool:
    """`?csv`, or CSV preferred over HTML."""
    return "csv" in req.params or ("text/html" not in req.accept and "text/csv" in req.accept)


def is_for_program(req: falcon.Request) -> bool:
    """Whether no person reads the answer: errors are documents then, not pages."""
    return wants_json(req) or wants_csv(req)


def answer_csv(resp: falcon.Response, listed: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A list of facts as CSV, with the names of its columns in the first line also when it is empty."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in listed)
    resp.content_type = "text/csv; charset=utf-8"
    resp.set_header("Cache-Control", "private, no-store")
    resp.set_header("Vary", "Accept, Authorization, Cookie")
    resp.data = table.getvalue().encode()


def _cell(value: Any) -> Any:
    """What a spreadsheet would take for a formula is made text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return looks.iso(value)
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value


def answer_json(resp: falcon.Response, data: dict[str, Any], as_of: datetime) -> None:
    """`{"data": …, "as_of": …}`"""
    resp.set_header("Vary", "Accept, Authorization, Cookie")
    resp.set_header("Cache-Control", "private, no-store")
    resp.content_type = "application/json"
    resp.data = envelope(data, as_of)


def envelope(data: Any, as_of: datetime) -> bytes:
    """`{"data": …, "as_of": …}`"""
    return msgspec.json.encode({"data": data, "as_of": looks.iso(as_of)}, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Block):
        return value.plain()
    return str(value)


def theme_of(req: falcon.Request) -> str:
    """The reader's choice, from its cookie; `auto` follows the system."""
    chosen = req.cookies.get(THEME_COOKIE, "auto")
    return chosen if chosen in THEMES else "auto"


def zone_of(req: falcon.Request) -> str:
    """The reader's choice, from its cookie."""
    chosen = req.cookies.get(ZONE_COOKIE, "utc")
    return chosen if chosen in ZONES else "utc"


def answer(
    req: falcon.Request,
    resp: falcon.Response,
    renderer: Renderer,
    template: str,
    data: dict[str, Any],
    as_of: datetime,
    nav: dict[str, int | None],
    **more: Any,
) -> None:
    """Show `data` as a page."""
    resp.set_header("Vary", "Accept, Authorization, Cookie")
    resp.set_header("Cache-Control", "private, no-store")
    resp.content_type = "text/html; charset=utf-8"
    session: Session | None = req.context.get("session")
    resp.text = renderer.page(
        template,
        **data,
        **more,
        as_of=as_of,
        session=session,
        theme=theme_of(req),
        path=req.path,
        json_link=json_link(req),
        nav=nav,
    )


def problem(
    req: falcon.Request,
    resp: falcon.Response,
    renderer: Renderer,
    status: str,
    title: str,
    detail: str,
    hints: list[tuple[str, str]] | None = None,
    *,
    code: str,
    again: str = "",
    nav: dict[str, int | None],
    may: Any,
) -> None:
    """An error with a face: RFC 9457 for programs, a page that helps for people.

    Args:
        hints: (link, words). code: stays the same, whatever the words are. again: a filter to be mended.
        nav, may: for the menu.
    """
    resp.status = status
    resp.set_header("Cache-Control", "no-store")
    if is_for_program(req):
        resp.content_type = "application/problem+json"
        resp.data = msgspec.json.encode({"title": title, "detail": detail, "status": int(status[:3]), "code": code})
        return
    resp.content_type = "text/html; charset=utf-8"
    resp.text = renderer.page(
        "problem.html", title=title, detail=detail, hints=hints or [], as_of=datetime.now(UTC),
        session=req.context.get("session"), theme=theme_of(req), path=req.path, json_link="", status=status, nav=nav,
        told="", again=again, may=may, csv_link="", topics="",
    )  # fmt: skip


def json_link(req: falcon.Request) -> str:
    """The same page for programs."""
    return _link(req, "json")


def csv_link(req: falcon.Request) -> str:
    """The list of this page as a table."""
    return _link(req, "csv")


def _link(req: falcon.Request, form: str) -> str:
    kept = urlencode([(name, value) for name, value in req.params.items() if name not in ("done", "json", "csv")], True)
    return f"{req.path}?{kept}&{form}" if kept else f"{req.path}?{form}"
