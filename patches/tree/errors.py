"""The error for a checkout that is refused."""


class CheckoutError(Exception):
    """The checkout is refused; the message says which file and why. Unless it says otherwise, nothing was written."""
