"""lm-eval's model classes: thin bridges from lm-eval to pruning and generation."""
