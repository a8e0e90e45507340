"""Pruning methods, which choose the layers to drop: one module each, with definition and source."""
