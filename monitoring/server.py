"""One process, one origin: our pages on every path, Flower below `/flower/`, one gate before both.

Our Tornado application is Flower's, subclassed. What we lean on: `Flower`, `Events`, the module-level
`options` and `urls.settings`, `start_http_server`. A contract test boots it against a real Redis.
"""

import asyncio
import base64
import contextlib
import logging
import secrets
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flower.urls
from celery import Celery
from celery.events import EventReceiver
from flower.app import Flower
from flower.events import Events
from flower.options import options
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.template import Loader, Template
from tornado.web import FallbackHandler, OutputTransform, RequestHandler
from tornado.wsgi import WSGIContainer

from monitoring import gate
from monitoring.celery_side import Heard, flower_url, shown_url
from monitoring.gate import Session, Sessions
from monitoring.live import Hub, Stream
from monitoring.reads.blocks import Reader
from panda.logs import Log
from panda.settings import Settings
from panda.states import Stage

log = Log("monitoring.server")

PREFIX = "flower"
#: Pages wait for the database in threads, so that the loop stays free for Flower and its events.
PAGE_THREADS = 4
ASK_AGAIN_S = 60
LONGEST_PAUSE_S = 10
#: Nobody, logged in or not, makes this process hold more of what they send. Forms are far smaller.
MAX_BODY_BYTES = 1_000_000
#: Reads although it is a POST: DataTables sends its long query that way.
READS = frozenset({f"/{PREFIX}/tasks/datatable"})
#: Flower's own pages have scripts and styles inside them, and images as data.
FLOWER_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}

Audit = Callable[[str, str, str], None]
"""audit(who, action, target): writes the row, or raises."""


class PatientEvents(Events):  # type: ignore[misc]
    """Flower's listener, except that it never pauses longer than `LONGEST_PAUSE_S` when Redis is away."""

    def run(self) -> None:
        pause_s = 1
        while True:
            try:
                with self.capp.connection() as connection:
                    receiver = EventReceiver(connection, handlers={"*": self.on_event}, app=self.capp)
                    pause_s = 1
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            except Exception as problem:
                log.warning("no Celery events", problem=type(problem).__name__, again_in_s=pause_s)
                time.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)


class Deny(RequestHandler):
    """Why not, in plain text; for a browser without a session the way to the login."""

    def initialize(self, code: int, reason: str, to: str = "") -> None:
        self._answer, self._told, self._way = code, reason, to

    def prepare(self) -> None:
        if self._way:
            self.redirect(self._way, status=303)
            return
        self.set_status(self._answer)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._told + "\n")

    def check_xsrf_cookie(self) -> None:
        """Nothing happens here, so nothing is checked: the reason must get through."""


class Alive(RequestHandler):
    """/healthz: the loop turns. Asks nobody."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish("ok\n")


class Pages(FallbackHandler):
    """Our WSGI pages. They look after forged requests themselves (`gate.came_from_elsewhere`)."""

    def check_xsrf_cookie(self) -> None:
        """Flower's token is for Flower's pages."""


class Headers(OutputTransform):
    """Security headers on everything that is not WSGI."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in FLOWER_HEADERS.items():
            headers[name] = value
        return status_code, headers, chunk


class WayBack(Loader):
    """Flower's templates, with ways back to our pages: the first entry of the menu, and from a stage to its jobs."""

    MENU = '<ul class="app-nav navbar-nav">'
    BACK = MENU + '<li class="nav-item"><a class="nav-link" href="/">← PanDA monitor</a></li>'
    ACTIONS = '<div class="detail-actions">'
    JOBS = (
        ACTIONS + f"{{% if task.name in {tuple(f'panda.{stage}' for stage in Stage)!r} %}}"
        '<a class="btn btn-primary" href="/search?q={{ url_escape(task.uuid) }}">Its jobs in PanDA</a>{% end %}'
    )

    def _create_template(self, name: str) -> Template:
        text = (Path(self.root) / name).read_text(encoding="utf-8").replace(self.MENU, self.BACK, 1)
        if name == "task.html":
            text = text.replace(self.ACTIONS, self.JOBS, 1)
        return Template(text, name=name, loader=self)


