"""The `lm_eval` command of a run. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from lm_eval_ext.sweep.manifest import Manifest
from lm_eval_ext.sweep.plan import PlannedRun

_PLAIN = re.compile(r"[\w./:+@~ -]+")
_NUMBER = re.compile(r"[+-]?[\d_]*\.?[\d_]*([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def command(run: PlannedRun, manifest: Manifest, output: str, extra: Mapping[str, object]) -> list[str]:
    """The arguments of `lm_eval` for a run.

    Args:
        run: the run.
        manifest: that it is from.
        output: folder for its results.
        extra: further model arguments: the recipe that was chosen, the journal, the commit.
    """
    ours = run.seed is not None
    options = {
        "--model": manifest.engine, "--model_args": model_args({**run.arguments, **extra}),
        "--tasks": ",".join(run.tasks), "--seed": run.seed, "--batch_size": manifest.batch_size,
        "--limit": manifest.limit,
        "--gen_kwargs": json.dumps(manifest.gen_kwargs) if ours and manifest.gen_kwargs else None,
        "--include_path": manifest.include_path, "--output_path": output,
    }  # fmt: skip
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return [*words, "--log_samples"]


def model_args(arguments: Mapping[str, object]) -> str:
    """Model arguments as lm-eval takes them: `name=value` pairs, or JSON if a value would be read as another one.

    >>> model_args({"pretrained": "a", "drop_layers": [1, 2]}), model_args({"pretrained": "a,b"})
    ('pretrained=a,drop_layers=[1,2]', '{"pretrained": "a,b"}')
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if not all(map(_survives, given.values())):
        return json.dumps(given, default=str)
    return ",".join(f"{name}={_value(value)}" for name, value in given.items())


def _survives(value: object) -> bool:
    """Whether a value is read as what it is where it stands in `name=value,name=value`."""
    if isinstance(value, (list, tuple)):
        return all(isinstance(one, int) for one in value)
    text = str(value)
    if isinstance(value, (str, Path)):
        named = text.lower() in ("none", "true", "false", "null")
        return _PLAIN.fullmatch(text) is not None and _NUMBER.fullmatch(text) is None and not named
    return not isinstance(value, dict)


def _value(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)


def chosen_on_load(run: PlannedRun) -> dict[str, object]:
    """Model arguments that choose a run's layers while the model is loaded, for a command that stands alone."""
    if run.stage is None:
        return {}
    how = run.stage.pruning
    words = [str(how.method), str(run.count), *(f"{name}={value}" for name, value in how.parameters.items())]
    numbers = {"calibration_samples": how.samples, "calibration_tokens": how.max_tokens}
    given = {"prune": ":".join(words), "calibration": how.calibration, **numbers}
    return {name: value for name, value in given.items() if value is not None}
