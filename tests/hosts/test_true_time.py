"""The engine against daemons that take as long as the real ones: the only slow test here."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from tests.hosts.conftest import PROTOCOLS
from tests.hosts.lab import FAR, run_lab
from tests.support.sshd import Sshd
from twinline.hosts.ports import Wanted
from twinline.messages import Protocol
from twinline.sandbox.receiver import LoginRefused


async def life(protocol: Protocol, folder: Path, sshd: Sshd) -> None:
    """A new line, its renewal and its block, each proven in true time."""
    async with run_lab(protocol, folder, sshd, timescale=1.0) as lab:
        await lab.bring(lab.ledger.want("rosewood22", "pw23456789abcdef"))
        session = await lab.login("rosewood22", "pw23456789abcdef")
        await lab.bring(lab.ledger.change("rosewood22", ends_at=FAR + timedelta(days=30)))
        await session.ping()
        await lab.bring(lab.ledger.change("rosewood22", wanted=Wanted.BLOCKED))
        await session.closed.wait()
        with pytest.raises(LoginRefused):
            await lab.login("rosewood22", "pw23456789abcdef")
        assert lab.ledger.failures == []


async def test_add_renewal_and_block_are_proven_on_both_daemons_in_true_time(folder: Path, sshd: Sshd) -> None:
    await asyncio.gather(*(life(protocol, folder / protocol, sshd) for protocol in PROTOCOLS))
