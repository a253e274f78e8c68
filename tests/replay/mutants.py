"""Copies of our workflows with something changed in them, as a careless release would."""

import importlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker import WORKFLOWS

SOURCE: Final = Path(__file__).parents[2] / "workflows"


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    name: str
    workflow: str
    """Of which type the recordings are that show it."""
    file: str
    before: str
    after: str

    def plant(self, folder: Path) -> Sequence[type]:
        """Write the changed copy into a folder of the import path; the worker's workflows as they are there."""
        package = f"mutant_{self.name}"
        shutil.copytree(SOURCE, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file in (folder / package).glob("*.py"):
            file.write_text(re.sub(r"^from workflows\.", f"from {package}.", file.read_text(), flags=re.MULTILINE))
        changed = folder / package / self.file
        text = changed.read_text()
        # A mutant that changes nothing would prove nothing.
        assert text.count(self.before) == 1, f"{self.file} has changed: bring the mutant up to date"
        changed.write_text(text.replace(self.before, self.after))
        modules = {each: each.__module__.replace("workflows", package, 1) for each in WORKFLOWS}
        return [getattr(importlib.import_module(module), each.__name__) for each, module in modules.items()]


_END_FIRST: Final = """\
        await self.keep_the_end(recorded)
        halves = self.drive_halves(recorded)
"""
_HALVES_FIRST: Final = """\
        halves = self.drive_halves(recorded)
        await self.keep_the_end(recorded)
"""


def _deeper(block: str) -> str:
    return re.sub("^", "    ", block, flags=re.MULTILINE).removesuffix("    ")


SEEN_BY_REPLAY: Final = (
    Mutant("swapped_steps", "Purchase", "purchase.py", _END_FIRST, _HALVES_FIRST),
    Mutant(
        "added_timer",
        "Renewal",
        "renewal.py",
        "        await self.tell(",
        "        await workflow.sleep(1)\n        await self.tell(",
    ),
    Mutant("removed_mail", "Close", "close.py", "        await self.tell(MailKind.CLOSED, recorded, halves)\n", ""),
    Mutant(
        "added_activity",
        "Unblock",
        "unblock.py",
        "        return await self.settle(recorded)",
        "        await self.settle(recorded)\n        return await self.settle(recorded)",
    ),
    Mutant("removed_child", "Block", "block.py", "            await self._keep_its_end(order)", "            pass"),
    Mutant("other_child", "Block", "block.py", "id=block_end_workflow_id(order)", "id=order.case"),
    Mutant("other_activity", "Reconcile", "reconcile.py", "NameOf.END_OVERDUE, sweep", "NameOf.SETTLE_ORDER, sweep"),
    Mutant(
        "removed_timer",
        "BlockEnd",
        "block_end.py",
        "await workflow.sleep(max(order.until - workflow.now(), timedelta(0)), summary=",
        "_ = (max(order.until - workflow.now(), timedelta(0)),",
    ),
    Mutant("removed_rest", "Rebuild", "rebuild.py", "            await self._rest()\n", ""),
    Mutant("no_longer_local", "Close", "ledger.py", "workflow.execute_local_activity(", "workflow.execute_activity("),
    Mutant(
        "added_look",
        "Health",
        "health.py",
        "            pause = await self._look()\n",
        "            await self._look()\n            pause = await self._look()\n",
    ),
    Mutant(
        "renamed_update",
        "Trial",
        "driver.py",
        "@workflow.update(name=NameOf.UPDATE_RETRY)",
        '@workflow.update(name="try_again")',
    ),
)
"""What Temporal itself notices when it replays."""

SEEN_BY_COMMANDS: Final = (
    Mutant("child_ended_with_parent", "Block", "block.py", "ParentClosePolicy.ABANDON", "ParentClosePolicy.TERMINATE"),
    Mutant(
        "other_queue",
        "Close",
        "halves.py",
        "task_queue=host_queue(half.ref.host)",
        'task_queue=f"hosts.{half.ref.host}"',
    ),
)
"""What it lets pass, and only the written commands show."""

PATCHED: Final = Mutant(
    "patched",
    "Purchase",
    "purchase.py",
    _END_FIRST,
    f"""\
        if workflow.patched("halves-first"):
{_deeper(_HALVES_FIRST)}        else:
{_deeper(_END_FIRST)}""",
)
"""The swap of `swapped_steps`, for workflows that start with it; the others go on as they began."""
