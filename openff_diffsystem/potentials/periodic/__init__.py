"""Energies of systems in a box."""
