"""Grids of trials: their store, cache and runners."""
