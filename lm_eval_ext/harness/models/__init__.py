"""Our lm-eval model classes: `pruned-hf` and `pruned-vllm`."""
