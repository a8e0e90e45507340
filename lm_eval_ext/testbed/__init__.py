"""Test material that works offline: original problems, a tiny model and its training, and made-up lm-eval output."""
