"""Generation under thinking budgets; independent of lm-eval."""
