"""The search attributes of our workflows, declared once; nothing in them is secret or about a person."""

from typing import Final

from temporalio.common import SearchAttributeKey

ATTENTION_REASON: Final = SearchAttributeKey.for_keyword("AttentionReason")
"""Why a workflow waits for a person, as the code of the host's error; unset while none is needed."""

ALL: Final = (ATTENTION_REASON,)
