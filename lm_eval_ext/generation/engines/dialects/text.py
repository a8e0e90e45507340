"""Servers with `/v1/completions` that take and return text only: tokens are an approximation there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engines.dialects.base import (
    Body,
    Content,
    Reply,
    ServerFacts,
    Vocabulary,
    WithoutScores,
    of_mapping,
    stop_ids,
    whole,
)
from lm_eval_ext.generation.request import Job

_MOST_STOPS = 4  # as OpenAI's API allows


class TextDialect(WithoutScores):
    """Requests and replies as text.

    About 7% of cuts don't survive decoding and encoding again, so results are marked and never paired with exact ones.
    """

    name: ClassVar[str] = "text"
    route: ClassVar[str] = "/v1/completions"
    token_exact: ClassVar[bool] = False
    seeded: ClassVar[bool] = True

    def body(self, job: Job, model: str, vocabulary: Vocabulary) -> Body:
        """The request for a job; only parameters that OpenAI's API has."""
        for name, neutral in (("top_k", 0), ("min_p", 0.0), ("repetition_penalty", 1.0)):
            if getattr(job.sampling, name) != neutral:
                raise ArgumentError(
                    f"{name}={getattr(job.sampling, name)}: a text-only server may ignore it; leave it out"
                )
        ends = [*job.stop.strings, *(vocabulary.text(ids) for ids in job.stop.sequences)]
        ends += [vocabulary.text([token]) for token in stop_ids(job)]
        stops = list(dict.fromkeys(filter(None, ends)))[:_MOST_STOPS]
        return {
            "model": model, "prompt": vocabulary.text(_without_begin(job.ids, vocabulary)),
            "max_tokens": job.max_tokens, "seed": job.seed % 2**31,
            "temperature": job.sampling.temperature, "top_p": job.sampling.top_p, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "n": 1, "stream": False, **({"stop": stops} if stops else {}),
        }  # fmt: skip

    def reply(self, content: object, job: Job, vocabulary: Vocabulary) -> Reply:
        """The text of a reply, encoded; a server cuts off what ended it, so an end of the job's is added."""
        found = _Completions.of(content)
        choice = found.choices[0]
        ids = tuple(vocabulary.encode(choice.text))[: job.max_tokens]
        if choice.finish_reason == "length":
            return Reply(ids, "length", found.usage.completion_tokens if found.usage else None)
        return Reply(ids + _end_of(job, vocabulary), "stop")

    def fact_routes(self) -> Mapping[str, str]:
        """Served models."""
        return {"models": "/v1/models"}

    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """All servers fit."""
        models = of_mapping(found.get("models"), "data")
        listed = [one for one in models if isinstance(one, dict)] if isinstance(models, list) else []
        first = listed[0] if listed and not model else {}  # what is listed may be another model
        own = next((one for one in listed if one.get("id") == model), first)
        length = whole(own.get("max_model_len")) or whole(own.get("context_length"))
        name = model or str(own.get("id"))
        return ServerFacts("unknown server", name, name, length)

    def encode_request(self, text: str, model: str) -> tuple[str, Body] | None:
        """None: there is no common way."""
        return None


def _end_of(job: Job, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Tokens that end the job; which end it was is not known."""
    if job.stop.sequences:
        return job.stop.sequences[0]
    if job.stop.strings and not job.stop.tokens:
        return tuple(vocabulary.encode(job.stop.strings[0]))
    return tuple(sorted(job.stop.tokens)[:1])


def _without_begin(ids: tuple[int, ...], vocabulary: Vocabulary) -> tuple[int, ...]:
    return ids[1:] if vocabulary.begin is not None and ids[:1] == (vocabulary.begin,) else ids


class _Choice(Content):
    text: str
    finish_reason: Literal["stop", "length"]


class _Usage(Content):
    completion_tokens: int | None = None


class _Completions(Content):
    usage: _Usage | None = None
    choices: Annotated[tuple[_Choice, ...], Field(min_length=1)]
