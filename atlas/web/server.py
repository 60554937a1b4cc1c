"""The process that `atlas view` runs: one socket on the loopback address, and the app behind it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing, suppress

import uvicorn

from atlas.errors import BadInput
from atlas.store import Atlas
from atlas.web.app import make_app
from atlas.web.viewed import Viewed

HOST = "127.0.0.1"
PORT = 8765
"""Where it is looked for first."""

_SECONDS_TO_END = 2


class _Server(uvicorn.Server):
    """Calls back when it answers, and when it is about to end."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], object], ending: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)


def serve(atlas: Atlas, port: int | None, ready: Callable[[str], object]) -> None:
    """Serve until Ctrl-C.

    port: None for the usual one, or any that is free if it is taken.
    ready: is told the address as soon as it answers.

    BadInput if the port that was asked for is taken.
    """
    with closing(_bound(port)) as bound:
        taken = bound.getsockname()[1]
        viewed = Viewed(atlas)
        config = uvicorn.Config(
            make_app(viewed, taken),
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
        server = _Server(config, lambda: ready(f"http://{HOST}:{taken}/"), viewed.stop)
        with suppress(KeyboardInterrupt):  # uvicorn passes the signal on when it has ended
            server.run(sockets=[bound])


def _bound(port: int | None) -> socket.socket:
    """A socket on the loopback address."""
    for wanted in (PORT, 0) if port is None else (port,):
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((HOST, wanted))
        except OSError as error:
            bound.close()
            if wanted == 0 or port is not None:
                raise BadInput(
                    f"Port {wanted} cannot be used ({error.strerror}); leave out --port for a free "
                    "one."
                ) from error
        else:
            return bound
    raise AssertionError("the last port to try is any free one")
