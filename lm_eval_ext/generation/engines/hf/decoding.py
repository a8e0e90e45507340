"""The decoding engine on a transformers model: a batch whose rows are refilled as they end."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lm_eval_ext.generation.engine import Engine, FollowUp, ended
from lm_eval_ext.generation.engines.hf.kv_cache import Rows, Slots, prefix
from lm_eval_ext.generation.engines.hf.single import SingleRowEngine
from lm_eval_ext.generation.request import Completion, Job, Sampling
from lm_eval_ext.generation.sampling import Noise, next_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("lm_eval.tts")


@dataclass
class _Work:
    """A job in the queue, with the states of a prefix of its ids where they are at hand."""

    job: Job
    states: Rows | None = None
    known: int = 0  # tokens in `states`


@dataclass
class _Row:
    """A job in a slot: `length` tokens of it are in the cache, `out` is what it decoded."""

    job: Job
    length: int
    noise: Noise
    out: list[int] = field(default_factory=list)


class HFEngine:
    """Continuous batching over one causal language model.

    Args:
        model: any causal model whose layers all cache keys and values.
        batch_size: most rows decoded at once.
        decode: ids to text, for stop strings.
        on_tokens: called after each step with the number of tokens it decoded.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        batch_size: int,
        decode: Callable[[Sequence[int]], str],
        on_tokens: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.decode = decode
        self.on_tokens = on_tokens
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # an adapter hides the signature
        parameters = inspect.signature(inner.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._depth = model.config.get_text_config().num_hidden_layers

    @torch.inference_mode()
    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups; halves the batch when memory runs out, and goes on."""
        batch = _Batch(self, deque(_Work(job) for job in jobs), on_completion)
        while batch.queue or batch.rows:
            if not self._advanced(batch):
                self._halve(batch)

    def _advanced(self, batch: _Batch) -> bool:
        try:
            batch.advance()
        except torch.OutOfMemoryError:
            if self.batch_size == 1:
                raise
            return False  # what is to be done is done outside, where the traceback no longer holds any memory
        return True

    def _halve(self, batch: _Batch) -> None:
        self.batch_size //= 2
        logger.warning("out of memory: going on with a batch size of %d", self.batch_size)
        batch.restart()
        torch.cuda.empty_cache()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, slots: Slots) -> torch.Tensor:
        """Logits after the last token of each row, [rows, vocabulary].

        Args:
            ids: [rows, new tokens].
            mask: [rows, columns and new tokens]; 0 where a row has no token.
            positions: [rows, new tokens], each token's place in its own text.
            slots: holds what came before; the new tokens are added to it.
        """
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{self._cache_name: slots.cache},
            **self._last_only,
        )
        slots.end += ids.shape[1]
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def prefill(self, work: _Work) -> tuple[Rows, torch.Tensor]:
        """States of all the job's ids, and the logits after the last; one row, so that no other plays a part."""
        ids = work.job.ids
        known = min(work.known, len(ids) - 1) if work.states is not None else 0
        slots = Slots(1, self._depth)
        if work.states is not None and known:
            slots.put(0, prefix(work.states, known))
            slots.fit([known])
        slots.reserve(0, len(ids) - known)
        device = self.model.device
        new = torch.tensor([ids[known:]], device=device)
        mask = torch.ones(1, len(ids), dtype=torch.long, device=device)
        positions = torch.arange(known, len(ids), device=device).unsqueeze(0)
        logits = self.forward(new, mask, positions, slots)
        return slots.take(0, len(ids)), logits


class _Batch:
    """The rows being decoded and the queue behind them."""

    def __init__(self, engine: HFEngine, queue: deque[_Work], on_completion: FollowUp) -> None:
        self.engine = engine
        self.queue = queue
        self.on_completion = on_completion
        self.rows: list[_Row] = []
        self.prompt: tuple[tuple[int, ...], Rows, torch.Tensor] | None = None
        self.slots = self._empty()

    def _empty(self) -> Slots:
        return Slots(self.engine.batch_size, self.engine._depth)

    def restart(self) -> None:
        """Put the rows back in the queue, and let all states go; their seeds make them come out the same."""
        for work in self.queue:
            work.states, work.known = None, 0
        self.queue.extendleft(_Work(row.job) for row in reversed(self.rows))
        self.rows, self.prompt = [], None
        self.slots = self._empty()

    def advance(self) -> None:
        """Fill free slots, then decode one token in every row."""
        while self.queue and len(self.rows) < self.engine.batch_size:
            work = self.queue.popleft()
            try:
                self._start(work)
            except torch.OutOfMemoryError:
                self.queue.appendleft(work)
                raise
            self._settle()
        if self.rows:
            self._step()

    def _start(self, work: _Work) -> None:
        states, logits = self._prefilled(work)
        self.slots.put(len(self.rows), states)
        row = _Row(work.job, len(work.job.ids), Noise(work.job.seed, self.engine.model.device))
        self._choose([row], logits)
        self.rows.append(row)

    def _prefilled(self, work: _Work) -> tuple[Rows, torch.Tensor]:
        """Prefill, or the same prompt's prefill from a moment ago: repeats of a prompt stand side by side."""
        if self.prompt is not None and self.prompt[0] == work.job.ids:
            return self.prompt[1], self.prompt[2]
        states, logits = self.engine.prefill(work)
        if work.states is None:  # what follows a trace is asked for once; between them, repeats of a prompt wait
            self.prompt = (work.job.ids, states, logits)
        return states, logits

    def _step(self) -> None:
        lengths = [row.length for row in self.rows]
        self.slots.fit(lengths)
        self.slots.reserve(0, 1)
        device = self.engine.model.device
        ids = torch.tensor([[row.out[-1]] for row in self.rows], device=device)
        used = torch.tensor(lengths, device=device).unsqueeze(1)
        columns = torch.arange(self.slots.end - self.slots.start + 1, device=device)
        mask = (columns >= self.slots.end - self.slots.start - used).long()
        logits = self.engine.forward(ids, mask, used, self.slots)
        for row in self.rows:
            row.length += 1
        self._choose(self.rows, logits)
        self._settle()

    def _choose(self, rows: Sequence[_Row], logits: torch.Tensor) -> None:
        by_sampling: dict[Sampling, list[int]] = {}
        for index, row in enumerate(rows):
            by_sampling.setdefault(row.job.sampling, []).append(index)
        for sampling, indices in by_sampling.items():
            chosen = [rows[index] for index in indices]
            tokens = next_tokens(
                logits if len(chosen) == len(rows) else logits[indices],
                sampling,
                [row.noise for row in chosen],
                [(*row.job.ids, *row.out) for row in chosen] if sampling.repetition_penalty != 1 else None,
            )
            for row, token in zip(chosen, tokens, strict=True):
                row.out.append(token)
        self.engine.on_tokens(len(rows))

    def _settle(self) -> None:
        """Take finished rows out, last first so that the holes are filled from the end."""
        for slot in reversed(range(len(self.rows))):
            row = self.rows[slot]
            reason = ended(row.out, row.job, self.engine.decode)
            if reason:
                self._finish(slot, Completion(tuple(row.out), reason))

    def _finish(self, slot: int, completion: Completion) -> None:
        row = self.rows[slot]
        follow_ups = list(self.on_completion(row.job, completion))
        if follow_ups:
            states = self._states(slot, row.length)
            known = (*row.job.ids, *completion.ids)[: row.length]
            works = [_Work(job, states, _common(known, job.ids)) for job in follow_ups]
            self.queue.extendleft(reversed(works))  # first in line, so that their states are soon let go
        last = len(self.rows) - 1
        if slot != last:
            self.slots.move(last, slot, self.rows[last].length)
            self.rows[slot] = self.rows[last]
        self.rows.pop()

    def _states(self, slot: int, tokens: int) -> Rows | None:
        """A finished row's states for what follows it; where memory is short, that is prefilled anew."""
        try:
            return self.slots.take(slot, tokens)
        except torch.OutOfMemoryError:
            return None


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))


def engine_for(
    model: PreTrainedModel, batch_size: int, decode: Callable[[Sequence[int]], str], on_tokens: Callable[[int], None]
) -> Engine:
    """The engine that suits a model: batched where its cache is one of keys and values, else row by row."""
    if _caches_keys_and_values(model):
        return HFEngine(model, batch_size, decode, on_tokens)
    logger.warning(
        "the cache of a %s model cannot be cut back: each answer starts from its prompt again, one row at a time",
        model.config.model_type,
    )
    return SingleRowEngine(model, decode, on_tokens)


def _caches_keys_and_values(model: PreTrainedModel) -> bool:
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    return bool(kinds) and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
