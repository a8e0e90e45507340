"""Interfaces of an lm-eval model class that runs thinking requests, and of what runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from tqdm import tqdm

from lm_eval_ext.generation.engine import Engine
from lm_eval_ext.generation.request import Completion, Job

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase


class ThinkingModel(Protocol):
    """An lm-eval model class that can run thinking requests."""

    tokenizer: PreTrainedTokenizerBase
    pretrained: object
    max_gen_toks: int
    max_length: int
    rank: int
    sampler: int | None  # version of our own sampler; None where the engine has another

    @property
    def fingerprint(self) -> str:
        """Identifier that changes with the weights and the config."""

    @property
    def versions(self) -> str:
        """Software versions that affect the decoded tokens."""

    def tok_encode(self, text: str) -> list[int]:
        """Encode a prompt; special tokens are added unless the text already has them."""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation as text, ending in a new assistant turn or (without generation prompt) in the last."""

    def decoding_engine(
        self,
        tokens: int,
        decode: Callable[[Sequence[int]], str],
        on_tokens: Callable[[int], None],
        on_replicas: Callable[[int, int], None],
    ) -> Engine:
        """An engine for texts of up to `tokens` tokens.

        It calls `on_tokens` with the number of tokens it has decoded, and if it runs several replicas of the model,
        `on_replicas` with the number of those that are up and of those asked for.
        """

    def decoding_context(self) -> AbstractContextManager[object]:
        """A context manager that is active while decoding."""

    def generation_defaults(self) -> GenerationConfig | None:
        """The checkpoint's generation config; None if it has none."""


@dataclass
class Totals:
    """Tokens and seconds of all thinking requests in a run.

    Attributes:
        prompt_tokens: tokens in the prompts of all traces.
        thinking_tokens, answer_tokens: tokens decoded in this run.
        saved_by_sharing: additional thinking tokens that separate runs for each budget would have decoded.
        resumed, resumed_tokens: number of completions that came from the journal, and their tokens.
        loops_stopped: number of traces that were stopped in a loop.
        loop_tokens_saved: tokens that these traces could still have decoded.
        seconds: time spent decoding, excluding loading.
    """

    prompt_tokens: int = 0
    thinking_tokens: int = 0
    answer_tokens: int = 0
    saved_by_sharing: int = 0
    resumed: int = 0
    resumed_tokens: int = 0
    loops_stopped: int = 0
    loop_tokens_saved: int = 0
    seconds: float = 0.0

    def count(self, job: Job, completion: Completion, found: bool) -> None:
        """Count one completion; `found` says whether it came from the journal."""
        tokens = len(completion.ids)
        if completion.reason == "loop":
            self.loops_stopped += 1
            self.loop_tokens_saved += job.max_tokens - tokens
        if found:
            self.resumed += 1
            self.resumed_tokens += tokens
        elif job.phase == "think":
            self.thinking_tokens += tokens
        else:
            self.answer_tokens += tokens

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time spent in the `with` block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def info(self) -> dict[str, float]:
        """The totals, and the tokens decoded per second."""
        decoded = self.thinking_tokens + self.answer_tokens
        return asdict(self) | {"tokens_per_second": decoded / self.seconds if self.seconds else 0.0}


class ProgressBar:
    """A progress bar of finished requests, with tokens per second and remaining time.

    Attributes:
        results: number of finished requests.
    """

    def __init__(self, requests: int, quiet: bool) -> None:
        self._bar = tqdm(total=requests, desc="Thinking", disable=quiet, mininterval=1.0)
        self.results = 0
        self._tokens = 0
        self._replicas = ""
        self._start = self._shown = time.perf_counter()

    def on_tokens(self, tokens: int) -> None:
        """Count decoded tokens; the bar is drawn once a second, however long no request is finished."""
        self._tokens += tokens
        now = time.perf_counter()
        due = now - self._shown >= 1.0  # by our own clock, as tqdm draws only after further requests are finished
        self._shown = now if due else self._shown
        rate = self._tokens / (now - self._start)
        self._bar.set_postfix_str(f"{rate:.0f} tokens/s{self._replicas}", refresh=due)

    def on_replicas(self, up: int, asked: int) -> None:
        """Show how many replicas are up."""
        self._replicas = f", {up} of {asked} replicas"

    def on_result(self) -> None:
        """Count a finished request."""
        self.results += 1
        self._bar.update(1)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
