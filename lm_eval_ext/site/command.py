"""The command that gives a run again, without what only its machine knows."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

_SECRET = re.compile(r"token|secret|password|passwd|api_?key|auth|credential", re.I)
_SECRET_VALUE = re.compile(r"\b(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9-]{8,}|gh[pousr]_[A-Za-z0-9]{8,})")
_LOCAL = re.compile(r"^(?:[/\\~.]|[A-Za-z]:[\\/])")
# Where a machine keeps things, and no part of what is computed.
_LEFT_OUT = ("journal", "cache_dir", "download_dir", "offload_folder")
_SHOWN_SECRET_NAMES = ("tokenizer", "tokenizer_mode", "add_bos_token", "prefix_token_id", "skip_special_tokens",
                       "answer_token_budget", "max_num_batched_tokens")  # fmt: skip


def public_name(name: object) -> str:
    """A Hub name as it is; of a path the last part."""
    text = str(name).strip().rstrip("/\\") or "unknown"
    if _LOCAL.match(text) or text.count("/") > 1 or "\\" in text:
        text = re.split(r"[/\\]", text)[-1] or "unknown"
    return text[:200]


def public_value(value: Any) -> Any:
    """A value without paths and secrets."""
    if isinstance(value, str):
        return _SECRET_VALUE.sub("[redacted]", public_name(value) if _LOCAL.match(value) else value)
    if isinstance(value, Mapping):
        return {str(key): public_value(one) for key, one in value.items() if not _is_secret(str(key))}
    return [public_value(one) for one in value] if isinstance(value, (list, tuple)) else value


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and name not in _SHOWN_SECRET_NAMES


def command_of(config: Mapping[str, Any], tasks: Sequence[str], base: str) -> str:
    """As one line for a shell."""
    arguments = {**_arguments(config.get("model_args")), "pretrained": base}
    words = ["lm_eval", "--model", str(config.get("model") or "hf"), "--model_args", _pairs(arguments)]
    words += ["--tasks", ",".join(tasks)]
    if config.get("gen_kwargs"):
        words += ["--gen_kwargs", _pairs(public_value(config["gen_kwargs"]))]
    for name in ("batch_size", "limit"):
        if config.get(name) is not None:
            words += [f"--{name}", f"{config[name]:g}" if isinstance(config[name], float) else str(config[name])]
    seeds = [config.get(f"{name}_seed") for name in ("random", "numpy", "torch", "fewshot")]
    if all(isinstance(seed, int) for seed in seeds):
        words += ["--seed", ",".join(map(str, seeds))]
    return shlex.join(words)[:4000]


def _arguments(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        given = dict(pair.split("=", 1) for pair in re.split(r",(?![^\[]*\])", given) if "=" in pair)
    shown = public_value(given) if isinstance(given, Mapping) else {}
    return {name: value for name, value in shown.items() if name not in _LEFT_OUT}


def _pairs(values: Any) -> str:
    if not isinstance(values, Mapping):
        return str(values)
    return ",".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for name, value in values.items()
    )
