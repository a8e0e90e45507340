"""What the arguments of a model do to a run, as `effects.yaml` says; everything that depends on it asks here."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, cast

import yaml

from lm_eval_ext.errors import did_you_mean
from lm_eval_ext.pruning.checkpoint import find_file

logger = logging.getLogger("lm_eval.tts")

Effect = Literal["model", "texts", "control", "place", "private"]
Mark = Literal["recorded", "numerics", "chooses", "calibrates", "loads", "driver", "path", "secret", "usually-on"]

EFFECTS: Mapping[Effect, str] = {
    "model": "the model: its weights, or how they are computed",
    "texts": "what the same model is asked, how long its texts may be, or its precision",
    "control": "how it is run, as an experiment; it is compared with its base run the same way",
    "place": "only where or how fast it runs",
    "private": "the same, and it is never published",
}

_USUAL: tuple[object, ...] = (None, False, "auto", "default", "", {})
_WORDS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


@cache
def _table() -> dict[str, tuple[str, ...]]:
    """Words of each argument, its effect first."""
    rows: dict[str, str] = yaml.safe_load(Path(__file__).with_name("effects.yaml").read_text("utf-8"))
    return {name: tuple(words.split()) for name, words in rows.items()}


def effect(name: str) -> Effect | None:
    """What an argument does; None if that is not known.

    >>> effect("quantization"), effect("max_num_seqs"), effect("rope_theta")
    ('model', 'place', None)
    """
    words = _table().get(name)
    return cast("Effect", words[0]) if words else None


def of_effect(effect: Effect) -> list[str]:
    """Names of the arguments with an effect, in the table's order."""
    return [name for name, words in _table().items() if words[0] == effect]


def marked(mark: Mark) -> tuple[str, ...]:
    """Names of the arguments with a mark, in the table's order."""
    return tuple(name for name, words in _table().items() if mark in words[1:])


def is_usual(name: str, value: object) -> bool:
    """Whether an argument has the value that it has if it isn't given; a flag may be written as a word."""
    said = _WORDS.get(value.lower(), value) if isinstance(value, str) else value
    if name in marked("usually-on"):
        return said in (None, True)
    return said in _USUAL


NEAR = 0.85  # how alike an unknown name must be to a known one, to be refused where a loader may know any name


def known_names() -> tuple[str, ...]:
    """Names of all arguments in the table."""
    return tuple(_table())


def unknown(names: Iterable[str]) -> list[str]:
    """The arguments that the table does not have."""
    return [name for name in names if name not in _table()]


def warn_of_unknown(names: Iterable[str]) -> None:
    """Log which arguments are taken for ones that change the model."""
    for name in unknown(names):
        hint = did_you_mean(name, known_names())
        logger.warning("what %s changes isn't known here: this is taken for another model than without%s", name, hint)


def changing(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that make another model, but for those that a run records in fields of its own.

    >>> changing({"quantization": "fp8", "kv_cache_dtype": "auto", "max_num_seqs": 8, "rope_theta": 1e4})
    {'quantization': 'fp8', 'rope_theta': 10000.0}
    """
    recorded = marked("recorded")
    return _unusual(arguments, lambda name: effect(name) in ("model", None) and name not in recorded)


def unseen(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that may change texts and show neither in the weights nor in the config of a loaded model."""
    numerics = marked("numerics")
    return _unusual(arguments, lambda name: effect(name) is None or name in numerics)


def controlling(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that make an experiment of a run.

    >>> controlling({"thinking": "off", "stop_loops": False, "quantization": "fp8"})
    {'thinking': 'off'}
    """
    return _unusual(arguments, lambda name: effect(name) == "control")


def _unusual(arguments: Mapping[str, object], asked: Callable[[str], bool]) -> dict[str, object]:
    """Those that are asked for and have another value than if they weren't given.

    In the table's order, so that the order in which they were given makes no other model; unknown ones last.
    """
    places = {name: place for place, name in enumerate(_table())}
    ordered = sorted(arguments.items(), key=lambda pair: (places.get(pair[0], len(places)), pair[0]))
    return {name: value for name, value in ordered if asked(name) and not is_usual(name, value)}


def publishable(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that may be published; of those that aren't known, nobody knows whether they hold a secret."""
    return {name: value for name, value in arguments.items() if effect(name) not in ("private", None)}


def changed_fingerprint(fingerprint: str, arguments: Mapping[str, object]) -> str:
    """A checkpoint's fingerprint, changed by the arguments with which it is loaded; 16 hex digits.

    Args:
        fingerprint: of the checkpoint.
        arguments: as `changing` returns them; of an adapter (`lora_local_path`), its tensors count and not its place.
    """
    if not arguments:
        return fingerprint
    said = {name: value for name, value in arguments.items() if name != "lora_local_path"}
    digest = hashlib.sha256(f"{fingerprint} {json.dumps(said, sort_keys=True, default=str)}".encode())
    adapter = arguments.get("lora_local_path")
    for name in ("adapter_config.json", "adapter_model.safetensors") if adapter else ():
        found = find_file(str(adapter), name, {})
        digest.update(found.read_bytes() if found else str(adapter).encode())
    pickled = find_file(str(adapter), "adapter_model.bin", {}) if adapter else None
    if pickled:
        digest.update(pickled.read_bytes())
    return digest.hexdigest()[:16]
