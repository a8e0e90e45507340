"""Finds out what an inference server is and can do, by what it replies: unknown fields are accepted in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engine import advanced
from lm_eval_ext.generation.engines.dialect import Dialect, ReplyError, ServerFacts, Tokens, TokenScore, Vocabulary
from lm_eval_ext.generation.engines.dialects import DIALECTS
from lm_eval_ext.generation.engines.http import PatientClient, RefusedError, RetryableError, ServerClient
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from lm_eval_ext.paths import digest

_SLACK = 4  # tokens by which a text that is decoded and encoded again may differ


@dataclass(frozen=True)
class ServedModel:
    """How a model is asked for.

    Attributes:
        name: its name on the server.
        dialect: of the server.
        vocabulary: of the model.
        decode: ids to text, for stop strings.
    """

    name: str
    dialect: Dialect
    vocabulary: Vocabulary
    decode: Callable[[Sequence[int]], str]


class UnusableReplyError(RetryableError):
    """A reply has another form than the dialect's."""


class ShortReplyError(EngineError):
    """A server has ended a text before its limit and without a reason that the job has."""


async def decoded(client: ServerClient, model: ServedModel, job: Job) -> Completion:
    """Decode a job; where the server stops and the job has no end, go on from there.

    Raises:
        RetryableError: a request failed, and may succeed later.
        RefusedError: the server refuses the request.
        ShortReplyError: the server ends the text early, as at the end of a context shorter than it says.
    """
    out: list[int] = []
    while True:
        rest = continued(job, out) if out else job
        content = await client.post(model.dialect.route, model.dialect.body(rest, model.name, model.vocabulary))
        try:
            reply = model.dialect.reply(content, rest, model.vocabulary)
        except ReplyError as error:
            raise UnusableReplyError(f"{client.root}{model.dialect.route}: {client.clean(str(error))}") from error
        completion = advanced(out, reply.ids, job, model.decode)
        if completion is not None:
            return completion
        counted = len(reply.ids) + _SLACK if reply.tokens is None else reply.tokens
        whole = counted >= rest.max_tokens
        if reply.reason == "length" and not model.dialect.token_exact and whole:
            return Completion(tuple(out), "length")
        if reply.reason == "length" or not reply.ids:
            raise ShortReplyError(
                f"{client.root}: the server ended a text after {len(out)} of {job.max_tokens} tokens, without a stop "
                f"and after a prompt of {len(job.ids)}; if its context is shorter than it says, give max_length="
            )


@dataclass(frozen=True)
class Passage:
    """A text whose tokens from `start` on are to be scored, `start` being above 0, beside the likeliest ones."""

    ids: tuple[int, ...]
    start: int
    likeliest: int = 1


async def scored(client: ServerClient, model: ServedModel, passage: Passage) -> list[TokenScore]:
    """How likely each of a passage's tokens is, from its start on.

    Raises:
        RetryableError: a request failed, and may succeed later.
        RefusedError: the server refuses the request.
    """
    body = model.dialect.score_body(passage.ids, model.name, passage.likeliest)
    content = await client.post(model.dialect.route, body)
    try:
        scores = model.dialect.scores(content, passage.ids)[passage.start :]
    except ReplyError as error:
        raise UnusableReplyError(f"{client.root}{model.dialect.route}: {client.clean(str(error))}") from error
    return [score for score in scores if score is not None]


def continued(job: Job, out: Sequence[int]) -> Job:
    """The rest of a job; its seed depends on the job's and on the place, so that no noise is used twice."""
    return replace(
        job,
        ids=(*job.ids, *out),
        max_tokens=job.max_tokens - len(out),
        seed=_further(job.seed, len(out)) if job.seed else 0,
    )


