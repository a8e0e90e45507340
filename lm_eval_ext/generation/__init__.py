"""Requests to completions under thinking budgets; knows nothing of lm-eval."""
