"""Bridges to other packages. Each imports its package when it is first used."""
