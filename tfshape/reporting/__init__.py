"""Tables, plots and pages made from saved results (reads result files only)."""
