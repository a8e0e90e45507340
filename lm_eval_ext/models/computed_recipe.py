"""`prune=shortgpt:3`: a recipe that is computed when the model is loaded, once; the next run finds it."""

from __future__ import annotations

import ast
import gc
import hashlib
import json
import logging
from importlib.metadata import version
from typing import Any, NamedTuple

from filelock import FileLock

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.models.task_prompts import task_prompts
from lm_eval_ext.pruning.architecture import check_supported, depth
from lm_eval_ext.pruning.calibration import EMBEDDED, Calibration, calibration
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.pruning.choosing import SOFTWARE, WITHOUT_TEXTS, choose
from lm_eval_ext.pruning.loading import checkpoint_fingerprint
from lm_eval_ext.pruning.recipe import Recipe, load_recipe, write_recipe
from lm_eval_ext.pruning.subject import Notebook, Subject
from lm_eval_ext.registry import cache_folder

logger = logging.getLogger("lm_eval.tts")


class Wish(NamedTuple):
    """What `METHOD:N[:name=value...]` asks for."""

    method: str
    layers: int
    parameters: dict[str, Any]


def parse_wish(prune: object) -> Wish:
    """A method, a number of layers, and the method's parameters.

    Raises:
        ArgumentError: it does not read so.
    """
    method, *rest = str(prune).split(":")
    if not rest or not rest[0].isdecimal():
        raise ArgumentError(
            f"prune={prune}: give METHOD:N, as shortgpt:2, or METHOD:N:NAME=VALUE, as magnitude:2:norm=l2"
        )
    return Wish(method, int(rest[0]), parse_parameters(rest[1:]))


def parse_parameters(pairs: list[str]) -> dict[str, Any]:
    """Parameters of a method from `name=value`; a value is a Python literal or a word."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise ArgumentError(f"parameter {wrong[0]!r}: give it as NAME=VALUE")
    return {name.strip(): _literal(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def computed_recipe(pretrained: Any, revision: str | None, prune: object, texts: str | None, **options: Any) -> Recipe:
    """The recipe that `prune=` asks for, from the cache if it was computed before.

    Args:
        pretrained: Hub name or folder of the base model.
        revision: branch, tag or commit.
        prune: as `parse_wish` reads it.
        texts: calibration source, `embedded` by default.
        options: `dtype` and `trust_remote_code` of the model.
    """
    if not isinstance(pretrained, str):
        raise ArgumentError(f"prune={prune}: pass pretrained as a name or folder of the model to prune")
    wish = parse_wish(prune)
    subject = subject_for(pretrained, revision, texts or EMBEDDED, **options)
    path = cache_folder() / "recipes" / f"{_digest([_identity(subject, wish.method), *wish])}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # of several processes that load the model one computes it
        if path.is_file():
            logger.info("prune=%s: recipe of an earlier run, %s", prune, path)
            return load_recipe(str(path))
        subject.notebook = notebook_for(subject, wish.method)
        recipe = choose(subject, wish.method, [wish.layers], wish.parameters)[wish.layers]
        write_recipe(recipe, path)
    logger.info("prune=%s: recipe written to %s", prune, path)
    release(subject)
    return recipe


def subject_for(
    pretrained: str,
    revision: str | None,
    texts: str,
    *,
    samples: int = 16,
    trust_remote_code: bool = False,
    **options: Any,
) -> Subject:
    """A base model with its calibration texts, on a GPU where there is one."""
    import torch

    config = read_config(pretrained, revision or "main", trust_remote_code)
    check_supported(config)
    options.setdefault("device_map", "auto" if torch.cuda.is_available() else None)

    def found() -> Calibration:
        return calibration(texts, samples, task_prompts)

    return Subject(
        pretrained, config, found, revision=revision or "main", trust_remote_code=trust_remote_code, **options
    )


def notebook_for(subject: Subject, method: str) -> Notebook:
    """Where numbers found of these weights on these texts are kept."""
    return Notebook(cache_folder() / "prune" / f"{_digest(_identity(subject, method))}.jsonl")


def _identity(subject: Subject, method: str) -> list[object]:
    """What decides the numbers that a method finds."""
    layers = range(depth(subject.config))
    return [
        checkpoint_fingerprint(subject.pretrained, subject.config, layers, subject.revision),
        subject.pretrained, subject.dtype, subject.max_tokens,
        *map(version, SOFTWARE),
        "" if method in WITHOUT_TEXTS else subject.calibration.sha256,
    ]  # fmt: skip


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def release(subject: Subject) -> None:
    """Free the memory of a model that has been looked at."""
    import torch

    for name in ("model", "layers"):
        vars(subject).pop(name, None)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
