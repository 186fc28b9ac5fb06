"""Where the charges of atoms come from."""
