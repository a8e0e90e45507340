"""What lm-eval wrote, read once into typed values; runs as they are published, checked and graded again."""
