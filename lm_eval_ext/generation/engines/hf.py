"""The decoding engines on a transformers model: a batch whose rows are refilled as they end, or one row at a time."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.generation.engine import FollowUp, LocalEngine, Poll, ended, no_more
from lm_eval_ext.generation.request import Completion, Job, Sampling
from lm_eval_ext.generation.sampling import next_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Rows = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of one row by layer, [1, heads, tokens, width]

_ROOM = 256  # columns added when the buffer is full


class _SlotLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped for us
    """One layer's buffer, [slots, heads, columns, width]; `update` writes in place and returns views."""

    def __init__(self, owner: Slots) -> None:
        super().__init__()
        self.is_initialized: bool = False
        self.owner = weakref.proxy(owner)  # no cycle: buffers are to go with their owner, not at the next collection

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens of the active rows after the last column."""
        rows, _heads, new, _width = key_states.shape
        if not self.is_initialized:
            self.keys, self.values = (self.owner.buffer(states) for states in (key_states, value_states))
            self.is_initialized = True
        start, end = self.owner.start, self.owner.end
        self.keys[:rows, :, end : end + new] = key_states
        self.values[:rows, :, end : end + new] = value_states
        return self.keys[:rows, :, start : end + new], self.values[:rows, :, start : end + new]

    def get_seq_length(self, *_: object, **__: object) -> int:
        """Columns in use."""
        return int(self.owner.end - self.owner.start)

    def get_mask_sizes(self, query_length: int | torch.Tensor, *_: object, **__: object) -> tuple[int, int]:
        """Key columns that a mask covers, and the first one's number."""
        new = query_length if isinstance(query_length, int) else query_length.shape[0]
        return self.owner.end - self.owner.start + new, 0


class Slots:
    """A key-value cache whose rows come and go: one slot a row, all rows aligned at their last token.

        slot 0   . . . p p p t t t t
        slot 1   . p p p p p p t t t     `.` unused, `p` prompt, `t` decoded
                 |<-start      end->|

    Aligned on the right, every row's next token has the same column, so one write serves all, and distances within a
    row, which sliding windows count, are right. A row that ends frees its slot for the next without moving any other;
    columns that no row uses any more are skipped by moving `start`.

    Args:
        slots: number of rows.
        layers: number of layers that the model's config names.
        used: those that cache something; all by default.

    Attributes:
        start, end: columns in use.
        cache: what the model is given.
    """

    def __init__(self, slots: int, layers: int, used: Sequence[int] | None = None) -> None:
        self.slots = slots
        self.start = self.end = self.columns = 0
        every = [_SlotLayer(self) for _ in range(layers)]
        self.layers = every if used is None else [every[layer] for layer in used]
        self.cache = Cache(layers=every)

    def buffer(self, states: torch.Tensor) -> torch.Tensor:
        """An empty buffer for states like these, [rows, heads, tokens, width]."""
        return states.new_zeros(self.slots, states.shape[1], self.columns, states.shape[3])

    def reserve(self, left: int, right: int) -> None:
        """Make room for `left` columns up to `end` and for `right` columns after it."""
        if self.end >= left and self.end + right <= self.columns:
            return
        used = self.end - self.start
        end = max(left, used)
        columns = max(self.columns, end + right + _ROOM)
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys = self._moved(layer.keys, end, columns)
                layer.values = self._moved(layer.values, end, columns)
        self.start, self.end, self.columns = end - used, end, columns

    def _moved(self, old: torch.Tensor, end: int, columns: int) -> torch.Tensor:
        new = old.new_zeros(*old.shape[:2], columns, old.shape[3])
        new[:, :, end - (self.end - self.start) : end] = old[:, :, self.start : self.end]
        return new

    def put(self, slot: int, rows: Rows) -> None:
        """Place one row's states so that they end at `end`; makes the room."""
        tokens = rows[0][0].shape[2]
        self.reserve(tokens, 1)
        self.start = min(self.start, self.end - tokens)
        for layer, (keys, values) in zip(self.layers, rows, strict=True):
            if not layer.is_initialized:
                layer.keys, layer.values = self.buffer(keys), self.buffer(values)
                layer.is_initialized = True
            layer.keys[slot : slot + 1, :, self.end - tokens : self.end] = keys
            layer.values[slot : slot + 1, :, self.end - tokens : self.end] = values

    def states(self, slot: int, tokens: int) -> Rows:
        """The last `tokens` columns of a row, without a copy."""
        row, columns = slice(slot, slot + 1), slice(self.end - tokens, self.end)
        return [(layer.keys[row, :, columns], layer.values[row, :, columns]) for layer in self.layers]

    def take(self, slot: int, tokens: int) -> Rows:
        """A copy of the last `tokens` columns of a row."""
        return [(keys.clone(), values.clone()) for keys, values in self.states(slot, tokens)]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a row into another slot."""
        first = self.end - tokens
        for layer in self.layers:
            layer.keys[target, :, first : self.end] = layer.keys[source, :, first : self.end]
            layer.values[target, :, first : self.end] = layer.values[source, :, first : self.end]

    def fit(self, lengths: Sequence[int]) -> None:
        """Skip the columns that the longest row does not use; start anew where there is no row."""
        if lengths:
            self.start = self.end - max(lengths)
        else:
            self.start = self.end = 0


def prefix(rows: Rows, tokens: int) -> Rows:
    """The first `tokens` tokens of a row's states, without a copy."""
    return [(keys[:, :, :tokens], values[:, :, :tokens]) for keys, values in rows]


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of tokens with which both begin."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))


