"""A socket, and the server on it that stops when it is asked to and finishes what it has begun."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .guard import refusal, refuse
from .service import REMEDY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

STOPPING = 10               # seconds that running requests have to finish
HEAD_SECONDS = 10           # that a connection has for the head of its first request
CONNECTIONS = 1024          # at a time; more get status 503
MAX_HEAD = 16 << 10         # bytes of a request before its body
NO_HTTP = f"this is not a request in HTTP/1.1, or its head has more than {MAX_HEAD >> 10} KiB"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at a host and a port, 0 for a free one. Raises OSError where it cannot."""
    try:
        (family, *_), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        named = error.errno is not None and error.errno > 0         # those of names are below
        why = os.strerror(error.errno) if named and error.errno else error.strerror
        raise OSError(f"cannot listen at {host}, port {port}: {why}; choose another with --port, or --port 0 for a "
                      "free one") from None


def hosts_of(host: str) -> list[str] | None:
    """The names that a request may call a service at `host` by: those of the machine itself where it only listens
    there, otherwise any (None)."""
    if host == "localhost":
        return [*LOOPBACK]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if not address.is_loopback:
        return None
    return [*dict.fromkeys([*LOOPBACK, f"[{host}]" if address.version == 6 else host])]


def url_of(sock: socket.socket, host: str) -> str:
    """The address of the service in a browser."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{sock.getsockname()[1]}/"


def prompt() -> type[asyncio.Protocol]:
    """uvicorn's HTTP, which ends connections whose first request has no whole head after HEAD_SECONDS: they would count
    as connections for as long as their clients like. What it answers by itself, without the application, is JSON with
    the headers of every other answer: 400 to what is not HTTP, 503 to more than CONNECTIONS at a time (uvicorn's own
    answers to these have no headers that a configuration could add without doubling those of the application)."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Prompt(H11Protocol):
        def handle_events(self) -> None:
            self.app = crowded if len(self.connections) > CONNECTIONS else self.config.loaded_app
            super().handle_events()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):        # not in the middle of an answer
                headers, body = refusal(NO_HTTP, close=True)
                for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event))
            if self.cycle is not None:
                self.cycle.disconnected = True      # what the application may still send has nowhere to go
            self.transport.close()

        def connection_made(self, transport: asyncio.Transport) -> None:    # type: ignore[override]  # uvicorn's own narrows
            super().connection_made(transport)
            self.loop.call_later(HEAD_SECONDS, self._head_is_due)

        def _head_is_due(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()
    return Prompt


async def crowded(scope: Scope, receive: Receive, send: Send) -> None:
    """The application for more than CONNECTIONS: status 503."""
    await refuse(send, 503, f"more than {CONNECTIONS:,} connections are open; ask again in a moment", close=True)


def run(app: ASGIApp, sock: socket.socket, *, log: bool = False, ends: bool = False) -> None:
    """Serve `app` until SIGINT (Ctrl-C) or SIGTERM: no further connections are taken then, running requests finish (for
    10 seconds at most; a second Ctrl-C does not wait), and the function returns. With `log`, requests are logged on
    standard error. Where the program `ends` then, further such signals are ignored: it has stopped already. Raises
    ImportError without uvicorn."""
    try:
        import uvicorn
    except ImportError:
        raise ImportError(REMEDY) from None

    class Server(uvicorn.Server):
        """uvicorn's server; it does not raise the signal again once it has stopped, since that would be an error."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            if threading.current_thread() is not threading.main_thread():       # which alone gets signals
                yield
                return
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, signal.SIG_IGN if ends else handler)
    logger = logging.getLogger("uvicorn.access")
    if log:
        logger.addHandler(handler := logging.StreamHandler(sys.stderr))
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.propagate = False
    config = uvicorn.Config(app, log_config=None, log_level="info" if log else "error", access_log=log, http=prompt(),
                            ws="none", loop="asyncio", lifespan="off", server_header=False, proxy_headers=False,
                            timeout_graceful_shutdown=STOPPING, h11_max_incomplete_event_size=MAX_HEAD)
    Server(config).run(sockets=[sock])
