"""Proposes smaller models: variants of the base, and what can be removed from each, scored without decoding."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.harness.prune_on_load import choosing
from lm_eval_ext.paths import digest, named
from lm_eval_ext.plugins import software
from lm_eval_ext.pruning.architecture import depth
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.pruning.context import ScoreCache
from lm_eval_ext.pruning.layers import decoder_layers
from lm_eval_ext.pruning.loading import pruned_config
from lm_eval_ext.pruning.quantization import parse_quantize
from lm_eval_ext.pruning.recipe import Recipe, Shape, kept_layers
from lm_eval_ext.pruning.selection import choose
from lm_eval_ext.shrinking.distributions import BaseDistributions
from lm_eval_ext.shrinking.diverge import mean_bits
from lm_eval_ext.shrinking.forced import LocalModel, OpenModel, with_model
from lm_eval_ext.shrinking.search import SearchPoint, beam_search, front
from lm_eval_ext.shrinking.shrink_file import Removable, ShrinkFile
from lm_eval_ext.shrinking.states import PartCosts, State, next_states, part_costs, without

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

logger = logging.getLogger("lm_eval.tts")


class Variant(NamedTuple):
    """A version of the base from which layers and blocks are removed, or none.

    Attributes:
        prune, quantize: model arguments; empty for the base's own weights.
        alone: whether nothing is removed from it, as where layers were merged.
    """

    prune: str = ""
    quantize: str = ""
    alone: bool = False

    @property
    def arguments(self) -> dict[str, str]:
        """Model arguments, beside those of the base."""
        return {name: value for name in ("prune", "quantize") if (value := getattr(self, name))}

    def __str__(self) -> str:
        return ", ".join(self.arguments.values())


class Proposal(NamedTuple):
    """A smaller model: a variant, and what is removed from it."""

    variant: Variant
    state: State

    def __str__(self) -> str:
        return "; ".join(part for part in (str(self.variant), str(self.state)) if part not in ("", "whole")) or "whole"


class SearchedVariant(NamedTuple):
    """A variant with its recipe, if it has one, what its parts cost, and the states that were scored."""

    recipe: Recipe | None
    costs: PartCosts
    scored: Sequence[SearchPoint[State]]


class Loadable:
    """Which smaller versions of a base can be loaded as models of their own: some architectures need some layers.

    Args:
        loading: model arguments of the base.
    """

    def __init__(self, loading: Mapping[str, Any]) -> None:
        self._pretrained, self._trusted = loading["pretrained"], bool(loading.get("trust_remote_code"))
        self._trust_layers = bool(loading.get("trust_layer_fields"))
        self._hub = {"revision": loading.get("revision")}
        self._known: dict[State, bool] = {}
        self.refusal = ""  # why the first one that can't be loaded can't

    @cached_property
    def _config(self) -> PreTrainedConfig:
        return read_config(self._pretrained, self._hub["revision"] or "main", self._trusted)

    def surely(self, state: State) -> bool:
        """Whether a state can be loaded; with blocks left out, each new state takes most of a second."""
        if state not in self._known:
            kept = kept_layers(state.drop, depth(self._config))
            try:
                pruned_config(
                    self._pretrained, self._config, kept, self._hub, self._trust_layers, self._trusted,
                    blocks=state.blocks,
                )  # fmt: skip
                self._known[state] = True
            except (ArgumentError, ArchitectureError) as error:
                if not self.refusal:  # there may be hundreds
                    logger.warning("a model without %s can't be loaded, so it isn't proposed: %s", state, error)
                    self.refusal = str(error)
                self._known[state] = False
        return self._known[state]

    def probably(self, state: State) -> bool:
        """Whether a state can be loaded as far as its layers and each of its blocks alone show that."""
        if len(state.attention) + len(state.drop) == depth(self._config):  # without any attention
            return self.surely(state)
        attention = [State.of(attention=[layer]) for layer in state.attention]
        mlp = [State.of(mlp=[layer]) for layer in state.mlp]
        return all(map(self.surely, [State.of(state.drop), *attention, *mlp]))


@dataclass(frozen=True)
class Proposals:
    """What a search came across.

    Attributes:
        scored: all of them; the first one is the base.
        variants: what they are versions of.
        loadable: which of them can be loaded.
    """

    scored: tuple[SearchPoint[Proposal], ...]
    variants: Mapping[Variant, SearchedVariant]
    loadable: Loadable

    def front(self, most: int, worst: float) -> list[tuple[SearchPoint[Proposal], int]]:
        """The front of what can be loaded, each with how many of it are left out between the one before and it.

        Args:
            most: how many are kept.
            worst: divergence at which a candidate is given up.
        """
        left = [one for one in self.scored if one.cost < self.scored[0].cost]
        while True:
            found = front(left, most, worst)
            refused = [one for one in found if not self.loadable.surely(one.candidate.state)]
            if not refused:
                break
            left = [one for one in left if one not in refused]
        whole = front(left, len(left), worst)
        places = [-1, *(whole.index(one) for one in found)]
        return [(one, place - before - 1) for one, (before, place) in zip(found, pairwise(places), strict=True)]

    def with_blocks(self, one: Proposal) -> float:
        """The cost of a proposal where left-out blocks keep their weights, as in an exported checkpoint."""
        return self.variants[one.variant].costs.of(State(one.state.drop))


def variants(remove: Removable) -> Iterator[Variant]:
    """The base's own weights, and each combination of bits with weights or experts."""
    for prune in ("", *remove.weights, *remove.experts):
        for bits in ("", *remove.bits):
            yield Variant(prune, bits)


