"""An engine whose tokens a test gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from lm_eval_ext.generation.engine import FollowUp, Poll, ended, no_more
from lm_eval_ext.generation.request import Completion, Job


class ScriptedEngine:
    """`script` gives the tokens of each job; the job's stops and limit are honoured."""

    batch_size = 1

    def __init__(self, script: Callable[[Job], Iterable[int]], decode: Callable[[Sequence[int]], str] = str) -> None:
        self.script = script
        self.decode = decode
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job], on_completion: FollowUp, poll: Poll = no_more) -> None:
        """Decode every job and its follow-ups, first come, first served."""
        queue = deque(jobs)
        while queue:
            job = queue.popleft()
            self.jobs.append(job)
            queue.extend(on_completion(job, self._complete(job)))
            queue.extend(poll())

    def _complete(self, job: Job) -> Completion:
        out: list[int] = []
        for token in self.script(job):
            if len(out) == job.max_tokens:
                break
            out.append(token)
            reason = ended(out, job, self.decode)
            if reason:
                return Completion(tuple(out), reason)
        return Completion(tuple(out), "length")
