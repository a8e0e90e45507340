"""Text and gold answer to grade; knows nothing of models."""
