"""Plain value types for requests to a model and its generations."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any, Literal

from lm_eval_ext.errors import ArgumentError, did_you_mean

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


# Other names for our arguments: lm-eval's and vLLM's, then s1's.
ALIASES = {
    "max_new_tokens": "max_gen_toks",
    "max_tokens": "max_gen_toks",
    "max_completion_tokens": "max_gen_toks",
    "max_tokens_thinking": "thinking_token_budget",
    "thinking_n_ignore": "wait_count",
    "thinking_n_ignore_str": "wait_text",
}
KNOWN = {
    "do_sample": "whether to sample; True without a temperature means temperature 1",
    "temperature": "sampling temperature; 0 is greedy",
    "top_p": "sample from the smallest set of most probable tokens whose probabilities sum to at least this",
    "top_k": "sample from this many most probable tokens; 0 or -1 means all",
    "min_p": "sample from tokens with at least this fraction of the most probable token's probability",
    "repetition_penalty": "penalty on the logits of tokens that already occurred; 1 means none",
    "until": "strings that end the answer; they don't end the thinking",
    "max_gen_toks": "maximum tokens in thinking and answer together",
    "thinking_token_budget": "maximum thinking tokens; -1 means no limit. Setting it makes this a thinking request",
    "answer_token_budget": "maximum tokens in the answer; -1 means no limit",
    "wait_count": "how many times to remove the end of thinking and continue (s1's budget forcing)",
    "wait_text": "the text to continue with, `Wait` by default",
    "thinking_start": "marker that opens the thinking, instead of the format's",
    "thinking_end": "marker that ends the thinking, instead of the format's",
}
ANSWER_BUDGET = 1024  # maximum tokens in an answer, unless the task or a model argument says otherwise
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_GREATEST = 1e300  # of an argument, which a float can hold
_THINKING = ("thinking_token_budget", "wait_count", "thinking_start", "thinking_end")


@dataclass(frozen=True)
class GenerationOptions:
    """Validated generation arguments; a budget of None means no limit."""

    sampling: Sampling
    thinking_budget: int | None
    answer_budget: int | None
    max_tokens: int
    until: tuple[str, ...]
    wait_count: int
    wait_text: str
    thinking_start: str | None
    thinking_end: str | None
    names_answer_budget: bool


def canonical(kwargs: Mapping[str, object]) -> dict[str, object]:
    """Generation arguments under our names, unchecked.

    >>> canonical({"max_tokens": 512, "temperature": 1.0})
    {'max_gen_toks': 512, 'temperature': 1.0}
    """
    return {ALIASES.get(name, name): value for name, value in kwargs.items()}


def with_budget(kwargs: Mapping[str, object], budget: int) -> dict[str, object]:
    """A task's generation arguments with a thinking budget, and room for the answer behind it.

    >>> with_budget({"thinking_token_budget": -1, "max_gen_toks": 512, "answer_token_budget": 16}, 512)
    {'thinking_token_budget': 512, 'max_gen_toks': 528, 'answer_token_budget': 16}
    """
    answer, most = kwargs.get("answer_token_budget"), kwargs.get("max_gen_toks")
    room = answer if isinstance(answer, int) and answer > 0 else ANSWER_BUDGET
    raised = {"max_gen_toks": budget + room} if isinstance(most, int) and most < budget + room else {}
    return {**kwargs, "thinking_token_budget": budget, **raised}


def asks_for_thinking(kwargs: Mapping[str, object]) -> bool:
    """Whether this is a thinking request: it sets a thinking budget (-1 for no limit) or another thinking argument."""
    return any(name in _THINKING for name in canonical(kwargs))


def unlimited(kwargs: Mapping[str, object]) -> bool:
    """Whether a thinking request sets no limit, and nothing else that has to be forced."""
    given = canonical(kwargs)
    return given.get("thinking_token_budget") == -1 and not any(given.get(name) for name in _THINKING[1:])


def only_ours(kwargs: Mapping[str, object]) -> list[str]:
    """The names of the arguments that only our models know."""
    return [name for name in kwargs if ALIASES.get(name, name) in (*_THINKING, "answer_token_budget", "wait_text")]


def parse_options(kwargs: Mapping[str, object], *, answer_budget: int | None, max_tokens: int) -> GenerationOptions:
    """Parse and validate generation arguments.

    Args:
        kwargs: as given by the task and the command line.
        answer_budget: default for `answer_token_budget`.
        max_tokens: default for `max_gen_toks`.

    Raises:
        ArgumentError: a key is unknown, a value is out of range, or arguments contradict each other.
    """
    given = _checked(kwargs)
    return GenerationOptions(
        sampling=_sampling(given),
        thinking_budget=_budget(given, "thinking_token_budget", None),
        answer_budget=_budget(given, "answer_token_budget", answer_budget),
        max_tokens=int(_number(given, "max_gen_toks", max_tokens, 1, whole=True)),
        until=_strings(given.get("until")),
        wait_count=int(_number(given, "wait_count", 0, 0, whole=True)),
        wait_text=str(given.get("wait_text", "Wait")),
        thinking_start=_marker(given, "thinking_start"),
        thinking_end=_marker(given, "thinking_end"),
        names_answer_budget=given.get("answer_token_budget") is not None,
    )


def _checked(kwargs: Mapping[str, object]) -> dict[str, object]:
    given: dict[str, object] = {}
    for key, value in kwargs.items():
        name = ALIASES.get(key, key)
        if name not in KNOWN:
            hint = did_you_mean(key, [*KNOWN, *ALIASES])
            raise ArgumentError(f"unknown generation argument {key!r}; expected one of: {', '.join(KNOWN)}{hint}")
        if name in given and given[name] != value:
            raise ArgumentError(f"generation argument {key}={value!r} contradicts {name}={given[name]!r}; give one")
        given[name] = value
    return given


def _sampling(given: Mapping[str, object]) -> Sampling:
    temperature = _number(given, "temperature", 0.0, 0)
    if given.get("do_sample") is False and temperature > 0:
        raise ArgumentError(
            f"do_sample=False contradicts temperature={temperature:g}; for greedy decoding give temperature=0, "
            "for sampling do_sample=True"
        )
    if given.get("do_sample") and "temperature" not in given:
        temperature = 1.0
    return Sampling(
        temperature=temperature,
        top_p=_number(given, "top_p", 1.0, 0, 1),
        top_k=max(0, int(_number(given, "top_k", 0, -1, whole=True))),
        min_p=_number(given, "min_p", 0.0, 0, 1),
        repetition_penalty=_number(given, "repetition_penalty", 1.0, 0.01),
    )


def _budget(given: Mapping[str, object], key: str, default: int | None) -> int | None:
    if key not in given or given[key] is None:
        return default
    value = int(_number(given, key, -1, -1, whole=True))
    return None if value < 0 else value


def _number(
    given: Mapping[str, object],
    key: str,
    default: float,
    low: float,
    high: float | None = None,
    whole: bool = False,
) -> float:
    value = given.get(key, default)
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    fits = abs(number) < _GREATEST and low <= number <= (math.inf if high is None else high)
    if not fits or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        limit = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise ArgumentError(f"generation argument {key}={value!r}: give {kind} {limit}")
    return float(number)


def _strings(value: object) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else value or []
    if not isinstance(strings, (list, tuple)) or not all(isinstance(item, str) for item in strings):
        raise ArgumentError(f"generation argument until={value!r}: give a string or a list of strings")
    return tuple(item for item in strings if item)


def _marker(given: Mapping[str, object], key: str) -> str | None:
    value = given.get(key)
    if value is not None and not (isinstance(value, str) and value):
        raise ArgumentError(f"generation argument {key}={value!r}: give the marker's text")
    return value
