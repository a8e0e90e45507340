"""llama.cpp's server: token ids both ways on `/completion`, with `return_tokens`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from lm_eval_ext.generation.engines.dialects.base import (
    Body,
    Content,
    Reply,
    ReplyError,
    ServerFacts,
    TokenId,
    Vocabulary,
    WithoutScores,
    of_mapping,
    stop_ids,
    whole,
)
from lm_eval_ext.generation.request import Job

_SEEDS = 2**32 - 1  # its seeds have 32 bits, and the largest means a random one


class LlamaCppDialect(WithoutScores):
    """Requests and replies of llama.cpp's server.

    It stops at texts, not at tokens, and at every token that its own vocabulary calls an end of generation: where that
    is no end for the job, the job is continued. `ignore_eos` would change probabilities, so it is never sent.

    Its logits depend on its cache and its batch in the last bits, so a seed gives almost the same sample again. For
    exactly the same one, see `SingleLlamaCppDialect`.
    """

    name: ClassVar[str] = "llama.cpp"
    route: ClassVar[str] = "/completion"
    token_exact: ClassVar[bool] = True
    seeded: ClassVar[bool] = False

    def body(self, job: Job, model: str, vocabulary: Vocabulary) -> Body:
        """The request for a job; every sampler that is not named is off."""
        sampling = job.sampling
        penalties = ["penalties"] if sampling.repetition_penalty != 1.0 else []
        ends = [vocabulary.text([token]) for token in stop_ids(job)]
        return {
            "prompt": job.ids, "n_predict": job.max_tokens, "seed": job.seed % _SEEDS, "stream": False,
            "samplers": [*penalties, "temperature", "top_k", "top_p", "min_p"], "temperature": sampling.temperature,
            "top_k": sampling.top_k if sampling.temperature > 0 else 1, "top_p": sampling.top_p,
            "min_p": sampling.min_p, "repeat_penalty": sampling.repetition_penalty,
            "repeat_last_n": len(job.ids) + job.max_tokens,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "n_probs": 0, "return_tokens": True,
            "cache_prompt": True, "stop": [*filter(None, ends), *job.stop.strings], "preserved_tokens": ends,
        }  # fmt: skip

    def reply(self, content: object, job: Job, vocabulary: Vocabulary) -> Reply:
        """The decoded tokens in a reply."""
        found = _Completion.of(content)
        if found.tokens is None or (not found.tokens and found.content):
            raise ReplyError("it returns no token ids; llama.cpp does since December 2024 (`return_tokens`)")
        if found.truncated or found.tokens_evaluated not in (None, len(job.ids)):
            raise ReplyError(f"it has cut a prompt of {len(job.ids)} tokens to fit its context")
        return Reply(found.tokens, "length" if found.stop_type == "limit" else "stop")

    def fact_routes(self) -> Mapping[str, str]:
        """Properties of the server, and of its model."""
        return {"props": "/props", "models": "/v1/models"}

    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """llama.cpp is the only one with `/props`; `n_ctx` there is what one of its slots has."""
        props = found.get("props")
        length = whole(of_mapping(props, "default_generation_settings", "n_ctx"))
        if length is None:
            return None
        meta = of_mapping(found.get("models"), "data", 0, "meta")
        sizes = meta if isinstance(meta, dict) else {}
        said = {name: sizes.get(name) for name in ("n_params", "n_vocab", "size") if name in sizes}
        build = str(of_mapping(props, "build_info") or "of unknown version")
        path = str(of_mapping(props, "model_path"))
        slots = whole(of_mapping(props, "total_slots"))
        return ServerFacts(f"llama.cpp {build}"[:100], path, f"{path}, {said}", length, slots)

    def encode_request(self, text: str, model: str) -> tuple[str, Body] | None:
        """Encode a text, without adding special tokens."""
        return "/tokenize", {"content": text, "add_special": False, "parse_special": True}


class SingleLlamaCppDialect(LlamaCppDialect):
    """Requests that are made one at a time and leave no cache: a seed gives the same sample again."""

    seeded: ClassVar[bool] = True

    def body(self, job: Job, model: str, vocabulary: Vocabulary) -> Body:
        """The request for a job, whose prompt is evaluated from its first token on."""
        return {**super().body(job, model, vocabulary), "cache_prompt": False}


class _Completion(Content):
    content: str = ""
    tokens: tuple[TokenId, ...] | None = None
    stop_type: Literal["eos", "limit", "word"]
    truncated: bool = False
    tokens_evaluated: int | None = None
