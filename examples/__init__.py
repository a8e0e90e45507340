"""Examples, which are run by the checks."""
