"""Examples of answers, for the description of the API: made of the models themselves, so that they are true to them."""

from datetime import UTC, datetime
from typing import Any, Final

from starter.attention import Explained, StuckList
from starter.desk import LineAnswer, OrderAnswer, OrderList, OrderSummary
from starter.explain import meaning
from twinline.bulk import (
    BulkBlock,
    BulkChange,
    BulkCounts,
    BulkKind,
    BulkPage,
    BulkPlan,
    BulkView,
    ItemPage,
    ItemView,
    LineGlimpse,
    RowProblem,
)
from twinline.ledger.events import EventPage, EventView
from twinline.ledger.halves import HalfProgress
from twinline.ledger.queries import GrantView, LinePage, LineView
from twinline.ledger.stuck import LateHost, WaitingOrder
from twinline.messages import (
    CancelInfo,
    HalfReceipt,
    HalfState,
    MailKind,
    MailReceipt,
    MailState,
    Message,
    OrderKind,
    Protocol,
    Receipt,
    Refusal,
)

_AT: Final = datetime(2031, 5, 6, 12, 0, tzinfo=UTC)
_END: Final = datetime(2031, 6, 5, 12, 0, tzinfo=UTC)
_LINE_ID: Final = "5f0c9a1e2b3d4c5e"
_NAME: Final = "k7mq3xw9ab"
_HOSTS: Final[tuple[tuple[str, Protocol], ...]] = (("mc-eu1", "multics"), ("os-eu1", "oscam"))


def _json(model: Message) -> Any:
    return model.model_dump(mode="json")


def _receipt(*states: HalfState, mail: MailReceipt | None) -> Receipt:
    multics, oscam = states
    waits = oscam is HalfState.FAILING
    return Receipt(
        order="P-1002",
        kind=OrderKind.PURCHASE,
        line=_LINE_ID,
        username=_NAME,
        plan="paid",
        ends_at=_END,
        blocks=(),
        halves=(
            HalfReceipt(host="mc-eu1", protocol="multics", state=multics, revision=1, attempts=1),
            HalfReceipt(
                host="os-eu1",
                protocol="oscam",
                state=oscam,
                revision=0 if waits else 1,
                attempts=3 if waits else 1,
                last_error="HostUnreachable" if waits else None,
                next_attempt=_AT if waits else None,
            ),
        ),
        mail=mail,
        workflow_id="purchase/shop/P-1002",
    )


def _order(receipt: Receipt, *, done: bool) -> Any:
    kind = OrderKind.PURCHASE
    return _json(OrderAnswer(id="purchase~P-1002", order="P-1002", kind=kind, done=done, receipt=receipt))


_MAIL: Final = MailReceipt(
    kind=MailKind.CREDENTIALS, state=MailState.ACCEPTED, message_id="<9f2c1b7a@lines.example.net>"
)
_VIEW: Final = LineView(
    line_id=_LINE_ID,
    username=_NAME,
    plan="paid",
    state="present",
    ends_at=_END,
    pair="eu1",
    region="eu",
    revision=1,
    halves=tuple(
        HalfProgress(
            line_id=_LINE_ID,
            host=host,
            protocol=protocol,
            wanted=1,
            proven=1,
            state=HalfState.APPLIED,
            proven_state=HalfState.APPLIED,
            attempts=1,
            last_error=None,
            attention=None,
            next_attempt=None,
            proven_at=_AT,
            behind_since=None,
        )
        for host, protocol in _HOSTS
    ),
    blocks=(),
    grants=(
        GrantView(grant_id="91d3c0aa5b6e7f80", plan="paid", starts_at=_AT, ends_at=_END, ended_at=None, ending=None),
    ),
    created_at=_AT,
    closed_at=None,
)

