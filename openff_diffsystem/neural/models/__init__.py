"""Networks that emit parameters."""
