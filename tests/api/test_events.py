"""What happened to a line, as the ledger tells it."""

from tests.api.conftest import Api, Shop
from twinline.tokens import Scope


async def test_the_events_of_a_line_tell_who_did_what_and_why(shop: Shop, api: Api) -> None:
    bought = await api.post("purchases", order="EV-1", email="events@example.com", region="eu", days=30)
    line = bought.json["receipt"]["username"]
    await api.post("blocks", case="EV-2", line=line, reason="Shared with Jane.")
    desk = await shop.token("abuse-desk")
    await desk.post("unblocks", case="EV-2", line=line)
    reader = await shop.token("reader", frozenset({Scope.LINES_READ}))
    page = (await reader.get(f"/v1/lines/{line}/events")).json
    assert page["cursor"] is None
    told = [(event["who"], event["what"]) for event in reversed(page["events"])]
    assert [each for each in told if each[1] != "order.settled"] == [
        ("shop", "line.opened"),
        ("shop", "block.set"),
        ("abuse-desk", "block.lifted"),
    ]
    blocked = next(event for event in page["events"] if event["what"] == "block.set")
    assert (blocked["before"]["state"], blocked["after"]["state"]) == ("present", "blocked")
    assert (blocked["before"]["revision"], blocked["after"]["revision"]) == (1, 2)
    assert blocked["why"].startswith("block/shop/EV-2/")
    password = (await shop.house.password(line)).get_secret_value()
    for secret in ("events@example.com", password, "Jane", line):
        assert secret not in str(page)

    found = [event async for part in reader.pages(f"/v1/lines/{line}/events?limit=2") for event in part["events"]]
    assert found == page["events"]


async def test_only_who_may_read_lines_sees_events_and_only_of_lines_that_there_are(shop: Shop, line: str) -> None:
    blind = await shop.token("blind", frozenset({Scope.PURCHASES_CREATE, Scope.CREDENTIALS_READ, Scope.BULK}))
    assert (await blind.get(f"/v1/lines/{line}/events")).problem == "ScopeMissing"
    reader = await shop.token("reader", frozenset({Scope.LINES_READ}))
    for name in ("nobody99", "%00", "~5f0c9a1e2b3d4c5e"):
        assert (await reader.get(f"/v1/lines/{name}/events")).problem == "UnknownLine"
    lines_cursor = (await reader.get("/v1/lines?limit=1")).json["cursor"]
    for query in ("limit=0", "state=present", "cursor=MTo5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", f"cursor={lines_cursor}"):
        assert (await reader.get(f"/v1/lines/{line}/events?{query}")).problem == "InvalidOrder", query
