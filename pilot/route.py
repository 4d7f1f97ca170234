"""The way to the server: straight, or through the proxy that the environment names; and whom TLS trusts.

`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` (in small letters too) mean what they mean to curl.
"""

from __future__ import annotations

import base64
import http.client
import os
import ssl
import urllib.request
from typing import Dict, Optional
from urllib.parse import SplitResult, unquote, urlsplit


class Route:
    """Opens connections to one server; `target` and `headers` say how a request is written on them."""

    def __init__(self, url: str, ca_file: str = "") -> None:
        """Raises ValueError: no http(s) URL, or a proxy that is none. OSError: an unreadable `ca_file`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        self._https = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self.proxy = _proxy(parts)
        self._context: Optional[ssl.SSLContext] = None
        if self._https:
            self._context = ssl.create_default_context(cafile=ca_file or None)
        self.headers: Dict[str, str] = {}
        if self.proxy and not self._https:
            # A plain request names the whole URL to the proxy, which asks the server itself.
            self._prefix = f"{parts.scheme}://{parts.netloc}{self._prefix}"
            self.headers = _credentials(self.proxy)

    def target(self, path: str) -> str:
        """The first line's address of a request."""
        return self._prefix + path

    def open(self) -> http.client.HTTPConnection:
        """A connection, not yet made."""
        host, port = self._host, self._port
        if self.proxy:
            host, port = str(self.proxy.hostname), self.proxy.port or 3128
        if self._context is None:
            return http.client.HTTPConnection(host, port)
        connection = http.client.HTTPSConnection(host, port, context=self._context)
        if self.proxy:
            connection.set_tunnel(self._host, self._port or 443, _credentials(self.proxy))
        return connection

    def __str__(self) -> str:
        return f"through the proxy {self.proxy.hostname}:{self.proxy.port or 3128}" if self.proxy else "directly"


def _proxy(server: SplitResult) -> Optional[SplitResult]:
    named = urllib.request.getproxies_environment()
    text = named.get(server.scheme) or named.get("all") or ""
    host = server.hostname or ""
    if not text or urllib.request.proxy_bypass(f"{host}:{server.port}" if server.port else host):
        return None
    proxy = urlsplit(text if "://" in text else "http://" + text)
    if proxy.scheme != "http" or not proxy.hostname:
        raise ValueError(f"not an http proxy: {text!r}")
    return proxy


def _credentials(proxy: SplitResult) -> Dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def trust(ca_file: str) -> None:
    """From now on TLS trusts the certificates of this file too, also in copies from and to storages."""
    if ca_file:
        os.environ["SSL_CERT_FILE"] = os.path.abspath(ca_file)
