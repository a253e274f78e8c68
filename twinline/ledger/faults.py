"""What every database can have wrong, in our words: come back later, or repair the set-up."""

from twinline.errors import Misconfigured, Unavailable


def away() -> Unavailable:
    """Nothing is known but that there was no answer."""
    return Unavailable("the ledger does not answer", hint="Check the database; the order can be repeated then.")


def taken() -> Unavailable:
    """Something that must be unique was written by somebody else since we looked."""
    return Unavailable(
        "another order was recorded at the same moment", hint="Repeat the order: it is answered by then."
    )


def lacks_tables() -> Misconfigured:
    """The database is older than this code, or empty."""
    return Misconfigured(
        "the ledger lacks tables of this version of twinline",
        hint="Start `twinline worker`: it migrates the ledger before anything else.",
    )
