"""A storefront in a page: sells days to a new customer and shows the receipt. docs/storefront.md explains it.

With `make dev` in another terminal:

    . .twinline/env.sh
    python examples/storefront.py jane@example.org --region eu --days 30 --order P-1001
"""

import argparse
import asyncio
import os
import sys
from datetime import timedelta

from starter.client import Twinline
from twinline.errors import RegionFull, TwinlineError
from twinline.messages import HalfState, Receipt

SHOP = "shop"
"""Order ids count per caller: those of this shop can't collide with anybody else's."""


async def sell(email: str, *, region: str, days: int, order: str) -> int:
    """Place the order and wait until it is done; the exit code of the program."""
    twinline = await Twinline.connect()
    try:
        # `order` was stored with the payment. After a crash or a time-out the same call is made again: still one line.
        status = await twinline.purchase(
            order, email=email, region=region, days=days, caller=SHOP, patience=timedelta(seconds=30)
        )
    except RegionFull:
        print(f"We are sold out in {region}. You were not charged.")
        return 1
    if status.receipt is None:
        print("Thank you! Your order is safe; the mail follows.")
        return 0
    show(status.receipt, done=status.done)
    return 0


def show(receipt: Receipt, *, done: bool) -> None:
    """Tell the customer what is true now. The password is in the mail, and nowhere else."""
    print(f"Thank you! Your line {receipt.username} is paid until {receipt.ends_at:%Y-%m-%d %H:%M} UTC.")
    for half in receipt.halves:
        print(f"  {half.host:<12} {'ready' if half.state is HalfState.APPLIED else 'follows by itself'}")
    print("  mail         " + ("on its way" if receipt.mail is None else receipt.mail.state))
    if not done:
        print("Not all of it is ready yet; your receiver works as soon as one server is.")


def main() -> int:
    """Read the shopping cart from the command line."""
    parser = argparse.ArgumentParser(description="Sell days to a new customer.")
    parser.add_argument("email")
    parser.add_argument("--region", required=True)
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--order", required=True, help="the shop's own id of the order")
    asked = parser.parse_args()
    try:
        return asyncio.run(sell(asked.email, region=asked.region, days=asked.days, order=asked.order))
    except TwinlineError as error:
        again = "Try again later." if error.retryable else "Trying again will not help."
        print(f"{error.type}: {error.message}\n{error.hint}\n{again}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: Temporal's SDK may abort a process that ends while one of its threads is at work.
    os._exit(code)