logger = logging.getLogger("lm_eval.tts")

_PREFILL_TOKENS = 2048  # prefilled at once, including padding, unless a single prompt is longer
_MOST_FED = 64  # ids that a row is fed one per step; more are prefilled


@dataclass
class _Work:
    """A job in the queue; `states` are the keys and values of its first `known` ids, if they have been computed."""

    job: Job
    states: Rows | None = None
    known: int = 0


@dataclass
class _Row:
    """A job in a slot: `length` of its tokens are in the cache, `pending` are fed next, `out` were decoded."""

    job: Job
    length: int
    pending: deque[int]
    out: list[int] = field(default_factory=list)


@dataclass(eq=False)
class HFEngine:
    """Continuous batching over one causal language model.

    Attributes:
        model: any causal model whose layers all cache keys and values.
        batch_size: most rows decoded at once.
        decode: ids to text, for stop strings.
        on_tokens: called after each step with the number of tokens it decoded.
    """

    model: PreTrainedModel
    batch_size: int
    decode: Callable[[Sequence[int]], str]
    on_tokens: Callable[[int], None] = lambda tokens: None

    def __post_init__(self) -> None:
        inner, parameters = _forward_of(self.model)
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._first_position = first_position(inner)
        self._depth = self.model.config.get_text_config().num_hidden_layers
        self._used = getattr(inner, "cache_slots", None)  # of a model some of whose attention is left out

    def run(self, jobs: Sequence[Job], on_completion: FollowUp, poll: Poll = no_more) -> None:
        """Decode every job and its follow-ups; if memory runs out, continue with half the batch size."""
        with without_gradients(self.model), one_thread_if_small(self.model):
            batch = _Batch(self, jobs, on_completion)
            while batch.queue or batch.rows:
                if not self._advanced(batch):
                    self._halve(batch)
                batch.queue.extend(map(_Work, poll()))

    def _advanced(self, batch: _Batch) -> bool:
        try:
            batch.advance()
        except torch.OutOfMemoryError:
            if self.batch_size == 1:
                raise
            return False  # the caller recovers, because the traceback here still holds memory
        return True

    def _halve(self, batch: _Batch) -> None:
        self.batch_size //= 2
        logger.warning("out of memory: going on with a batch size of %d", self.batch_size)
        batch.restart()
        torch.cuda.empty_cache()

    def slots(self, rows: int) -> Slots:
        """An empty cache."""
        return Slots(rows, self._depth, self._used)

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
            position_ids=positions + self._first_position,
            use_cache=True,
            **{self._cache_name: slots.cache},
            **self._last_only,
        )
        slots.end += ids.shape[1]
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def prefill(self, prompts: Sequence[Sequence[int]]) -> list[Rows]:
        """The keys and values of some prompts."""
        longest = max(map(len, prompts))
        padding = [longest - len(ids) for ids in prompts]
        device = self.model.device
        ids = torch.tensor([[0] * pad + list(ids) for pad, ids in zip(padding, prompts, strict=True)], device=device)
        positions = torch.arange(longest, device=device) - torch.tensor(padding, device=device).unsqueeze(1)
        slots = self.slots(len(prompts))
        slots.reserve(0, longest)
        self.forward(ids, (positions >= 0).long(), positions.clamp(min=0), slots)
        if not all(layer.is_initialized for layer in slots.layers):
            kind = self.model.config.model_type
            raise ArchitectureError(f"the {kind} model does not write keys and values into the cache that it is given")
        return [slots.states(slot, len(ids)) for slot, ids in enumerate(prompts)]


