"""Bridges to the frameworks, engines and projects around this package, one module or folder per neighbour."""
