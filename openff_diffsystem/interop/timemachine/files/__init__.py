"""timemachine's force-field files."""