class _Batch:
    """The rows being decoded, by slot, and the queue of jobs."""

    def __init__(self, engine: HFEngine, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        self.engine = engine
        self.queue = deque(_Work(job) for job in sorted(jobs, key=lambda job: (len(job.ids), job.ids)))
        self.on_completion = on_completion
        self.rows: dict[int, _Row] = {}
        self.slots = self._empty()

    def _empty(self) -> Slots:
        return self.engine.slots(self.engine.batch_size)

    def restart(self) -> None:
        """Put all rows back in the queue and free their states; the same seeds give the same tokens again."""
        for work in self.queue:
            work.states, work.known = None, 0
        self.queue.extendleft(_Work(row.job) for row in self.rows.values())
        self.rows = {}
        self.slots = self._empty()

    def advance(self) -> None:
        """Fill free slots, feed one token to every row, choose the next tokens, and remove finished rows."""
        self._fill()
        self._compact()
        self._choose(self._fed())
        self._settle()

    def _fill(self) -> None:
        for slot in range(self.engine.batch_size):
            if not self.queue:
                return
            if slot not in self.rows:
                work = self._first()
                if work.states is not None:
                    self.slots.put(slot, work.states)
                self.rows[slot] = _Row(work.job, work.known, deque(work.job.ids[work.known :]))
                self.queue.popleft()  # only now, because memory may run out above

    def _first(self) -> _Work:
        """The first job in the queue; its prompt is prefilled up to the last token, together with the next prompts."""
        work = self.queue[0]
        if work.states is None and len(work.job.ids) > 1:
            works = _next_prompts(self.queue, self.engine.batch_size, _PREFILL_TOKENS)
            prompts = list(dict.fromkeys(some.job.ids[:-1] for some in works))
            states = dict(zip(prompts, self.engine.prefill(prompts), strict=True))
            for some in works:
                some.states, some.known = states[some.job.ids[:-1]], len(some.job.ids) - 1
        return work

    def _compact(self) -> None:
        """Move rows from the end into holes that no job fills."""
        count = len(self.rows)
        holes = [slot for slot in range(count) if slot not in self.rows]
        for hole, slot in zip(holes, [slot for slot in self.rows if slot >= count], strict=True):
            self.slots.move(slot, hole, self.rows[slot].length)
            self.rows[hole] = self.rows.pop(slot)

    def _fed(self) -> torch.Tensor:
        """Feed one token to every row; logits by slot, [rows, vocabulary]."""
        rows = [self.rows[slot] for slot in range(len(self.rows))]
        lengths = [row.length for row in rows]
        self.slots.fit(lengths)
        self.slots.reserve(0, 1)
        device = self.engine.model.device
        ids = torch.tensor([[row.pending[0]] for row in rows], device=device)
        used = torch.tensor(lengths, device=device).unsqueeze(1)
        columns = torch.arange(self.slots.end - self.slots.start + 1, device=device)
        mask = (columns >= self.slots.end - self.slots.start - used).long()
        logits = self.engine.forward(ids, mask, used, self.slots)
        for row in rows:
            row.pending.popleft()
            row.length += 1
        return logits

    def _choose(self, logits: torch.Tensor) -> None:
        """Choose the next token of every row that has no pending ids."""
        by_sampling: dict[Sampling, list[int]] = {}
        for slot, row in sorted(self.rows.items()):
            if not row.pending:
                by_sampling.setdefault(row.job.sampling, []).append(slot)
        for sampling, slots in by_sampling.items():
            rows = [self.rows[slot] for slot in slots]
            tokens = next_tokens(
                logits if len(slots) == len(self.rows) else logits[slots],
                sampling,
                [row.job.seed for row in rows],
                [len(row.out) for row in rows],
                [(*row.job.ids, *row.out) for row in rows] if sampling.repetition_penalty != 1 else None,
            )
            for row, token in zip(rows, tokens, strict=True):
                row.out.append(token)
                row.pending.append(token)
        self.engine.on_tokens(sum(map(len, by_sampling.values())))

    def _settle(self) -> None:
        for slot, row in sorted(self.rows.items()):
            reason = ended(row.out, row.job, self.engine.decode) if len(row.pending) == 1 and row.out else None
            if reason:
                del self.rows[slot]
                self._follow_up(slot, row, self.on_completion(row.job, Completion(tuple(row.out), reason)))

    def _follow_up(self, slot: int, row: _Row, jobs: Iterable[Job]) -> None:
        """Continue one job in the row's slot; the others go to the head of the queue with a copy of its states."""
        tokens = (*row.job.ids, *row.out)[: row.length]
        states: Rows | None = None
        for job in jobs:
            known = min(common_prefix(tokens, job.ids), len(job.ids) - 1)
            if known == row.length and slot not in self.rows:
                self.rows[slot] = _Row(job, known, deque(job.ids[known:]))
            elif len(job.ids) - known > _MOST_FED:
                self.queue.appendleft(_Work(job))
            else:
                states = states or self._taken(slot, row.length)
                self.queue.appendleft(_Work(job, prefix(states, known) if states else None, known if states else 0))

    def _taken(self, slot: int, tokens: int) -> Rows | None:
        """A copy of a finished row's states; None if there is no memory for it, so that follow-ups are prefilled."""
        try:
            return self.slots.take(slot, tokens)
        except torch.OutOfMemoryError:
            return None


def _next_prompts(queue: Iterable[_Work], most_prompts: int, most_tokens: int) -> list[_Work]:
    """The jobs to prefill together: the first in the queue and as many of the next as fit."""
    works: list[_Work] = []
    prompts: set[tuple[int, ...]] = set()
    longest = 0
    for work in queue:
        ids = work.job.ids[:-1]
        if work.states is None and ids:
            longest = max(longest, len(ids))
            wanted = len(prompts | {ids})
            if works and (wanted > most_prompts or longest * wanted > most_tokens):
                break
            prompts.add(ids)
            works.append(work)
    return works


def engine_for(
    model: PreTrainedModel,
    batch_size: int,
    decode: Callable[[Sequence[int]], str],
    on_tokens: Callable[[int], None],
    *,
    single_rows: bool = False,
) -> LocalEngine:
    """The engine for a model: batched if every layer caches keys and values, otherwise one row at a time.

    Args:
        model: a causal language model.
        batch_size: most rows decoded at once.
        decode: ids to text, for stop strings.
        on_tokens: called after each step with the number of tokens it decoded.
        single_rows: one row at a time in any case.
    """
    if not single_rows and engine_types(model)[0] is HFEngine:
        return HFEngine(model, batch_size, decode, on_tokens)
    logger.warning(
        "the cache of a %s model cannot be cut back: each answer starts from its prompt again, one row at a time",
        model.config.model_type,
    )
    return SingleRowEngine(model, decode, on_tokens)


def engine_types(model: PreTrainedModel) -> Sequence[type[HFEngine] | type[SingleRowEngine]]:
    """The engines that a model may be decoded with, the fastest first."""
    return (HFEngine, SingleRowEngine) if _caches_keys_and_values(model) else (SingleRowEngine,)


def _caches_keys_and_values(model: PreTrainedModel) -> bool:
    try:
        kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    except AttributeError:  # a config that names its layers otherwise, as that of some custom code
        return False
    return bool(kinds) and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


@dataclass(eq=False)
class SingleRowEngine:
    """One job after another, each from its prompt, in the model's own cache.

    Attributes:
        model: any causal language model of transformers.
        decode: ids to text, for stop strings.
        on_tokens: called after each step with the number of tokens it decoded.
    """

    model: PreTrainedModel
    decode: Callable[[Sequence[int]], str]
    on_tokens: Callable[[int], None] = lambda tokens: None
    batch_size: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        inner, parameters = _forward_of(self.model)
        known = [name for name in ("cache", "past_key_values", "cache_params", "state") if name in parameters]
        if not known:
            raise ArchitectureError(f"the {inner.config.model_type} model has no cache to generate with")
        self._cache_name = known[0]
        self._takes_positions = "position_ids" in parameters
        self._first_position = first_position(inner)

    def run(self, jobs: Sequence[Job], on_completion: FollowUp, poll: Poll = no_more) -> None:
        """Decode every job and its follow-ups."""
        queue = deque(jobs)
        with without_gradients(self.model), one_thread_if_small(self.model):
            while queue:
                job = queue.popleft()
                queue.extendleft(reversed(list(on_completion(job, self._complete(job)))))
                queue.extend(poll())

    def _complete(self, job: Job) -> Completion:
        device = self.model.device
        new = list(job.ids)
        out: list[int] = []
        state: dict[str, object] = {}
        while True:
            if self._takes_positions:  # a bamba model, or minimax with linear attention first, would begin at 0 again
                first = self._first_position + len(job.ids) + len(out) - len(new)
                state["position_ids"] = torch.arange(first, first + len(new), device=device).unsqueeze(0)
            output = self.model(input_ids=torch.tensor([new], device=device), use_cache=True, **state)
            if not hasattr(output, self._cache_name):
                raise ArchitectureError(f"the {self.model.config.model_type} model does not return its cache")
            state = {self._cache_name: getattr(output, self._cache_name)}
            new = next_tokens(output.logits[:, -1], job.sampling, [job.seed], [len(out)], [[*job.ids, *out]])
            out += new
            self.on_tokens(1)
            reason = ended(out, job, self.decode)
            if reason:
                return Completion(tuple(out), reason)


def first_position(model: PreTrainedModel) -> int:
    """The position of a text's first token: 0, or the one after the position of padding, as in RoBERTa."""
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    padding = next((getattr(table, "padding_idx", None) for table in tables), None)
    return 0 if padding is None else int(padding) + 1


def _forward_of(model: PreTrainedModel) -> tuple[PreTrainedModel, Sequence[str]]:
    """A model without its adapter, which hides the signature, and the parameters that it takes."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner, list(inspect.signature(inner.forward).parameters)


def without_gradients(model: PreTrainedModel) -> AbstractContextManager[object]:
    """Inference mode, or only no gradients for quanto, whose 4-bit weights fail in inference mode."""
    if getattr(model, "quantization_method", None) == "quanto":
        return torch.no_grad()
    return torch.inference_mode()


SMALL = 10_000_000  # parameters up to which sharing a step's work takes longer than the work
_CHOSEN_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def one_thread_if_small(model: PreTrainedModel) -> Iterator[None]:
    """Let torch use one thread for a small model on a CPU, unless somebody has chosen their number."""
    before = torch.get_num_threads()
    if before == 1 or model.device.type != "cpu" or model.num_parameters() > SMALL or not _is_torchs_choice(before):
        yield
        return
    _log(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_torchs_choice(threads: int) -> bool:
    """Whether nobody has chosen the number: torch takes one thread for each core, or for each two logical ones."""
    return threads in (_cores(), _cores() // 2) and not any(os.environ.get(name) for name in _CHOSEN_BY)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@functools.cache
def _log(threads: int) -> None:
    logger.info("computing on one thread, not %d: faster for so small a model (OMP_NUM_THREADS= to choose)", threads)
