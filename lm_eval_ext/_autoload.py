"""Waits for lm-eval to be imported, then registers our components with it.

lm-eval 0.4.13 has no plugin discovery, so a `.pth` file imports this module every time the interpreter starts. It must
be cheap and must never raise, so it only imports modules that the interpreter has already loaded (not even `typing`).
`LM_EVAL_TTS_AUTOLOAD=0` switches it off.
"""

import os
import sys

_HOOKS = {
    "lm_eval.models": "register_models",
    "lm_eval.tasks.manager": "register_tasks",
    "lm_eval.evaluator": "check_models",
    "lm_eval.loggers.wandb_logger": "log_scores",
    "lm_eval.config.evaluate_config": "read_configs",
}


class _Finder:
    """A meta path finder that finds nothing itself, but hooks into the loading of the lm-eval modules we extend."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in _HOOKS:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is _Finder or find is None else find(name, path, target)
            if spec is not None:
                _follow(spec.loader, name)
                return spec
        return None


def _follow(loader, name):
    execute = loader.exec_module

    def exec_module(module):
        loader.exec_module = execute
        execute(module)
        _register(_HOOKS[name])

    loader.exec_module = exec_module


def _register(step):
    try:
        from lm_eval_ext.harness import plugin

        getattr(plugin, step)()
    except Exception as error:  # a broken plugin must not break lm-eval
        import logging

        logging.getLogger("lm_eval").warning("lm-eval-tts could not register itself: %r", error)


def activate():
    """Hook into lm-eval, which must not be imported yet."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)  # the class itself: no instance is needed


if os.environ.get("LM_EVAL_TTS_AUTOLOAD", "1") != "0":
    activate()
