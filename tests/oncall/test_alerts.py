"""Each alert has a page that helps, asks for what we count, and fires when it must; `promtool` is the judge."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from starter.api import telling as _of_the_api
from tests.cli.tree import leaves
from tests.oncall.rules import RULES, RUNBOOKS, names_in_rules, rules
from twinline.ledger.standing import Standing
from twinline.metrics_port import families_of

PARTS = ("**What it means.**", "**What the customer notices.**", "**First look**", "**How to fix it.**", "**It is over")
PAGES = sorted(RUNBOOKS.glob("*.md"))


def exported() -> set[str]:
    """Every name that our code can show, suffixes included."""
    moment = datetime(2026, 11, 26, tzinfo=UTC)
    nothing = Standing(hosts=(), pairs=(), mails_waiting=0, oldest_mail=None, grants_overdue=0, oldest_overdue=None)
    assert _of_the_api
    names: set[str] = {"twinline_ledger_up", "twinline_temporal_up"}
    for family in (*REGISTRY.collect(), *families_of(nothing, moment)):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def test_each_rule_has_a_page_and_each_page_a_rule() -> None:
    names = [rule.name for rule in rules()]
    assert sorted(names) == [page.stem for page in PAGES]
    for rule in rules():
        assert f"runbook_url: docs/runbooks/{rule.name}.md\n" in rule.text + "\n"
        assert re.search(r"labels: \{severity: (page|ticket)\}\n", rule.text)
        assert "summary: " in rule.text


def test_rules_ask_for_what_is_shown() -> None:
    ours = {name for name in names_in_rules() if name.startswith("twinline_")}
    assert len(ours) > 10
    assert ours <= exported()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_all_that_is_asked_at_night(page: Path) -> None:
    text = page.read_text()
    places = [text.find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    assert text.startswith(f"# {page.stem}\n")


def commands() -> Iterator[tuple[str, str]]:
    for page in (*PAGES, RUNBOOKS.parent / "oncall.md"):
        text = page.read_text()
        fenced = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL))
        for line in fenced.splitlines():
            if line.startswith("twinline "):
                yield page.stem, line
        # Those in a sentence may leave out what the reader has to fill in.
        for words in re.findall(r"`(twinline [a-z][^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            yield page.stem, words


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_commands_of_the_pages_are_ones_that_there_are(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    found = [leaf for leaf in leaves() if tuple(words[: len(leaf.path)]) == leaf.path]
    assert found, f"{page}: there is no `{line}`"
    rest = words[len(found[0].path) :]
    if rest or page_types(line):
        found[0].parse(rest)


def test_a_log_is_read_past_what_is_not_ours() -> None:
    """The words of systemd, and a process's first one, stand among our lines in the journal: jq alone stops there."""
    for page in (*PAGES, RUNBOOKS.parent / "oncall.md"):
        for words in re.findall(r"^journalctl .*$", page.read_text(), flags=re.MULTILINE):
            assert re.search(r" -o cat \| jq -R 'fromjson\? \| select\(.+\)", words), f"{page.stem}: {words}"


def page_types(line: str) -> bool:
    """Whether it stands there to be typed as it is; a command may also be named alone."""
    return any(line in page.read_text().splitlines() for page in PAGES)


