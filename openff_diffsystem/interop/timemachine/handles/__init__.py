"""timemachine's handles: parameters, and how they are assigned to molecules."""
