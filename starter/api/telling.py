"""Tells in the log how each request ended, under an id that its answer carries too."""

import logging
import re
import secrets
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinline import metrics
from twinline.logs import Fact, about

log = logging.getLogger(__name__)

HEADER: Final = b"x-request-id"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A stranger may send any word, and each would be counted for ever."""
_ID: Final = re.compile(rb"[A-Za-z0-9-]{8,64}")


class Telling:
    """Stands around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; of its address only the route is told, because the rest may name a line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given(scope) or secrets.token_hex(8)
        status, started = 500, time.monotonic()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id.encode())]
            await send(message)

        with about(request_id=request_id):
            try:
                await self._app(scope, receive, answer)
            finally:
                took, route = time.monotonic() - started, route_of(scope)
                method = scope["method"] if scope["method"] in _METHODS else "other"
                metrics.REQUESTS.labels(method, route, str(status)).inc()
                metrics.REQUEST_SECONDS.labels(route).observe(took)
                facts: dict[str, Fact] = {"method": method, "route": route, "status": status}
                log.info("a request was answered", extra={**facts, "seconds": round(took, 4)})


def route_of(scope: Scope) -> str:
    """The route that took a request, such as /v1/lines/{username}; `none` if there was none."""
    return getattr(scope.get("route"), "path", "none")


def _given(scope: Scope) -> str | None:
    """The id that a proxy in front of us gave, if it is one that can stand in a log."""
    for name, value in scope["headers"]:
        if name == HEADER and _ID.fullmatch(value):
            return value.decode()
    return None
