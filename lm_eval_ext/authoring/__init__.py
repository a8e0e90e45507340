"""Writing benchmarks as YAML: a first draft from a dataset, its variants, and the checks."""
