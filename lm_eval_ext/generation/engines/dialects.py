"""What is asked of each kind of inference server, and what its replies say: vLLM, llama.cpp, SGLang, and text only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engines.dialect import (
    Body,
    Content,
    Dialect,
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

RECIPE = "lm-eval-tts:"  # begins the further name by which `lm-eval-tts serve` lists how a model was made smaller


class VLLMDialect(Dialect):
    """vLLM's server: token ids both ways on `/v1/completions`, with `return_token_ids` (0.10.2 and later).

    `ignore_eos` leaves it to the job when a text ends, and keeps tokens as they are; `min_tokens` would not. Every
    sampling parameter is sent, because the server's defaults come from the checkpoint's generation config.
    """

    name = "vllm"
    route = "/v1/completions"
    fact_routes: ClassVar[Mapping[str, str]] = {"version": "/version", "models": "/v1/models"}
    logprobs = True

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

    def score_body(self, ids: Sequence[int], model: str, likeliest: int) -> Body:
        """The request for the log-probabilities of a text's tokens; one token is decoded, because none is refused."""
        return {"model": model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": likeliest}

    def scores(self, content: object, ids: Sequence[int]) -> list[TokenScore | None]:
        """The score of each token."""
        found = _Scored.of(content).choices[0].prompt_logprobs
        if len(found) != len(ids):
            raise ReplyError(f"it gives {len(found)} log-probabilities for {len(ids)} tokens")
        if any(entry is None for entry in found[1:]):
            raise ReplyError("it leaves out the log-probabilities of some tokens")
        return [_score(entry, token) for entry, token in zip(found, ids, strict=True)]

    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """vLLM is the only one with `/version` and a model's `max_model_len`."""
        version, listed = of_mapping(found.get("version"), "version"), _listed_models(found)
        own = next((one for one in listed if one.get("id") == model), listed[0] if listed else {})
        if not isinstance(version, str) or "max_model_len" not in own:
            return None
        name = str(own.get("id"))
        said = (str(one.get("id")) for one in listed)
        recipe = next((one.removeprefix(RECIPE) for one in said if one.startswith(RECIPE)), "")
        served = f"{name}, {own.get('root')}"
        return ServerFacts(f"vllm {version}"[:100], name, served, whole(own["max_model_len"]), recipe=recipe)

    def encode_request(self, text: str, model: str) -> tuple[str, Body] | None:
        """Encode a text, without adding special tokens."""
        return "/tokenize", {"model": model, "prompt": text, "add_special_tokens": False}


def _listed_models(found: Mapping[str, object]) -> list[dict[str, object]]:
    models = of_mapping(found.get("models"), "data")
    return [one for one in models if isinstance(one, dict)] if isinstance(models, list) else []


def _score(entry: Mapping[str, _Logprob] | None, token: int) -> TokenScore | None:
    if entry is None:
        return None
    if str(token) not in entry:
        raise ReplyError(f"it gives no log-probability for token {token}")
    return TokenScore(entry[str(token)].logprob, {int(name): one.logprob for name, one in entry.items()})


class _Logprob(Content):
    logprob: Annotated[float, Field(le=1e-3)]


class _ScoredChoice(Content):
    prompt_logprobs: tuple[dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], _Logprob] | None, ...]


class _Scored(Content):
    choices: Annotated[tuple[_ScoredChoice, ...], Field(min_length=1)]


class _Choice(Content):
    finish_reason: Literal["stop", "length", "repetition"]
    token_ids: tuple[TokenId, ...] | None = None
    prompt_token_ids: tuple[TokenId, ...] | None = None


class _Completions(Content):
    choices: Annotated[tuple[_Choice, ...], Field(min_length=1)]


_SEEDS = 2**32 - 1  # its seeds have 32 bits, and the largest means a random one


class LlamaCppDialect(Dialect):
    """llama.cpp's server: token ids both ways on `/completion`, with `return_tokens`.

    It stops at texts, not at tokens, and at every token that its own vocabulary calls an end of generation: where that
    is no end for the job, the job is continued. `ignore_eos` would change probabilities, so it is never sent.

    Its logits depend on its cache and its batch in the last bits, so a seed gives almost the same sample again. For
    exactly the same one, see `SingleLlamaCppDialect`.
    """

    name = "llama.cpp"
    route = "/completion"
    fact_routes: ClassVar[Mapping[str, str]] = {"props": "/props", "models": "/v1/models"}
    seeded = False

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

    seeded = True

    def body(self, job: Job, model: str, vocabulary: Vocabulary) -> Body:
        """The request for a job, whose prompt is evaluated from its first token on."""
        return {**super().body(job, model, vocabulary), "cache_prompt": False}


class _Completion(Content):
    content: str = ""
    tokens: tuple[TokenId, ...] | None = None
    stop_type: Literal["eos", "limit", "word"]
    truncated: bool = False
    tokens_evaluated: int | None = None


