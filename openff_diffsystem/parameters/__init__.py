"""Theta (the numbers of a force field) and the map from theta to the parameters of a system."""
