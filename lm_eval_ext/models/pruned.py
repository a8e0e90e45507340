"""What our lm-eval models have in common: layers that are not loaded, requests that think under a budget."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar, NoReturn

from lm_eval.api.instance import Instance

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.options import asks_for_thinking
from lm_eval_ext.models.arguments import budget, chosen_recipe, flag, parse_model_args
from lm_eval_ext.models.computed_recipe import computed_recipe
from lm_eval_ext.models.thinking_requests import ThinkingRequests
from lm_eval_ext.pruning.recipe import Recipe, format_layers
from lm_eval_ext.pruning.recover import recovery_of
from lm_eval_ext.registry import TINY_CHAIN

logger = logging.getLogger("lm_eval.tts")

THINKING_ARGUMENTS = (
    "thinking_format",
    "answer_token_budget",
    "auto_chat_template",
    "share_traces",
    "stop_loops",
    "journal",
    "seed",
)
CHOOSING_ARGUMENTS = ("drop_layers", "recipe", "prune")
OUR_ARGUMENTS = (*CHOOSING_ARGUMENTS, "calibration", "trust_layer_fields", *THINKING_ARGUMENTS)


class PrunedLM(ABC):
    """To be mixed into one of lm-eval's model classes, before it.

    The class it is mixed into gives what is loaded and how it decodes (see `ThinkingModel`); this takes the arguments:

    Args:
        drop_layers: layers to drop, as `[25, 26]`, `"25-27"` or `"25+26"`.
        recipe: name of a recipe in `pruned_models/`, or path of a YAML.
        prune: `METHOD:N`, as `shortgpt:3`: layers chosen now by a method, or by an earlier run with the same words.
        calibration: the texts that `prune` chooses by: `embedded`, a corpus, a text file, `task:NAME`.
        trust_layer_fields: drop layers of an architecture for which that could not be shown to be exact.
        thinking_format: name of a format in `thinking_formats.yaml`; found from the tokenizer if left out.
        answer_token_budget: most tokens of an answer where the task says nothing; -1 is no limit.
        auto_chat_template: apply the tokenizer's chat template to thinking requests that come without it.
        share_traces: decode one trace for all budgets of a prompt; False gives the same results more slowly.
        stop_loops: end a trace that repeats itself exactly (8 copies, 256 tokens), and let it answer.
        journal: where finished generations are kept for a run that goes on after a crash: a path, or "off".
        seed: base of all sampling seeds; by default the seed that lm-eval gives torch (`--seed`).
    """

    NAME: ClassVar[str]
    recipe: Recipe | None
    _kept: tuple[int, ...] | None = None

    def _take(
        self,
        pretrained: Any,
        revision: str | None,
        *,
        drop_layers: object = None,
        recipe: str | None = None,
        prune: str | None = None,
        calibration: str | None = None,
        trust_layer_fields: bool = False,
        load_options: Mapping[str, Any] | None = None,
        thinking_format: str | None = None,
        answer_token_budget: int = 1024,
        auto_chat_template: bool = True,
        share_traces: bool = True,
        stop_loops: bool = False,
        journal: str | bool | None = "on",
        seed: int | None = None,
    ) -> tuple[Any, str]:
        """Keep our arguments; what is to be loaded, and at which revision."""
        self._thinking_arguments: dict[str, Any] = {
            "format_name": thinking_format,
            "answer_budget": budget("answer_token_budget", answer_token_budget),
            "auto_chat_template": flag("auto_chat_template", auto_chat_template),
            "share_traces": flag("share_traces", share_traces),
            "stop_loops": flag("stop_loops", stop_loops),
            "journal": journal,
            "seed": seed,
        }
        self._trust_layer_fields = flag("trust_layer_fields", trust_layer_fields)
        if calibration is not None and prune is None:
            raise ArgumentError(f"calibration={calibration}: goes with prune=METHOD:N, which is not given")
        if pretrained is None and recipe is None:
            pretrained = TINY_CHAIN.name
            logger.info("no pretrained given: evaluating the embedded tiny-chain, a small model for trying things out")
        if pretrained == TINY_CHAIN.name:
            pretrained = str(TINY_CHAIN)
        computed = None
        if prune is not None:
            computed = functools.partial(
                computed_recipe, pretrained, revision, prune, calibration, **(load_options or {})
            )
        self.recipe = chosen_recipe(pretrained, revision, drop_layers, recipe, computed)
        if pretrained is None:
            pretrained, revision = self._base_of_recipe(revision)
        if self.recipe is not None and not isinstance(pretrained, str):
            raise ArgumentError(
                "layers are dropped while loading: pass pretrained as a name or folder, not a loaded model"
            )
        return pretrained, revision or "main"

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> PrunedLM:
        """As lm-eval's, but commas inside brackets do not separate arguments."""
        extra = {key: value for key, value in (additional_config or {}).items() if value is not None}
        return cls(**{**parse_model_args(arg_string), **extra})

    def _base_of_recipe(self, revision: str | None) -> tuple[str, str]:
        assert self.recipe is not None  # else the embedded model was taken
        return self.recipe.base, revision or self.recipe.revision

    def _log_pruning(self) -> None:
        if self._kept is not None and self.recipe is not None:
            info = self._pruning_info()
            logger.info(
                "dropped layers %s of %d: %d parameters of %d stay",
                format_layers(self.recipe.drop),
                len(self._kept) + len(self.recipe.drop),
                info["parameters_after"],
                info["parameters_before"],
            )

    # Generation -------------------------------------------------------------------------------------------

    @functools.cached_property
    def _thinking(self) -> ThinkingRequests:
        return ThinkingRequests(self, **self._thinking_arguments)  # type: ignore[arg-type]  # the class mixed into has it

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Requests that name a thinking budget by our engine, the others as lm-eval's class does them."""
        ours = [index for index, request in enumerate(requests) if asks_for_thinking(request.args[1])]
        results: dict[int, str] = {}
        if ours:
            texts: Sequence[str] = self._thinking.run([requests[index] for index in ours], disable_tqdm)
            results.update(zip(ours, texts, strict=True))
        rest = [index for index in range(len(requests)) if index not in results]
        if rest:
            theirs: Any = super()
            texts = theirs.generate_until([requests[index] for index in rest], disable_tqdm)
            results.update(zip(rest, texts, strict=True))
        return [results[index] for index in range(len(requests))]

    # Results ----------------------------------------------------------------------------------------------

    def get_model_info(self) -> dict[str, Any]:
        """lm-eval's model information, what was dropped from what, and what generation took."""
        theirs: Any = getattr(super(), "get_model_info", dict)
        info: dict[str, Any] = {
            **theirs(), "pruning": self._pruning_info(), "lm_eval_tts_version": version("lm-eval-tts"),
        }  # fmt: skip
        if "_thinking" in vars(self):
            # lm-eval asks the first rank alone, which knows of its own share of the requests.
            ranks = {"of_rank": getattr(self, "rank", 0), "ranks": getattr(self, "world_size", 1)}
            info["generation"] = self._thinking.totals.info() | ranks
        return info

    def _pruning_info(self) -> dict[str, Any]:
        recipe, before, after = self.recipe, *self._parameters()
        pretrained = self._pretrained_name()
        recovery = recovery_of(getattr(self, "peft", None), pretrained)
        return {
            "base": recipe.base if recipe else pretrained,
            "method": recipe.method if recipe else "none",
            "source": recipe.source if recipe else "",
            "dropped_layers": list(recipe.drop) if recipe else [],
            "merged_layers": [step.model_dump(mode="json") for step in recipe.merge] if recipe else [],
            "kept_layers": list(self._kept or range(self._depth())),
            "layer_scores": list(recipe.scores) if recipe else [],
            "parameters_before": before,
            "parameters_after": after,
            "recipe_hash": recipe.digest if recipe else "",
            "model_fingerprint": self.fingerprint,
            **({"recovered": recovery} if recovery else {}),
        }

    @abstractmethod
    def _pretrained_name(self) -> str:
        """The model's name or folder; empty where an object was given."""

    @abstractmethod
    def _depth(self) -> int:
        """Layers of the whole model."""

    @abstractmethod
    def _parameters(self) -> tuple[int, int]:
        """Parameters of the whole model, and of the one that was loaded."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes with the weights and the config."""


def explain_unknown_argument(error: TypeError, ours: type[PrunedLM], theirs: type) -> NoReturn:
    """Raise one line for a model argument that nobody knows; else the error as it was."""
    match = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        raise error
    known = [name for name in inspect.signature(theirs).parameters if name != "kwargs"]
    raise ArgumentError(
        f"model argument {match[1]!r} is not known; {ours.NAME} takes {', '.join(OUR_ARGUMENTS)}, those of lm-eval's "
        f"{theirs.__name__} ({', '.join(known)}), and what its loader takes"
    ) from error
