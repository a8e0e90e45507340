"""lm-eval's command line, for `python -m lm_eval_ext`."""

from __future__ import annotations


def main() -> None:
    """Run lm-eval's command line with the words that were given."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
