"""From a model to the smallest one that still reasons: what candidates would write, a search, and its proof."""
