"""Shows hosts as the ledger knows them; `host check` looks at the hosts themselves."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rich.text import Text

from starter.cli.context import Context
from starter.cli.receipts import DAEMONS
from starter.cli.render import Exit, cells, moment, out, plain_table, say, show_json, show_table
from starter.explain import meaning
from starter.hosts_seen import HostSeen, holds, hosts_seen
from twinline.inventory import load_inventory
from twinline.ledger.host_views import HostView
from twinline.messages import Message
from twinline.spans import span


class HostList(Message):
    """What `host list --json` prints."""

    hosts: tuple[HostSeen, ...]


async def list_hosts(names: Sequence[str], *, as_json: bool) -> int:
    """List the named hosts of the inventory, or all; raises UnknownHost, Misconfigured, Unavailable."""
    context = Context.load()
    inventory = load_inventory(context.settings.inventory)
    wanted = [inventory.host(name).name for name in dict.fromkeys(names)] or [host.name for host in inventory.hosts]
    now, every = datetime.now(UTC), context.settings.health_every
    async with context.ledger() as ledger:
        found = await hosts_seen(ledger, wanted, now=now, every=every)
    if as_json:
        show_json(HostList(hosts=found))
        return Exit.DONE
    table = plain_table("host", "daemon", "pair", "region", "serves", "behind", "last proof", "answers (24 h)", "")
    for view in found:
        pairs = ", ".join(pair.pair for pair in view.pairs)
        regions = ", ".join(dict.fromkeys(pair.region for pair in view.pairs))
        serves = " + ".join(f"{view.served} of {pair.capacity}" for pair in view.pairs) or str(view.served)
        proof = "never" if view.last_proof is None else moment(view.last_proof)
        behind = str(view.behind) + (f" ({view.given_up} given up)" if view.given_up else "")
        answers = answers_in_words(view, now=now, every=every)
        row = cells(
            *(view.host, DAEMONS[view.protocol], pairs, regions, serves, behind, proof, answers, _trouble(view, now))
        )
        row[-1].style = "yellow"
        table.add_row(*row)
    show_table(table)
    if missing := set(wanted) - {view.host for view in found}:
        names_missing = ", ".join(sorted(missing))
        say(f"{names_missing}: in the inventory, and not in the ledger yet.", hint="`twinline worker` takes it over.")
    for code in dict.fromkeys(view.attention for view in found if view.attention is not None):
        out().print(Text(f"{code}: {meaning(code).sentence}\n  → {meaning(code).hint}"), soft_wrap=True)
    return Exit.DONE


def answers_in_words(view: HostSeen, *, now: datetime, every: timedelta) -> str:
    """Since when a host answers or does not, and which part of the last 24 hours it did."""
    if view.looked is None:
        return "nobody looked yet"
    last, lasts = view.looked.last, span((now - view.looked.since).total_seconds())
    # Cut off, not rounded: 100 % is for a host that always answered.
    share = "" if view.answered is None else f" ({math.floor(view.answered * 1000) / 10:g} %)"
    if now - last.at > holds(every):
        return f"nobody looked for {span((now - last.at).total_seconds())}{share}"
    return f"for {lasts}{share}" if last.code is None else f"not for {lasts}{share}"


def _trouble(view: HostView, now: datetime) -> str:
    since = "" if view.down_since is None else f" for {span((now - view.down_since).total_seconds())}"
    if view.attention is not None:
        return f"waits for a person{since}: {view.attention}"
    reason = "" if view.down_code is None else f": {view.down_code}"
    return f"nothing gets through{since}{reason}" if since else ""
