"""Holds candidates to what their base would write at each step of its own thinking: a screen without decoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from tqdm import tqdm

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.harness.arguments import parse_model_args
from lm_eval_ext.paths import digest
from lm_eval_ext.pruning.architecture import depth
from lm_eval_ext.pruning.recipe import kept_layers, recipe_files
from lm_eval_ext.runs.correct_traces import CorrectTrace, drawn_traces
from lm_eval_ext.shrinking.distributions import TOP, BaseDistributions, Floats, ForcedModel, Probes
from lm_eval_ext.shrinking.divergence import MEASURES, AtPlaces, Divergence, at_places, divergence_of, kl_bits
from lm_eval_ext.shrinking.divergence_report import (
    CandidateDivergence,
    DivergenceReport,
    read_measured,
    write_measured,
)
from lm_eval_ext.shrinking.forced import LocalModel, ModelOnServer, OpenModel, with_model
from lm_eval_ext.shrinking.localise import AtLayer, localised
from lm_eval_ext.shrinking.token_traces import TokenTrace, token_traces
from lm_eval_ext.statistics.intervals import Interval

_AS_THE_BASE = ("dtype", "device", "device_map", "parallelize")  # else these would be measured too
_VERSION = 2  # of what is kept of a candidate
_LOADS = ("pretrained", "recipe", "base_url")  # arguments that say what is loaded


class TraceOptions(NamedTuple):
    """Which traces of the base are read.

    Attributes:
        folder: of the base's results.
        most: how many traces, at most.
        max_tokens: of a trace with its prompt.
        seed: of the questions, budgets and samples that are drawn.
        tasks: whose questions are used; all if empty.
    """

    folder: str
    most: int = 64
    max_tokens: int = 4096
    seed: int = 0
    tasks: tuple[str, ...] = ()


class ModelSpec(NamedTuple):
    """A model by its arguments, and what it is called in the report."""

    name: str
    arguments: Mapping[str, object]


def model_spec(text: str, base: Mapping[str, object] | None = None) -> ModelSpec:
    """A model from a word of the command line: a recipe, model arguments, or the name of a checkpoint.

    Args:
        text: `NAME.yaml`, an installed recipe, `drop_layers=[3,4]`, or a name on the Hub or a folder.
        base: arguments of the base; what loads nothing itself is the base with these arguments, and a recipe or a
            checkpoint has its `dtype` and device.

    >>> model_spec("drop_layers=[3]", {"pretrained": "tiny-chain"}).arguments
    {'pretrained': 'tiny-chain', 'drop_layers': '[3]'}
    >>> model_spec("a/b.yaml", {"pretrained": "tiny-chain", "revision": "v2", "dtype": "float32"}).arguments
    {'dtype': 'float32', 'recipe': 'a/b.yaml'}
    """
    here = base if base and not base.get("base_url") else {}
    how = {name: here[name] for name in _AS_THE_BASE if name in here}
    if Path(text).suffix in (".yaml", ".yml"):
        return ModelSpec(Path(text).stem, {**how, "recipe": text})
    if text in {path.stem for path in recipe_files()}:
        return ModelSpec(text, {**how, "recipe": text})
    if "=" not in text:
        return ModelSpec(Path(text).name, {**how, "pretrained": text})
    given = parse_model_args(text)
    if base is None or any(given.get(name) for name in _LOADS):
        return ModelSpec(text, given)
    return ModelSpec(text, {**base, **given})


def model_specs(texts: Sequence[str], base: Mapping[str, object]) -> list[ModelSpec]:
    """Candidates from words of the command line; files of one name in several folders are called by their paths.

    Args:
        texts: the words.
        base: arguments of the base.
    """
    found = [model_spec(text, base) for text in texts]
    times = Counter(one.name for one in found)
    return [one._replace(name=text) if times[one.name] > 1 else one for text, one in zip(texts, found, strict=True)]


def diverge(
    base: ModelSpec,
    candidates: Sequence[ModelSpec],
    traces: TraceOptions,
    folder: Path,
    *,
    top: int = TOP,
    localise: bool = False,
) -> DivergenceReport:
    """Measure how far candidates would write something else than their base, on the base's own correct traces.

    The base is loaded first, then one candidate after the other; what was computed is kept in the folder, so that the
    same call goes on after a kill.

    Args:
        base, candidates: the models.
        traces: which traces of the base are read.
        folder: where distributions of the base, and what was measured of candidates, are kept.
        top: how many of the base's likeliest tokens are kept of each place.
        localise: also measure what each layer's change explains alone; then both models are in memory.

    Raises:
        ArgumentError: there are no traces, or a candidate has another tokenizer, or isn't here to be localised.
        TTSError: a model cannot be loaded.
    """
    names = [one.name for one in candidates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArgumentError(f"{twice}: is among the candidates twice")
    screen = _Screen(str(base.arguments.get("pretrained", "")), traces, folder, top)

    def beside_base(model: OpenModel) -> list[CandidateDivergence]:
        screen.read_base(model)
        if not localise:
            return []
        return [with_model(one.arguments, partial(screen.measured, one.name, beside=model)) for one in candidates]

    found = with_model(base.arguments, beside_base)
    found = found or [with_model(one.arguments, partial(screen.measured, one.name)) for one in candidates]
    read = screen.base.traces
    questions = len({trace.question for trace in read})
    return DivergenceReport(base.name, len(read), questions, screen.base.tokens, top, tuple(found))


def measured_at(model: ForcedModel, base: BaseDistributions, on_tokens: Callable[[int], object]) -> Divergence:
    """How far a model would write something else than the base.

    Args:
        model: the candidate.
        base: what the base would write.
        on_tokens: called with the number of places of each trace that is done.
    """
    found: list[AtPlaces] = []
    left_out: list[list[float]] = []
    for trace, along, missing in _along(model, base):
        found.append(along)
        left_out.append(missing)
        on_tokens(trace.places)
    return divergence_of(base.traces, found, left_out)


def mean_bits(model: ForcedModel, base: BaseDistributions) -> float:
    """Mean KL(base || model) of all tokens, in bits: what a search compares."""
    sums = [float(along.kl.sum()) for _, along, _ in _along(model, base)]
    return sum(sums) / sum(trace.places for trace in base.traces)


def _along(model: ForcedModel, base: BaseDistributions) -> Iterator[tuple[TokenTrace, AtPlaces, list[float]]]:
    """Each trace, a model beside its base there, and what is left out of the divergence at some places."""
    for numbers in base.passes:
        traces = [base.traces[number] for number in numbers]
        known, probes = zip(*map(base.at, numbers), strict=True)
        read = model.at_tokens(traces, known, [one.places.tolist() for one in probes])
        for trace, likeliest, probed, (seen, whole) in zip(traces, known, probes, read, strict=True):
            along = at_places(likeliest, seen)
            cut = len(whole) > 0 and not np.isneginf(likeliest.rest).all()
            yield trace, along, _left_out(along, probed, whole) if cut else []


def _left_out(found: AtPlaces, probes: Probes, whole: Floats) -> list[float]:
    """Bits by which the divergences of some places are too small, because only the likeliest tokens are known."""
    common = min(probes.log_probs.shape[-1], whole.shape[-1])  # of vocabularies that are padded differently
    exact = kl_bits(*(one[:, :common].astype(np.float64) for one in (probes.log_probs, whole)))
    return [max(0.0, float(value)) for value in exact - found.kl[probes.places]]


def read_base(
    model: OpenModel, traces: Sequence[CorrectTrace], max_tokens: int, folder: Path, top: int, seed: int
) -> BaseDistributions:
    """What a base would write along its traces; what isn't in the folder yet is computed.

    Args:
        model: the base.
        traces: its traces.
        max_tokens: of a trace with its prompt.
        folder: where distributions are kept.
        top: how many of the likeliest tokens are kept of each place.
        seed: of the places that are kept whole.

    Raises:
        ArgumentError: the traces are too long, or of one question only.
    """
    read = token_traces(traces, model.tokenizer, max_tokens, model.thinking_format)
    if len({trace.question for trace in read}) < 2:
        raise ArgumentError("the traces are of one question only; intervals need at least two")
    found = BaseDistributions(folder, read, model.forced.identity, top, seed)
    with _progress("base", found.tokens) as bar:
        found.compute(model.forced, bar.update)
    return found


class _Screen:
    """Candidates beside one base, whose distributions are read first.

    Args:
        base: name or folder of the base; empty if it isn't loaded by one.
        traces: which traces of it are read.
        folder: where everything is kept.
        top: how many of the base's likeliest tokens are kept of each place.

    Attributes:
        base: the base's distributions.
    """

    base: BaseDistributions

    def __init__(self, base: str, traces: TraceOptions, folder: Path, top: int) -> None:
        self._name, self._traces, self._folder, self._top = base, traces, folder, top
        self._words: dict[int, str] = {}
        self._truncated = False

    def read_base(self, model: OpenModel) -> None:
        """Compute the base's distributions that aren't there yet."""
        given = self._traces
        drawn = drawn_traces(given.folder, given.most, given.seed, given.tasks, self._name)
        self.base = read_base(model, drawn, given.max_tokens, self._folder, self._top, given.seed)
        self._truncated = model.forced.truncated
        used = sorted({token for trace in self.base.traces for token in trace.ids})
        self._words = dict(zip(used, model.tokenizer.convert_ids_to_tokens(used), strict=True))

    def measured(self, name: str, model: OpenModel, beside: OpenModel | None = None) -> CandidateDivergence:
        """A candidate; also by layers if the base is beside it in memory. What is kept of it is taken from there."""
        self._check(name, model)
        identity = digest([self.base.identity, model.forced.identity, beside is not None, _VERSION, dict(MEASURES)])
        path = self._folder / f"candidate-{identity[:16]}.json"
        kept = read_measured(path)
        if kept is not None:
            return replace(kept, name=name)
        with _progress(name, self.base.tokens) as bar:
            divergence = measured_at(model.forced, self.base, bar.update)
        layers = self._by_layers(name, model, beside) if beside is not None else ()
        found = CandidateDivergence(name, divergence, model.forced.truncated or self._truncated, layers)
        write_measured(path, found)
        return found

    def _by_layers(self, name: str, model: OpenModel, base: OpenModel) -> tuple[AtLayer, ...]:
        if isinstance(base.forced, ModelOnServer) or isinstance(model.forced, ModelOnServer):
            raise ArgumentError(f"localise: {name}: needs base and candidate here, not on a server")
        layers = depth(base.forced.model.config)
        kept = kept_layers(model.recipe.drop if model.recipe else (), layers)
        with _progress(f"{name}, by layers", layers * self.base.tokens) as bar:

            def kl(changed: LocalModel) -> Interval | None:
                return measured_at(changed, self.base, bar.update).kl

            return tuple(localised(base.forced, model.forced, kept, kl))

    def _check(self, name: str, model: OpenModel) -> None:
        """Check that the candidate has the base's tokens."""
        words = model.tokenizer.convert_ids_to_tokens(list(self._words))
        pairs = zip(self._words.items(), words, strict=True)
        other = next(((token, own, word) for (token, own), word in pairs if own != word), None)
        if other is not None:
            token, own, word = other
            raise ArgumentError(
                f"{name}: has another tokenizer than the base (token {token} is {word!r}, not {own!r}), so their "
                "distributions can't be compared"
            )


def _progress(name: str, tokens: int) -> tqdm[NoReturn]:
    return tqdm(total=tokens, desc=name, unit=" tokens", unit_scale=True)