ORDER_DONE: Final = _order(_receipt(HalfState.APPLIED, HalfState.APPLIED, mail=_MAIL), done=True)
ORDER_GOING_ON: Final = _order(_receipt(HalfState.APPLIED, HalfState.FAILING, mail=None), done=False)
ORDER_CANCELLED: Final = _json(
    OrderAnswer(
        id="cancel~P-1002~purchase",
        order="P-1002",
        kind=OrderKind.CANCEL,
        done=True,
        receipt=_receipt(HalfState.REMOVED, HalfState.REMOVED, mail=None).model_copy(
            update={
                "kind": OrderKind.CANCEL,
                "ends_at": _AT,
                "workflow_id": "cancel/shop/P-1002/purchase",
                "cancelled": CancelInfo(at=_AT, actor="shop", reason="Refunded."),
            }
        ),
    )
)
ORDER_LIST: Final = _json(
    OrderList(
        orders=(
            OrderSummary(
                id="purchase~P-1002",
                order="P-1002",
                kind=OrderKind.PURCHASE,
                caller="shop",
                line=_NAME,
                done=True,
                taken_at=_AT,
                settled_at=_AT,
                cancelled_at=None,
            ),
        ),
        cursor="MToyMDMxLTA1LTA2VDEyOjAwOjAwKzAwOjAwfjVmMGM",
    )
)
ATTENTION: Final = _json(
    StuckList(
        halves=(),
        hosts=(),
        others=(),
        late=(
            LateHost(
                host="os-eu1",
                protocol="oscam",
                down_since=_AT,
                reason="HostUnreachable",
                halves=1,
                since=_AT,
                next_attempt=_AT,
                orders=(
                    WaitingOrder(
                        order="P-1002", kind=OrderKind.PURCHASE, caller="shop", workflow_id="purchase/shop/P-1002"
                    ),
                ),
                terms=(),
            ),
        ),
        untaken=None,
        explained=(
            Explained(
                code="HostUnreachable",
                meaning=meaning("HostUnreachable").sentence,
                hint=meaning("HostUnreachable").hint,
            ),
        ),
    )
)
EVENT_PAGE: Final = _json(
    EventPage(
        events=(
            EventView(
                at=_AT,
                who="shop",
                what="line.opened",
                why="order/shop/P-1002",
                before=None,
                after={
                    "revision": 1,
                    "pair": "eu1",
                    "state": "present",
                    "ends_at": _END.isoformat(),
                    "plan": "paid",
                    "blocks": [],
                    "left": [],
                },
            ),
        ),
        cursor=None,
    )
)
LINE: Final = _json(LineAnswer(**dict(_VIEW)))
LINE_PAGE: Final = _json(LinePage(lines=(_VIEW,), cursor="MTprN21xM3h3OWFi"))


def _run(counts: BulkCounts, *, settled: bool) -> BulkView:
    return BulkView(
        run="leak-7",
        caller="shop",
        kind=BulkKind.BLOCK,
        job=BulkBlock(),
        state="over" if settled else "running",
        counts=counts,
        created_at=_AT,
        settled_at=_AT if settled else None,
        cancelled_at=None,
        cancelled_by=None,
        workflow_id="bulk/shop/leak-7",
    )


_GLIMPSE: Final = LineGlimpse(state="present", plan="paid", ends_at=_END, blocks=())
_RUN_DONE: Final = _run(BulkCounts(items=2, done=1, refused=1), settled=True)
BULK_DONE: Final = _json(_RUN_DONE)
BULK_GOING_ON: Final = _json(_run(BulkCounts(items=2, waiting=1, going=1), settled=False))
BULK_RUNS: Final = _json(BulkPage(runs=(_RUN_DONE,), cursor=None))
BULK_PLAN: Final = _json(
    BulkPlan(
        run="leak-7",
        kind=BulkKind.BLOCK,
        known=False,
        changes=(
            BulkChange(
                row=1,
                line=_NAME,
                before=_GLIMPSE,
                after=_GLIMPSE.model_copy(update={"state": "blocked", "blocks": ("abuse/leak-7",)}),
            ),
        ),
        problems=(
            RowProblem(row=2, type="LineClosed", message='line "p4sd8fkq2z" was closed for good', hint="Leave it out."),
        ),
    )
)
BULK_ITEMS: Final = _json(
    ItemPage(
        items=(
            ItemView(number=1, row=1, line=_NAME, state="done", order="block~leak-7~6f0d3c1a9b2e4d58"),
            ItemView(
                number=2,
                row=2,
                line="p4sd8fkq2z",
                state="refused",
                order=None,
                problem=Refusal(
                    type="LineClosed",
                    message='line "p4sd8fkq2z" was closed for good',
                    hint="Order a purchase with an address and a region instead.",
                    retryable=False,
                ),
            ),
        ),
        cursor=None,
    )
)
