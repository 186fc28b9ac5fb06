"""Bridges to other packages, one module per neighbour. Each is imported when it is used."""
