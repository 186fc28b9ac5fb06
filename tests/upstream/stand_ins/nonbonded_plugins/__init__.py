"""Stands in for a package that openff-interchange's tests import and that it does not ship.

Its OpenMM export tests cannot be imported without it. With it they run; the few tests of the plugins themselves
fail with stock handlers and with ours. An installed ``nonbonded_plugins`` takes precedence.
"""
