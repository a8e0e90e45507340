"""Tries the servers of a run before it starts: what they are, what they can do, and whether all have the same model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Sequence

from lm_eval_ext.errors import ArgumentError, EngineError
from lm_eval_ext.generation.engines.dialects import SINGLE
from lm_eval_ext.generation.engines.dialects.base import Vocabulary
from lm_eval_ext.generation.engines.http import PatientClient, RefusedError, RetryableError, UnreachableError
from lm_eval_ext.generation.engines.loop_thread import run_apart
from lm_eval_ext.generation.engines.server_identity import Identity, found_dialect, identity
from lm_eval_ext.generation.engines.server_job import ServedModel, UnusableReplyError
from lm_eval_ext.generation.engines.server_seats import Limits, Server
from lm_eval_ext.harness.server_arguments import ServerArguments

logger = logging.getLogger("lm_eval.tts")

_SOON = 2  # retries after which a server that is not understood is told of; a gateway may send an error as a text
_Tried = tuple[Server, Identity]
_Trial = Callable[[], Coroutine[object, object, _Tried]]


def tried_servers(
    arguments: ServerArguments, vocabulary: Vocabulary, decode: Callable[[Sequence[int]], str]
) -> tuple[list[Server], list[Identity]]:
    """Try all servers of a run.

    Args:
        arguments: the model's arguments.
        vocabulary: of the model.
        decode: ids to text, for stop strings.

    Raises:
        EngineError: a server cannot be reached, refuses requests, cannot do what is asked for, or has another model
            than the first.
        ArgumentError: the length of the context is not known, or `max_length` is longer.
    """
    tried = [_reported(_trial(root, arguments, vocabulary, decode), arguments) for root in arguments.base_url]
    servers, identities = [server for server, _ in tried], [found for _, found in tried]
    if arguments.weights is None:
        _check_same(servers, identities)
    _check_length(arguments, servers, identities)
    return servers, identities


def _trial(
    root: str, arguments: ServerArguments, vocabulary: Vocabulary, decode: Callable[[Sequence[int]], str]
) -> _Trial:
    async def trial() -> _Tried:
        name, limits = arguments.model or "", arguments.limits
        async with PatientClient(root, arguments.options_of_trials, limits.retries, limits.wait) as client:
            dialect, facts = await found_dialect(client, name, arguments.server)
            if not dialect.token_exact and arguments.exact == "require":
                raise EngineError(
                    f"{root}: takes and returns text only, so a budget would not cut a trace at its own tokens; "
                    "use vLLM, llama.cpp or SGLang, or accept approximations with exact=allow_text"
                )
            if dialect.name == "vllm" and name not in ("", facts.name):
                raise EngineError(f"{root}: serves {facts.name}, not {name}; give model={facts.name}")
            if arguments.reproducible:
                dialect, facts = SINGLE.get(dialect.name, dialect), facts._replace(slots=1)
            model = ServedModel(name or facts.name, dialect, vocabulary, decode)
            found = await identity(client, model, facts)
            return Server(root, model, "" if arguments.weights else found.greedy, facts.slots), found

    return trial


def _reported(trial: _Trial, arguments: ServerArguments) -> _Tried:
    try:
        return _understood(trial, arguments.limits)
    except RefusedError as error:
        if error.status != 404:
            raise
        raise EngineError(
            f"{error}; expected a server that continues texts: one that only offers chat cannot keep a thinking "
            "budget, but lm-eval's local-chat-completions runs tasks without one"
        ) from error
    except UnreachableError as error:
        raise EngineError(f"{error}; is the server running, and base_url right?") from error
    except RetryableError as error:
        raise EngineError(str(error)) from error


def _understood(trial: _Trial, limits: Limits) -> _Tried:
    """What a trial finds; requests that fail are tried again by its client."""
    for tries in range(1, min(_SOON, limits.retries) + 1):
        try:
            return run_apart(trial())
        except UnusableReplyError as error:
            logger.info("%s; trying again", error)
            time.sleep(limits.wait(tries))
    return run_apart(trial())


def _check_same(servers: Sequence[Server], identities: Sequence[Identity]) -> None:
    first = identities[0]
    for server, other in zip(servers, identities, strict=True):
        if other.greedy != first.greedy:
            raise EngineError(
                f"{server.root} serves another model than {servers[0].root} ({other.model}; {first.model}); all "
                "servers of a run must have the same"
            )


def _check_length(arguments: ServerArguments, servers: Sequence[Server], identities: Sequence[Identity]) -> None:
    known = [found.facts.max_length for found in identities if found.facts.max_length]
    if not known and arguments.max_length is None:
        raise ArgumentError(f"{servers[0].root} doesn't say how long its context is; give max_length=TOKENS")
    if known and (arguments.max_length or 0) > min(known):
        raise ArgumentError(f"max_length={arguments.max_length}: the server's context has {min(known)} tokens")
