"""Goes through random lives of a state machine, and tells what had happened in the one that broke a law."""

import asyncio
import logging
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from twinline.keys import KeyRing
from twinline.ledger import migrate

T = TypeVar("T")

SHRINKS: Final = "TWINLINE_SHRINK"
"""Set where a life that broke a law is to be made shorter; seldom does a shorter one break it again."""


@dataclass(frozen=True)
class Story:
    """What broke a law, and what had happened."""

    error: BaseException
    steps: Sequence[str]


@dataclass
class Surroundings:
    """What all lives of a run share: an event loop, an empty ledger, keys, and what is counted."""

    loop: asyncio.AbstractEventLoop
    blank: Path
    keys: KeyRing
    caplog: pytest.LogCaptureFixture
    counts: Counter[str] = field(default_factory=Counter[str])
    lives: int = 0
    broken: Story | None = None
    """The first law that was broken; it may not be broken again when hypothesis repeats the life."""

    @classmethod
    def within(cls, runner: asyncio.Runner, folder: Path, caplog: pytest.LogCaptureFixture) -> "Surroundings":
        """Make what is shared, in a folder that is there."""
        # It tells of every statement.
        caplog.set_level(logging.INFO, "aiosqlite")
        blank = folder / "blank.db"
        runner.run(migrate(f"sqlite:///{blank}"))
        return cls(runner.get_loop(), blank, KeyRing.create(folder / "keys.json"), caplog)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something to its end."""
        return self.loop.run_until_complete(work)

    def logged(self) -> Sequence[str]:
        """Everything that was logged since somebody asked last."""
        texts = [f"{record.getMessage()} {record.__dict__}" for record in self.caplog.records]
        self.caplog.clear()
        return texts


def life_folder() -> Path:
    """A folder for one life, in memory where there is such a place; whoever lives it removes it."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))


def chosen_seed(usual: int | None = None) -> int:
    """TWINLINE_SEED, or the usual one, or any."""
    return int(os.environ.get("TWINLINE_SEED", usual or random.SystemRandom().getrandbits(32)))


def chosen_lives(usual: int) -> int:
    """TWINLINE_LIVES, or the usual number."""
    return int(os.environ.get("TWINLINE_LIVES", usual))


def go_through(
    name: str,
    around: Surroundings,
    make: Callable[[], RuleBasedStateMachine],
    *,
    lives: int,
    steps: int,
    number: int,
) -> None:
    """Live so many lives of so many steps; what happened in the one that broke a law stands in the failure."""
    started = time.monotonic()

    def life() -> RuleBasedStateMachine:
        around.lives += 1
        return make()

    try:
        run_state_machine_as_test(
            seed(number)(life),  # pyright: ignore[reportArgumentType] - any function that makes one will do
            settings=settings(
                max_examples=lives,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink) if SHRINKS in os.environ else (Phase.generate,),
                verbosity=Verbosity.normal,
                suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
            ),
        )
    except Exception as error:
        if around.broken is None:
            raise
        story = "\n".join(around.broken.steps)
        raise AssertionError(f"{around.broken.error} (seed {number}), after:\n{story}") from error
    finally:
        print(  # noqa: T201 - shown with a failure, and by `make soak`
            f"\n{name}: seed {number}, {around.lives} lives of {steps} steps in {time.monotonic() - started:.0f} s, "
            f"{'a law' if around.broken else 'no law'} broken; "
            + ", ".join(f"{what} {count}" for what, count in sorted(around.counts.items()))
        )
