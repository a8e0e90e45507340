"""The model classes that lm-eval finds: `pruned-hf` and `pruned-vllm`."""
