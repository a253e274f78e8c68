"""Random orders, faults and foreign edits on a pair of hosts, held to the invariants of design.md after every step.

TWINLINE_SEED chooses other lives than the usual ones; TWINLINE_LIVES says how many `make soak` goes through.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.hosts.between import kill_helpers
from tests.hosts.hands import Damage
from tests.hosts.lab import STATUS_PASSWORD
from tests.hosts.pair import OrderKind, Pair, Place, Switch
from tests.support.lives import Story, Surroundings, chosen_lives, chosen_seed, go_through, life_folder
from tests.support.sshd import Sshd, run_sshd
from twinline.hosts import image

SEED: Final = 8
LIVES, STEPS = 4, 15
SOAK_LIVES, SOAK_STEPS = 1_000, 25

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Amid:
    """Orders that are under way when something happens, and whether all that is broken is repaired afterwards."""

    orders: Sequence[tuple[OrderKind, int]]
    repaired: bool = False


hosts = st.sampled_from((0, 1))
lines = st.integers(0, 7)
kinds: st.SearchStrategy[OrderKind] = st.sampled_from(
    ("add", "add", "renew", "renew", "password", "password", "password", "block", "block", "unblock", "end", "close")
)
amid = st.builds(Amid, orders=st.lists(st.tuples(kinds, lines), max_size=3), repaired=st.booleans())
soon = st.integers(0, 80)
"""Milliseconds: a batch takes some fifty of them."""
switches: st.SearchStrategy[Switch] = st.sampled_from(("hang", "ignore_reloads", "freeze_parse"))
damages: st.SearchStrategy[Damage] = st.sampled_from(("delete", "redate", "annotate"))


NOTHING: Final = Amid(())


@dataclass
class Servers:
    """What all lives share, a server for each host included."""

    shared: Surroundings
    sshds: Sequence[Sshd]


@contextmanager
def servers(folder: Path, caplog: pytest.LogCaptureFixture) -> Generator[Servers]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        sshds = [runner.run(stack.enter_async_context(run_sshd(folder / name))) for name in ("one", "other")]
        try:
            yield Servers(Surroundings.within(runner, folder, caplog), sshds)
        finally:
            runner.run(stack.aclose())


class Life(RuleBasedStateMachine):
    """One life of a pair of hosts."""

    def __init__(self, servers: Servers) -> None:
        super().__init__()
        self.around = around = servers.shared
        self.folder = life_folder()
        opening = Pair.open(self.folder, blank=around.blank, keys=around.keys, sshds=servers.sshds)
        self.pair = around.run(opening)
        self.lawful = True
        self.story: list[str] = []

    def step(self, what: str, work: Coroutine[Any, Any, object], amid: Amid = NOTHING) -> None:
        """Hand in some orders, and do one thing while they are under way."""

        async def all_of_it() -> None:
            for kind, which in amid.orders:
                self.around.counts[f"order {kind}"] += 1
                await self.pair.order(kind, which)
            await work
            if amid.repaired:
                await self.pair.settle()

        self.around.counts[what] += 1
        self.story.append(f"{what} {amid}")
        self.keep_law(all_of_it())

    def keep_law(self, work: Coroutine[Any, Any, object]) -> None:
        """Do it; what then breaks a law is kept with its story, for it may not come again when it is repeated."""
        try:
            self.around.run(work)
        except BaseException as error:
            self.lawful = False
            self.around.broken = self.around.broken or Story(error, tuple(self.story))
            raise

    def place(self, host: int) -> Place:
        return self.pair.places[host]

    @initialize()
    def some_lines(self) -> None:
        """Three lines that work, with their customers connected."""
        self.step("start", self.pair.settle(), Amid((("add", 0), ("add", 0), ("add", 0))))

    @rule(amid=amid, milliseconds=soon)
    def orders(self, amid: Amid, milliseconds: int) -> None:
        self.step("orders", asyncio.sleep(milliseconds / 1000), amid)

    @rule(amid=amid, host=hosts, which=lines)
    def connect(self, amid: Amid, host: int, which: int) -> None:
        self.step("connect", self.pair.connect(self.place(host), which), amid)

    # -- faults, after a little while

    @rule(amid=amid, host=hosts, after=soon)
    def helper_dies(self, amid: Amid, host: int, after: int) -> None:
        self.step("helper dies", self.after(after, kill_helpers, self.place(host).sshd), amid)

    @rule(amid=amid, host=hosts, after=soon)
    def connection_is_cut(self, amid: Amid, host: int, after: int) -> None:
        self.step("connection cut", self.after(after, self.place(host).cut), amid)

    @rule(amid=amid, host=hosts)
    def host_is_unreachable(self, amid: Amid, host: int) -> None:
        self.step("host unreachable", self.place(host).set_reachable(False), amid)

    @rule(amid=amid, host=hosts)
    def host_is_back(self, amid: Amid, host: int) -> None:
        self.step("host back", self.place(host).set_reachable(True), amid)

    @rule(amid=amid, host=hosts, after=soon)
    def daemon_restarts(self, amid: Amid, host: int, after: int) -> None:
        self.step("daemon restarts", self.after(after, self.place(host).restart_daemon), amid)

    @rule(amid=amid, host=hosts, after=soon)
    def daemon_ends(self, amid: Amid, host: int, after: int) -> None:
        self.step("daemon ends", self.after(after, self.place(host).stop_daemon), amid)

    @rule(amid=amid, host=hosts, what=switches)
    def daemon_misbehaves(self, amid: Amid, host: int, what: Switch) -> None:
        self.step(what, self.place(host).switch(what, on=True), amid)

    @rule(amid=amid, host=hosts, what=switches)
    def daemon_behaves(self, amid: Amid, host: int, what: Switch) -> None:
        self.step("daemon behaves", self.place(host).switch(what, on=False), amid)

    @rule(amid=amid, host=hosts)
    def lock_is_held(self, amid: Amid, host: int) -> None:
        if self.place(host).lock is None:
            self.step("lock held", self.place(host).take_lock(), amid)

    @rule(amid=amid, host=hosts)
    def lock_is_given_back(self, amid: Amid, host: int) -> None:
        self.step("lock given back", self.place(host).release_lock(), amid)

    @rule(amid=amid, host=hosts, after=soon, percent=st.integers(0, 60))
    def disk_is_full(self, amid: Amid, host: int, after: int, percent: int) -> None:
        self.step("disk full", self.after(after, self.place(host).leave_no_room, percent), amid)

    @rule(amid=amid, host=hosts, after=soon)
    def worker_restarts(self, amid: Amid, host: int, after: int) -> None:
        self.step("worker restarts", self.after(after, self.pair.restart_worker, self.place(host)), amid)

    @rule(amid=amid, host=hosts)
    def second_worker(self, amid: Amid, host: int) -> None:
        self.step("second worker", self.pair.second_worker(self.place(host)), amid)

    @rule(amid=amid, host=hosts)
    def worker_oversleeps(self, amid: Amid, host: int) -> None:
        self.step("worker oversleeps", self.pair.oversleep(self.place(host)), amid)

    # -- hands

    @rule(amid=amid, host=hosts, after=soon, how=st.sampled_from(("append", "prepend", "rename", "comment")))
    def somebody_edits(self, amid: Amid, host: int, after: int, how: str) -> None:
        self.step(f"{how} by hand", self.after(after, self.pair.lay_hands_on, self.place(host), how), amid)

    @rule(amid=amid, host=hosts, after=soon, which=lines, how=damages)
    def somebody_edits_ours(self, amid: Amid, host: int, after: int, which: int, how: Damage) -> None:
        self.step(f"{how} ours", self.after(after, self.pair.damage, self.place(host), which, how), amid)

    @rule(amid=amid, after=soon)
    def oscam_saves(self, amid: Amid, after: int) -> None:
        self.step("save in OSCam", self.after(after, self.pair.save_in_oscam), amid)

    @staticmethod
    async def after(milliseconds: int, work: Callable[P, Awaitable[object]], *args: P.args, **named: P.kwargs) -> None:
        await asyncio.sleep(milliseconds / 1000)
        await work(*args, **named)

    # -- what has to hold

    @rule(amid=amid, host=hosts)
    def all_but_one_host_is_repaired(self, amid: Amid, host: int) -> None:
        self.step("one host dead", self.pair.settle(dead=self.place(host)), amid)

    @invariant()
    def everything_holds(self) -> None:
        self.keep_law(self.pair.check())

    def teardown(self) -> None:
        try:
            if self.lawful:
                self.step("end", self.pair.settle())
                self._no_secret_was_logged()
        finally:
            self.around.counts.update(self.pair.counts)
            self.around.run(self.pair.close())
            shutil.rmtree(self.folder)

    def _no_secret_was_logged(self) -> None:
        secrets = {password for customer in self.pair.customers for password in customer.passwords}
        for said in self.around.logged():
            assert not any(secret in said for secret in (*secrets, STATUS_PASSWORD)), "I6: a secret was logged"


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(image, "GROWTH", 1)


def live(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, *, lives: int, steps: int, number: int
) -> None:
    """Go through so many lives."""
    with servers(tmp_path_factory.mktemp("model"), caplog) as shared:
        go_through("model", shared.shared, lambda: Life(shared), lives=lives, steps=steps, number=number)


def test_a_few_lives_keep_every_law(tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture) -> None:
    live(tmp_path_factory, caplog, lives=LIVES, steps=STEPS, number=chosen_seed(SEED))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_lives_keep_every_law(tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture) -> None:
    live(tmp_path_factory, caplog, lives=chosen_lives(SOAK_LIVES), steps=SOAK_STEPS, number=chosen_seed())
