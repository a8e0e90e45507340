"""The decoding engine for models whose cache cannot be cut or batched by rows: linear attention, convolutions."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.generation.engine import FollowUp, Poll, ended, no_more
from lm_eval_ext.generation.request import Completion, Job
from lm_eval_ext.generation.sampling import next_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SingleRowEngine:
    """One job after another, each from its prompt, in the model's own cache.

    Args:
        model: any causal language model of transformers.
        decode: ids to text, for stop strings.
        on_tokens: called after each step with the number of tokens it decoded.
    """

    batch_size = 1

    def __init__(
        self,
        model: PreTrainedModel,
        decode: Callable[[Sequence[int]], str],
        on_tokens: Callable[[int], None] = lambda tokens: None,
    ) -> None:
        self.model = model
        self.decode = decode
        self.on_tokens = on_tokens
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # an adapter hides the signature
        known = [name for name in ("cache", "past_key_values", "cache_params", "state") if name in _parameters(inner)]
        if not known:
            raise ArchitectureError(f"the {inner.config.model_type} model has no cache to generate with")
        self._cache_name = known[0]
        self._takes_positions = "position_ids" in _parameters(inner)
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


def _parameters(model: PreTrainedModel) -> Sequence[str]:
    return list(inspect.signature(model.forward).parameters)


def without_gradients(model: PreTrainedModel) -> AbstractContextManager[object]:
    """Inference mode, or only no gradients for quanto, whose 4-bit weights fail in inference mode."""
    if getattr(model, "quantization_method", None) == "quanto":
        return torch.no_grad()
    return torch.inference_mode()


logger = logging.getLogger("lm_eval.tts")

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
    logger.info("decoding on one thread, not %d: faster for so small a model (OMP_NUM_THREADS= to choose)", threads)
