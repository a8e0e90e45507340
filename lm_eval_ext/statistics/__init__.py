"""Estimators over samples, intervals, differences, ratios and tests. Pure functions of scores."""
