"""Things that `twinline demo --break NAME` breaks in the sandbox, so that one can see the demo notice."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twinline.sandbox.world import World

MULTICS, OSCAM = "mc-eu1", "os-eu1"


@dataclass(frozen=True)
class Break:
    """One thing to break, and the moment of the story before which it happens."""

    name: str
    meaning: str
    before: str
    do: Callable[[World, str], Awaitable[None]]
    """Gets the world and the line's username (empty before there is one)."""


async def _multics_ignores_reloads(world: World, _: str) -> None:
    await world.daemon(MULTICS).switch("ignore_reloads", on=True)


async def _oscam_ignores_reloads(world: World, _: str) -> None:
    await world.daemon(OSCAM).switch("ignore_reloads", on=True)


async def _host_is_unreachable(world: World, _: str) -> None:
    await world.box(OSCAM).refuse(on=True)
    world.box(OSCAM).drop_connections()


async def _mail_is_swallowed(world: World, _: str) -> None:
    world.mail_catcher.swallow = True


async def _session_is_dropped(world: World, username: str) -> None:
    await world.daemon(OSCAM).drop_session(username)


async def _record_is_changed(world: World, username: str) -> None:
    accounts = world.site(MULTICS).accounts_file
    lines = accounts.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith(f"F: {username} ".encode()):
            lines[number] = line.replace(b"enddate=20", b"enddate=21")
    accounts.write_bytes(b"".join(lines))


async def _foreign_record_is_changed(world: World, _: str) -> None:
    accounts = world.site(OSCAM).accounts_file
    accounts.write_bytes(accounts.read_bytes().replace(b"Bob from next door", b"Bob from the moon!"))


BREAKS = {
    thing.name: thing
    for thing in (
        Break("multics-deaf", "the MultiCS daemon ignores every reload", "purchase", _multics_ignores_reloads),
        Break("oscam-deaf", "the OSCam daemon ignores every reload", "renewal", _oscam_ignores_reloads),
        Break("host-unreachable", "the OSCam host cannot be reached over SSH", "trial", _host_is_unreachable),
        Break("mail-swallowed", "the mail server accepts mails and loses them", "trial", _mail_is_swallowed),
        Break("session-dropped", "the network drops the customer's session", "renewal", _session_is_dropped),
        Break("record-changed", "somebody changes our record in Cccam.cfg", "end", _record_is_changed),
        Break("foreign-changed", "somebody else's record changes", "end", _foreign_record_is_changed),
    )
}
