"""`make fuzz`: every target for its share of FUZZ_SECONDS (300), guided by coverage where atheris runs.

One process per target, as many at a time as there are processors. What crashes a target is kept in .fuzz/ and printed
as Python spells it, to go into a test or a corpus. FUZZ_SEED repeats a run, with atheris as far as libFuzzer does.
"""

import argparse
import asyncio
import importlib
import os
import random
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Final

TARGETS: Final = ("multics", "oscam", "values")
HERE: Final = Path(".fuzz")
GUIDED_LENGTH: Final = 2_000
"""Bytes of an input under guidance: a try must be quick. Lines around the daemons' buffers come up without it."""
AT_ONCE: Final = min(len(TARGETS), os.cpu_count() or 1)
INSTRUMENTED: Final = ["twinline.hosts.multics", "twinline.hosts.oscam"]
"""Following the stand-ins' parsers too would cost more tries than it gives hints."""


def say(text: str) -> None:
    """Write one line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def atheris_if_there() -> ModuleType | None:
    """Atheris, or None on a machine that it has no build for (see requirements-fuzz.lock)."""
    try:
        return importlib.import_module("atheris")
    except ModuleNotFoundError:
        return None


class Target:
    """One target with its made-up inputs, loaded only when it is asked for: atheris has to see its imports."""

    def __init__(self, name: str, atheris: Any) -> None:
        with atheris.instrument_imports(include=INSTRUMENTED) if atheris else nullcontext():
            self._inputs = importlib.import_module("tests.fuzz.inputs")
            self._values = importlib.import_module("tests.fuzz.values")
            self.check: Callable[[bytes], None] = importlib.import_module("tests.fuzz.targets").TARGETS[name]
        self.name = name

    def seeds(self) -> Sequence[bytes]:
        """What to begin with."""
        if self.name == "values":
            return [self._values.made_up(random.Random(number)) for number in range(50)]  # noqa: S311 - not secret
        return self._inputs.short_seeds(self.name)

    def made_up(self, luck: random.Random) -> bytes:
        """One input out of nothing but luck."""
        return self._values.made_up(luck) if self.name == "values" else self._inputs.made_up(self.name, luck)

    def mutated(self, data: bytes, luck: random.Random, most: int) -> bytes:
        """One input out of another."""
        if self.name == "values" or luck.random() < 0.1:
            return self.made_up(luck)[:most]
        return self._inputs.mutated(self.name, data, luck, most)


def with_coverage(atheris: Any, target: Target, seconds: int, seed: int) -> None:
    """Run libFuzzer, which ends the process."""
    corpus = HERE / f"corpus-{target.name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in target.seeds():
        (corpus / f"seed-{zlib.crc32(data):08x}").write_bytes(data)

    def mutator(data: bytes, most: int, number: int) -> bytes:
        luck = random.Random(number)  # noqa: S311 - not secret
        return atheris.Mutate(data, most) if luck.random() < 0.3 else target.mutated(data, luck, most)

    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={GUIDED_LENGTH}",
        "-timeout=60",
        "-len_control=0",
    ]
    kept = f"-artifact_prefix={HERE}/{target.name}-"
    atheris.Setup(["fuzz", str(corpus), *options, kept, "-print_final_stats=1"], target.check, custom_mutator=mutator)
    atheris.Fuzz()


def without_coverage(target: Target, seconds: int, seed: int) -> None:
    """Go through made-up inputs until the time is over; one that fails is kept."""
    luck = random.Random(seed)  # noqa: S311 - not secret
    end = time.monotonic() + seconds
    count = 0
    for data in target.seeds():
        check_and_keep(target, data)
    while time.monotonic() < end:
        check_and_keep(target, target.made_up(luck))
        count += 1
    say(f"{count} inputs without guidance")


def check_and_keep(target: Target, data: bytes) -> None:
    """Check one input; keep it if it fails."""
    try:
        target.check(data)
    except BaseException:
        (HERE / f"{target.name}-crash-{zlib.crc32(data):08x}").write_bytes(data)
        raise


async def run(name: str, seconds: int, seed: int) -> bool:
    """Run one target in a process of its own; whether it found nothing."""
    before = set(HERE.glob(f"{name}-*"))
    log = HERE / f"{name}.log"
    words = (sys.executable, "-m", "tests.fuzz", "--target", name, "--seconds", str(seconds), "--seed", str(seed))
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(*words, stdout=sink, stderr=sink)
        code = await process.wait()
    lines = log.read_text(errors="replace").splitlines()
    done = [line for line in lines if "guidance" in line]
    done += [f"{line.split()[-1]} inputs with guidance" for line in lines if "number_of_executed_units" in line]
    say(f"{name}: {'nothing found' if code == 0 else f'ended with {code}'}; {', '.join(done)}; log in {log}")
    for found in sorted(set(HERE.glob(f"{name}-*")) - before):
        say(f"  {found}\n  {found.read_bytes()!r}")
    return code == 0


async def run_all(seconds: int, seed: int) -> bool:
    """Every target for as long as its share; whether none of them found anything."""
    HERE.mkdir(exist_ok=True)
    say(f"FUZZ_SECONDS={seconds} FUZZ_SEED={seed} guided by coverage: {atheris_if_there() is not None}")
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(name: str) -> bool:
        async with turns:
            return await run(name, seconds * AT_ONCE // len(TARGETS), seed)

    return all(await asyncio.gather(*(in_turn(name) for name in TARGETS)))


def main() -> None:
    """Run one target, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, help="run this one only, in this process")
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("FUZZ_SECONDS") or 300))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FUZZ_SEED") or time.time_ns() % (1 << 31)))
    given = parser.parse_args()
    os.environ["TZ"] = "UTC0"
    time.tzset()
    if given.target is None:
        sys.exit(0 if asyncio.run(run_all(given.seconds, given.seed)) else 1)
    atheris = atheris_if_there()
    target = Target(given.target, atheris)
    unguided = given.seconds // 3 if atheris else given.seconds
    without_coverage(target, unguided, given.seed)
    if atheris is None:
        say("no guidance: atheris has no build for this Python or machine")
    else:
        with_coverage(atheris, target, given.seconds - unguided, given.seed)


if __name__ == "__main__":
    main()
