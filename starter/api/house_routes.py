"""What needs no token: whether the house is well, and what its problems mean."""

from typing import Annotated, Final

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from starter.api.common import TheDesk
from starter.api.problems import NO_STORE, declared, page_of
from starter.desk import Readiness

router = APIRouter(tags=["house"])

_READY: Final = Readiness(ready=True, ledger="ok", temporal="ok", workers="ok")
_NOT_READY: Final = Readiness(ready=False, ledger="ok", temporal="does not answer", workers="ok")


@router.get(
    "/livez",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": "ok\n"}}}, **declared()},
)
async def livez() -> str:
    """Whether this process answers."""
    return "ok\n"


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={
        200: {"content": {"application/json": {"example": _READY.model_dump()}}},
        503: {
            "model": Readiness,
            "description": "Orders can't be taken now.",
            "content": {"application/json": {"example": _NOT_READY.model_dump()}},
        },
        **declared(),
    },
)
async def readyz(desk: TheDesk) -> Response:
    """Whether orders can be taken now, and what keeps them from that."""
    found = await desk.readiness()
    return JSONResponse(found.model_dump(), 200 if found.ready else 503, NO_STORE)


@router.get("/api", include_in_schema=False)
async def api() -> Response:
    """Leads to the description of the API."""
    return RedirectResponse("/api/openapi.json")


@router.get(
    "/api/errors/{name}",
    response_class=PlainTextResponse,
    responses={
        200: {"content": {"text/plain": {"example": page_of("OrderConflict")}}},
        **declared("NoSuchPath"),
    },
)
async def explain(name: Annotated[str, Path(examples=["OrderConflict"])]) -> str:
    """What a problem's type means, when it comes, and what to do then."""
    return page_of(name)
