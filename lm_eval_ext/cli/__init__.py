"""`lm-eval-tts`: the commands beside lm-eval's own, a file for each group."""

from lm_eval_ext.cli.main import app

__all__ = ["app"]
