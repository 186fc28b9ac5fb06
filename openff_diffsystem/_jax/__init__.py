"""What jax lacks."""
