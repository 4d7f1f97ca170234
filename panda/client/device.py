"""The login of a device without a browser (RFC 8628): a code is shown here, and typed in at the issuer's page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from panda.client.errors import Invalid, ServerError, Unauthenticated, Unavailable
from panda.client.transport import HttpTransport, LostReply, NotSent, Request

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
#: Seconds between two questions, where the issuer says nothing, and what `slow_down` adds.
INTERVAL_S, SLOWER_S = 5.0, 5.0
#: Nobody waits longer than this for somebody who types a code.
PATIENCE_S = 1800.0
HERE = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Code:
    """What a person is shown, and what we ask with."""

    user_code: str
    address: str
    whole_address: str
    """With the code in it; "": the issuer makes none."""
    device_code: str
    interval_s: float
    patience_s: float


class Device:
    """One login at one issuer."""

    def __init__(
        self, issuer: str, client_id: str, scope: str, *, ca: str = "", sleep: Callable[[float], None]
    ) -> None:
        self._issuer, self._client_id, self._scope = issuer, client_id, scope
        self._ca, self._sleep = ca, sleep
        self._places: dict[str, str] = {}

    def begin(self) -> Code:
        """Ask for a code.

        Raises:
            Invalid: the issuer's documents name no https addresses. ServerError: it does not answer as one.
            Unavailable: it does not answer.
        """
        document = self._asked("GET", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise ServerError(f"another issuer answers at {self._issuer}", code="not_understood")
        self._places = {
            name: _safe(document.get(name), name) for name in ("device_authorization_endpoint", "token_endpoint")
        }
        told = self._asked(
            "POST", self._places["device_authorization_endpoint"], {"client_id": self._client_id, "scope": self._scope}
        )
        texts = [told.get(name) for name in ("device_code", "user_code", "verification_uri")]
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise _not_understood()
        whole = told.get("verification_uri_complete")
        return Code(
            user_code=str(texts[1]),
            address=_safe(texts[2], "verification_uri"),
            whole_address=_safe(whole, "verification_uri_complete") if whole else "",
            device_code=str(texts[0]),
            interval_s=_seconds(told.get("interval"), INTERVAL_S),
            patience_s=min(PATIENCE_S, _seconds(told.get("expires_in"), PATIENCE_S)),
        )

    def tokens(self, code: Code) -> list[str]:
        """Wait until the code was typed in: the issuer's tokens, the one about the person first.

        Raises:
            Unauthenticated: it was refused, or nobody typed it in. ServerError, Unavailable: as `begin`.
        """
        words = {"grant_type": GRANT, "device_code": code.device_code, "client_id": self._client_id}
        interval_s, waited_s = code.interval_s, 0.0
        while waited_s < code.patience_s:
            self._sleep(interval_s)
            waited_s += interval_s
            answer = self._asked("POST", self._places["token_endpoint"], words, may_refuse=True)
            problem = answer.get("error")
            if problem is None:
                found = [answer[name] for name in ("id_token", "access_token") if isinstance(answer.get(name), str)]
                if not found:
                    raise _not_understood()
                return found
            if problem == "slow_down":
                interval_s += SLOWER_S
            elif problem != "authorization_pending":
                told = str(answer.get("error_description") or problem)[:200]
                raise Unauthenticated(f"the issuer refused: {told}", code="login_refused")
        raise Unauthenticated("nobody typed the code in", code="login_refused")

    def _asked(
        self, method: str, address: str, words: Mapping[str, str] | None = None, *, may_refuse: bool = False
    ) -> dict[str, Any]:
        parts = urlsplit(address)
        transport = HttpTransport(f"{parts.scheme}://{parts.netloc}", ca=self._ca)
        headers = {"Accept": "application/json"}
        body = None
        if words is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(words).encode()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            response = transport.send(Request(method, target, headers, body=body, fresh=True))
            content = response.read()
        except (NotSent, LostReply) as problem:
            raise Unavailable(f"the issuer does not answer: {problem}", code="no_issuer") from problem
        finally:
            transport.close()
        try:
            found = msgspec.json.decode(content)
        except msgspec.MsgspecError:
            found = None
        if not isinstance(found, dict) or (response.status >= 300 and not (may_refuse and "error" in found)):
            if response.status >= 500:
                raise Unavailable(f"the issuer answered {response.status}", code="no_issuer", status=response.status)
            raise _not_understood(response.status)
        return found


def _not_understood(status: int = 0) -> ServerError:
    told = f" ({status})" if status >= 300 else ""
    return ServerError(f"the issuer does not answer as one{told}", code="not_understood", status=status)


def _safe(address: Any, name: str) -> str:
    """An address that a secret may go to, or a person be sent to. Raises Invalid."""
    parts = urlsplit(address) if isinstance(address, str) and address.isprintable() else None
    if parts is None or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in HERE)):
        raise Invalid(f"the issuer's {name} is no https address", code="bad_issuer")
    return str(address)


def _seconds(value: Any, otherwise: float) -> float:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if is_one else otherwise
