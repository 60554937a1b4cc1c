"""The answers over HTTP: parameters in, JSON out, errors as {"error": sentence}."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import PurePath

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.errors import AtlasError, AtlasLocked, BadInput, NotFound
from atlas.rows import to_json
from atlas.web.answers import GETS, POSTS, Answer
from atlas.web.given import Given
from atlas.web.guard import Guard, failure
from atlas.web.viewed import Connection, Stopped, Viewed

SECONDS = 300.0
"""The longest that an answer may take: building the index of a large atlas does, once."""

_MOST_BODY = 1 << 18
_GZIP_FROM = 1 << 15
_AT_ONCE = 16
_CLOSED = 499
"""Status of an answer that nobody waits for, as nginx counts it."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(viewed: Viewed, port: int) -> Starlette:
    """The page and its answers, for the server at `port` of this machine's loopback address."""
    limiter = anyio.CapacityLimiter(_AT_ONCE)
    routes = [Route("/", _page, methods=["GET"]), Route("/static/{name}", _static, methods=["GET"])]
    for path, answer in GETS.items():
        routes.append(Route(path, _get(viewed, answer, limiter), methods=["GET"]))
    for path, answer in POSTS.items():
        routes.append(Route(path, _post(viewed, answer, limiter), methods=["POST"]))
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, port=port),
            Middleware(GZipMiddleware, minimum_size=_GZIP_FROM, compresslevel=3),
        ],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    return app


# -- the page -----------------------------------------------------------------------------------


async def _page(request: Request) -> Response:
    return _file("index.html")


async def _static(request: Request) -> Response:
    return _file(request.path_params["name"])


def _file(name: str) -> Response:
    """A file of the page. Its name is compared with those there are, and never made a path."""
    for file in resources.files("atlas.web").joinpath("static").iterdir():
        ending = PurePath(file.name).suffix
        if file.name == name and ending in _TYPES:
            headers = {"Cache-Control": "no-cache"}
            return Response(file.read_bytes(), headers=headers, media_type=_TYPES[ending])
    return failure(404, f"The page has no file {name[:100]!r}.")


# -- answers ------------------------------------------------------------------------------------


def _get(viewed: Viewed, answer: Answer, limiter: anyio.CapacityLimiter) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await _answered(viewed, answer, Given(request.query_params), request, limiter)

    return endpoint


def _post(viewed: Viewed, answer: Answer, limiter: anyio.CapacityLimiter) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        # Forms of other sites can send text/plain without asking, but not this.
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return failure(415, "Send JSON, with the header Content-Type: application/json.")
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > _MOST_BODY:
                    return failure(413, f"The request has more than {_MOST_BODY >> 10} KiB.")
        except ClientDisconnect:
            return Response(status_code=_CLOSED)
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            return failure(400, "The request's body is no JSON.")
        if not isinstance(values, dict):
            return failure(400, "The request's body is no JSON object.")
        return await _answered(viewed, answer, Given(values), request, limiter)

    return endpoint


async def _answered(
    viewed: Viewed,
    answer: Answer,
    given: Given,
    request: Request,
    limiter: anyio.CapacityLimiter,
) -> Response:
    """Answer in another thread; what runs there is stopped when the client goes away."""
    response = Response(status_code=_CLOSED)
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        response = await _response(viewed, answer, given, limiter)
        group.cancel_scope.cancel()
    return response


async def _response(
    viewed: Viewed, answer: Answer, given: Given, limiter: anyio.CapacityLimiter
) -> Response:
    def work(connection: Connection) -> str:
        return to_json(answer(viewed, connection, given))

    connection = viewed.connect()
    try:
        with anyio.fail_after(SECONDS):
            text = await anyio.to_thread.run_sync(
                connection.answer, work, abandon_on_cancel=True, limiter=limiter
            )
    except Exception as error:
        return _told(error)
    finally:
        connection.stop()
    return Response(text, media_type="application/json; charset=utf-8")


def _told(error: Exception) -> Response:
    if isinstance(error, NotFound):
        return failure(404, str(error))
    if isinstance(error, AtlasLocked):
        return failure(503, str(error))
    if isinstance(error, AtlasError):
        return failure(400 if isinstance(error, BadInput) else 422, str(error))
    if isinstance(error, TimeoutError):
        return failure(504, f"This took longer than {SECONDS:.0f} seconds; ask for less.")
    if isinstance(error, MemoryError):
        return failure(507, "Out of memory; ask for less.")
    if isinstance(error, Stopped):
        return failure(503, "The server is being stopped.")
    # The page learns nothing of a fault of this program; its place is told to the terminal.
    traceback.print_exception(error, file=sys.stderr)
    return failure(500, "This is a fault of the program; the terminal says where.")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return failure(404, f"There is nothing at {request.url.path[:100]}.")
    if error.status_code == 405:
        headers = dict(error.headers or {})
        return failure(405, f"{request.url.path} does not take {request.method}.", headers)
    return failure(error.status_code, f"{error.detail}.")
