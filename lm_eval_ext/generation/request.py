"""Plain value types for requests to a model and its generations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any, Literal

FinishReason = Literal["stop", "length", "context", "loop"]
Phase = Literal["think", "answer"]


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters; temperature 0 is greedy, top_k 0 and top_p 1 keep every token."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Request:
    """A request for one answer.

    Attributes:
        prompt: token ids, up to and including the start of thinking.
        repeat: index of this sample among the independent samples of the same prompt.
        sampling: sampling parameters.
        thinking_budget: maximum thinking tokens; None means no limit.
        answer_budget: maximum answer tokens; None means no limit.
        max_tokens: maximum tokens in thinking and answer together.
        until: strings that end the answer; ignored while thinking.
        wait_count: how many times the end of thinking is replaced with `wait_text` (s1, arXiv 2501.19393).
        wait_text: the text to continue with.
        thinks: False if the prompt has already closed the thinking, so that the answer follows directly.
    """

    prompt: tuple[int, ...]
    repeat: int = 0
    sampling: Sampling = Sampling()
    thinking_budget: int | None = None
    answer_budget: int | None = 1024
    max_tokens: int = 32768
    until: tuple[str, ...] = ()
    wait_count: int = 0
    wait_text: str = "Wait"
    thinks: bool = True


class Generation(str):
    """A finished text, including the thinking, with details of how it was generated.

    It can be used as a plain string, and made from one, as lm-eval does. `answer` is the part to grade: None if the
    text was cut before it could answer, and the whole text if it was made from a plain string.
    """

    answer: str | None
    thinking_tokens: int
    answer_tokens: int
    forced: bool
    looped: bool
    finish_reason: FinishReason
    seed: int

    def __new__(  # noqa: D102
        cls,
        text: object = "",
        *,
        answer: str | EllipsisType | None = ...,
        thinking_tokens: int = 0,
        answer_tokens: int = 0,
        forced: bool = False,
        looped: bool = False,
        finish_reason: FinishReason = "stop",
        seed: int = 0,
    ) -> Generation:
        self = super().__new__(cls, text)
        self.answer = str(self) if isinstance(answer, EllipsisType) else answer
        self.thinking_tokens = thinking_tokens
        self.answer_tokens = answer_tokens
        self.forced = forced
        self.looped = looped
        self.finish_reason = finish_reason
        self.seed = seed
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, object]]:
        return (str(self),), dict(vars(self))


@dataclass(frozen=True)
class Stop:
    """Conditions that end decoding: any of these token ids, id sequences or strings, or a repetition loop."""

    tokens: frozenset[int] = frozenset()
    sequences: tuple[tuple[int, ...], ...] = ()
    strings: tuple[str, ...] = ()
    loops: bool = False


@dataclass(frozen=True)
class Job:
    """One stretch of decoding for an engine: continue `ids` by at most `max_tokens`."""

    ids: tuple[int, ...]
    max_tokens: int
    stop: Stop
    sampling: Sampling
    seed: int
    phase: Phase = "think"
    tag: Any = field(default=None, compare=False)  # for the caller's own use; engines ignore it


@dataclass(frozen=True)
class Completion:
    """The result of decoding a job.

    Attributes:
        ids: the new tokens, including any stop tokens.
        reason: why it ended: "stop", "length" for the job's limit, or "loop" for a repetition loop.
        resumed: whether an earlier run decoded it.
    """

    ids: tuple[int, ...]
    reason: Literal["stop", "length", "loop"]
    resumed: bool = field(default=False, compare=False)

    def within(self, limit: int) -> Completion | None:
        """The completion of the same job with another limit; None if that is unknown and has to be decoded.

        A longer completion is cut. A shorter one that ended at its own limit cannot be used for a higher limit.
        """
        if len(self.ids) > limit:
            return replace(self, ids=self.ids[:limit], reason="length")
        return None if self.reason == "length" and len(self.ids) < limit else self


def seed_for(base: int, sampling: Sampling, prompt: Sequence[int], repeat: int, phase: str, cut: int) -> int:
    """A 63-bit seed that depends only on the arguments; 0 for greedy decoding, which draws nothing.

    It does not depend on the task's name or the batch. So samples are paired across budgets, repeats are independent,
    and a result does not depend on what else is running.
    """
    if sampling.temperature == 0:
        return 0
    content = json.dumps([base, list(prompt), repeat, phase, cut], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") >> 1
