"""The routes of the service: addresses to answers, in a pool of threads, and every error as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .asked import MAX_BODY, Refused, count_of, items_of, json_of, query_of, ranked_of, ratings_of, text_of
from .documentation import documentation
from .openapi import document
from .served import Served

BODY_SECONDS = 10           # for a body to arrive
DRAINED = 1 << 20           # bytes of a body too large that are read, so that its sender gets to see the answer
PAGE = {"": ("index.html", "text/html"), "page.css": ("page.css", "text/css"),
        "icon.svg": ("icon.svg", "image/svg+xml"),
        **{name: (name, "text/javascript") for name in ("page.js", "rating.js", "map.js")}}
MAP_ITEMS = 1500            # dots of the map


def application(served: Served, threads: int) -> Starlette:
    """The routes over a model, answered by `threads` threads."""
    pool = ThreadPoolExecutor(threads, "collab-serve")

    async def in_pool(function: Callable[[], Any]) -> Response:
        return answer(await asyncio.get_running_loop().run_in_executor(pool, function))

    async def recommend(request: Request) -> Response:
        if request.method == "POST":
            body = await body_of(request)
            return await in_pool(lambda: for_visitor(served, body))
        query = query_of(request.query_params.multi_items(), once=("user", "n", "interval", "risk"),
                         several=("without",))
        user, n, without = text_of(query, "user"), count_of(query.get("n")), items_of(query["without"], "without")
        ranked = ranked_of(query.get("risk"), query.get("interval"))
        return await in_pool(lambda: {"items": served.recommend_known(user, n, without, ranked)})

    async def similar(request: Request) -> Response:
        query = query_of(request.query_params.multi_items(), once=("item", "n"))
        item, n = text_of(query, "item"), count_of(query.get("n"))
        return await in_pool(lambda: served.similar(item, n))

    async def search(request: Request) -> Response:
        query = query_of(request.query_params.multi_items(), once=("q", "n"))
        text, n = text_of(query, "q"), count_of(query.get("n"))
        return await in_pool(lambda: {"items": served.found(text, n)})

    async def items(request: Request) -> Response:
        n = count_of(query_of(request.query_params.multi_items(), once=("n",)).get("n"))
        return answer({"items": served.popular(n)})

    async def health(request: Request) -> Response:
        return about

    async def at(request: Request) -> Response:
        return pages[request.scope["path"].rpartition("/")[2]]

    async def docs(request: Request) -> Response:
        return fixed(documentation(described, str(request.base_url)).encode(), "text/html")

    about, described = answer(served.about()), document(served)
    pages = {name: fixed(files(__package__).joinpath("page", file).read_bytes(), kind)
             for name, (file, kind) in PAGE.items()}
    pages["openapi.json"] = fixed(to_json(described), "application/json")
    pages["map"] = fixed(to_json({"items": served.popular(MAP_ITEMS) if served.places is not None else []}),
                         "application/json")
    routes = [Route("/recommend", recommend, methods=["GET", "POST"]), Route("/similar", similar),
              Route("/search", search), Route("/items", items), Route("/health", health),
              Route("/docs", docs), *(Route(f"/{name}", at) for name in pages)]
    app = Starlette(routes=routes, exception_handlers={Refused: refused, ValueError: unusable, HTTPException: http,
                                                       ClientDisconnect: gone, Exception: broken})
    app.router.redirect_slashes = False         # to an address made of the Host header
    return app


def for_visitor(served: Served, body: bytes) -> dict[str, Any]:
    """The answer to the body of a visitor."""
    asked = json_of(body)
    ratings, n = ratings_of(asked, served.scale is None), count_of(asked.get("n"))
    ranked = ranked_of(asked.get("risk"), asked.get("interval"))
    return {"items": served.recommend_new(ratings, n, items_of(asked.get("without"), "without"), ranked)}


async def body_of(request: Request) -> bytes:
    """The body of a request. Raises Refused for one that is not JSON by its name (415), too large (413) or too slow
    (408)."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "send JSON, with the header Content-Type: application/json")
    parts, size = [], 0
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:18]) > DRAINED:
        raise too_large()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > DRAINED:
                    break
                if size <= MAX_BODY:
                    parts.append(part)
    except TimeoutError:
        raise Refused(408, f"the body has not arrived within {BODY_SECONDS} seconds") from None
    if size > MAX_BODY:
        raise too_large()
    return b"".join(parts)


def too_large() -> Refused:
    return Refused(413, f"the body is too large; at most {MAX_BODY:,} bytes are read")


def to_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON that no cache keeps."""
    return Response(to_json(value), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def fixed(content: bytes, kind: str) -> Response:
    """A file of the page, which browsers ask for again when they are opened."""
    return Response(content, 200, {"Cache-Control": "no-cache"}, kind)


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return answer({"error": error.message}, error.status)


async def unusable(request: Request, error: Exception) -> Response:
    return answer({"error": str(error)}, 400)


async def http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "there is nothing here; see docs", 405: f"{request.method} is not possible here; see docs"}
    return answer({"error": said.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def gone(request: Request, error: Exception) -> Response:
    return answer({"error": "the request was broken off"}, 400)         # the connection is closed: no client reads it


async def broken(request: Request, error: Exception) -> Response:
    return answer({"error": "something went wrong here; the log of the service has more"}, 500)
