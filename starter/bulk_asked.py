"""What callers say of a bulk run beside its rows: the same over HTTP and in the Python client."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import AwareDatetime, Field

from twinline.bulk import BulkBlock, BulkExtend, BulkImport, BulkKind, Job, RunId
from twinline.messages import BlockOwner, Days, Message, OrderId, PairName, Reason, RegionName


class RunOptions(Message, ABC):
    """A run; the same id with the same rows and options is the same run."""

    kind: ClassVar[BulkKind]

    run: RunId = Field(description="Your own id of the run.", examples=["leak-7"])

    @abstractmethod
    def job(self) -> Job:
        """What it asks for."""

    def defaults(self) -> Mapping[str, Any]:
        """What stands where a row says nothing."""
        return {}


class OfRows(RunOptions, ABC):
    """A run whose lines are named row by row."""

    skip_invalid: bool = Field(default=False, description="Begin without the rows that can't be carried out.")


class BlockOptions(OfRows):
    """Block lines, each with the reason and owner of its row."""

    kind = BulkKind.BLOCK

    reason: Reason | None = Field(default=None, description="Of rows without one; the customers read it.")
    owner: BlockOwner = Field(default=BlockOwner.ABUSE, description="Whose blocks, in rows without one.")
    case: OrderId | None = Field(default=None, description="Your own id of the case; that of the run if there is none.")
    until: AwareDatetime | None = Field(default=None, description="When the blocks end by themselves.")

    def job(self) -> Job:
        """What it asks for."""
        return BulkBlock(case=self.case, until=self.until)

    def defaults(self) -> Mapping[str, Any]:
        """Owner, and reason if there is one."""
        return {"owner": self.owner} | ({} if self.reason is None else {"reason": self.reason})


class ExtendRun(RunOptions):
    """Give days to every line of a region that runs when the run begins; plans and blocks stay as they are."""

    kind = BulkKind.EXTEND

    region: RegionName
    days: Days = Field(description="How many days each line gets.")
    pair: PairName | None = Field(default=None, description="Only lines of this pair of the region.")
    tell: bool = Field(default=False, description="Whether each customer gets a mail about it.")

    def job(self) -> Job:
        """What it asks for."""
        return BulkExtend(days=self.days, region=self.region, pair=self.pair, tell=self.tell)


class ImportOptions(OfRows):
    """Take lines over from another system, each with its username, password, address and end."""

    kind = BulkKind.IMPORT

    region: RegionName | None = Field(default=None, description="Of rows that name neither region nor pair.")
    pair: PairName | None = Field(default=None, description="The same; the pair that the receivers know.")

    def job(self) -> Job:
        """What it asks for."""
        return BulkImport()

    def defaults(self) -> Mapping[str, Any]:
        """Region or pair, if one is given."""
        return {name: value for name, value in (("region", self.region), ("pair", self.pair)) if value is not None}
