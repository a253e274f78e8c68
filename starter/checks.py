"""What every face looks at before it places an order."""

from twinline.errors import InvalidOrder
from twinline.mail import Address, AddressError, parse_address
from twinline.messages import Order, PurchaseOrder, TrialOrder


def check_address(order: Order) -> Address | None:
    """The address of an order that has one; raises InvalidOrder for one that no mail can go to.

    The worker refuses it too; here it is told even if nobody works just now.
    """
    if not isinstance(order, TrialOrder | PurchaseOrder) or order.email is None:
        return None
    try:
        return parse_address(order.email)
    except AddressError as error:
        raise InvalidOrder(str(error), hint="Give one plain mail address, such as name@example.com.") from None
