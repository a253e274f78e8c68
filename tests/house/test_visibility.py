"""Our search attributes in Temporal: added once, and a clear word where that can't be."""

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from tests.support.temporal import dev_server
from twinline.errors import Misconfigured, Unavailable
from twinline.search_attributes import ALL, ATTENTION_REASON
from twinline.visibility import register_search_attributes


async def test_what_a_namespace_lacks_is_added_and_doing_so_again_changes_nothing() -> None:
    async with dev_server() as server:
        client = await Client.connect(server.address)
        for _ in range(2):
            await register_search_attributes(client)
        request = ListSearchAttributesRequest(namespace=client.namespace)
        listed = (await client.operator_service.list_search_attributes(request)).custom_attributes
        assert {key.name: key.indexed_value_type.value for key in ALL}.items() <= dict(listed).items()


async def test_one_of_another_type_is_named() -> None:
    async with dev_server(search_attributes={ATTENTION_REASON.name: "Int"}) as server:
        with pytest.raises(Misconfigured, match="AttentionReason with another type than Keyword"):
            await register_search_attributes(await Client.connect(server.address))


async def test_a_server_that_takes_no_more_is_told_with_the_command_to_run() -> None:
    full = {f"Taken{number}": "Keyword" for number in range(10)}
    async with dev_server(search_attributes=full) as server:
        with pytest.raises(
            Misconfigured, match="does not let us add the search attributes AttentionReason, LineId"
        ) as refusal:
            await register_search_attributes(await Client.connect(server.address))
    assert "temporal operator search-attribute create --name AttentionReason --type Keyword" in refusal.value.hint


async def test_a_server_that_is_away_is_unavailable() -> None:
    async with dev_server() as server:
        client = await Client.connect(server.address)
    with pytest.raises(Unavailable):
        await register_search_attributes(client)
