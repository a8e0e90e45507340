"""`python -m lm_eval_ext.cli ...`: `lm-eval-tts ...` where the command is not installed."""

from lm_eval_ext.cli import app

if __name__ == "__main__":
    app(prog_name="lm-eval-tts")
