"""Sanitisers and ensembles to compare gradient shaping with."""
