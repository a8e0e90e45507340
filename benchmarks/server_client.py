"""What the client of inference servers costs, against lm-eval's `local-completions`, and how full it keeps a server.

    python -m benchmarks.server_client [--requests 2000] [--concurrency 64]

A canned server in a process of its own answers every request at once, with 512 token ids to a prompt of 4,000. CPU
seconds are this process's alone. Occupancy: texts as long as tiny-chain's published traces, at a fixed time per token;
the share of the server's slots that were busy, up to the moment when no more texts were waiting. Five budgets: the same
traces, each with an answer of 16 tokens after its cut, as one trace for all budgets, and as a task for each. Needs
lm-eval's extra `api`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from lm_eval_ext.generation.engine import advanced
from lm_eval_ext.generation.engines.dialect import Vocabulary
from lm_eval_ext.generation.engines.dialects import DIALECTS
from lm_eval_ext.generation.engines.http import ConnectionOptions
from lm_eval_ext.generation.engines.server import Limits, Server, ServerEngine
from lm_eval_ext.generation.engines.server_identity import ServedModel
from lm_eval_ext.generation.journal import Journal
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load

PROMPT, REPLY = 4000, 512  # tokens
PER_TOKEN = 0.02  # seconds of a decoded token, for the occupancy
TIMES = 100  # that a part is repeated to be measured
BUDGETS, ANSWER = (8, 16, 32, 64, 128), 16  # tokens
RESULTS = Path(__file__).parent.parent / "leaderboard" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--serve", action="store_true", help="be the canned server")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server_client", "--serve"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    root = f"http://127.0.0.1:{int(process.stdout.readline())}"
    try:
        wall, cpu = ours(root, given.requests, given.concurrency)
        print(f"tts-server: {1000 * cpu:.2f} ms CPU a request, {given.requests / wall:.0f} requests/s")
        print(f"  of these, stop search: {1000 * stop_search():.2f} ms")
        print(
            f"  besides: stop search with a stop string {1000 * stop_search('unlikely'):.2f} ms, decoding "
            f"{1000 * decoding():.2f} ms, journal {1000 * journal():.2f} ms"
        )
        wall, cpu = theirs(root, given.requests, given.concurrency)
        print(f"local-completions: {1000 * cpu:.2f} ms CPU a request, {given.requests / wall:.0f} requests/s")
        print(f"occupancy: {occupancy(root, given.concurrency):.3f}")
        together, apart = shared(root, given.concurrency), separate(root, given.concurrency)
        print(f"five budgets: {together:.1f} s with shared traces, {apart:.1f} s with local-completions")
    finally:
        process.kill()


def engine(root: str, concurrency: int, name: str = "m") -> ServerEngine:
    vocabulary = Vocabulary(lambda text: [1], lambda ids: "", frozenset([0]))
    model = ServedModel(name, DIALECTS["vllm"], vocabulary, lambda ids: "")
    return ServerEngine([Server(root, model, "")], ConnectionOptions(), Limits(concurrency))


def job(number: int, tokens: int = REPLY) -> Job:
    return Job((number, *range(PROMPT - 1)), tokens, Stop(frozenset([0])), Sampling(), 0)


def ours(root: str, requests: int, concurrency: int) -> tuple[float, float]:
    """Wall seconds of all requests, and CPU seconds of one."""
    jobs = [job(number) for number in range(requests)]
    started, cpu = time.perf_counter(), time.process_time()
    engine(root, concurrency).run(jobs, lambda job, completion: ())
    return time.perf_counter() - started, (time.process_time() - cpu) / requests


def stop_search(*strings: str) -> float:
    """CPU seconds to look for the end of one reply, which no stop string is in."""
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAIN)
    asked = replace(job(0), stop=Stop(frozenset([0]), strings=strings))
    ids = [1 + token % 200 for token in range(REPLY)]
    return each(lambda: advanced([], ids, asked, lambda some: str(tokenizer.decode(list(some)))))


def decoding() -> float:
    """CPU seconds to decode one reply to text."""
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAIN)
    ids = [1 + token % 200 for token in range(REPLY)]
    return each(lambda: tokenizer.decode(ids, skip_special_tokens=True))


def journal() -> float:
    """CPU seconds to look one reply up in the journal, and to keep it there."""
    jobs = iter([job(number) for number in range(TIMES)])
    completion = Completion(tuple(range(1, REPLY + 1)), "length")
    with tempfile.TemporaryDirectory() as folder:
        kept = Journal(Path(folder) / "journal.sqlite")

        def once() -> None:
            one = next(jobs)
            kept.find("m", one)
            kept.keep("m", one, completion, "x" * REPLY)

        seconds = each(once)
        kept.close()
    return seconds


def each(once: Callable[[], object]) -> float:
    """CPU seconds of one call, in the mean."""
    started = time.process_time()
    for _ in range(TIMES):
        once()
    return (time.process_time() - started) / TIMES


def theirs(root: str, requests: int, concurrency: int, tokens: int = REPLY, name: str = "m") -> tuple[float, float]:
    """As `ours`, with `local-completions`."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    model = LocalCompletionsAPI(
        base_url=f"{root}/v1/completions", model=name, tokenizer=str(TINY_CHAIN), num_concurrent=concurrency,
        max_length=8192, tokenized_requests=name == "m",  # the canned server reads a trace's number in the text
    )  # fmt: skip
    text = "1+2=3*4-5 " * (PROMPT // 10)
    options = {"max_gen_toks": tokens}
    instances = [
        Instance("generate_until", {}, (f"{number} {text}", options), number, metadata=("t", number, 1))
        for number in range(requests)
    ]
    started, cpu = time.perf_counter(), time.process_time()
    model.generate_until(instances, disable_tqdm=True)
    return time.perf_counter() - started, (time.process_time() - cpu) / requests


def shared(root: str, concurrency: int) -> float:
    """Seconds for all budgets, with one trace for all."""

    def answers(done: Job, completion: Completion) -> Sequence[Job]:
        if len(done.ids) > PROMPT:
            return ()
        cuts = sorted({min(len(completion.ids), budget) for budget in BUDGETS})
        return [Job((*done.ids, *completion.ids[:cut], 0), ANSWER, done.stop, Sampling(), 0) for cut in cuts]

    started = time.perf_counter()
    jobs = [job(number, max(BUDGETS)) for number in range(5 * concurrency)]
    engine(root, concurrency, "traces").run(jobs, answers)
    return time.perf_counter() - started


def separate(root: str, concurrency: int) -> float:
    """Seconds for all budgets, one after the other, as lm-eval runs tasks with other limits."""
    return sum(theirs(root, 5 * concurrency, concurrency, budget + ANSWER, "traces")[0] for budget in BUDGETS)


def occupancy(root: str, concurrency: int) -> float:
    """The share of slots that were busy while texts were waiting."""
    some = lengths(20 * concurrency)
    ends: list[float] = []
    busy = 0.0

    def on_completion(done: Job, completion: Completion) -> Sequence[Job]:
        nonlocal busy
        ends.append(time.perf_counter())
        busy += len(completion.ids) * PER_TOKEN
        return ()

    started = time.perf_counter()
    engine(root, concurrency).run([job(number, tokens) for number, tokens in enumerate(some)], on_completion)
    full = ends[len(some) - concurrency] - started  # from then on, nobody waits
    tail = sum(max(0.0, end - started - full) for end in ends[len(some) - concurrency :])
    return (busy - tail) / (full * concurrency)


def lengths(count: int) -> list[int]:
    """Lengths of traces that were published, in an order of their own."""
    known = [
        int(row.metrics["thinking_tokens"])
        for source in load([RESULTS], read_catalogue())
        for row in source.samples("tts_chain_b128")
    ]
    return random.Random(0).choices([max(8, tokens) for tokens in known], k=count)


def traced(prompt: Any, most: int, traces: Sequence[int]) -> int:
    """Tokens of a trace, of an answer, or of both, by the form of the prompt."""
    if isinstance(prompt, list) and isinstance(prompt[0], int):
        return most if len(prompt) > PROMPT else min(most, traces[prompt[0]])
    text = prompt if isinstance(prompt, str) else prompt[0]
    return min(most - ANSWER, traces[int(text.split()[0])]) + ANSWER


async def serve() -> None:
    """The canned server: a fixed reply, after the time that its tokens take if they are not the usual number."""
    from aiohttp import web

    traces = lengths(1000)

    async def complete(request: web.Request) -> web.Response:
        body: Any = await request.json()
        tokens = most = int(body["max_tokens"])
        if body["model"] == "traces":
            tokens = traced(body["prompt"], most, traces)
        if tokens != REPLY:
            await asyncio.sleep(tokens * PER_TOKEN)
        ids = list(range(1, tokens + 1)) if tokens == most else [*range(1, tokens), 0]
        reason = "length" if tokens == most else "stop"
        choice = {"finish_reason": reason, "index": 0, "text": "x" * tokens, "token_ids": ids}
        return web.json_response({"choices": [choice]})

    app = web.Application(client_max_size=2**30)
    app.add_routes([web.post("/v1/completions", complete)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)  # type: ignore[union-attr]  # it listens
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
