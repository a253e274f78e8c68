"""`keys rotate` in a world whose worker keeps running."""

from pathlib import Path

from tests.cli.conftest import Cli
from twinline.keys import KeyRing
from twinline.sandbox.world import World


async def test_keys_are_rotated_under_a_running_worker_and_orders_go_on(cli: Cli, world: World, line: str) -> None:
    ring_file = Path(world.env["TWINLINE_KEYS"])
    before = KeyRing.load(ring_file).primary
    password = (await cli("line", "show", line, "--reveal", "--json")).json["password"]

    rotated = await cli("keys", "rotate")

    primary = KeyRing.load(ring_file).primary
    assert (rotated.code, primary != before) == (0, True)
    assert f'"{primary}"' in rotated.out
    assert "rows of the ledger were sealed again" in rotated.out
    placed = await cli("trial", "rotated@example.com", "--region", "eu", "--order", "T-rotated", "--json")
    assert placed.code == 0, placed.err
    assert (await cli("line", "show", line, "--reveal", "--json")).json["password"] == password
    assert password not in rotated.out


async def test_a_ring_is_not_rotated_when_the_ledger_can_not_be_sealed_again(cli: Cli, world: World) -> None:
    ring_file = Path(world.env["TWINLINE_KEYS"])
    before = ring_file.read_bytes()
    away = cli.with_env(TWINLINE_DATABASE_URL=f"sqlite:///{world.folder}/none.db")
    said = await away("keys", "rotate")
    assert (said.code, "does not exist" in said.err) == (2, True)
    assert ring_file.read_bytes() == before
