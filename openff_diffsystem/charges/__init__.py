"""Where partial charges come from: molecules, library charges, increments, charge models."""
