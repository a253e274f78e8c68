"""What scripts that start a whole world have in common: `--quick`, what is printed, and the page that is rewritten."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.figures import Table
from benchmarks.report import Markers, Run, page_part, rewrite

PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"

SizeT = TypeVar("SizeT")


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def run_script(
    name: str,
    description: str | None,
    measure: Callable[[Path, SizeT], Awaitable[Sequence[Table]]],
    *,
    full: SizeT,
    quick: SizeT,
    markers: Markers,
    seed: int | None = None,
) -> None:
    """Measure in a folder and print; a full run also rewrites the page.

    Leaves without interpreter finalisation, which the Temporal SDK may abort.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--quick", action="store_true", help="the smallest run; keeps no figures")
    is_quick = parser.parse_args().quick
    load_before, begun = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twinline-bench-") as folder:
        _keep_compiled_programs(Path(folder) / "compiled")
        tables = asyncio.run(_measured(measure, Path(folder), quick if is_quick else full))
    seconds = time.monotonic() - begun
    part = page_part(Run(datetime.now(UTC), seconds, seed, load_before, os.getloadavg()[0]), tables)
    print(part)
    if not is_quick:
        rewrite(PAGE, part, markers)
        say(f"docs/{PAGE.name} rewritten after {seconds:.0f} s")
    sys.stdout.flush()
    os._exit(0)


async def _measured(
    measure: Callable[[Path, SizeT], Awaitable[Sequence[Table]]], folder: Path, size: SizeT
) -> Sequence[Table]:
    return await measure(folder, size)


def _keep_compiled_programs(folder: Path) -> None:
    """Let the programs that we start compile their modules once, as an installed twinline does.

    Where PYTHONDONTWRITEBYTECODE is set, each of them would compile ours again.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
