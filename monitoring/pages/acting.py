"""Acting from a page: one way for every deed.

A form carries the seal of its session and a key of its own. The deed runs in one transaction through the
services that the API uses too: leave is asked, the reason is written down, and what it came to is kept under
the key, so that a form which is sent twice acts once.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

import falcon
import msgspec
from sqlalchemy.engine import Connection

from monitoring import gate
from monitoring.pages.page import OUTCOME, Page, session_of
from monitoring.show import render
from panda.auth.identity import Identity
from panda.db.session import rows, run
from panda.errors import Forbidden, Invalid, TooLarge

MAX_FORM_BYTES = 20_000
MAX_REASON = 2_000
#: Any number of so many digits is one that the database holds.
MAX_DIGITS = 18

#: The key is taken first: a second sender waits here for the first one's commit, and then finds its outcome.
TAKE_KEY = """
INSERT INTO page_deeds (who, key, at, outcome) VALUES (%(who)s, %(key)s, panda_now(), '') ON CONFLICT DO NOTHING
"""
TELL = "UPDATE page_deeds SET outcome = %(outcome)s WHERE who = %(who)s AND key = %(key)s"


@dataclass(frozen=True)
class Deed:
    """What somebody asks for with a form."""

    identity: Identity
    key: str
    reason: str
    form: dict[str, str]
    request_id: str

    @property
    def who(self) -> str:
        return self.identity.subject


def form_of(req: falcon.Request) -> dict[str, str]:
    """The fields of a small form; of a repeated one the first. Raises TooLarge."""
    body = req.bounded_stream.read(MAX_FORM_BYTES + 1)
    if len(body) > MAX_FORM_BYTES:
        raise TooLarge(f"a form has at most {MAX_FORM_BYTES} bytes")
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def deed_of(req: falcon.Request, *, needs_reason: bool = True) -> Deed:
    """The deed that a form asks for.

    Raises:
        Forbidden: the form is not one of ours, or of another session.
        Invalid: no key, no reason; `bad_text`, something that the database cannot hold.
    """
    session = session_of(req)
    if gate.came_from_elsewhere(req.get_header("Origin"), req.get_header("Sec-Fetch-Site"), req.netloc):
        raise Forbidden("another site", "act here in your name")
    form = form_of(req)
    if not hmac.compare_digest(form.get("seal", "").encode(), session.seal.encode()):
        raise Forbidden(session.subject, "send this form: it belongs to an earlier login; load the page again")
    _check_text(form)
    key, reason = form.get("key", ""), form.get("reason", "").strip()
    if not key or len(key) > 100:
        raise Invalid("the form has no key", where="key")
    if not reason and needs_reason:
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    if len(reason) > MAX_REASON:
        raise Invalid(f"longer than {MAX_REASON} characters", where="reason")
    return Deed(session.identity, key, reason, form, secrets.token_hex(8))


def _check_text(form: dict[str, str]) -> None:
    for name, value in form.items():
        if "\x00" in value:
            raise Invalid("holds characters that cannot be stored", where=name[:40], code="bad_text")


def whole(text: str) -> int | None:
    """A whole number that somebody typed, from 0 on; None: it is none, or one that nobody can mean."""
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS else None


def carry_out(connection: Connection, deed: Deed, act: Callable[[Connection, Deed], str]) -> str:
    """Do it once. Returns what it came to, in words; for a key that was used before, what it came to then."""
    values = {"who": deed.who, "key": deed.key}
    if not run(connection, TAKE_KEY, values):
        return outcome(connection, deed.who, deed.key) or ""
    told = act(connection, deed)
    run(connection, TELL, {**values, "outcome": told[:1000]})
    return told


def outcome(connection: Connection, who: str, key: str) -> str | None:
    """What the deed with this key came to."""
    found = rows(connection, OUTCOME, {"who": who, "key": key})
    return str(found[0].outcome) if found else None


class Field(msgspec.Struct, frozen=True):
    """An input of a sheet. With `options` it is a choice; `kind`: text, number or hidden."""

    name: str
    label: str = ""
    kind: str = "text"
    value: str = ""
    options: list[tuple[str, str]] = []
    help: str = ""
    required: bool = False


class Choice(msgspec.Struct, frozen=True):
    """What the whole sheet depends on: another one is another sheet. `kept`: what its address says besides."""

    name: str
    label: str
    value: str
    options: list[tuple[str, str]]
    kept: list[tuple[str, str]] = []


class Sheet(msgspec.Struct, frozen=True):
    """What is asked before a deed: what exactly will happen, to what, at what cost.

    `cli`, `python`: the same, to copy."""

    title: str
    verb: str
    back: str
    choice: Choice | None = None
    facts: list[tuple[str, str]] = []
    warnings: list[str] = []
    fields: list[Field] = []
    columns: list[str] = []
    rows: list[list[str]] = []
    note: str = ""
    more: str = ""
    """The address of all of them, where not all are listed."""
    is_possible: bool = True
    is_dangerous: bool = False
    needs_reason: bool = True
    cli: str = ""
    python: str = ""


class SheetPage(Page):
    """A page that asks, and acts when the form comes back."""

    needs_reason = True
    """Whether the deed concerns others, who will ask why."""

    def _ask(self, req: falcon.Request, resp: falcon.Response, sheet: Sheet) -> None:
        self._answer(
            req, resp, "sheet.html", {"sheet": sheet}, self._now(), key=secrets.token_urlsafe(16), action=req.path,
            topics="",
        )  # fmt: skip

    def _act(
        self, req: falcon.Request, resp: falcon.Response, act: Callable[[Connection, Deed], str], back: str
    ) -> str:
        """Carry out, then show `back` with the outcome on it. Returns the deed's key."""
        deed = deed_of(req, needs_reason=self.needs_reason)
        with self._parts.begin() as connection:
            told = carry_out(connection, deed, act)
        self._parts.memory.forget()
        self._done(req, resp, deed, told, back)
        return deed.key

    def _done(self, req: falcon.Request, resp: falcon.Response, deed: Deed, told: str, back: str) -> None:
        if render.is_for_program(req):
            resp.content_type = "application/json"
            resp.data = msgspec.json.encode({"data": {"outcome": told, "key": deed.key}})
            return
        resp.status = falcon.HTTP_303
        resp.location = f"{back}{'&' if '?' in back else '?'}{urlencode({'done': deed.key})}"
