"""The `lm-eval-tts` command line, one module per command group."""

from lm_eval_ext.cli.main import app

__all__ = ["app"]
