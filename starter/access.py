"""Who may do and see what, by the scopes of a token and by whose lines it is bound to."""

from collections.abc import Mapping
from typing import Final

from starter.order_ids import OrderId
from twinline.bulk import BlockItem
from twinline.errors import LineErased, ScopeMissing, UnknownLine
from twinline.ledger.lines import line_by_username
from twinline.ledger.queries import is_opened_by
from twinline.ledger.tokens import TokenView
from twinline.ledger.tx import ReadTx
from twinline.messages import BlockOrder, BlockOwner, Order, OrderKind, UnblockOrder
from twinline.tokens import Scope, allows

SCOPES: Final[Mapping[OrderKind, Scope]] = {
    OrderKind.TRIAL: Scope.TRIALS_CREATE,
    OrderKind.PURCHASE: Scope.PURCHASES_CREATE,
    OrderKind.RENEWAL: Scope.RENEWALS_CREATE,
    OrderKind.BLOCK: Scope.BLOCKS_WRITE,
    OrderKind.UNBLOCK: Scope.BLOCKS_WRITE,
    OrderKind.PASSWORD: Scope.ADMIN,
    OrderKind.MOVE: Scope.ADMIN,
    OrderKind.CLOSE: Scope.ADMIN,
    OrderKind.CANCEL: Scope.ADMIN,
    OrderKind.EXTENSION: Scope.BULK,
    OrderKind.IMPORT: Scope.BULK,
}
"""What it takes to place an order of a kind; to take one back takes what placing it took."""


def require(who: TokenView, scope: Scope) -> None:
    """Raises ScopeMissing."""
    if not allows(who.scopes, scope):
        raise ScopeMissing(f"this token does not allow {scope}", hint="Ask the operator for a token that does.")


def require_look(who: TokenView, name: OrderId) -> None:
    """Who may place an order, or take it back, may see what became of it; raises ScopeMissing."""
    if not allows(who.scopes, SCOPES[name.of_kind or OrderKind.CANCEL]):
        require(who, Scope.LINES_READ)


def is_untold(who: TokenView) -> bool:
    """Whether this caller must not learn what became of a trial: it would tell him who has an account."""
    return not allows(who.scopes, Scope.LINES_READ)


def runs_the_house(who: TokenView) -> bool:
    """Whether this caller may see what is everybody's: no reseller, whatever else its token allows."""
    return allows(who.scopes, Scope.ADMIN) and not who.reseller


def require_whole_house(who: TokenView) -> None:
    """Raises ScopeMissing."""
    require(who, Scope.ADMIN)
    if who.reseller:
        raise ScopeMissing("this token is bound to its own lines", hint="Ask the operator.")


def whose_orders(who: TokenView, caller: str | None) -> str | None:
    """Whose orders are meant; None for those of all callers. Raises ScopeMissing for somebody else's."""
    if runs_the_house(who):
        return caller
    if caller not in (None, who.caller):
        raise ScopeMissing("this token sees orders of its own caller only", hint="Leave caller out.")
    return who.caller


def refuse_others_blocks(who: TokenView, order: Order | BlockItem) -> None:
    """A reseller sets and lifts its own blocks: it must not lift one of the abuse desk. Raises ScopeMissing."""
    if (
        who.reseller
        and isinstance(order, BlockOrder | UnblockOrder | BlockItem)
        and order.owner is not BlockOwner.RESELLER
    ):
        raise ScopeMissing(
            "this token sets and lifts blocks of the owner reseller only", hint='Send "owner": "reseller".'
        )


async def require_own_line(tx: ReadTx, username: str, who: TokenView) -> None:
    """Raises UnknownLine for a line that a reseller did not open, in the words for one that there is not."""
    if not who.reseller:
        return
    try:
        line_id = (await line_by_username(tx, username)).line.id
    except LineErased as erased:
        line_id = erased.line_id
    except UnknownLine:
        line_id = ""
    if not await is_opened_by(tx, line_id, who.caller):
        raise unknown_line()


def may_be_about_no_line(name: OrderId) -> bool:
    """Whether it may be about no line yet: of others a reseller is told only once the ledger knows whose line it is."""
    return name.of_kind in (OrderKind.TRIAL, OrderKind.PURCHASE)


def unknown_line() -> UnknownLine:
    """In the same words whatever the reason."""
    return UnknownLine("there is no such line", hint="Check the spelling; a list of lines shows those that there are.")
