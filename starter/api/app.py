"""The HTTP API: its routes in one app, and their description."""

from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from starter.api import bulk_routes, house_routes, line_routes, order_routes
from starter.api.envelope import Envelope
from starter.api.problems import Problem, install
from starter.desk import Desk

_ABOUT: Final = """Orders for lines, and how they stand.

Every order carries the caller's own id, in the body or as `Idempotency-Key`: the same id with the same body is the same
order, however often it is sent, and with another body it is refused. `202` says that the order is safe and goes on by
itself; ask for it at `Location`, or send `Prefer: wait=30` to wait for its end. Who sends no `Prefer` is answered once
the order is taken or refused, and after half a second at the latest."""

ROUTERS: Final = (order_routes.router, bulk_routes.router, line_routes.router, house_routes.router)


def create_app(desk: Desk) -> FastAPI:
    """The API in front of a desk."""
    app = FastAPI(
        title="twinline",
        version=version("twinline"),
        description=_ABOUT,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    app.add_middleware(Envelope)
    install(app)
    for router in ROUTERS:
        app.include_router(router)
    # Described once and for all, at the start; FastAPI keeps it.
    description = app.openapi()
    _complete(description)
    for router in ROUTERS:
        _restore_nulls(description, router)
    return app


def _restore_nulls(description: dict[str, Any], router: APIRouter) -> None:
    """Put the examples of answers back as they are: FastAPI drops whatever is null in them."""
    for route in router.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            described = description["paths"][route.path][method.lower()]["responses"]
            for status, answer in route.responses.items():
                for media_type, media in answer.get("content", {}).items():
                    if "example" in media:
                        described[str(status)]["content"][media_type]["example"] = media["example"]


def _complete(description: dict[str, Any]) -> None:
    """Add what problems look like; FastAPI knows models of answers of its own media type only."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components: dict[str, Any] = description["components"]["schemas"]
    components.update(schema.pop("$defs"))
    components["Problem"] = schema
    # FastAPI's own, which no route answers with.
    for path in description["paths"].values():
        for operation in path.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
