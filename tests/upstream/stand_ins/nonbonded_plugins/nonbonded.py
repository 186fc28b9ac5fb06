"""The names that the tests import, and nothing behind them."""


class BuckinghamHandler:
    """Not a handler."""


class DoubleExponentialHandler:
    """Not a handler."""


class SMIRNOFFBuckinghamCollection:
    """Not a collection."""


class SMIRNOFFDoubleExponentialCollection:
    """Not a collection."""
