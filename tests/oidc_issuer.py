"""An OpenID Connect issuer of our own, for tests: discovery, keys, the login of devices; it says what it is told to."""

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE, CLIENT_ID = "panda", "panda-cli"


class TestIssuer:
    """`token(**claims)` is good; every argument can spoil it."""

    __test__ = False

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.add_key("first")
        self.received: list[str] = []
        self.broken: dict[str, Any] = {}
        """Path -> (status, body) instead of the right answer."""
        self.answers: list[dict[str, Any]] = []
        """What the token endpoint says to devices, in order."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def add_key(self, kid: str, *, elliptic: bool = False) -> None:
        """From now on it tells this key too."""
        self.keys[kid] = (
            ec.generate_private_key(ec.SECP256R1())
            if elliptic
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )

    def token(
        self, kid: str = "first", *, algorithm: str = "", key: Any = None, headers: Any = None, **claims: Any
    ) -> str:
        """A signed token; a claim of None is left out."""
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "1234", "iat": now, "exp": now + 600, "jti": secrets.token_hex(8),
                "preferred_username": "ann", "name": "Ann", "groups": ["/panda/users"]} | claims  # fmt: skip
        signing = key if key is not None else self.keys[kid]
        algorithm = algorithm or ("ES256" if isinstance(signing, ec.EllipticCurvePrivateKey) else "RS256")
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, signing, algorithm=algorithm, headers={"kid": kid} if headers is None else headers)

    def document(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        """What it answers."""
        self.received.append(path)
        if path in self.broken:
            return self.broken[path]
        if path == "/.well-known/openid-configuration":
            return 200, {
                "issuer": self.url, "jwks_uri": f"{self.url}/keys", "token_endpoint": f"{self.url}/token",
                "device_authorization_endpoint": f"{self.url}/device",
            }  # fmt: skip
        if path == "/keys":
            return 200, {"keys": [self._public(kid) for kid in self.keys]}
        if path == "/device" and form.get("client_id") == CLIENT_ID:
            page = f"{self.url}/page"
            return 200, {"device_code": secrets.token_hex(8), "user_code": "ABCD-EFGH", "verification_uri": page,
                         "verification_uri_complete": f"{page}?code=ABCD-EFGH", "interval": 1, "expires_in": 60}  # fmt: skip
        if path == "/token" and self.answers:
            answer = self.answers.pop(0)
            return (400 if "error" in answer else 200), answer
        return 404, {"error": "not_found"}

    def _public(self, kid: str) -> dict[str, Any]:
        key = self.keys[kid]
        kind = (
            jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
        )
        return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig"}  # type: ignore[attr-defined]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler_of(issuer: TestIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            status, said = issuer.document(self.path.partition("?")[0], form)
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", f"{issuer.url}/elsewhere")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
