"""The search attributes of our workflows, declared once; nothing in them is secret or about a person.

What kind of order a workflow carries out is its type, which Temporal can be asked for without our help.
"""

from typing import Final

from temporalio.common import SearchAttributeKey

ATTENTION_REASON: Final = SearchAttributeKey.for_keyword("AttentionReason")
"""Why a workflow waits for a person, as the code of the host's error; unset while none is needed."""

LINE_ID: Final = SearchAttributeKey.for_keyword("LineId")
"""The ledger's own id of the line; its username is half of what opens it, and stands nowhere in Temporal."""

CALLER: Final = SearchAttributeKey.for_keyword("Caller")
"""Who placed the order."""

HOSTS: Final = SearchAttributeKey.for_keyword_list("Hosts")
"""The hosts on which the workflow changes something."""

ALL: Final = (ATTENTION_REASON, LINE_ID, CALLER, HOSTS)
