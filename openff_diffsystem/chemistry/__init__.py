"""From a force field and a molecule to indices and weights. NumPy, RDKit and the toolkit; no jax."""
