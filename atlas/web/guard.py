"""Who may ask: only pages that this server gave out itself, on this machine, by its own name.

A page of another site cannot read what 127.0.0.1 answers, but it can send requests there, and by
DNS rebinding it can make the browser take 127.0.0.1 for its own host. So every request must name
this server in `Host`, and where the browser tells who sent it (`Origin`, `Sec-Fetch-Site`), that
must be this server too. One thing is left to others: a link to the page, which holds no data.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atlas.rows import to_json

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_NAMES = ("127.0.0.1", "localhost", "[::1]")


def failure(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that is an error: {"error": sentence}."""
    return Response(
        to_json({"error": sentence}), status, headers, media_type="application/json; charset=utf-8"
    )


class Guard:
    """Refuses what does not come from the page itself, and adds the headers that keep it so."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = frozenset(f"{name}:{port}" for name in _NAMES)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return failure(421, "This server answers only to the address that it was started at.")
        if not _all_in(headers.getlist("origin"), self._origins):
            return failure(403, "Requests from pages of other origins are refused.")
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") and not _is_link(scope, headers):
            return failure(403, "Requests from other sites are refused.")
        return None


def _all_in(values: Iterable[str], allowed: frozenset[str]) -> bool:
    return all(value in allowed for value in values)


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether this is a link that somebody followed to the page itself."""
    return (
        scope["method"] == "GET"
        and scope["path"] == "/"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
