"""Lines over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from starter.api.answers import EVENT_PAGE, LINE, LINE_PAGE
from starter.api.common import OF_TOKENS, TheDesk, Who
from starter.api.cursors import PageQuery, closed
from starter.api.problems import declared
from starter.desk import LineAnswer
from twinline.ledger.events import EventPage
from twinline.ledger.queries import LineFilter, LinePage
from twinline.ledger.rules import LineState
from twinline.messages import PairName, RegionName

router = APIRouter(tags=["lines"])

LineName = Annotated[str, Path(examples=["k7mq3xw9ab"], description="The line's username.")]


class LinesQuery(PageQuery):
    """Which lines; what is left out does not matter."""

    region: RegionName | None = Field(default=None, examples=["eu"])
    pair: PairName | None = None
    state: LineState | None = None
    behind: bool | None = Field(default=None, description="Whether a half has yet to reach the line's revision.")


@router.get(
    "/v1/lines",
    responses={
        200: {"content": {"application/json": {"example": LINE_PAGE}}},
        **declared(*OF_TOKENS, "InvalidOrder"),
    },
)
async def list_lines(query: Annotated[LinesQuery, Query()], desk: TheDesk, who: Who) -> LinePage:
    """Lines by name; `cursor` leads to the next page and is null on the last."""
    wanted = LineFilter(region=query.region, pair=query.pair, state=query.state, behind=query.behind)
    page = await desk.lines(wanted, who, cursor=query.position, limit=query.limit)
    return page.model_copy(update={"cursor": closed(page.cursor)})


@router.get(
    "/v1/lines/{username}",
    responses={
        200: {"content": {"application/json": {"example": LINE}}},
        **declared(*OF_TOKENS, "UnknownLine", "LineErased"),
    },
)
async def show_line(username: LineName, desk: TheDesk, who: Who) -> LineAnswer:
    """One line; its password only for a token with `credentials:read`."""
    return await desk.line(username, who)


@router.get(
    "/v1/lines/{username}/events",
    responses={
        200: {"content": {"application/json": {"example": EVENT_PAGE}}},
        **declared(*OF_TOKENS, "UnknownLine", "LineErased", "InvalidOrder"),
    },
)
async def list_events(username: LineName, query: Annotated[PageQuery, Query()], desk: TheDesk, who: Who) -> EventPage:
    """What happened to a line, the newest first: by whom and why, and how the line or a half was before and after."""
    page = await desk.events(username, who, cursor=query.position, limit=query.limit)
    return page.model_copy(update={"cursor": closed(page.cursor)})
