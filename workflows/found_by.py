"""By what Temporal finds a workflow: the one place that sets search attributes."""

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from twinline.search_attributes import ATTENTION_REASON


def be_found_by(*updates: SearchAttributeUpdate[Any]) -> None:
    """Let Temporal list this workflow by these."""
    workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType] - the SDK's own


def ask_a_person(reason: str | None) -> None:
    """Show why a person has to act, or that nobody has to; what stands there already is not said again."""
    if reason != workflow.info().typed_search_attributes.get(ATTENTION_REASON):
        be_found_by(ATTENTION_REASON.value_unset() if reason is None else ATTENTION_REASON.value_set(reason))
