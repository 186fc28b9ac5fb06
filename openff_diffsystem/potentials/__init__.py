"""Energies: pure functions of positions and parameters, nm and kJ/mol."""
