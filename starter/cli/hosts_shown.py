"""Shows hosts as the ledger knows them; `host check` looks at the hosts themselves."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.text import Text

from starter.cli.context import Context
from starter.cli.receipts import DAEMONS
from starter.cli.render import Exit, cells, moment, out, plain_table, say, show_json, show_table
from starter.explain import meaning
from twinline.inventory import load_inventory
from twinline.ledger.host_views import HostView, host_views
from twinline.messages import Message
from twinline.spans import span


class HostList(Message):
    """What `host list --json` prints."""

    hosts: tuple[HostView, ...]


async def list_hosts(names: Sequence[str], *, as_json: bool) -> int:
    """List the named hosts of the inventory, or all; raises UnknownHost, Misconfigured, Unavailable."""
    context = Context.load()
    inventory = load_inventory(context.settings.inventory)
    wanted = [inventory.host(name).name for name in dict.fromkeys(names)] or [host.name for host in inventory.hosts]
    async with context.ledger() as ledger, ledger.read() as tx:
        found = await host_views(tx, wanted)
    if as_json:
        show_json(HostList(hosts=found))
        return Exit.DONE
    now = datetime.now(UTC)
    table = plain_table("host", "daemon", "pair", "region", "serves", "behind", "last proof", "")
    for view in found:
        pairs = ", ".join(pair.pair for pair in view.pairs)
        regions = ", ".join(dict.fromkeys(pair.region for pair in view.pairs))
        serves = " + ".join(f"{view.served} of {pair.capacity}" for pair in view.pairs) or str(view.served)
        proof = "never" if view.last_proof is None else moment(view.last_proof)
        behind = str(view.behind) + (f" ({view.given_up} given up)" if view.given_up else "")
        row = cells(view.host, DAEMONS[view.protocol], pairs, regions, serves, behind, proof, _trouble(view, now))
        row[-1].style = "yellow"
        table.add_row(*row)
    show_table(table)
    if missing := set(wanted) - {view.host for view in found}:
        names_missing = ", ".join(sorted(missing))
        say(f"{names_missing}: in the inventory, and not in the ledger yet.", hint="`twinline worker` takes it over.")
    for code in dict.fromkeys(view.attention for view in found if view.attention is not None):
        out().print(Text(f"{code}: {meaning(code).sentence}\n  → {meaning(code).hint}"), soft_wrap=True)
    return Exit.DONE


def _trouble(view: HostView, now: datetime) -> str:
    since = "" if view.down_since is None else f" for {span((now - view.down_since).total_seconds())}"
    if view.attention is not None:
        return f"waits for a person{since}: {view.attention}"
    return f"no batch gets through{since}" if since else ""