def propose(
    file: ShrinkFile, loading: Mapping[str, Any], base: BaseDistributions, texts: str, cache: ScoreCache
) -> Proposals:
    """Search all variants, and score what methods choose.

    Args:
        file: the `shrink.yaml`.
        loading: model arguments of the base.
        base: what the base would write along its traces.
        texts: the traces as calibration texts, a `.jsonl` file.
        cache: scores that are known already; new ones are added.

    Raises:
        TTSError: the base can't be loaded, or nothing that is smaller.
    """
    proposer = _Proposer(file, loading, base, texts, cache)
    chosen, merged = proposer.of_methods()
    scored: list[SearchPoint[Proposal]] = []
    searched: dict[Variant, SearchedVariant] = {}
    for variant in [*variants(file.remove), *merged]:
        try:
            searched[variant] = proposer.searched(variant, chosen)
        except (ArgumentError, ArchitectureError) as error:
            if not variant.arguments:
                raise
            logger.warning("%s: is left out: %s", variant, error)
            continue
        found = searched[variant].scored
        scored += (SearchPoint(Proposal(variant, one.candidate), one.cost, one.bits) for one in found)
    if proposer.loadable.refusal and all(math.isinf(one.bits) for one in scored[1:]):
        raise ArchitectureError(f"no smaller version can be loaded: {proposer.loadable.refusal}")
    return Proposals(tuple(scored), searched, proposer.loadable)


