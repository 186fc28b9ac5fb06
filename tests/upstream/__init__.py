"""OpenFF's own test suites, run with the stock handlers and with ours: ``python -m tests.upstream.run``."""
