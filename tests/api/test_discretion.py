"""Two resellers and those who run the house: nobody reads words that were not written for him."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from starter.discretion import PARTS_OF_THE_HOUSE, event_for, receipt_for
from tests.api.conftest import Shop
from twinline.ledger.events import EventView
from twinline.messages import BlockInfo, BlockOwner, CancelInfo, OrderKind, Receipt

WORDS = ("Suspected", "CASE-OF-JOHN", "abuse-jane", "boss-carl", "mc-is-sold")


async def test_a_reseller_reads_its_own_words_and_of_others_only_what_kind_of_owner_it_was(shop: Shop) -> None:
    eve, fay = [await shop.token(name, reseller=True) for name in ("eve", "fay")]
    abuse, boss = await shop.token("abuse-jane"), await shop.token("boss-carl")
    opened = await eve.post("purchases", order="E-1", email="of-eve@example.com", region="eu", days=30)
    line = opened.json["receipt"]["username"]
    his = await fay.post("purchases", order="F-1", email="of-fay@example.com", region="eu", days=30)
    await eve.post("blocks", case="E-2", line=line, owner="reseller", reason="Not paid to Eve.")
    await abuse.post("blocks", case="CASE-OF-JOHN", line=line, reason="Suspected of sharing.")
    blocked = await eve.post("renewals", order="E-3", line=line, days=1)
    plan = await eve.post("bulk/extensions/dry-run", run="E-run", region="eu", days=1)
    await abuse.post("unblocks", case="CASE-OF-JOHN", line=line)
    await boss.post("renewals", order="mc-is-sold", line=line, days=1)
    # Somebody takes her order back at a terminal.
    cancelled = await shop.house.twinline.cancel(
        "E-3", kind=OrderKind.RENEWAL, reason="Suspected of reselling.", caller="eve", actor="boss-carl"
    )
    assert cancelled.done

    events = (await eve.get(f"/v1/lines/{line}/events?limit=1000")).json["events"]
    told = [(each["who"], each["what"], each["why"]) for each in events if each["what"].startswith("block")]
    assert told[:2] == [("abuse", "block.lifted", "abuse"), ("abuse", "block.set", "abuse")]
    assert (told[2][:2], told[2][2].startswith("block/eve/E-2/")) == (("eve", "block.set"), True)
    (lifted,) = [each for each in events if each["what"] == "block.lifted"]
    assert lifted["before"]["blocks"] == ["reseller/E-2", "abuse"]
    assert ("operator", "operator") in {(each["who"], each["why"]) for each in events}
    assert [(each["case"], each["reason"]) for each in blocked.json["receipt"]["blocks"]] == [
        ("E-2", "Not paid to Eve."),
        ("abuse", "abuse"),
    ]
    for seen in ("before", "after"):
        assert [change[seen]["blocks"] for change in plan.json["changes"]] == [["reseller/E-2", "abuse"]]
    shown = (await eve.get("/v1/orders/E-3")).json["receipt"]["cancelled"]
    assert (shown["actor"], shown["reason"]) == ("operator", "operator")
    paths = (
        *(f"/v1/lines/{line}", f"/v1/lines/{line}/events?limit=1000", "/v1/lines?limit=1000", "/v1/orders?limit=1000"),
        *(f"/v1/orders/{each}" for each in ("E-1", "E-3", "cancel~E-3~renewal")),
    )
    for path in paths:
        said = (await eve.get(path)).body.decode()
        assert [word for word in WORDS if word in said] == [], path
    # The other one learns nothing of all that, and the house everything.
    for path in (
        "/v1/lines?limit=1000",
        "/v1/orders?limit=1000",
        f"/v1/lines/{his.json['receipt']['username']}/events",
    ):
        said = (await fay.get(path)).body.decode()
        assert [word for word in (*WORDS, "Eve", "E-1", line) if word in said] == [], path
    whole = (await boss.get(f"/v1/lines/{line}/events?limit=1000")).body.decode()
    assert [word for word in WORDS[1:] if word not in whole] == []


WHO = st.sampled_from(["eve", "fay", "boss", *sorted(PARTS_OF_THE_HOUSE)])
OWNED = st.tuples(st.sampled_from(BlockOwner), st.sampled_from(["SECRET-1", "SECRET-2"]))


@given(
    WHO, st.sampled_from(["block.set", "block.lifted", "half.abandoned", "order.settled"]), st.lists(OWNED), st.data()
)
def test_no_event_tells_a_reseller_words_of_others(who: str, what: str, blocks: list[Any], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(blocks), unique=True)) if blocks else []
    seen = [f"{owner}/{case}" for owner, case in blocks]
    after = [f"{owner}/{case}" for owner, case in kept]
    event = EventView(
        at=datetime(2026, 11, 26, tzinfo=UTC),
        who=who,
        what=what,
        why="free words of SECRET-3" if who not in PARTS_OF_THE_HOUSE else "reconcile/mc-eu1",
        before={"blocks": list(seen), "revision": 1},
        after={"blocks": list(after), "revision": 2},
    )
    told = event_for("eve", event)
    own = {f"reseller/{case}" for owner, case in blocks if owner is BlockOwner.RESELLER}
    for side, whole in ((told.before, seen), (told.after, after)):
        assert side is not None
        assert side["blocks"] == [each if each in own else each.partition("/")[0] for each in whole]
    if who == "eve" or who in PARTS_OF_THE_HOUSE:
        assert (told.who, told.why) == (event.who, event.why)
    else:
        assert told.who == told.why
        assert told.who in set(BlockOwner)
    assert (told.at, told.what) == (event.at, event.what)


@given(st.lists(OWNED), st.sampled_from([None, "eve", "boss"]))
def test_no_receipt_tells_a_reseller_words_of_others(blocks: list[Any], actor: str | None) -> None:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    receipt = Receipt(
        order="E-1",
        kind=OrderKind.RENEWAL,
        line="0123456789abcdef",
        username="k7mq3xw9ab",
        plan="paid",
        ends_at=at,
        blocks=tuple(BlockInfo(owner=owner, case=case, reason=f"words on {case}", since=at) for owner, case in blocks),
        halves=(),
        mail=None,
        workflow_id="renewal/eve/E-1",
        cancelled=None if actor is None else CancelInfo(at=at, actor=actor, reason="words on SECRET-3"),
    )
    told = receipt_for("eve", receipt)
    assert [block.owner for block in told.blocks] == [block.owner for block in receipt.blocks]
    for before, after in zip(receipt.blocks, told.blocks, strict=True):
        assert (after == before) == (before.owner is BlockOwner.RESELLER)
        assert after == before or "SECRET" not in after.case + after.reason
    assert (told.cancelled == receipt.cancelled) == (actor in (None, "eve"))
    assert told.cancelled is None or actor == "eve" or "SECRET" not in told.cancelled.reason
