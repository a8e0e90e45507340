"""Writing benchmarks as YAML: a first draft from a dataset, its variants, and everything that can be wrong with it."""
