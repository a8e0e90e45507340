"""SGLang: token ids both ways on `/generate`, as its source says; it was not run against a real server."""

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


class SGLangDialect(WithoutScores):
    """Requests and replies of SGLang's own route; seeds count with `--enable-deterministic-inference`.

    With `ignore_eos` it would ignore stop tokens too; where one of its own ends is none of the job's, the job goes on.
    """

    name: ClassVar[str] = "sglang"
    route: ClassVar[str] = "/generate"
    token_exact: ClassVar[bool] = True
    seeded: ClassVar[bool] = True

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

    def fact_routes(self) -> Mapping[str, str]:
        """Properties of the model, and of the server."""
        return {"model": "/get_model_info", "server": "/get_server_info"}

    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """SGLang is the only one with `/get_model_info`."""
        path = of_mapping(found.get("model"), "model_path")
        if not isinstance(path, str):
            return None
        server = found.get("server")
        length = whole(of_mapping(server, "max_req_input_len")) or whole(of_mapping(server, "context_length"))
        version = of_mapping(server, "version") or "of unknown version"
        return ServerFacts(f"sglang {version}"[:100], path, f"{path}, {of_mapping(server, 'quantization')}", length)

    def encode_request(self, text: str, model: str) -> tuple[str, Body] | None:
        """None: not every version encodes texts."""
        return None


class _Ended(Content):
    type: Literal["stop", "length", "abort"]
    matched: int | str | None = None
    message: str | None = None


class _Meta(Content):
    finish_reason: _Ended


class _Generated(Content):
    output_ids: tuple[TokenId, ...] | None = None
    meta_info: _Meta
