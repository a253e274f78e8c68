"""The door through which people without an account come: what is asked of a request for a trial before it is one."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from starter.access import is_untold
from twinline.errors import InvalidOrder
from twinline.ledger import Ledger
from twinline.ledger.tokens import TokenView
from twinline.ledger.trial_door import admit_trial, disposable_address
from twinline.mail import Address, DisposableDomains, normalise_person
from twinline.messages import TrialOrder

ACCEPTED: Final = "Accepted. If this address may have a trial, a mail with its data is on its way to it."
"""All that is said of a trial to who may not read lines."""
_LONGEST: Final = 45
"""Characters of the longest form of an IPv6 address."""


def _address(text: str) -> str:
    # A zone names an interface of the machine that wrote it.
    if "%" in text:
        raise ValueError("an address with a zone")
    return str(ip_address(text))


ClientAddress = Annotated[str, StringConstraints(min_length=2, max_length=_LONGEST), AfterValidator(_address)]


class AskedTrial(TrialOrder):
    """48 hours for a new customer, free, once per person and once a day per range of addresses."""

    client_address: ClientAddress | None = Field(
        default=None,
        description=(
            "The customer's own IP address, as the storefront sees it. Only a keyed hash of its range is kept, for a "
            "day. A token without `lines:read` has to send it."
        ),
        examples=["203.0.113.7"],
    )


@dataclass(frozen=True, kw_only=True)
class TrialRules:
    """What the operator asks of trials; `per_range` a day from one range of addresses, 0 for any number."""

    disposable: DisposableDomains = field(default_factory=DisposableDomains)
    per_range: int = 1


class TrialDoor:
    """Lets requests for trials in."""

    def __init__(self, ledger: Ledger, rules: TrialRules) -> None:
        self._ledger = ledger
        self._rules = rules

    async def admit(
        self, order: TrialOrder, address: Address, who: TokenView, *, client: str | None, known: bool
    ) -> None:
        """Let a request in, or raise what refuses it; `order` is as the ledger would take it, `client` its sender.

        Raises InvalidOrder, DisposableAddress, TrialRangeUsed, and what `admit_trial` does.
        """
        untold = is_untold(who)
        if untold and client is None and self._rules.per_range:
            raise InvalidOrder(
                "client_address is missing: it must be the IP address of the customer",
                hint="Send the address from which the customer asks you.",
            )
        disposable = self._rules.disposable.lists(address.domain)
        if not untold and client is None:
            if disposable and not known:
                raise disposable_address()
            return
        async with self._ledger.write() as tx:
            await admit_trial(
                tx,
                order,
                person=normalise_person(address),
                client=client,
                per_range=self._rules.per_range,
                disposable=disposable,
                untold=untold,
                known=known,
                now=datetime.now(UTC),
            )
