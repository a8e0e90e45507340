"""Engines on fake inference servers, and jobs for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lm_eval_ext.generation.engines.dialects import DIALECTS
from lm_eval_ext.generation.engines.http import ConnectionOptions, ServerClient, run_apart
from lm_eval_ext.generation.engines.server import Limits, Server, ServerEngine
from lm_eval_ext.generation.engines.server_identity import (
    ServedModel,
    ServerIdentity,
    found_dialect,
    greedy_digest,
    identity,
)
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from tests.fake_server import END, WORDS, FakeServer, decode, vocabulary

EXACT = ("vllm", "llama.cpp", "sglang")
QUICK = Limits(concurrent=4, retries=4, pause=0.001, patience=0.1)
OPTIONS = ConnectionOptions(timeout=10.0)
STOPS = [
    Stop(frozenset([END])),
    Stop(frozenset([END]), sequences=((7, 9), (3,))),
    Stop(frozenset([END]), strings=("H", "KL")),
    Stop(),
]

ENDS = [STOPS[0], STOPS[2], STOPS[3]]  # where a server stops, the job ends


def served(dialect: str) -> ServedModel:
    return ServedModel("m", DIALECTS[dialect], vocabulary, decode)


def tried(server: FakeServer, options: ConnectionOptions = OPTIONS) -> ServerIdentity:
    async def found() -> ServerIdentity:
        async with ServerClient(server.url, options) as client:
            dialect, facts = await found_dialect(client, "m", "auto")
            return await identity(client, ServedModel("m", dialect, vocabulary, decode), facts)

    return run_apart(found())


def greedy(server: FakeServer) -> str:
    async def found() -> str:
        async with ServerClient(server.url, OPTIONS) as client:
            return await greedy_digest(client, served(server.dialect))

    return run_apart(found())


def engine(
    *servers: FakeServer, limits: Limits = QUICK, options: ConnectionOptions = OPTIONS, **extra: Any
) -> ServerEngine:
    found = [Server(server.url, served(server.dialect), "") for server in servers]
    return ServerEngine(found, options, limits, **extra)


def jobs(seeds: Iterable[int] = range(1, 9), stops: Iterable[Stop] = STOPS, temperature: float = 1.0) -> list[Job]:
    return [
        Job((1 + seed % WORDS, 2, 3), 40, stop, Sampling(temperature), seed if temperature else 0)
        for seed in seeds
        for stop in stops
    ]


def results(
    engine: Any, some: list[Job], follow: bool = True, found: dict[Job, Completion] | None = None
) -> dict[Job, Completion]:
    """Completions of jobs and of one follow-up each, put into `found` as they come."""
    found = {} if found is None else found

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        found[job] = completion
        if not follow or len(job.ids) > 3:
            return []
        return [Job((*job.ids, *completion.ids[:5]), 12, job.stop, job.sampling, job.seed)]

    engine.run(some, on_completion)
    return found