FIRES = {
    "WorkerMissing": [],
    "LedgerDown": ["twinline_ledger_up 0"],
    "TemporalDown": ["twinline_temporal_up 0"],
    "HostStopped": ['twinline_host_state{host="h",state="stopped",reason="X"} 1'],
    "HostDown": ['twinline_host_state{host="h",state="down",reason="X"} 1'],
    "HalvesStuck": ['twinline_halves_stuck{host="h"} 1'],
    "HalvesWaitLong": ['twinline_halves_waiting_oldest_seconds{host="h"} 1801'],
    "ProofsSlow": [
        'twinline_half_proven_seconds_bucket{host="h",le="90"} 0+1',
        'twinline_half_proven_seconds_bucket{host="h",le="180"} 0+9',
        'twinline_half_proven_seconds_bucket{host="h",le="+Inf"} 0+9',
    ],
    "ClockOff": ['twinline_host_clock_offset_seconds{host="h"} -61'],
    "Drift": ['twinline_host_drifted_lines{host="h"} 1'],
    "ReconcileLate": ['twinline_host_reconciled_timestamp_seconds{host="h"} 0'],
    "HostUnwatched": ['twinline_host_looked_timestamp_seconds{host="h"} 0'],
    "EndsLate": ["twinline_grants_overdue_oldest_seconds 1801"],
    "MailsWait": ["twinline_mails_waiting_oldest_seconds 901"],
    "MailsRefused": ['twinline_mails_total{kind="credentials",outcome="refused"} 0+1'],
    "PairNearlyFull": ['twinline_pair_lines{pair="p"} 91', 'twinline_pair_capacity{pair="p"} 100'],
    "LedgerSlow": [
        'twinline_ledger_transaction_seconds_bucket{mode="write",le="1"} 0+1',
        'twinline_ledger_transaction_seconds_bucket{mode="write",le="2.5"} 0+9',
        'twinline_ledger_transaction_seconds_bucket{mode="write",le="+Inf"} 0+9',
    ],
    "WorkersBehind": [
        'temporal_workflow_task_schedule_to_start_latency_seconds_bucket{le="5"} 0+1',
        'temporal_workflow_task_schedule_to_start_latency_seconds_bucket{le="10"} 0+9',
        'temporal_workflow_task_schedule_to_start_latency_seconds_bucket{le="+Inf"} 0+9',
    ],
    "ApiFailing": ['twinline_api_requests_total{status="503"} 0+1', 'twinline_api_requests_total{status="201"} 0+9'],
    "ApiRefusing": ['twinline_api_requests_total{status="429"} 0+61'],
}
"""What makes each alert fire: a value that stays, or one that grows by so much a minute."""
QUIET = [
    "twinline_ledger_up 1",
    "twinline_temporal_up 1",
    'twinline_host_state{host="h",state="up",reason=""} 1',
    'twinline_halves_stuck{host="h"} 0',
    'twinline_halves_waiting_oldest_seconds{host="h"} 1799',
    'twinline_half_proven_seconds_bucket{host="h",le="90"} 0+9',
    'twinline_half_proven_seconds_bucket{host="h",le="+Inf"} 0+9',
    'twinline_host_clock_offset_seconds{host="h"} 59',
    'twinline_worker_clock_offset_seconds{of="temporal"} -59',
    'twinline_host_drifted_lines{host="h"} 0',
    'twinline_host_reconciled_timestamp_seconds{host="h"} 0+60',
    'twinline_host_looked_timestamp_seconds{host="h"} 0+60',
    "twinline_grants_overdue_oldest_seconds 1799",
    "twinline_mails_waiting_oldest_seconds 899",
    'twinline_mails_total{kind="credentials",outcome="refused"} 3',
    'twinline_pair_lines{pair="p"} 90',
    'twinline_pair_capacity{pair="p"} 100',
    'twinline_ledger_transaction_seconds_bucket{mode="write",le="1"} 0+9',
    'twinline_ledger_transaction_seconds_bucket{mode="write",le="+Inf"} 0+9',
    'twinline_api_requests_total{status="503"} 0+1',
    'twinline_api_requests_total{status="201"} 0+30',
    'twinline_api_requests_total{status="429"} 0+59',
]
HOURS = 2


def series(written: list[str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for line in written:
        name, _, values = line.rpartition(" ")
        found.append({"series": name, "values": f"{values if '+' in values else values + '+0'}x{HOURS * 60}"})
    return found


def case(written: list[str], alert: str, *, fires: bool) -> dict[str, object]:
    """One house for two hours; whether the alert is on is asked by a query, so that texts need not be repeated."""
    name = f'count(ALERTS{{alertname=~"{alert}",alertstate="firing"}})'
    samples = [{"labels": "{}", "value": 1}] if fires else []
    test = {"expr": name, "eval_time": f"{HOURS}h", "exp_samples": samples}
    return {"interval": "1m", "input_series": series(written), "promql_expr_test": [test]}


def test_each_alert_fires_when_it_must_and_only_then(tmp_path: Path) -> None:
    assert sorted(FIRES) == sorted(rule.name for rule in rules())
    tests = [case(written, alert, fires=True) for alert, written in FIRES.items()]
    tests.append(case(QUIET, ".*", fires=False))
    file = tmp_path / "alerts_test.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    checked = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
