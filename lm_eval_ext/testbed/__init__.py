"""Original problems that work offline: chains, depth, countdown, and functions to write."""
