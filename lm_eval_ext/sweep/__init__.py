"""Whole studies from one manifest: which runs there are, and running, watching and collecting them."""
