"""The one thing asked of a decoding engine, and a fake one that decodes from a script."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from lm_eval_ext.generation.request import Completion, Job, Stop

FollowUp = Callable[[Job, Completion], Iterable[Job]]


class Engine(Protocol):
    """Decodes jobs, in any order and batching, until none is left."""

    def run(self, jobs: Sequence[Job], then: FollowUp) -> None:
        """Decode every job; `then` is told of each completion as it ends and may return further jobs.

        A returned job usually continues what was just decoded (its ids start with it or with part of it), so
        an engine can reuse its state. What a job decodes to must not depend on the other jobs.
        """


class ScriptedEngine:
    """An engine for tests: `script` says what follows any ids; the job's stops and limit are honoured."""

    def __init__(self, script: Callable[[Job], Iterable[int]], decode: Callable[[Sequence[int]], str] = str) -> None:
        self.script = script
        self.decode = decode
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job], then: FollowUp) -> None:
        """Decode every job and its follow-ups, first come, first served."""
        queue = deque(jobs)
        while queue:
            job = queue.popleft()
            self.jobs.append(job)
            queue.extend(then(job, self._complete(job)))

    def _complete(self, job: Job) -> Completion:
        out: list[int] = []
        for token in self.script(job):
            if len(out) == job.max_tokens:
                break
            out.append(token)
            if stops(out, job.stop, self.decode):
                return Completion(tuple(out), stopped=True)
        return Completion(tuple(out), stopped=False)


def stops(out: Sequence[int], stop: Stop, decode: Callable[[Sequence[int]], str]) -> bool:
    """Whether the last token of `out` completes one of the stops."""
    if out[-1] in stop.tokens:
        return True
    if any(len(out) >= len(ids) and tuple(out[-len(ids) :]) == ids for ids in stop.sequences):
        return True
    if not stop.strings:
        return False
    # A token adds at least a byte, so a stop that has just been completed began within its length in tokens.
    tail = decode(out[-(max(len(string.encode()) for string in stop.strings) + 8) :])
    return any(string in tail for string in stop.strings)
