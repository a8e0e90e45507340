"""Test-time scaling of layer-pruned language models, as a plugin of lm-evaluation-harness."""
