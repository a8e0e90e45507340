"""Compares runs: typed results, without any rendering."""
