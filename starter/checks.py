"""What every face looks at before it places an order."""

from twinline.errors import InvalidOrder
from twinline.mail import AddressError, parse_address
from twinline.messages import Order, PurchaseOrder, TrialOrder


def check_address(order: Order) -> None:
    """Raises InvalidOrder for an address that no mail can go to.

    The worker refuses it too; here it is told even if nobody works just now.
    """
    if isinstance(order, TrialOrder | PurchaseOrder) and order.email is not None:
        try:
            parse_address(order.email)
        except AddressError as error:
            raise InvalidOrder(str(error), hint="Give one plain mail address, such as name@example.com.") from None
