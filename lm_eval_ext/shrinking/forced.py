"""Models that read traces and say what they would have written instead (teacher forcing): here, or on a server."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.harness.session import load_model
from lm_eval_ext.paths import located
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.shrinking.distributions import AtTokens, Floats, Likeliest, Probes
from lm_eval_ext.shrinking.token_traces import TokenTrace

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOGITS = 2**29  # of one pass; more are computed in several
_ROWS = 2**24  # values that are turned into probabilities at once
SERVED = 20  # likeliest tokens that vLLM gives for each place, unless its --max-logprobs says otherwise


class LocalModel:
    """A model of transformers.

    Args:
        model: a causal language model.
        identity: of its weights.
        context: returns a context in which it computes, such as autocast.
    """

    truncated = False

    def __init__(
        self, model: PreTrainedModel, identity: str = "",
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:  # fmt: skip
        self.model, self.identity, self.context = model, identity, context

    def likeliest(
        self, traces: Sequence[TokenTrace], top: int, probed: Sequence[Sequence[int]]
    ) -> list[tuple[Likeliest, Probes]]:
        """What it would write at each place of each trace, and in whole at some of them."""
        parts: list[list[Likeliest]] = [[] for _ in traces]
        whole: list[list[Floats]] = [[] for _ in traces]
        for number, places, log_probs in self._pieces(traces):
            parts[number].append(_likeliest(log_probs, _written(traces[number], places), top))
            whole[number] += _whole(log_probs, places, probed[number])
        return [
            (Likeliest(*map(np.concatenate, zip(*of, strict=True))), Probes(np.array(at, np.int64), _floats(probes)))
            for of, at, probes in zip(parts, probed, whole, strict=True)
        ]

    def at_tokens(
        self, traces: Sequence[TokenTrace], base: Sequence[Likeliest], probed: Sequence[Sequence[int]]
    ) -> list[tuple[AtTokens, Floats]]:
        """The same at the tokens that are known of a base; and in whole at some places."""
        parts: list[list[AtTokens]] = [[] for _ in traces]
        whole: list[list[Floats]] = [[] for _ in traces]
        for number, places, log_probs in self._pieces(traces):
            parts[number].append(_at_tokens(log_probs, base[number].ids[places], _written(traces[number], places)))
            whole[number] += _whole(log_probs, places, probed[number])
        return [
            (AtTokens(*map(np.concatenate, zip(*of, strict=True))), _floats(probes))
            for of, probes in zip(parts, whole, strict=True)
        ]

    def _pieces(self, traces: Sequence[TokenTrace]) -> Iterator[tuple[int, slice, torch.Tensor]]:
        """Log-probabilities of all tokens at the places of traces, in pieces that fit in memory.

        Yields:
            The number of a trace, some of its places, and the log-probabilities there in float64, of shape (their
            number, vocabulary).

        Raises:
            ArchitectureError: they are not numbers, e.g. because hidden states overflow in float16.
        """
        import torch

        vocabulary = int(self.model.config.get_text_config().vocab_size)
        begin, end = min(trace.start for trace in traces) - 1, max(len(trace.ids) for trace in traces) - 1
        step = max(1, _LOGITS // (vocabulary * len(traces))) if self._keeps else end - begin
        for first in range(begin, end, step):
            logits = self._logits(traces, first, min(first + step, end))
            wide = torch.float32 if logits.device.type == "mps" else torch.float64  # which has no float64
            for number, trace in enumerate(traces):
                at, last = max(first, trace.start - 1), min(first + step, len(trace.ids) - 1)
                for row in range(at, last, rows := max(1, _ROWS // vocabulary)):
                    own = logits[number, row - first : min(row + rows, last) - first]
                    found = torch.log_softmax(own.to(wide), dim=-1)
                    if found.isnan().any():
                        raise ArchitectureError(
                            f"the model's logits are no numbers in {logits.dtype}; try dtype=bfloat16"
                        )
                    place = row - trace.start + 1
                    yield number, slice(place, place + len(found)), found

    def _logits(self, traces: Sequence[TokenTrace], first: int, last: int) -> torch.Tensor:
        """Logits after some tokens, from one to before another, of shape (traces, tokens, vocabulary).

        What pads short traces comes after their last token, where no other token sees it.
        """
        import torch

        device, longest = self.model.device, max(len(trace.ids) for trace in traces)
        padded = [(*trace.ids, *trace.ids[-1:] * (longest - len(trace.ids))) for trace in traces]
        ids = torch.tensor(padded, device="cpu" if device.type == "meta" else device)  # of offloaded weights
        wanted = torch.arange(first, last, device=ids.device)
        with torch.no_grad(), self.context():
            if self._keeps:
                logits: torch.Tensor = self.model(input_ids=ids, use_cache=False, logits_to_keep=wanted).logits
                return logits
            whole: torch.Tensor = self.model(input_ids=ids, use_cache=False).logits
            return whole[:, wanted]

    @cached_property
    def _keeps(self) -> bool:
        """Whether it can compute logits at some places only."""
        plain = getattr(self.model, "get_base_model", lambda: self.model)()  # within an adapter
        return "logits_to_keep" in inspect.signature(plain.forward).parameters


def _likeliest(log_probs: torch.Tensor, written: Sequence[int], top: int) -> Likeliest:
    """The likeliest tokens of whole distributions.

    Args:
        log_probs: of shape (places, vocabulary).
        written: the token that the trace has at each place.
        top: how many tokens are kept.
    """
    import torch

    values, ids = log_probs.topk(min(top, log_probs.shape[-1]), dim=-1)
    own = log_probs.gather(-1, torch.tensor(written, device=log_probs.device)[:, None])[:, 0]
    return Likeliest(ids.cpu().numpy(), _kept(values), _kept(_without(log_probs, ids)), _kept(own))


def _at_tokens(log_probs: torch.Tensor, ids: NDArray[np.int64], written: Sequence[int]) -> AtTokens:
    """A model at the tokens that are known of a base.

    Args:
        log_probs: of shape (places, vocabulary).
        ids: of shape (places, top).
        written: the token that the trace has at each place.
    """
    import torch

    vocabulary, last = log_probs.shape[-1], int(ids.max())
    padded = torch.nn.functional.pad(log_probs, (0, max(0, last + 1 - vocabulary)), value=-torch.inf)
    chosen = torch.from_numpy(ids).to(log_probs.device)
    own = log_probs.gather(-1, torch.tensor(written, device=log_probs.device)[:, None])[:, 0]
    most, best = log_probs.max(dim=-1)
    known = _kept(padded.gather(-1, chosen))
    known[ids >= vocabulary] = np.nan  # rows that only pad the base's vocabulary
    return AtTokens(known, _kept(_without(padded, chosen)), _kept(own), best.cpu().numpy(), _kept(most))


def _without(log_probs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    import torch

    return log_probs.scatter(-1, ids, -torch.inf).logsumexp(dim=-1)


def _kept(values: torch.Tensor) -> Floats:
    """In the precision that is kept on disk, for base and candidate alike, so that equal models stay equal."""
    found: Floats = values.float().cpu().numpy()
    return found


def _written(trace: TokenTrace, places: slice) -> tuple[int, ...]:
    return trace.ids[trace.start + places.start : trace.start + places.stop]


def _floats(rows: Sequence[Floats]) -> Floats:
    return np.array(rows, dtype=np.float32)


def _whole(log_probs: torch.Tensor, places: slice, probed: Sequence[int]) -> list[Floats]:
    return [_kept(log_probs[place - places.start]) for place in probed if places.start <= place < places.stop]


class ModelOnServer:
    """A model behind `tts-server`, whose server gives log-probabilities of prompts: of its likeliest tokens only.

    Args:
        model: an lm-eval model of the class `tts-server`.
    """

    truncated = True

    def __init__(self, model: Any) -> None:  # its class is lm-eval's
        self.model, self.identity = model, f"{model.fingerprint} {model.arguments.base_url}"  # names may be equal

    def likeliest(
        self, traces: Sequence[TokenTrace], top: int, probed: Sequence[Sequence[int]]
    ) -> list[tuple[Likeliest, Probes]]:
        """What it would write at each place of each trace; in whole nowhere."""
        return [(self._likeliest(trace, top), _NO_PROBES) for trace in traces]

    def at_tokens(
        self, traces: Sequence[TokenTrace], base: Sequence[Likeliest], probed: Sequence[Sequence[int]]
    ) -> list[tuple[AtTokens, Floats]]:
        """The same at the tokens that are known of a base, as far as they are among its own likeliest."""
        pairs = zip(traces, base, strict=True)
        return [(self._at_tokens(trace, likeliest), _NO_PROBES.log_probs) for trace, likeliest in pairs]

    def _likeliest(self, trace: TokenTrace, top: int) -> Likeliest:
        known = self._known(trace, min(top, SERVED))
        most = min(map(len, known))
        chosen = [sorted(one.items(), key=lambda item: (-item[1], item[0]))[:most] for one in known]
        ids = np.array([[token for token, _ in one] for one in chosen], dtype=np.int64)
        log_probs = np.array([[value for _, value in one] for one in chosen], dtype=np.float32)
        own = np.array([one[token] for one, token in zip(known, trace.ids[trace.start :], strict=True)], np.float32)
        return Likeliest(ids, log_probs, _rest(log_probs), own)

    def _at_tokens(self, trace: TokenTrace, base: Likeliest) -> AtTokens:
        known = self._known(trace, SERVED)
        pairs = list(zip(base.ids.tolist(), known, strict=True))
        log_probs = np.array([[one.get(token, np.nan) for token in ids] for ids, one in pairs], dtype=np.float32)
        best = [max(one, key=one.__getitem__) for one in known]
        own = np.array([one[token] for one, token in zip(known, trace.ids[trace.start :], strict=True)], np.float32)
        most = np.array([one[token] for one, token in zip(known, best, strict=True)], dtype=np.float32)
        return AtTokens(log_probs, _rest(log_probs), own, np.array(best, dtype=np.int64), most)

    def _known(self, trace: TokenTrace, top: int) -> list[Mapping[int, float]]:
        found: list[Mapping[int, float]] = self.model.likeliest_along(trace.ids, trace.start, top)
        return found


_NO_PROBES = Probes(np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.float32))


def _rest(log_probs: Floats) -> Floats:
    """The log-probability of all other tokens together; at least what rounding leaves."""
    left = 1 - np.exp(log_probs.astype(np.float64), where=~np.isnan(log_probs), out=np.zeros(log_probs.shape)).sum(-1)
    found: Floats = np.log(np.maximum(left, 1e-12)).astype(np.float32)
    return found


class OpenModel(NamedTuple):
    """A model in memory, or behind a server, with what is needed to read traces by it."""

    forced: LocalModel | ModelOnServer
    tokenizer: PreTrainedTokenizerBase
    thinking_format: str
    recipe: Recipe | None


Result = TypeVar("Result")


def with_model(arguments: Mapping[str, object], work: Callable[[OpenModel], Result]) -> Result:
    """Load a model, do something with it, and free its memory.

    Args:
        arguments: model arguments of `pruned-hf`, or with `base_url` of `tts-server`.
        work: is called with the model, and must not keep it.

    Raises:
        TTSError: the model cannot be loaded.
    """
    engine = "server" if arguments.get("base_url") else "hf"
    loading = {**arguments, "journal": "off"}
    if isinstance(loading.get("pretrained"), str):
        loading["pretrained"] = located(str(loading["pretrained"]))
    lm = load_model(loading, engine, 1)
    forced: LocalModel | ModelOnServer
    threads: AbstractContextManager[None] = nullcontext()
    if engine == "hf":
        from lm_eval_ext.generation.engines.hf import one_thread_if_small

        forced = LocalModel(lm.model, f"{lm.fingerprint} {lm.model.dtype}", lm.decoding_context)
        threads = one_thread_if_small(lm.model)
    else:
        forced = ModelOnServer(lm)
    try:
        with threads:
            return work(OpenModel(forced, lm.tokenizer, lm.arguments.thinking_format or "", lm.recipe))
    finally:
        del lm, forced, threads
        _free()


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
