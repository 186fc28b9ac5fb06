"""One file per OpenMM force."""
