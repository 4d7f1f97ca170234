"""One login for the pages and for Flower.

A token of the API opens a session: a random id in a cookie that no script can read. It lasts twelve hours, and is asked
about again every minute and before each deed, so that a revoked token ends it. It is kept (`panda.auth.page_sessions`),
so that a monitor that starts anew knows who was logged in. A program that only reads needs none: it sends its token
with each request.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

from sqlalchemy.exc import SQLAlchemyError

from panda.auth.identity import Identity, Role
from panda.auth.page_sessions import Drawer
from panda.errors import Forbidden, Unauthenticated
from panda.logs import Log

log = Log("monitoring.gate")

COOKIE = "panda_session"
SESSION_S = 12 * 3600
MAX_SESSIONS = 10_000

Verify = Callable[[str], Identity]
"""The identity of a token. Raises Unauthenticated when it opens nothing."""


@dataclass(frozen=True)
class Session:
    """Someone who is logged in."""

    identity: Identity
    token: str  #: empty where the session is kept: then what was kept tells whether its token is still good
    until: float  #: on this process's monotonic clock
    seal: str  #: stands in every form of this session, so that no other site can send one

    @property
    def subject(self) -> str:
        return self.identity.subject

    @property
    def is_admin(self) -> bool:
        return Role.ADMIN in self.identity.roles


class Sessions:
    """Who is logged in, by session id. Safe to use from several threads."""

    def __init__(
        self, verify: Verify, clock: Callable[[], float] = time.monotonic, drawer: Drawer | None = None
    ) -> None:
        """`drawer`: where sessions outlast this process; None: nowhere."""
        self._verify, self._clock, self._drawer = verify, clock, drawer
        self._open: dict[str, Session] = {}
        self._guard = threading.Lock()

    def open(self, token: str) -> tuple[str, Session]:
        """Log in: the new session's id, and the session.

        Raises:
            Unauthenticated: the token is unknown, expired or revoked.
            Forbidden: it is a pilot's.
        """
        token = token.strip()
        session = self._session_of(token, self._clock() + SESSION_S, secrets.token_urlsafe(24))
        key = secrets.token_urlsafe(32)
        if self._drawer is not None and self._drawer.keep(key, token, session.seal, SESSION_S):
            session = replace(session, token="")
        self._remember(key, session)
        return key, session

    def recall(self, key: str | None) -> Session | None:
        """The session with this id; if this process does not know it, perhaps it was kept. Not for the event loop: it
        may ask the database. A store that is away recalls nobody."""
        session = self.get(key)
        if session is not None or self._drawer is None or not key:
            return session
        try:
            kept = self._drawer.find(key)
            if kept is None:
                return None
            session = Session(_no_pilot(kept.identity), "", self._clock() + kept.left_s, kept.seal)
        except (Unauthenticated, Forbidden, SQLAlchemyError):
            return None
        self._remember(key, session)
        return session

    def recall_to_act(self, key: str | None) -> Session | None:
        """The session with this id, asked about now: whoever was banned a moment ago looks on for a minute at most,
        and does nothing. Not for reading: it asks the database each time.

        Raises:
            SQLAlchemyError: nobody can say whether it is still good.
        """
        session = self.recall(key)
        if session is None or key is None:
            return None
        try:
            fresh = self._asked(key, session)
        except (Unauthenticated, Forbidden):
            self.close(key)
            return None
        self._renew(key, fresh)
        return fresh

    def _renew(self, key: str, fresh: Session) -> None:
        """Unless it was ended meanwhile."""
        with self._guard:
            if key in self._open:
                self._open[key] = fresh

    def _remember(self, key: str, session: Session) -> None:
        with self._guard:
            self._drop_old()
            self._open[key] = session

    def get(self, key: str | None) -> Session | None:
        """The session with this id, while it lasts, if this process knows it."""
        if not key:
            return None
        with self._guard:
            session = self._open.get(key)
            if session is not None and session.until < self._clock():
                del self._open[key]
                return None
            return session

    def __len__(self) -> int:
        return len(self._open)

    def of_token(self, token: str) -> Session:
        """A session for one request of a program, kept nowhere. Its seal opens no form.

        Raises:
            Unauthenticated: the token is unknown, expired or revoked.
            Forbidden: it is a pilot's.
        """
        return self._session_of(token, self._clock(), secrets.token_urlsafe(24))

    def identity_of(self, token: str) -> Identity:
        """Whose token this is, without a session. Raises Unauthenticated."""
        return self._verify(token)

    def close(self, key: str | None) -> None:
        """Log out. Raises SQLAlchemyError: what was kept could not be dropped."""
        with self._guard:
            self._open.pop(key or "", None)
        if self._drawer is not None and key:
            self._drawer.drop(key)

    def ask_again(self) -> None:
        """End the sessions whose token no longer opens anything. A store that is away ends nothing."""
        with self._guard:
            now = list(self._open.items())
        for key, session in now:
            try:
                self._ask_about(key, session)
            except Exception as problem:
                log.warning("session not asked about", subject=session.subject, problem=type(problem).__name__)
                return

    def _ask_about(self, key: str, session: Session) -> None:
        try:
            fresh = self._asked(key, session)
        except (Unauthenticated, Forbidden):
            log.info("session ended", subject=session.subject)
            self.close(key)
        else:
            self._renew(key, fresh)

    def _asked(self, key: str, session: Session) -> Session:
        """The session as it is now. Raises Unauthenticated, Forbidden."""
        if session.token or self._drawer is None:
            return self._session_of(session.token, session.until, session.seal)
        kept = self._drawer.find(key)
        if kept is None:
            raise Unauthenticated("this session was ended elsewhere")
        return replace(session, identity=_no_pilot(kept.identity))

    def _session_of(self, token: str, until: float, seal: str) -> Session:
        if not token:
            raise Unauthenticated("no token was given")
        return Session(_no_pilot(self._verify(token)), token, until, seal)

    def _drop_old(self) -> None:
        now = self._clock()
        for key in [key for key, session in self._open.items() if session.until < now]:
            del self._open[key]
        while len(self._open) >= MAX_SESSIONS:
            del self._open[next(iter(self._open))]


def _no_pilot(identity: Identity) -> Identity:
    """The same. Raises Forbidden: a pilot's token opens no page."""
    if not identity.roles - {Role.PILOT}:
        raise Forbidden(identity.subject, "look at the monitor: a pilot's token is for pilots")
    return identity


def bearer_of(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer …`; None: there is none."""
    kind, _, token = (header or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def safe_next(path: str | None) -> str:
    """Where to go after a login: a path of this site, else the overview."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\", "/login")):
        return "/"
    parts = urlsplit(path)
    return "/" if parts.scheme or parts.netloc or any(ord(c) < 32 for c in path) or "\\" in path else path


def came_from_elsewhere(origin: str | None, fetch_site: str | None, host: str) -> bool:
    """Whether a browser says that another site made it send this request. `host`: as the browser wrote it."""
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != host


def quoted(path: str) -> str:
    """A path as the value of a query."""
    return quote(path, safe="/")
