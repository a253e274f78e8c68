"""An idle trial from starter call to mail accepted, next to a workflow of its shape that does nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.arena import Arena, Measured
from benchmarks.figures import Sample, Table, milliseconds, ratio
from benchmarks.noop_runner import NoopRunner

NOOP: Final = "no-op"


@dataclass(frozen=True)
class Taken:
    """All idle orders of one run, by what they were."""

    runs: dict[str, list[Measured]]

    def latency(self, timescale: float) -> float:
        """A trial from call to receipt, as a multiple of the no-op's."""
        trial, noop = (_sample(self.runs[name], _until_answer).median for name in (_named(timescale), NOOP))
        return trial / noop


async def measure(arenas: Sequence[Arena], noop: NoopRunner, *, times: int) -> tuple[Taken, tuple[Table, Table]]:
    """Measure in turn: one no-op, then one trial in each arena, so that all meet the same machine."""
    taken: dict[str, list[Measured]] = {NOOP: [], **{_named(arena.timescale): [] for arena in arenas}}
    for _ in range(times):
        for arena in arenas:
            taken[_named(arena.timescale)].append(await arena.trial())
        taken[NOOP].append(await noop.measured())
    return Taken(taken), (_totals(taken), _steps(taken))


def _named(timescale: float) -> str:
    return f"trial, daemons at {timescale:g}"


def _totals(taken: dict[str, list[Measured]]) -> Table:
    def row(name: str) -> tuple[str, ...]:
        mailed, answered = _sample(taken[name], _until_mail), _sample(taken[name], _until_answer)
        times = ratio(mailed, _sample(taken[NOOP], _until_mail))
        return name, milliseconds(mailed), times, milliseconds(answered), str(mailed.n)

    return Table(
        "An idle trial",
        "From the starter's call until the mail was accepted, and until the receipt was back; ms. The no-op workflow "
        "has the same steps on the same kinds of queues, with nothing in them, on the same server. “At 1” the "
        "stand-in daemons keep the true daemons' time, “at 0.05” they are twenty times as fast.",
        ("", "mail accepted", "times the no-op", "receipt returned", "n"),
        tuple(row(name) for name in taken),
    )


def _until_mail(one: Measured) -> float:
    return one.timeline.mail.completed - one.called


def _until_answer(one: Measured) -> float:
    return one.answered - one.called


_Step = tuple[str, Callable[[Measured], float | None]]

_STEPS: Final[Sequence[_Step]] = (
    ("call → workflow started", lambda one: one.timeline.begun - one.called),
    ("→ worker has it", lambda one: one.timeline.first_task - one.timeline.begun),
    ("→ order recorded (ledger)", lambda one: one.timeline.recorded - one.timeline.first_task),
    ("→ Term started", lambda one: one.timeline.child_started - one.timeline.recorded),
    ("→ halves on their queues", lambda one: one.timeline.halves_scheduled - one.timeline.child_started),
    ("→ both halves proven", lambda one: one.timeline.halves_done - one.timeline.halves_scheduled),
    ("→ mail written (ledger)", lambda one: one.timeline.mail.scheduled - one.timeline.halves_done),
    ("→ mail accepted (SMTP)", lambda one: one.timeline.mail.completed - one.timeline.mail.scheduled),
    ("→ receipt kept (ledger)", lambda one: one.timeline.ended - one.timeline.mail.completed),
    ("→ caller has it", lambda one: one.answered - one.timeline.ended),
)

_INSIDE: Final[Sequence[_Step]] = (
    ("MultiCS half: waits for its worker", lambda one: one.timeline.multics.started - one.timeline.multics.scheduled),
    ("MultiCS half: until the file is closed", lambda one: _between(one.timeline.multics.started, one.multics_closed)),
    (
        "MultiCS half: close → reloaded, proven, told",
        lambda one: _between(one.multics_closed, one.timeline.multics.completed),
    ),
    ("OSCam half: waits for its worker", lambda one: one.timeline.oscam.started - one.timeline.oscam.scheduled),
    ("OSCam half: until the file is closed", lambda one: _between(one.timeline.oscam.started, one.oscam_closed)),
    (
        "OSCam half: close → reloaded, proven, told",
        lambda one: _between(one.oscam_closed, one.timeline.oscam.completed),
    ),
)


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def _steps(taken: dict[str, list[Measured]]) -> Table:
    def row(step: _Step) -> tuple[str, ...]:
        title, span = step
        cells: list[str] = []
        for runs in taken.values():
            values = [value for value in map(span, runs) if value is not None]
            cells.append(milliseconds(Sample.of(values)) if values else "")
        return (title, *cells)

    return Table(
        "Where the time of an idle trial goes",
        "By the workflow's history and the close of each accounts file; ms. The first ten rows follow each other; the "
        "others are inside “both halves proven”, MultiCS and OSCam side by side.",
        ("step", *taken),
        tuple(row(step) for step in (*_STEPS, *_INSIDE)),
    )


def _sample(runs: Sequence[Measured], span: Callable[[Measured], float]) -> Sample:
    return Sample.of([span(one) for one in runs])
