"""Base class of our lm-eval models that load a model: drops layers on load."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from lm_eval.api.instance import Instance

from lm_eval_ext.errors import ArgumentError, CheckpointError, did_you_mean
from lm_eval_ext.harness.arguments import NAMES, Arguments, check_sizes, taken_from
from lm_eval_ext.harness.effects import marked, warn_of_unknown
from lm_eval_ext.harness.model_costs import costs_of, device_name, peak_memory
from lm_eval_ext.harness.models.thinking import ThinkingLM
from lm_eval_ext.harness.prune_on_load import chosen_recipe, computed_recipe
from lm_eval_ext.harness.registry import engine_of
from lm_eval_ext.paths import EMBEDDED, TINY_CHAIN, is_there, located
from lm_eval_ext.pruning.adapters import recovery_of
from lm_eval_ext.pruning.blocks import left_out
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes, weight_bytes
from lm_eval_ext.pruning.lineage import lineage
from lm_eval_ext.pruning.quantization import Quantization, method_of, quantization_of
from lm_eval_ext.pruning.recipe import Recipe, recipe_info

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from lm_eval_ext.harness.replicas import Replicas

logger = logging.getLogger("lm_eval.tts")


@dataclass(frozen=True)
class ModelFacts:
    """What a loaded model is, for the results and the journal.

    Attributes:
        pretrained: its name or folder; empty if an object was given.
        config, computed: its config as it is loaded, and as it is computed.
        depth: number of layers of the base model; 0 if its config does not say it.
        parameters: number of parameters of the base model, and of the loaded model.
        element_bytes, bytes: of a weight, and of all weights in memory; None if that is not known.
        fingerprint: changes with the weights and the config.
        versions: of the software that affects the decoded tokens.
        shared: what a process without the weights needs of this, as JSON.
    """

    pretrained: str
    config: PreTrainedConfig
    computed: PreTrainedConfig
    depth: int
    parameters: tuple[int, int]
    element_bytes: int
    bytes: int | None
    fingerprint: str
    versions: str
    shared: Mapping[str, object]


class PrunedLM(ThinkingLM):
    """Mixin for lm-eval's model classes that load weights; list it before them.

    The concrete class defines how the model is loaded; this class handles the arguments in `harness/arguments.py`. It
    asks four things of the concrete class: `facts`, `gpus_of_replica`, and what a `ThinkingModel` needs to decode,
    `decoding_engine` and `decoding_context`.
    """

    NOT_WITH_DROPPED_LAYERS: ClassVar[Mapping[str, str]]  # arguments of lm-eval's class, each with the reason
    arguments: Arguments
    recipe: Recipe | None
    replicas: Replicas | None  # None if this process loads and runs the model itself
    _kept: tuple[int, ...] | None = None
    _changes: Changes = NO_CHANGES

    def _take(
        self, pretrained: str | PreTrainedModel | None, revision: str | None, kwargs: dict[str, object]
    ) -> tuple[str | PreTrainedModel, str]:
        """Remove our arguments from `kwargs` and handle them; returns the model to load and its revision."""
        given = dict(kwargs)
        check_sizes(kwargs)
        self.arguments = arguments = taken_from(kwargs)
        self.replicas = self._replicas_for(arguments, kwargs)
        if any(getattr(arguments, name) is not None for name in marked("chooses")):
            for key, why in self.NOT_WITH_DROPPED_LAYERS.items():  # before choosing layers, which may take hours
                if kwargs.get(key):
                    raise ArgumentError(f"{key}={kwargs[key]} cannot be combined with dropped layers: {why}")
        warn_of_unknown(kwargs)
        load_options = {name: kwargs[name] for name in marked("loads") if name in kwargs}
        if pretrained is None and arguments.recipe is None:
            pretrained = TINY_CHAIN.name
            logger.info("no pretrained given: using the embedded tiny-chain, a small model for trying things out")
        pretrained = located(pretrained) if isinstance(pretrained, str) else pretrained
        self.is_tiny_chain = isinstance(pretrained, str) and pretrained in {str(folder) for folder in EMBEDDED}
        choose = functools.partial(computed_recipe, pretrained, revision, arguments, **load_options)
        if self.replicas is not None:
            choose = functools.partial(self.replicas.choose, choose)
        self.recipe = chosen_recipe(pretrained, revision, arguments, choose)
        if arguments.quantize is not None and self.recipe is not None and self.recipe.quantization is not None:
            raise ArgumentError("quantize and the recipe's quantization contradict each other; give one of them")
        if pretrained is None or (self.recipe is not None and pretrained == self.recipe.pretrained):
            assert self.recipe is not None  # otherwise the embedded model is used
            pretrained, revision = self.recipe.pretrained, revision or self.recipe.revision
        if self._drops and not isinstance(pretrained, str):
            raise ArgumentError(
                "layers are dropped while loading: pass pretrained as a name or folder, not a loaded model"
            )
        for place in (kwargs.get("peft"), pretrained):
            if isinstance(place, str) and is_there(Path(place), folder=True):
                recovery_of(place)  # what cannot be read is said now, and not when all is decoded
        if self.replicas is not None:
            self._start(self.replicas, given | {"pretrained": pretrained, "revision": revision or "main"})
        return pretrained, revision or "main"

    def _replicas_for(self, arguments: Arguments, kwargs: Mapping[str, object]) -> Replicas | None:
        """The replicas that the arguments ask for, not yet started; None if this process decodes itself."""
        if not arguments.replicated:
            return None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ArgumentError(
                f"data_parallel_size={arguments.data_parallel_size}: start a single process, not one per GPU, because "
                "the replicas are started by it"
            )
        from lm_eval_ext.harness.replicas import Replicas

        gpus = self.gpus_of_replica(kwargs) if arguments.replica_gpus is None else arguments.replica_gpus
        return Replicas(engine_of(self.NAME), arguments.data_parallel_size, gpus, arguments.ray_address)

    def _start(self, replicas: Replicas, given: Mapping[str, object]) -> None:
        if not isinstance(given["pretrained"], str):
            raise ArgumentError("replicas load the model themselves: pass pretrained as a name or folder")
        chosen = {"recipe": self.recipe} if self.recipe is not None else {}
        ours = {*marked("driver"), *marked("chooses"), *marked("calibrates")}
        arguments = {name: value for name, value in given.items() if name not in ours}
        if str(arguments.get("device")).startswith("cuda"):
            del arguments["device"]  # each replica sees only its own GPUs, if there are any
        replicas.start(arguments | chosen)

    @abstractmethod
    def gpus_of_replica(self, kwargs: Mapping[str, object]) -> int | None:
        """Number of GPUs that one replica needs; None for one, if there are any."""

    @property
    @abstractmethod
    def facts(self) -> ModelFacts:
        """What the loaded model is, by this process or by the first replica that has loaded it."""

    @property
    def fingerprint(self) -> str:
        """Identifier that changes with the weights and the config."""
        return self.facts.fingerprint

    @property
    def versions(self) -> str:
        """Software versions that affect the decoded tokens."""
        return self.facts.versions

    def _log_pruning(self) -> None:
        if self._kept is not None and self.recipe is not None and self.replicas is None:
            info, sparsity = self._pruning_info(), self.recipe.sparsity
            logger.info(
                "%s (the model has %d layers): %d of %d parameters remain%s",
                self.recipe.summary,
                len(self._kept) + len(self.recipe.drop),
                info["parameters_after"],
                info["parameters_before"],
                f", and {sparsity.zeros} of the whole model's are zero" if sparsity else "",
            )

    # Generation -------------------------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[object]:
        """lm-eval's own method, on all replicas if there are any."""
        return self._by_lm_eval("loglikelihood", requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[object]:
        """lm-eval's own method, on all replicas if there are any."""
        return self._by_lm_eval("loglikelihood_rolling", requests, disable_tqdm)

    def _by_lm_eval(self, method: str, requests: list[Instance], disable_tqdm: bool) -> list[Any]:
        if self.replicas is not None:
            return self.replicas.call(method, requests, disable_tqdm)
        results: list[Any] = getattr(super(ThinkingLM, self), method)(requests, disable_tqdm=disable_tqdm)
        return results

    def _other_texts(self, requests: list[Instance], disable_tqdm: bool) -> list[str]:
        return self._by_lm_eval("generate_until", requests, disable_tqdm)

    # Results ----------------------------------------------------------------------------------------------

    def get_model_info(self) -> dict[str, Any]:
        """Model information for the results, including the pruning."""
        costs = costs_of(self.facts.computed, self.facts.element_bytes)
        costs |= {"peak_memory": peak_memory()} if self.replicas is None else {}
        info = {**super().get_model_info(), "pruning": self._pruning_info(), "costs": costs}
        return info if self.replicas is None else {**info, "replicas": self.replicas.info()}

    def _capabilities(self) -> dict[str, object]:
        return super()._capabilities() | {"seed_reproducible": self.sampler is not None or self.arguments.reproducible}

    def _device_named(self) -> str:
        return device_name() if self.replicas is None else str(self.replicas.identity.facts["device"])

    def _pruning_info(self) -> dict[str, object]:
        recipe, facts = self.recipe, self.facts
        pretrained, (before, after) = facts.pretrained, facts.parameters
        recovery = recovery_of(getattr(self, "peft", None), pretrained)
        origin = lineage(pretrained, self._hub, recipe, self.arguments.base)
        return {
            "base": origin.base,
            **({"checkpoint": pretrained, "relation": origin.relation} if origin.relation else {}),
            **recipe_info(recipe),
            **({"experts": self._changes.experts.total} if self._changes.experts else {}),
            "kept_layers": list(self._kept or range(facts.depth)),
            "parameters_before": before,
            "parameters_after": after,
            "model_fingerprint": facts.fingerprint,
            **({"recovered": recovery} if recovery else {}),
            **({"quantization": packed} if (packed := self._quantization()) else {}),
        }

    def _quantization(self) -> dict[str, object] | None:
        """Method, bits of a weight in the mean, and bytes of a quantized checkpoint; None if it is not quantized."""
        facts, fields = self.facts, quantization_of(self.facts.config)
        parameters = facts.parameters[1]
        if (method := self._method_on_load()) is not None:
            named = {"on_load": str(self.quantization)} if self.quantization else {}
            return {"method": method, **named, **({} if facts.bytes is None else _sizes(facts.bytes, parameters))}
        if fields is None:
            return None
        kept = self._kept or tuple(range(facts.depth))
        try:
            size = weight_bytes(facts.pretrained, kept, self._hub, left_out(facts.config).hold, self._changes)
        except (CheckpointError, OSError) as error:  # must not end a run that has its results
            logger.warning("the size of the quantized weights is not known: %s", error)
            return {"method": method_of(fields)}
        return {"method": method_of(fields), **_sizes(size, parameters)}

    @property
    def quantization(self) -> Quantization | None:
        """How weights are quantized while they are loaded."""
        return self.arguments.quantize or (self.recipe.quantization if self.recipe else None)

    def _method_on_load(self) -> str | None:
        """The method by which weights are quantized while they are loaded; None if they are not."""
        return self.quantization.method if self.quantization else None

    @property
    def _hub(self) -> dict[str, object]:
        return {"revision": str(getattr(self, "revision", None) or "main")}

    @property
    def _drops(self) -> bool:
        """Whether the recipe drops layers or blocks."""
        return self.recipe is not None and self.recipe.drops


def _sizes(size: int, parameters: int) -> dict[str, float]:
    return {"bits": round(8 * size / parameters, 2), "bytes": size}


def explain_unknown_argument(error: TypeError, ours: type[PrunedLM], theirs: type) -> NoReturn:
    """Raise a one-line error for an unknown model argument; re-raise any other error unchanged."""
    match = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        raise error
    known = [name for name in inspect.signature(theirs).parameters if name != "kwargs"]
    raise ArgumentError(
        f"unknown model argument {match[1]!r}; expected one of: {', '.join(NAMES)}; those of lm-eval's "
        f"{theirs.__name__} ({', '.join(known)}); or any argument of its loader"
        f"{did_you_mean(match[1], [*NAMES, *known])}"
    ) from error
