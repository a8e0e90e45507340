"""Logs of other tools, told apart by their content."""
