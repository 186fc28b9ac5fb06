"""Theta, the numbers of a force field, and the map from them to the parameters of a system."""
