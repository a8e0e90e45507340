"""Verdicts on many candidates for few tokens: evaluates models in blocks, and stops where a verdict stands."""
