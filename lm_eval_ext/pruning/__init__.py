"""Recipes to models with fewer layers; knows nothing of lm-eval."""
