"""Parses and validates lm-eval's generation arguments (a task's `generation_kwargs`, and `--gen_kwargs`)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.request import Sampling

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
            near = difflib.get_close_matches(key, [*KNOWN, *ALIASES], n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ArgumentError(f"unknown generation argument {key!r}{hint}; expected one of: {', '.join(KNOWN)}")
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
    fits = math.isfinite(number) and low <= number <= (math.inf if high is None else high)
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
