"""Requests to a model and its generations, as plain values."""

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
    """How the next token is chosen; temperature 0 is greedy, top_k 0 and top_p 1 keep every token."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Request:
    """One answer that is wanted.

    Attributes:
        prompt: token ids, up to and including the start of thinking.
        repeat: which of several independent samples of the same prompt this is, from 0.
        sampling: how tokens are chosen.
        thinking_budget: most thinking tokens; None is no limit.
        answer_budget: most answer tokens; None is no limit.
        max_tokens: most tokens of thinking and answer together.
        until: strings that end the answer; they play no part while thinking.
        wait_count: how many times an end of thinking is replaced by `wait_text` (s1, arXiv 2501.19393).
        wait_text: what is put there.
        thinks: False where the prompt has already closed the thinking; the answer follows at once.
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
    """A finished text, thinking included, that knows how it came about.

    It is a plain string to anyone who asks for no more, and can be made from one, as lm-eval does. `answer` is the part
    to grade: None where the text was cut before it could answer; of a plain string, all of it.
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
    """What ends a decode: any of these token ids, id sequences or strings, or a repetition loop."""

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
    tag: Any = field(default=None, compare=False)  # what whoever asks keeps with it; an engine never looks


@dataclass(frozen=True)
class Completion:
    """What an engine decoded: new ids (what stopped it included), and what ended it.

    Attributes:
        ids: the new tokens.
        reason: "stop", "length" for the job's limit, or "loop" for a repetition loop.
        resumed: whether it was decoded by an earlier run.
    """

    ids: tuple[int, ...]
    reason: Literal["stop", "length", "loop"]
    resumed: bool = field(default=False, compare=False)

    def within(self, limit: int) -> Completion | None:
        """What it is for the same job with another limit; None where that has to be decoded.

        A longer one is cut; a shorter one that was not stopped says nothing of a higher limit.
        """
        if len(self.ids) > limit:
            return replace(self, ids=self.ids[:limit], reason="length")
        return None if self.reason == "length" and len(self.ids) < limit else self


def seed_for(base: int, sampling: Sampling, prompt: Sequence[int], repeat: int, phase: str, cut: int) -> int:
    """A 63-bit seed from what determines a stretch of text and nothing else; 0 where nothing is drawn.

    Neither the task's name nor the batch takes part: budgets pair, repeats are independent, and a result does
    not depend on what else runs.
    """
    if sampling.temperature == 0:
        return 0
    content = json.dumps([base, list(prompt), repeat, phase, cut], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") >> 1
