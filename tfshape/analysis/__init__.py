"""Gradient artifacts of poison: magnitude and orientation."""
