"""Shows findings, for people a line each, and draws the exit code from them."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.text import Text

from starter.cli.render import Exit, out, plain_table, show_json, show_table
from twinline.hosts.check import Finding, Verdict

_STYLES: Final = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def exit_of(findings: Sequence[Finding]) -> Exit:
    """4 when a person has to repair something, 6 when something only did not answer, 0 with warnings at most."""
    failed = [finding for finding in findings if finding.verdict is Verdict.FAIL]
    if not failed:
        return Exit.DONE
    return Exit.UNAVAILABLE if all(finding.retryable for finding in failed) else Exit.REFUSED


def worst(findings: Sequence[Finding]) -> Verdict:
    """The gravest verdict among them."""
    verdicts = {finding.verdict for finding in findings}
    return next((verdict for verdict in (Verdict.FAIL, Verdict.WARN) if verdict in verdicts), Verdict.OK)


def show_findings(findings: Sequence[Finding], *, as_json: bool, brief: bool = False) -> None:
    """Print all findings and how many there are of each verdict; as JSON they are one list.

    `brief` leaves out, for people, what is as it must be.
    """
    if as_json:
        show_json(findings)
        return
    table = plain_table("", "", "", "")
    table.show_header = False
    shown = [finding for finding in findings if finding.verdict is not Verdict.OK or not brief]
    for finding in shown:
        message = Text(finding.message)
        if finding.hint:
            message.append(f"\n→ {finding.hint}", style="dim")
        verdict = Text(f"{finding.verdict:<4}", style=_STYLES[finding.verdict])
        table.add_row(verdict, Text(finding.subject), Text(finding.item), message)
    if shown:
        show_table(table)
    out().print(Text(summary(findings), style="dim"))


def summary(findings: Sequence[Finding]) -> str:
    """How many checks passed, and how many findings wait for a person."""
    count = Counter(finding.verdict for finding in findings)
    parts = [f"{count[Verdict.OK]} checks passed"]
    parts += [f"{count[Verdict.WARN]} to look at"] if count[Verdict.WARN] else []
    parts += [f"{count[Verdict.FAIL]} to repair"] if count[Verdict.FAIL] else []
    return ", ".join(parts)
