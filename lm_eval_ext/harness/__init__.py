"""Everything that knows lm-eval, and the only place that does."""
