"""Decoding engines; each module implements `Engine`."""
