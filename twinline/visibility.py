"""Makes our search attributes known to Temporal, without which a workflow that wants to set one can't go on."""

from collections.abc import Mapping
from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeIndexedValueType as Kind
from temporalio.service import RPCError, RPCStatusCode

from twinline.errors import Misconfigured, TwinlineError, Unavailable
from twinline.search_attributes import ALL

_NO_ANSWER: Final = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})
_NAMES: Final = {
    Kind.KEYWORD: "Keyword",
    Kind.KEYWORD_LIST: "KeywordList",
    Kind.TEXT: "Text",
    Kind.INT: "Int",
    Kind.DOUBLE: "Double",
    Kind.BOOL: "Bool",
    Kind.DATETIME: "Datetime",
}
"""The types as `temporal operator search-attribute create` spells them."""


async def register_search_attributes(client: Client) -> None:
    """See that the namespace has all of ours, and add what it lacks; doing so again changes nothing.

    Raises Misconfigured when one stands there with another type or may not be added, and Unavailable.
    """
    present = await _present(client)
    for key in ALL:
        if key.name in present and present[key.name] != key.indexed_value_type.value:
            raise Misconfigured(
                f"Temporal's namespace has the search attribute {key.name} with another type than "
                f"{_NAMES[key.indexed_value_type]}",
                hint="Remove it there, or give twinline a namespace of its own (TEMPORAL_NAMESPACE).",
            )
    missing = {key.name: key.indexed_value_type for key in ALL if key.name not in present}
    if missing:
        await _add(client, missing)


async def _present(client: Client) -> Mapping[str, int]:
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        if error.status in _NO_ANSWER:
            raise _unavailable(error) from None
        # Who may not list may still add, and is told that it is there already.
        return {}
    return {name: int(kind) for name, kind in listed.custom_attributes.items()}


async def _add(client: Client, missing: Mapping[str, Kind]) -> None:
    wanted = {name: IndexedValueType.ValueType(kind.value) for name, kind in missing.items()}
    try:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted)
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise _unavailable(error) if error.status in _NO_ANSWER else _refused(missing, error) from None


def _refused(missing: Mapping[str, Kind], error: RPCError) -> TwinlineError:
    commands = "; ".join(
        f"temporal operator search-attribute create --name {name} --type {_NAMES[kind]}"
        for name, kind in missing.items()
    )
    return Misconfigured(
        f"Temporal does not let us add the search attribute{'s' * (len(missing) > 1)} {', '.join(missing)} "
        f"({error.status.name})",
        hint=f"Have somebody who may do so run `{commands}` for this namespace, then start again.",
    )


def _unavailable(error: RPCError) -> Unavailable:
    return Unavailable(
        f"Temporal does not answer when asked for its search attributes ({error.status.name})",
        hint="Check TEMPORAL_ADDRESS and that the server runs.",
    )
