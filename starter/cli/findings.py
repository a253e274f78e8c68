"""Shows findings, for people a line each, and draws the exit code from them."""

from collections.abc import Sequence
from typing import Final

from pydantic import TypeAdapter
from rich.text import Text

from starter.cli.render import Exit, out, plain_table, show_json
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


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print all findings; as JSON they are one list."""
    if as_json:
        show_json(TypeAdapter(tuple[Finding, ...]).dump_json(tuple(findings)).decode())
        return
    table = plain_table("", "", "", "")
    table.show_header = False
    for finding in findings:
        message = Text(finding.message)
        if finding.hint:
            message.append(f"\n→ {finding.hint}", style="dim")
        verdict = Text(f"{finding.verdict:<4}", style=_STYLES[finding.verdict])
        table.add_row(verdict, Text(finding.subject), Text(finding.item), message)
    out().print(table)
