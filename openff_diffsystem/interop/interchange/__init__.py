"""openff-interchange: an Interchange read, and written."""
