"""After a rotation the new key alone opens the ledger."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ledger.stores import Shelf
from tests.ledger.support import Desk, Pairing
from twinline.keys import KeyRing, KeyRingError, key_of
from twinline.ledger import Ledger, mails, models
from twinline.ledger.queries import reveal_password
from twinline.ledger.sealing import Resealed, reseal
from twinline.messages import MailKind


@pytest.fixture
def ring_file(tmp_path: Path) -> Path:
    KeyRing.create(tmp_path / "keys.json")
    return tmp_path / "keys.json"


@pytest_asyncio.fixture
async def old_desk(shelf: Shelf, ring_file: Path) -> AsyncIterator[Desk]:
    """A ledger with two lines and a mail, sealed with the first key."""
    keys = KeyRing.load(ring_file)
    store = shelf.new()
    ledger = await Ledger.open(store.url, keys=keys)
    desk = Desk(ledger=ledger, keys=keys, store=store)
    await desk.sync(Pairing(name="eu1"))
    recorded = await desk.trial()
    await desk.purchase("bob@example.com")
    async with ledger.write() as tx:
        await mails.store_mail(
            tx, recorded.line_id, kind=MailKind.CREDENTIALS, ref="g", message_id="<a@b>", body=b"hello", now=desk.now
        )
    yield desk
    await ledger.close()


def only_the_newest(ring_file: Path) -> KeyRing:
    """The ring as it would be with every old key lost."""
    content = json.loads(ring_file.read_text())
    content["keys"] = {content["primary"]: content["keys"][content["primary"]]}
    alone = ring_file.with_name("alone.json")
    alone.touch(mode=0o600)
    alone.write_text(json.dumps(content))
    return KeyRing.load(alone)


async def test_everything_is_sealed_again_with_the_new_key_and_says_the_same(old_desk: Desk, ring_file: Path) -> None:
    lines = await old_desk.rows(models.Line)
    passwords = {line.username: await old_desk.password(line.username) for line in lines}
    KeyRing.rotate(ring_file)
    url = old_desk.store.url
    rotated = await Ledger.open(url, keys=KeyRing.load(ring_file))
    assert await reseal(rotated) == Resealed(rows=3, changed=3)
    assert await reseal(rotated) == Resealed(rows=3, changed=0)
    await rotated.close()

    alone = await Ledger.open(url, keys=only_the_newest(ring_file))
    async with alone.read() as tx:
        for username, password in passwords.items():
            assert (await reveal_password(tx, username)).get_secret_value() == password
        (mail,) = await old_desk.rows(models.Mail)
        loaded = await mails.load_mail(tx, mail.id)
        assert (loaded.body, loaded.recipient.get_secret_value()) == (b"hello", "ann@example.com")
    await alone.close()


async def test_a_ledger_that_was_open_over_the_rotation_goes_on_and_seals_with_the_new_key(
    old_desk: Desk, ring_file: Path
) -> None:
    rotated = await Ledger.open(old_desk.store.url, keys=KeyRing.rotate(ring_file))
    await reseal(rotated)
    await rotated.close()
    (first, _) = await old_desk.rows(models.Line)
    assert await old_desk.password(first.username)
    recorded = await old_desk.trial("eve@example.com")
    sealed = {line.id: line.password_sealed for line in await old_desk.rows(models.Line)}
    assert key_of(sealed[recorded.line_id]) == "k2"


async def test_a_row_that_no_key_opens_stops_the_sealing_and_loses_nothing(old_desk: Desk, ring_file: Path) -> None:
    KeyRing.rotate(ring_file)
    before = await old_desk.rows(models.Line)
    ledger = await Ledger.open(old_desk.store.url, keys=only_the_newest(ring_file))
    with pytest.raises(KeyRingError, match='"k1"'):
        await reseal(ledger)
    await ledger.close()
    assert await old_desk.rows(models.Line) == before