def _further(seed: int, place: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {place}".encode()).digest()[:8], "big") >> 1


PROMPTS = (
    "1 + 2 + 3 = 6. 4 + 5 + 6 =",
    "The capital of France is Paris. The capital of Italy is",
    "def add(a, b):\n    return",
    "Question: what is 7 * 8? Answer:",
)
_TOKENS = 64  # of each prompt
_TRIED = 8  # tokens of the round trip
_SAMPLED = 16  # tokens of a sample
_OTHER_SEEDS = (2, 3, 4)
_MISSING = (400, 404, 405, 410, 422)  # statuses of routes that a server or gateway doesn't have
_PATIENCE = 300.0  # seconds for each short request
_TRIES_AGAIN, _SOON = 4, 0.2  # how often a request is tried again, and seconds between, for each failure


@dataclass(frozen=True)
class ServerIdentity:
    """What a server is.

    Attributes:
        dialect: name of its dialect.
        facts: what it says of itself.
        seeded: whether a request's seed determines its sample.
        greedy: hash of what the model says to fixed prompts.
        tokenizer_checked: whether its tokenizer was compared with ours; not every server encodes texts.
    """

    dialect: str
    facts: ServerFacts
    seeded: bool
    greedy: str
    tokenizer_checked: bool = False

    @property
    def model(self) -> str:
        """What tells this model from another one under the same name."""
        return f"{self.facts.version}, {self.facts.served}, {self.greedy}"


async def found_dialect(client: ServerClient, model: str, named: str) -> tuple[Dialect, ServerFacts]:
    """The dialect that a server speaks, and what the server says of itself.

    Raises:
        RetryableError: the server cannot be reached, or is still loading.
        RefusedError: the server wants another key, or redirects.
        EngineError: it is not the kind of server that was named.
    """
    answers: dict[str, object] = {}
    for dialect in DIALECTS.values() if named == "auto" else [DIALECTS[named]]:
        routes = dialect.fact_routes
        for route in set(routes.values()) - answers.keys():
            answers[route] = await _answer(client, route)
        facts = dialect.facts({name: answers[route] for name, route in routes.items()}, model)
        if facts is not None:
            return dialect, facts
    raise EngineError(
        f"{client.root}: is not a {named} server ({', '.join(sorted(answers))} say otherwise); give server=auto, or "
        "the address of one"
    )


async def _answer(client: ServerClient, route: str) -> object:
    try:
        return await client.get(route)
    except RefusedError as error:
        if error.status not in _MISSING:
            raise
        return None


async def identity(client: ServerClient, model: ServedModel, facts: ServerFacts) -> ServerIdentity:
    """Try a server: token ids both ways, seeds, tokenizer, and what it says to fixed prompts.

    Raises:
        RetryableError: the server cannot be reached.
        RefusedError: the server refuses a request.
        EngineError: it does not take or return token ids as its dialect says, or has another tokenizer.
    """
    checked = False
    if model.dialect.token_exact:
        await _check_round_trip(client, model)
        checked = await _check_tokenizer(client, model)
    seeded = await _is_seeded(client, model)
    return ServerIdentity(model.dialect.name, facts, seeded, await greedy_digest(client, model), checked)


async def greedy_digest(client: ServerClient, model: ServedModel) -> str:
    """A hash of the greedy texts of fixed prompts, which differs between models, also between their quantizations."""
    texts = [await _text(client, model, _ids(model, prompt), _TOKENS) for prompt in PROMPTS]
    return digest(texts)[:32]


async def asked_again(client: ServerClient, model: ServedModel) -> str:
    """`greedy_digest` over connections of its own, so that those of `client` tell whether the server was replaced.

    A request that fails is tried again a few times, soon, because a run waits for the answer.
    """
    options = replace(client.options, timeout=min(client.options.timeout, _PATIENCE))
    async with PatientClient(client.root, options, _TRIES_AGAIN, lambda failures: _SOON * failures) as own:
        return await greedy_digest(own, model)


async def _check_round_trip(client: ServerClient, model: ServedModel) -> None:
    """Going on from the middle of a greedy text must give its second half, at least once.

    Not always, because some servers' logits depend on how a prompt is cut into batches.
    """
    for prompt in PROMPTS:
        ids = _ids(model, prompt)
        whole = await _text(client, model, ids, _TRIED)
        half = len(whole) // 2
        if half and await _text(client, model, (*ids, *whole[:half]), len(whole) - half) == whole[half:]:
            return
    raise EngineError(
        f"{client.root}: going on from the middle of a text gives another text, so budgets would not be token-exact; "
        "give exact=allow_text and server=text to run it all the same, with marked results"
    )


async def _check_tokenizer(client: ServerClient, model: ServedModel) -> bool:
    """Compare the server's tokenizer with ours; returns whether the server offers that."""
    text = "Hello, world! 12 + 30 = 42.\n" + "".join(
        model.vocabulary.text([token]) for token in model.vocabulary.special
    )
    request = model.dialect.encode_request(text, model.name)
    if request is None:
        return False
    try:
        theirs = Tokens.of(await client.post(*request)).tokens
    except (RefusedError, ReplyError):  # not every version offers it
        return False
    ours = tuple(model.vocabulary.encode(text))
    if theirs != ours:
        raise EngineError(
            f"{client.root}: its tokenizer encodes {text[:60]!r}... to {list(theirs)[:12]}, and ours to "
            f"{list(ours)[:12]}; give tokenizer=NAME, that of the served model"
        )
    return True


async def _is_seeded(client: ServerClient, model: ServedModel) -> bool:
    """Whether the same seed gives the same sample, and some other seed another one."""
    if not model.dialect.seeded:
        return False
    first = await _sample(client, model, 1)
    if await _sample(client, model, 1) != first:
        return False
    for seed in _OTHER_SEEDS:
        if await _sample(client, model, seed) != first:
            return True
    return False


async def _sample(client: ServerClient, model: ServedModel, seed: int) -> list[tuple[int, ...]]:
    return [await _text(client, model, _ids(model, prompt), _SAMPLED, seed) for prompt in PROMPTS]


async def _text(
    client: ServerClient, model: ServedModel, ids: tuple[int, ...], tokens: int, seed: int = 0
) -> tuple[int, ...]:
    sampling = Sampling(temperature=1.0 if seed else 0.0)
    job = Job(ids, tokens, Stop(tokens=model.vocabulary.ends), sampling, seed)
    return (await decoded(client, model, job)).ids


def _ids(model: ServedModel, prompt: str) -> tuple[int, ...]:
    return tuple(model.vocabulary.encode(prompt)) or (0,)
