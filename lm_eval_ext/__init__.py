"""Test-time scaling of layer-pruned language models: a plugin for lm-evaluation-harness, and a library.

    import lm_eval_ext as tts

    model = tts.load()                                     # the embedded tiny-chain; or pass a model name or folder
    run = tts.evaluate(model, ["tts_chain_b16", "tts_chain_b64"], limit=20)

Names are loaded lazily, on first use. The public API is `__all__`.

Every start of Python imports this module (see `_autoload`), so it imports nothing itself, not even `typing`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lm_eval_ext.api import (
        build_site,
        choose_layers,
        compare,
        diagnose,
        diverge,
        evaluate,
        gate,
        generate,
        grade,
        load,
        read_runs,
        shrink,
    )
    from lm_eval_ext.statistics.betting import KeptTest
    from lm_eval_ext.statistics.estimators import maj_at_k, pass_at_k
    from lm_eval_ext.statistics.intervals import mean_interval
    from lm_eval_ext.statistics.paired import difference_interval, ratio_interval

_HOMES = {  # of what isn't in `lm_eval_ext.api`
    "KeptTest": "betting",
    "maj_at_k": "estimators",
    "pass_at_k": "estimators",
    "mean_interval": "intervals",
    "difference_interval": "paired",
    "ratio_interval": "paired",
}
__all__ = [
    "KeptTest",
    "build_site",
    "choose_layers",
    "compare",
    "diagnose",
    "difference_interval",
    "diverge",
    "evaluate",
    "gate",
    "generate",
    "grade",
    "load",
    "maj_at_k",
    "mean_interval",
    "pass_at_k",
    "ratio_interval",
    "read_runs",
    "shrink",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'lm_eval_ext' has no attribute {name!r}")
    from importlib import import_module

    home = f"lm_eval_ext.statistics.{_HOMES[name]}" if name in _HOMES else "lm_eval_ext.api"
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
