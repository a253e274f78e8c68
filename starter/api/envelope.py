"""Around every request: whatever nobody foresaw becomes a problem too, and nothing of it gets out."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starter.api.problems import our_fault


class Envelope:
    """The outermost part of the app that is ours: uvicorn would log an exception's text, which may name customers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - the last place where an answer can be given
            answer = our_fault(error)
            if not started:
                await answer(scope, receive, send)
