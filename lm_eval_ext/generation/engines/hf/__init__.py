"""Decoding with transformers: continuous batching over a cache of fixed slots."""
