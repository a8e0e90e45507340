"""Examples that are run by the checks."""
