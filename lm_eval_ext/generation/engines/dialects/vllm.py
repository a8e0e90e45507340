"""`vllm serve`: token ids both ways on `/v1/completions`, with `return_token_ids` (vLLM 0.10.2 and later)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lm_eval_ext.generation.engines.dialects.base import (
    Body,
    Content,
    Reply,
    ReplyError,
    ServerFacts,
    TokenId,
    TokenScore,
    Vocabulary,
    of_mapping,
    stop_ids,
    whole,
)
from lm_eval_ext.generation.request import Job


class VLLMDialect:
    """Requests and replies of vLLM's server.

    `ignore_eos` leaves it to the job when a text ends, and keeps tokens as they are; `min_tokens` would not. Every
    sampling parameter is sent, because the server's defaults come from the checkpoint's generation config.
    """

    name: ClassVar[str] = "vllm"
    route: ClassVar[str] = "/v1/completions"
    token_exact: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    logprobs: ClassVar[bool] = True

    def body(self, job: Job, model: str, vocabulary: Vocabulary) -> Body:
        """The request for a job."""
        return {
            "model": model, "prompt": job.ids, "max_tokens": job.max_tokens, "seed": job.seed,
            "temperature": job.sampling.temperature, "top_p": job.sampling.top_p, "top_k": job.sampling.top_k,
            "min_p": job.sampling.min_p, "repetition_penalty": job.sampling.repetition_penalty,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1, "stream": False, "ignore_eos": True,
            "stop_token_ids": stop_ids(job), "stop": list(job.stop.strings), "return_token_ids": True,
        }  # fmt: skip

    def reply(self, content: object, job: Job, vocabulary: Vocabulary) -> Reply:
        """The decoded tokens in a reply."""
        choice = _Completions.of(content).choices[0]
        if choice.token_ids is None:
            raise ReplyError("it returns no token ids; vLLM does from version 0.10.2")
        if choice.prompt_token_ids is not None and choice.prompt_token_ids != job.ids:
            raise ReplyError("it has changed the prompt's token ids")
        return Reply(choice.token_ids, "length" if choice.finish_reason == "length" else "stop")

    def score_body(self, ids: Sequence[int], model: str) -> Body:
        """The request for the log-probabilities of a text's tokens; one token is decoded, because none is refused."""
        return {"model": model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}

    def scores(self, content: object, ids: Sequence[int]) -> list[TokenScore | None]:
        """The score of each token."""
        found = _Scored.of(content).choices[0].prompt_logprobs
        if len(found) != len(ids):
            raise ReplyError(f"it gives {len(found)} log-probabilities for {len(ids)} tokens")
        if any(entry is None for entry in found[1:]):
            raise ReplyError("it leaves out the log-probabilities of some tokens")
        return [_score(entry, token) for entry, token in zip(found, ids, strict=True)]

    def fact_routes(self) -> Mapping[str, str]:
        """Version, and served models."""
        return {"version": "/version", "models": "/v1/models"}

    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """vLLM is the only one with `/version` and a model's `max_model_len`."""
        version = of_mapping(found.get("version"), "version")
        models = of_mapping(found.get("models"), "data")
        listed = [one for one in models if isinstance(one, dict)] if isinstance(models, list) else []
        own = next((one for one in listed if one.get("id") == model), listed[0] if listed else {})
        if not isinstance(version, str) or "max_model_len" not in own:
            return None
        name = str(own.get("id"))
        return ServerFacts(f"vllm {version}"[:100], name, f"{name}, {own.get('root')}", whole(own["max_model_len"]))

    def encode_request(self, text: str, model: str) -> tuple[str, Body] | None:
        """Encode a text, without adding special tokens."""
        return "/tokenize", {"model": model, "prompt": text, "add_special_tokens": False}


def _score(entry: Mapping[str, _Logprob] | None, token: int) -> TokenScore | None:
    if entry is None:
        return None
    if str(token) not in entry:
        raise ReplyError(f"it gives no log-probability for token {token}")
    own = entry[str(token)]
    return TokenScore(own.logprob, own.logprob >= max(one.logprob for one in entry.values()))


class _Logprob(Content):
    logprob: Annotated[float, Field(le=1e-3)]


class _ScoredChoice(Content):
    prompt_logprobs: tuple[dict[str, _Logprob] | None, ...]


class _Scored(Content):
    choices: Annotated[tuple[_ScoredChoice, ...], Field(min_length=1)]


class _Choice(Content):
    finish_reason: Literal["stop", "length", "repetition"]
    token_ids: tuple[TokenId, ...] | None = None
    prompt_token_ids: tuple[TokenId, ...] | None = None


class _Completions(Content):
    choices: Annotated[tuple[_Choice, ...], Field(min_length=1)]
