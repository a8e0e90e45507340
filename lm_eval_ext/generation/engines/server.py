"""The decoding engine on inference servers: many requests at once over HTTP, token ids in and out.

Requests run in the thread of an event loop. Completions are handled in the caller's, where journal and progress live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from lm_eval_ext.generation.engine import FollowUp
from lm_eval_ext.generation.engines.http import ConnectionOptions, ServerClient
from lm_eval_ext.generation.engines.loop_thread import LoopThread
from lm_eval_ext.generation.engines.server_job import Passage, decoded, scored
from lm_eval_ext.generation.engines.server_run import DECODED, SCORED, Finished, OnServers, ServerRun, Words, Work
from lm_eval_ext.generation.engines.server_seats import Errand, Limits, Seat, Server
from lm_eval_ext.generation.request import Completion, Job

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ServerEngine:
    """Decodes on one or several servers of the same model.

    Args:
        servers: at least one.
        options: how to connect.
        limits: how much to ask of them.
        on_tokens: called with the number of tokens of each completion.
        on_servers: called with the number of servers that answer and of all, when one changes.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        options: ConnectionOptions,
        limits: Limits,
        on_tokens: Callable[[int], None] = lambda tokens: None,
        on_servers: OnServers = lambda up, asked: None,
    ) -> None:
        self.servers = servers
        self.options = options
        self.limits = limits
        self.on_tokens = on_tokens
        self.on_servers = on_servers

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups; a follow-up goes to the server that holds its trace.

        Raises:
            EngineError: no server answers, a server has another model than before, or some jobs could not be decoded;
                all that could be has been handed to `on_completion` by then.
        """

        def finished(job: Job, completion: Completion) -> Iterable[Job]:
            self.on_tokens(len(completion.ids))
            return on_completion(job, completion)

        self._run(jobs, decoded, finished)

    def scores(self, passages: Sequence[Passage], on_score: Callable[[Passage, tuple[float, bool]], None]) -> None:
        """Score passages; raises as `run` does."""

        def finished(passage: Passage, score: tuple[float, bool]) -> Iterable[Passage]:
            on_score(passage, score)
            return ()

        self._run(passages, scored, finished, SCORED)

    def _run(
        self,
        items: Sequence[_Item],
        work: Work[_Item, _Result],
        finished: Finished[_Item, _Result],
        words: Words = DECODED,
    ) -> None:
        with LoopThread[Errand]() as thread:
            seats = [Seat(server, ServerClient(server.root, self.options)) for server in self.servers]
            for seat in seats:
                thread.result_of(seat.client.open())
            try:
                ServerRun(self.limits, self.on_servers, thread, seats, work, finished, words).finish(items)
            finally:
                for seat in seats:
                    thread.result_of(seat.client.close())