class SGLangDialect(Dialect):
    """SGLang: token ids both ways on `/generate`, as its source says; it was not run against a real server.

    Seeds count with `--enable-deterministic-inference`.

    With `ignore_eos` it would ignore stop tokens too; where one of its own ends is none of the job's, the job goes on.
    """

    name = "sglang"
    route = "/generate"
    fact_routes: ClassVar[Mapping[str, str]] = {"model": "/get_model_info", "server": "/get_server_info"}

    def body(self, job: Job, model: str, vocabulary: Vocabulary) -> Body:
        """The request for a job."""
        sampling = job.sampling
        return {
            "input_ids": job.ids, "stream": False,
            "sampling_params": {
                "max_new_tokens": job.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p,
                "top_k": sampling.top_k or -1, "min_p": sampling.min_p, "sampling_seed": job.seed % 2**31,
                "repetition_penalty": sampling.repetition_penalty, "presence_penalty": 0.0, "frequency_penalty": 0.0,
                "stop_token_ids": stop_ids(job), "stop": list(job.stop.strings), "ignore_eos": False,
                "skip_special_tokens": False, "no_stop_trim": True,
            },
        }  # fmt: skip

    def reply(self, content: object, job: Job, vocabulary: Vocabulary) -> Reply:
        """The decoded tokens in a reply; the token that ended it is added if the server leaves it out."""
        found = _Generated.of(content)
        ended = found.meta_info.finish_reason
        if found.output_ids is None:
            raise ReplyError("it returns no token ids (`output_ids`); update SGLang")
        if ended.type == "abort":
            raise ReplyError(f"it has aborted the request: {ended.message or 'without a reason'}")
        ids = found.output_ids
        if ended.type == "stop" and isinstance(ended.matched, int) and ids[-1:] != (ended.matched,):
            ids = (*ids, ended.matched)
        return Reply(ids, ended.type)

    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """SGLang is the only one with `/get_model_info`."""
        path = of_mapping(found.get("model"), "model_path")
        if not isinstance(path, str):
            return None
        server = found.get("server")
        length = whole(of_mapping(server, "max_req_input_len")) or whole(of_mapping(server, "context_length"))
        version = of_mapping(server, "version") or "of unknown version"
        return ServerFacts(f"sglang {version}"[:100], path, f"{path}, {of_mapping(server, 'quantization')}", length)


class _Ended(Content):
    type: Literal["stop", "length", "abort"]
    matched: int | str | None = None
    message: str | None = None


class _Meta(Content):
    finish_reason: _Ended


class _Generated(Content):
    output_ids: tuple[TokenId, ...] | None = None
    meta_info: _Meta


_MOST_STOPS = 4  # as OpenAI's API allows


class TextDialect(Dialect):
    """Servers with `/v1/completions` that take and return text only: tokens are an approximation there.

    About 7% of cuts don't survive decoding and encoding again, so results are marked and never paired with exact ones.
    """

    name = "text"
    route = "/v1/completions"
    fact_routes: ClassVar[Mapping[str, str]] = {"models": "/v1/models"}
    token_exact = False

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
        found = _TextCompletions.of(content)
        choice = found.choices[0]
        ids = tuple(vocabulary.encode(choice.text))[: job.max_tokens]
        if choice.finish_reason == "length":
            return Reply(ids, "length", found.usage.completion_tokens if found.usage else None)
        return Reply(ids + _end_of(job, vocabulary), "stop")

    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """All servers fit."""
        listed = _listed_models(found)
        first = listed[0] if listed and not model else {}  # what is listed may be another model
        own = next((one for one in listed if one.get("id") == model), first)
        length = whole(own.get("max_model_len")) or whole(own.get("context_length"))
        name = model or str(own.get("id"))
        return ServerFacts("unknown server", name, name, length)


def _end_of(job: Job, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Tokens that end the job; which end it was is not known."""
    if job.stop.sequences:
        return job.stop.sequences[0]
    if job.stop.strings and not job.stop.tokens:
        return tuple(vocabulary.encode(job.stop.strings[0]))
    return tuple(sorted(job.stop.tokens)[:1])


def _without_begin(ids: tuple[int, ...], vocabulary: Vocabulary) -> tuple[int, ...]:
    return ids[1:] if vocabulary.begin is not None and ids[:1] == (vocabulary.begin,) else ids


class _TextChoice(Content):
    text: str
    finish_reason: Literal["stop", "length"]


class _Usage(Content):
    completion_tokens: int | None = None


class _TextCompletions(Content):
    usage: _Usage | None = None
    choices: Annotated[tuple[_TextChoice, ...], Field(min_length=1)]


# In this order, the first one whose facts a server has is used; every server fits `text`.
DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (VLLMDialect(), LlamaCppDialect(), SGLangDialect(), TextDialect())
}

# Used instead if requests are made one at a time, by name.
SINGLE: dict[str, Dialect] = {LlamaCppDialect.name: SingleLlamaCppDialect()}
