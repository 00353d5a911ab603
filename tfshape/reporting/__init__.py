"""Tables, plots and pages made from saved results (reads result files only)."""

from tfshape.reporting.figure import draw

__all__ = ["draw"]
