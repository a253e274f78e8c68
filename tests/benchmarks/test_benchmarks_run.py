"""The benchmarks still run, from end to end; their figures are judged by people, not here."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.figures import Sample, Table, count, milliseconds, ratio
from benchmarks.report import API, HOSTS, ORDERS, Markers, Run, page_part, rewrite

BEGIN, END = ORDERS.begin, ORDERS.end
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
TITLES = (
    "Targets",
    "5 purchases at once over 2 pairs",
    "What a purchase asks of the ledger",
    "An idle trial",
    "Where the time of an idle trial goes",
    "5 purchases at once",
    "The edit alone",
    "A change until the daemon is seen to hold it",
    "Once per connection",
)


HOSTS_TITLES = (
    "Targets, at 1 ms one way",
    "One change, 20 records, by latency",
    "One change at 1 ms, by size of the file",
    "Many changes in one go, 20 records, 1 ms",
    "Every latency, size and number of changes",
    "10 changes that wait at the same moment",
    "What happens to the file, 20 records, 1 ms",
)


API_TITLES = (
    "4 orders that nobody works on",
    "One order on an idle machine",
    "2 orders while the workers work on them",
    "What else is asked",
)


@pytest.mark.parametrize(
    ("script", "titles"),
    [
        ("hosts", HOSTS_TITLES),
        # Each starts houses of its own, and takes a third of a minute of a core.
        pytest.param("orders", TITLES, marks=pytest.mark.soak),
        pytest.param("api", API_TITLES, marks=pytest.mark.soak),
    ],
)
async def test_the_smallest_run_gives_every_table_and_leaves_the_page_alone(
    script: str, titles: tuple[str, ...]
) -> None:
    before = PAGE.read_bytes()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"benchmarks.{script}", "--quick", stdout=PIPE, stderr=PIPE, cwd=PAGE.parents[1]
    )
    try:
        output, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, complaints.decode()
    shown = [line.removeprefix("### ") for line in output.decode().splitlines() if line.startswith("### ")]
    assert shown == list(titles)
    assert PAGE.read_bytes() == before


def test_a_sample_is_shown_as_median_and_spread() -> None:
    seconds = Sample.of([0.001 * number for number in range(1, 12)])

    assert milliseconds(seconds) == "6.0 (2.0 … 10.0)"
    assert ratio(seconds, Sample.of([0.002])) == "3.0"
    assert count(Sample.of([3, 1, 2])) == "2 (1 … 3)"
    with pytest.raises(ValueError, match="without values"):
        Sample.of([])


def test_only_what_stands_between_the_markers_is_rewritten(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n{HOSTS.begin}\nkept\n{HOSTS.end}\n", encoding="utf-8")
    run = Run(datetime(2031, 5, 6, tzinfo=UTC), seconds=9.0, seed=7, load_before=0.1, load_after=2.0)
    table = Table("Title", "How to read it.", ("what", "ms"), (("a", "1"), ("bcdef", "2")))

    for _ in range(2):
        rewrite(page, page_part(run, [table]), ORDERS)

    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"above\n{BEGIN}\n\nMeasured 2031-05-06 in 9 s")
    assert "| what  | ms |\n|-------|----|\n| a     | 1  |\n| bcdef | 2  |\n" in text
    assert text.endswith(f"\n{END}\nbelow\n{HOSTS.begin}\nkept\n{HOSTS.end}\n")
    assert "old" not in text


@pytest.mark.parametrize("markers", [ORDERS, HOSTS, API], ids=["orders", "hosts", "api"])
def test_the_page_has_a_place_for_each_script(tmp_path: Path, markers: Markers) -> None:
    page = tmp_path / "page.md"
    page.write_bytes(PAGE.read_bytes())

    rewrite(page, "fresh", markers)

    assert f"{markers.begin}\n\nfresh\n{markers.end}" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["nothing", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")

    with pytest.raises(ValueError, match="markers"):
        rewrite(page, "part", ORDERS)

    assert page.read_text(encoding="utf-8") == text
