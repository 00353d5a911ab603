"""absl flags and the mains behind `bin/*`."""
