"""The Python client as a storefront uses it: by the example that the docs show, and by what it imports."""

import asyncio
import re
import shlex
import subprocess
import sys
from asyncio.subprocess import PIPE
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from starter.client import Twinline
from starter.ordering import Ordering
from tests.cli.conftest import Cli
from tests.support.sshd import die_with_parent
from tests.support.terminal import environment
from tests.support.wheels import build_wheel, install_alone, lend
from twinline.errors import InvalidOrder, Misconfigured, OrderConflict, UnknownOrder, UnknownRegion
from twinline.messages import ORDER_TYPES, OrderKind
from twinline.sandbox.world import World

ROOT = Path(__file__).resolve().parents[2]

IMPORTS = "import sys, starter.client; print(*sorted(sys.modules))"
NOT_NEEDED = {
    *("activities", "worker", "workflows", "starter.api", "starter.cli", "starter.desk"),
    *("twinline.hosts", "twinline.inventory", "twinline.ledger", "twinline.mail", "twinline.sandbox"),
    *("aiosmtplib", "aiosqlite", "alembic", "asyncssh", "email_validator", "fastapi", "jinja2", "psycopg", "rich"),
    *("sqlalchemy", "sqlmodel", "starlette", "typer", "uvicorn"),
}
NEEDED = {"twinline.messages", "temporalio.client", "cryptography"}


def test_the_client_imports_no_worker_ssh_or_database() -> None:
    said = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    loaded = set(said.stdout.split())
    for name in NOT_NEEDED:
        assert find_spec(name), f"{name} is not even there: what should stand here by now?"
    assert loaded & NOT_NEEDED == set()
    assert loaded >= NEEDED


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds what docs/storefront.md has a storefront install, and nothing else."""
    folder = tmp_path_factory.mktemp("shop")
    (line,) = re.findall(r"^pip install (?!--)(.+)$", (ROOT / "docs" / "storefront.md").read_text(), re.MULTILINE)
    lend(install_alone(build_wheel(folder), folder / "venv"), shlex.split(line))
    return folder / "venv" / "bin" / "python"


async def test_the_example_sells_a_line_once_from_an_environment_with_what_the_docs_name_and_shows_the_receipt(
    cli: Cli, world: World, shop: Path
) -> None:
    storefront = partial(run_storefront, shop, world)
    words = ("shopper@example.com", "--region", "eu", "--days", "30", "--order", "P-shop")
    code, out, err = await storefront(*words)
    assert (code, err) == (0, "")
    shown = await cli("order", "show", "P-shop", "--caller", "shop", "--json")
    assert shown.code == 0, f"{out}{shown.out}{shown.err}"
    assert out.startswith(f"Thank you! Your line {shown.json['username']} is paid until ")
    assert "mc-eu1       ready\n  os-eu1       ready\n  mail         accepted\n" in out
    assert await storefront(*words) == (0, out, "")
    code, out, err = await storefront("shopper@example.com", "--region", "us", "--days", "3", "--order", "P-shop")
    assert (code, out, err.splitlines()[0].partition(":")[0]) == (1, "", "OrderConflict")


async def test_every_order_has_a_method_of_its_own_and_its_errors_are_named(cli: Cli, world: World, line: str) -> None:
    names = {OrderKind.RENEWAL: "renew"}
    for kind in ORDER_TYPES:
        assert callable(getattr(Twinline, names.get(kind, str(kind))))
    assert set(Ordering.__abstractmethods__) == {"place"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.env.items():
            patch.setenv(name, value)
        twinline = await Twinline.connect()
        patch.delenv("TWINLINE_KEYS")
        with pytest.raises(Misconfigured, match="TWINLINE_KEYS is not set"):
            await Twinline.connect()
    renewed = await twinline.renew("R-client", line=line, days=1, caller="shop")
    assert renewed.done
    assert renewed.receipt is not None
    assert renewed.receipt.username == line
    blocked = await twinline.block("C-client", line=line, reason="Shared", caller="shop")
    assert blocked.receipt is not None
    assert [block.case for block in blocked.receipt.blocks] == ["C-client"]
    assert (await twinline.unblock("C-client", line=line, caller="shop")).done
    assert (await twinline.password("W-client", line=line, caller="shop")).done
    cancelled = await twinline.cancel("R-client", kind=OrderKind.RENEWAL, reason="refunded", caller="shop")
    assert cancelled.done
    with pytest.raises(OrderConflict):
        await twinline.renew("R-client", line=line, days=2, caller="shop")
    with pytest.raises(InvalidOrder, match="days is 0, but must be a whole number"):
        await twinline.renew("R-none", line=line, days=0, caller="shop")
    with pytest.raises(InvalidOrder, match="a purchase needs either email with region"):
        await twinline.purchase("P-none", days=3, caller="shop")


async def test_orders_are_found_again_by_their_caller(cli: Cli, world: World, line: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.env.items():
            patch.setenv(name, value)
        twinline = await Twinline.connect()
    renewed = await twinline.renew("R-found", line=line, days=1, caller="finder")
    blocked = await twinline.block("C-found", line=line, reason="Shared", caller="finder")
    lifted = await twinline.unblock("C-found", line=line, caller="finder")
    with pytest.raises(UnknownRegion):
        await twinline.trial("T-found", email="found@example.com", region="mars", caller="finder")

    assert await twinline.order("R-found", caller="finder") == renewed
    for kind, status in ((OrderKind.BLOCK, blocked), (OrderKind.UNBLOCK, lifted)):
        assert await twinline.order("C-found", kind=kind, line=line, caller="finder") == status
    with pytest.raises(InvalidOrder) as ambiguous:
        await twinline.order("C-found", line=line, caller="finder")
    assert ambiguous.value.hint == "Say which kind: block, unblock."
    with pytest.raises(UnknownRegion):
        await twinline.order("T-found", caller="finder")
    for other in ("R-found", "R-none", "x' OR '1'='1"):
        with pytest.raises(UnknownOrder):
            await twinline.order(other, caller="finder" if other != "R-found" else "somebody")

    # Temporal's list is a moment behind.
    while len(found := await twinline.orders(caller="finder", going_on=False)) < 4:
        pass
    assert [(each.order, each.standing) for each in found] == [
        *(("T-found", "refused"), ("C-found", "done")),
        *(("C-found", "done"), ("R-found", "done")),
    ]
    assert [each.workflow_id for each in await twinline.orders(caller="finder", kind=OrderKind.RENEWAL)] == [
        "renewal/finder/R-found"
    ]
    assert await twinline.order(found[1].id, caller="finder") == lifted
    assert await twinline.orders(caller="finder", going_on=True) == ()
    assert [each.order for each in await twinline.orders(caller="finder", limit=1)] == ["T-found"]
    with pytest.raises(InvalidOrder):
        await twinline.orders(caller="x' OR WorkflowId STARTS_WITH '")


async def run_storefront(python: Path, world: World, *words: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(str(python), str(ROOT / "examples" / "storefront.py"), *words),
        env=environment(world.env),
        cwd=python.parent,
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=die_with_parent,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