class _Proposer:
    def __init__(
        self, file: ShrinkFile, loading: Mapping[str, Any], base: BaseDistributions, texts: str, cache: ScoreCache
    ) -> None:
        self.file, self.base, self.texts, self.cache = file, base, texts, cache
        self._loading = loading
        self.loadable = Loadable(loading)

    def of_methods(self) -> tuple[list[State], list[Variant]]:
        """What the methods choose by themselves: states, and variants whose layers are merged."""
        states, merged = [State()], []
        for kind in self.file.remove.kinds:
            for method in self.file.remove.methods(kind):
                for count, recipe in self._choices(method).items():
                    if recipe.merge or recipe.linear_map:
                        merged.append(Variant(f"{method}:{count}", alone=True))
                    else:
                        states.append(State.of(recipe.drop, recipe.drop_attention, recipe.drop_mlp))
        return list(dict.fromkeys(states)), merged

    def _choices(self, method: str) -> Mapping[Any, Recipe]:
        """A method's choices of one layer or block, two, ... to half the number of layers, or as far as it goes."""
        traces, loading = self.file.traces, self._loading
        why: object = "there is only one layer"
        with choosing(
            loading["pretrained"], loading.get("revision"), method, {}, self.texts, samples=traces.count,
            max_tokens=traces.max_tokens, trust_remote_code=bool(loading.get("trust_remote_code")),
            dtype=loading.get("dtype", "auto"),
        ) as context:  # fmt: skip
            for most in range(context.depth // 2, 0, -1):
                try:
                    return choose(context, method, list(range(1, most + 1)), {})
                except (ArgumentError, ArchitectureError) as error:
                    why = error
        logger.warning("%s: chooses nothing here, so it is left out: %s", method, why)
        return {}

    def searched(self, variant: Variant, chosen: Sequence[State]) -> SearchedVariant:
        """A variant, searched step by step, with what methods choose."""
        traces = self.file.traces
        texts = {
            "calibration": self.texts,
            "calibration_samples": traces.count,
            "calibration_tokens": traces.max_tokens,
        }
        arguments = {**self._loading, **variant.arguments, **(texts if variant.prune else {})}
        return with_model(arguments, lambda model: self._searched(model, variant, chosen))

    def _searched(self, opened: OpenModel, variant: Variant, chosen: Sequence[State]) -> SearchedVariant:
        model = opened.forced
        assert isinstance(model, LocalModel)  # no address is among the arguments
        layers, search = len(decoder_layers(model.model)), self.file.search
        costs = part_costs(model.model, self.file.minimise, self.base.tokens / len(self.base.traces))
        # What scores depend on, beside the state; the texts are those of the base's identity.
        name = digest([self.base.identity, variant, self._loading, self.file.traces])[:16]
        kinds, chosen = ((), ()) if variant.alone else (self.file.remove.kinds, chosen)
        with tqdm(desc=f"search from {str(variant) or 'the base'}", unit=" passes") as bar:

            def bits(state: State) -> float:
                bar.update()
                return self.cache.value(f"{name} {state}", lambda: self._bits(model, state))

            def steps(state: State) -> Iterator[State]:
                return next_states(state, layers, kinds)

            found = beam_search(State(), steps, costs.of, bits, beam=search.beam, worst=search.worst)
            known = {one.candidate for one in found}
            found += [SearchPoint(one, costs.of(one), bits(one)) for one in chosen if one not in known]
        return SearchedVariant(opened.recipe, costs, found)

    def _bits(self, model: LocalModel, state: State) -> float:
        """Divergence from the base; infinite where it can't be loaded, and where hidden states overflow."""
        if not self.loadable.probably(state):
            return math.inf
        with without(model.model, state):
            try:
                return mean_bits(model, self.base)
            except ArchitectureError:
                if state == State():  # of the variant itself: it says why
                    raise
                return math.inf


def recipe_of(proposal: Proposal, of_variant: Recipe | None, base: str, revision: str, shape: Shape) -> Recipe:
    """The recipe of a smaller model.

    Args:
        proposal: what it is.
        of_variant: recipe of its variant, if it has one.
        base: name or folder of the base.
        revision: of the base.
        shape: of the base.
    """
    state = proposal.state
    changes: dict[str, Any] = {
        "drop": state.drop or (of_variant.drop if of_variant else ()),
        "drop_attention": state.attention, "drop_mlp": state.mlp, "method": "shrink",
        "quantization": parse_quantize(proposal.variant.quantize) if proposal.variant.quantize else None,
        "source": f"lm-eval-tts shrink: {proposal}", "parameters": {}, "scores": (),
    }  # fmt: skip
    if of_variant is None:
        versions = software("torch", "transformers")
        return Recipe(base=named(base), revision=revision, shape=shape, versions=versions, **changes)
    gone = {*state.drop, *state.mlp}
    experts = {layer: chosen for layer, chosen in of_variant.drop_experts.items() if layer not in gone}
    return of_variant.model_copy(update={**changes, "drop_experts": experts})
