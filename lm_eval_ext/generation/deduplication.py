"""Decodes equal jobs only once: greedy repeats, and stretches of text that several requests have in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from lm_eval_ext.generation.engine import Engine, FollowUp
from lm_eval_ext.generation.request import Completion, Job


@dataclass
class MergingEngine:
    """An engine that shares one completion between all equal jobs in flight.

    Jobs are equal if they continue the same ids in the same way; a job with a lower limit gets the beginning.

    Attributes:
        engine: decodes each job once.
    """

    engine: Engine
    _waiting: dict[Hashable, tuple[Job, list[Job]]] = field(default_factory=dict)

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups."""

        def finished(job: Job, completion: Completion) -> Iterable[Job]:
            more = list(on_completion(job, completion))
            for follower in self._followers(job):
                part = completion.within(follower.max_tokens)
                more += [follower] if part is None else on_completion(follower, part)
            return self._admitted(more)

        self.engine.run(self._admitted(jobs), finished)

    def _followers(self, job: Job) -> list[Job]:
        """The jobs that were waiting for this one; none if they are waiting for another."""
        leader, followers = self._waiting.get(_key(job), (None, []))
        if leader != job:
            return []
        del self._waiting[_key(job)]
        return followers

    def _admitted(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that have to be decoded, in order; the others wait for one in flight."""
        jobs = list(jobs)
        longest: dict[Hashable, Job] = {}
        for job in sorted(jobs, key=lambda job: job.max_tokens):
            longest[_key(job)] = job
        admitted = []
        for job in jobs:
            leader, followers = self._waiting.setdefault(_key(job), (longest[_key(job)], []))
            if leader is job or leader.max_tokens < job.max_tokens:
                admitted.append(job)
            else:
                followers.append(job)
        return admitted


def _key(job: Job) -> Hashable:
    return job.ids, job.stop, job.sampling, job.seed
