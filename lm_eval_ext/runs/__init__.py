"""Reads lm-eval's results into typed values; publishes, checks and regrades runs."""
