"""Guard: what holds for every request and every answer, whatever route it takes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin",
           "Cross-Origin-Opener-Policy": "same-origin", "Permissions-Policy": "camera=(), geolocation=()"}
ENCODED = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Guard:
    """An application with safe headers on every answer and, where `hosts` are given, none for a request that calls the
    machine by another name (status 403). The headers allow a page its own files alone, and other sites nothing."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None = None):
        self.app = app
        self.hosts = None if hosts is None else {host.lower().encode() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *ENCODED]}
            await send(message)
        named = [value for name, value in scope["headers"] if name == b"host"]
        if self.hosts is not None and (len(named) != 1 or _without_port(named[0]) not in self.hosts):
            names = " and ".join(sorted(host.decode() for host in self.hosts))
            said = f"this service answers to {names} alone; start it with --host to serve under another name"
            await refuse(send, 403, said)
            return
        await self.app(scope, receive, send_guarded)


def refusal(message: str, close: bool = False) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """(headers, body) of an answer that says why there is no other, and that the connection ends where it is to."""
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
               (b"cache-control", b"no-store"), *ENCODED]
    return [*headers, (b"connection", b"close")] if close else headers, body


async def refuse(send: Send, status: int, message: str, close: bool = False) -> None:
    """Answer with a refusal."""
    headers, body = refusal(message, close)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _without_port(host: bytes) -> bytes:
    """b"[::1]:8000" -> b"[::1]", b"localhost:8000" -> b"localhost"."""
    name, colon, port = host.lower().rpartition(b":")
    return name if colon and (not port or port.isdigit()) and not (b":" in name and not name.endswith(b"]")) else \
        host.lower()
