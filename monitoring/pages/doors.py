"""What is open to everybody: the login, and the files that pages are made with."""

import falcon

from monitoring import gate
from monitoring.pages.acting import form_of
from monitoring.pages.page import Page, problem
from monitoring.show import render
from panda.errors import Forbidden, NotFound, Unauthenticated
from panda.logs import Log

log = Log("monitoring.doors")


class Login(Page):
    """/login?next="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        target = gate.safe_next(req.get_param("next"))
        if req.get_param("next") and req.context.session is not None and not render.is_for_program(req):
            # Flower and events know only whom this process has seen: a restart sends them here and at once back
            resp.status, resp.location = falcon.HTTP_303, target
            return
        self._show(req, resp, target, "")

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Open a session with a token. Fields: token, next."""
        if gate.came_from_elsewhere(req.get_header("Origin"), req.get_header("Sec-Fetch-Site"), req.netloc):
            raise Forbidden("another site", "log you in")
        form = form_of(req)
        target = gate.safe_next(form.get("next"))
        try:
            key, session = self._parts.sessions.open(form.get("token", ""))
        except (Unauthenticated, Forbidden) as refused:
            log.warning("login refused", why=refused.code, remote=req.remote_addr)
            resp.status = falcon.HTTP_403 if isinstance(refused, Forbidden) else falcon.HTTP_401
            self._show(req, resp, target, f"{refused}")
            return
        log.info("login", subject=session.subject, remote=req.remote_addr)
        resp.set_cookie(
            gate.COOKIE, key, max_age=gate.SESSION_S, path="/", http_only=True, same_site="Strict",
            secure=req.scheme == "https" or self._parts.settings.monitor.url.startswith("https://"),
        )  # fmt: skip
        resp.status = falcon.HTTP_303
        resp.location = target

    def _show(self, req: falcon.Request, resp: falcon.Response, target: str, refused: str) -> None:
        data_dir = str(self._parts.settings.data_dir)
        if render.is_for_program(req):
            detail = refused or "POST the field `token`."
            status = falcon.HTTP_401 if not refused else resp.status
            problem(self._parts, req, resp, str(status), "Log in", detail,
                           code="unauthenticated" if str(status).startswith("401") else "forbidden")  # fmt: skip
            return
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header("Cache-Control", "no-store")
        resp.text = self._parts.renderer.page(
            "login.html", target=target, refused=refused, theme=render.theme_of(req), token_file=f"{data_dir}/token",
            is_local=self._parts.settings.monitor.host in ("127.0.0.1", "::1", "localhost"),
        )  # fmt: skip


class Logout(Page):
    """/logout"""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        if gate.came_from_elsewhere(req.get_header("Origin"), req.get_header("Sec-Fetch-Site"), req.netloc):
            raise Forbidden("another site", "log you out")
        self._parts.sessions.close(req.cookies.get(gate.COOKIE))
        resp.unset_cookie(gate.COOKIE, path="/", same_site="Strict")
        resp.status = falcon.HTTP_303
        resp.location = "/login"


class Static(Page):
    """/static/{name}: named with a hash of its content, so it never changes."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        if name not in self._parts.static:
            raise NotFound("file", name)
        resp.data, resp.content_type = self._parts.static[name]
        resp.set_header("Cache-Control", "public, max-age=31536000, immutable")
