"""How the demo tells its story on a terminal."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from starter.demo.witness import Loaded, Record, when
from twinline.messages import Receipt


class Show:
    """Prints the story and remembers what did not hold."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.failures: list[str] = []

    def title(self, text: str, subtitle: str) -> None:
        """Open the story."""
        self._console.print()
        self._console.print(Text(text, style="bold"))
        self._console.print(Text(subtitle, style="dim"))

    def chapter(self, text: str) -> None:
        """Begin a chapter."""
        self._console.print()
        self._console.rule(Text(text, style="bold cyan"), align="left", style="cyan")

    def say(self, text: str) -> None:
        """One sentence."""
        self._console.print(Text(text, style="dim"))

    def check(self, text: str, *, holds: bool, otherwise: str) -> None:
        """State a fact that was looked at; a fact that does not hold fails the demo."""
        if holds:
            self._console.print(Text.assemble((" ✔ ", "green"), text))
        else:
            self.failures.append(otherwise)
            self._console.print(Text.assemble((" ✘ ", "bold red"), (otherwise, "red")))

    def receipt(self, receipt: Receipt, proofs: Sequence[tuple[str, Loaded | None]], seconds: float) -> None:
        """Show an order's receipt, each half with what the running daemon itself says."""
        blocks = ", ".join(f"{block.owner} {block.case}" for block in receipt.blocks) or "none"
        head = Text.assemble(
            (f"{receipt.kind} {receipt.order}", "bold"),
            f"   line {receipt.username}   {receipt.plan} until {when(receipt.ends_at)}   blocks: {blocks}",
            (f"   {seconds:.1f} s", "dim"),
        )
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for column in ("half", "state", "revision", "what the running daemon says"):
            table.add_column(column)
        said = dict(proofs)
        for half in receipt.halves:
            style = "green" if half.state in ("applied", "removed") else "yellow"
            state = Text(half.state + (f" ({half.last_error})" if half.last_error else ""), style=style)
            table.add_row(f"{half.host} ({half.protocol})", state, str(half.revision), _proof(said.get(half.host)))
        self._console.print(Group(head, table))

    def records(self, records: Sequence[tuple[str, Record | None]]) -> None:
        """Show the line's record in each file."""
        for path, found in records:
            body = Text("\n".join(line.rstrip() for line in found.text.rstrip().splitlines()) if found else "(none)")
            self._console.print(Panel(body, title=path, title_align="left", border_style="dim", expand=False))

    def mail(self, headers: Sequence[tuple[str, str]], text: str, saved: str) -> None:
        """Show a mail as the customer reads it."""
        head = Text("\n".join(f"{name}: {value}" for name, value in headers), style="dim")
        body = Text(text.strip().replace("\r\n", "\n"))
        self._console.print(
            Panel(Group(head, Text(), body), title=f"the mail, saved as {saved}", title_align="left", expand=False)
        )

    def sessions(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Show who was connected and what became of it."""
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for column in ("session", "host", "what became of it"):
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def end(self) -> None:
        """Close the story with its verdict."""
        self._console.print()
        if not self.failures:
            self._console.print(Text("Everything shown was checked, and held.", style="bold green"))
            return
        self._console.print(Text(f"{len(self.failures)} thing(s) did not hold:", style="bold red"))
        for failure in self.failures:
            self._console.print(Text(f"  - {failure}", style="red"))


def _proof(seen: Loaded | None) -> str:
    if seen is None:
        return "does not know the account"
    state = "enabled" if seen.enabled else "disabled"
    return f"{state}, until {seen.end}, {seen.mark}"