class MonitorServer(Flower):  # type: ignore[misc]
    """Flower's application with our pages around it and our gate before it."""

    def __init__(self, *, sessions: Sessions, audit: Audit, redis_url: str, password: str, **more: Any) -> None:
        super().__init__(**more)
        self._sessions, self._audit = sessions, audit
        self._authorization = "Basic " + base64.b64encode(password.encode()).decode()
        # what Flower's broker page connects to, and what it shows
        self.broker_uri_with_password = flower_url(redis_url)
        self.broker_uri = shown_url(redis_url)

    def find_handler(self, request: HTTPServerRequest, **more: Any) -> Any:
        """The one choke point: below `/flower` nothing happens without a session."""
        if request.path == f"/{PREFIX}" or request.path.startswith(f"/{PREFIX}/"):
            refused = self._refusal(request)
            if refused is not None:
                return self.get_handler_delegate(request, Deny, refused)
            request.headers["Authorization"] = self._authorization
        return super().find_handler(request, **more)

    def _refusal(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """What Deny is to say; None to let it pass. An act is written down before it happens."""
        session = self._sessions.get(_key_of(request))
        if session is None:
            is_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
            to = f"/login?next={gate.quoted(request.uri or '/')}" if is_page else ""
            return {"code": 401, "reason": "log in first: POST /login with a token", "to": to}
        if request.method in ("GET", "HEAD", "OPTIONS") or request.path in READS:
            return None
        return self._act_refusal(request, session)

    def _act_refusal(self, request: HTTPServerRequest, session: Session) -> dict[str, Any] | None:
        headers = request.headers
        if gate.came_from_elsewhere(headers.get("Origin"), headers.get("Sec-Fetch-Site"), request.host):
            return {"code": 403, "reason": "a request of another site is not followed"}
        if not session.is_admin:
            return {"code": 403, "reason": f"{session.subject} is no admin: Flower is read-only"}
        try:
            # Blocks the loop for a look and one INSERT: rare, and both must stand before the act.
            fresh = self._sessions.recall_to_act(_key_of(request))
            if fresh is None or not fresh.is_admin:
                return {"code": 403, "reason": f"{session.subject} is no admin any more, or logged out"}
            self._audit(session.subject, f"flower_{(request.method or '').lower()}", request.path)
        except Exception as problem:
            log.error("act refused, its audit row could not be written", problem=type(problem).__name__)
            return {"code": 503, "reason": "the audit log cannot be written, so nothing is done"}
        return None


def _key_of(request: HTTPServerRequest) -> str | None:
    cookie = request.cookies.get(gate.COOKIE)
    return cookie.value if cookie else None


def build(
    settings: Settings,
    capp: Celery,
    pages: Any,
    sessions: Sessions,
    audit: Audit,
    heard: Heard,
    reader: Reader,
    hub: Hub,
) -> MonitorServer:
    """The application, not yet listening. Must be called inside a running loop.

    Args:
        pages: our WSGI app.
        heard: gets Flower's memory.
    """
    password = "monitor:" + secrets.token_urlsafe(24)
    chosen = {
        "url_prefix": PREFIX,
        "basic_auth": [password],
        "max_tasks": settings.monitor.flower_max_tasks,
        "max_workers": 1_000,
        "purge_offline_workers": 3_600,
        "enable_events": False,  # our workers send them unasked
        "persistent": False,
        "auto_refresh": True,
    }
    for name, value in chosen.items():
        setattr(options, name, value)
    # No line per request, and no second one of a page that failed: that is logged with its reason where it fails.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)  # nor one while no worker answers
    loop = IOLoop.current()
    events = PatientEvents(
        capp, loop, enable_events=False,
        max_tasks_in_memory=settings.monitor.flower_max_tasks, max_workers_in_memory=1_000,
    )  # fmt: skip
    heard.listen_to(events.state)
    mine = dict(flower.urls.settings)
    mine |= {
        "template_loader": WayBack(mine["template_path"]),
        "static_url_prefix": f"/{PREFIX}/static/",
        "login_url": f"/{PREFIX}/login",
        "debug": False,
        "transforms": [Headers],
    }
    server = MonitorServer(
        sessions=sessions, audit=audit, redis_url=settings.store.redis_url, password=password,
        options=options, capp=capp, events=events, io_loop=loop, **mine,
    )  # fmt: skip
    wsgi = WSGIContainer(pages, executor=ThreadPoolExecutor(PAGE_THREADS, thread_name_prefix="page"))
    server.add_handlers(
        r".*",
        [
            (r"/healthz", Alive),
            (r"/events/stream", Stream, {"hub": hub, "sessions": sessions, "reader": reader}),
            (rf"/{PREFIX}", Deny, {"code": 303, "reason": "", "to": f"/{PREFIX}/"}),
            (rf"/(?!{PREFIX}(?:/|$)).*", Pages, {"fallback": wsgi}),
        ],
    )
    return server


async def serve(server: MonitorServer, sessions: Sessions, host: str, port: int, stop: asyncio.Event) -> None:
    """Listen until `stop` is set. Raises OSError when the port is taken."""
    http = HTTPServer(server, max_body_size=MAX_BODY_BYTES)
    http.add_sockets(bind_sockets(port, address=host))
    log.info("monitor listens", url=f"http://{host}:{port}/")
    server.events.start()
    server.started = True
    server.update_workers()
    asking = asyncio.ensure_future(_ask_again(server, sessions))
    await stop.wait()
    asking.cancel()
    http.stop()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(http.close_all_connections(), 5)


async def _ask_again(server: MonitorServer, sessions: Sessions) -> None:
    """Each minute: which sessions are still good, and which lanes the workers serve (for the broker page)."""
    while True:
        await asyncio.sleep(ASK_AGAIN_S)
        await asyncio.get_running_loop().run_in_executor(None, sessions.ask_again)
        server.update_workers()


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT end the process in order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
