"""Dispatching jobs to replicas, without Ray: a pool that answers in any order, and whose replicas die at any time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engine import FollowUp, LocalEngine, Poll, no_more
from lm_eval_ext.generation.engines.dispatch import (
    Advanced,
    Called,
    Event,
    Lost,
    Numbered,
    Ready,
    ReplicaEngine,
    scattered,
)
from lm_eval_ext.generation.engines.replica import Identity, Progress, Replica
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from tests.scripted import ScriptedEngine

END = 9


def job(*ids: int, most: int = 6) -> Job:
    return Job(ids, most, Stop(tokens=frozenset({END})), Sampling(), seed=0)


def script(some: Job) -> list[int]:
    """Counts on from the last id; what comes after the end must not be taken."""
    return list(range(some.ids[-1] + 1, some.ids[-1] + 1 + some.max_tokens))


def completed(some: Job) -> Completion:
    found: list[Completion] = []

    def keep(done: Job, completion: Completion) -> Iterable[Job]:
        found.append(completion)
        return []

    ScriptedEngine(script).run([some], keep)
    return found[0]


class FakePool:
    """Replicas that do one thing at a time, in an order drawn by `draw`."""

    def __init__(self, draw: random.Random, asked: int, late: int = 0, deaths: float = 0.0, most: int = 10**9) -> None:
        self.draw, self.asked, self.deaths, self.most_deaths = draw, asked, deaths, most
        self.loading = asked - late
        self.waiting = [(1 if number < late else 0) * 5 for number in range(asked)]  # rounds until it is there
        self.calls: dict[int, tuple[list[Numbered], list[Numbered]]] = {}
        self.hands: dict[int, dict[int, Job]] = {}
        self.last: dict[int, tuple[int, ...]] = {}  # the text that a replica has just decoded
        self.taken: dict[int, int] = {}
        self.closed = False

    def begin(self, tokens: int) -> None:
        self.up: set[int] = set()

    def advance(self, replica: int, follow_ups: Sequence[Numbered], new: Sequence[Numbered]) -> None:
        assert replica not in self.calls, "one call at a time"
        for _, follow_up in follow_ups:
            text = self.last[replica]
            assert follow_up.ids[: len(text) - 4] == text[: len(text) - 4], "its trace is on another replica"
        self.last.pop(replica, None)
        self.calls[replica] = (list(follow_ups), list(new))
        self.hands[replica] |= dict(follow_ups) | dict(new)

    def events(self) -> Sequence[Event]:
        for number in set(range(self.asked)) - self.up:
            self.waiting[number] -= 1
            if self.waiting[number] < 0:
                self.up.add(number)
                self.hands[number] = {}
                self.loading = max(0, self.loading - 1)
                return [Ready(number, slots=self.draw.randint(1, 5))]
        if not self.calls:
            return []
        replica = self.draw.choice(sorted(self.calls))
        self.calls.pop(replica)
        if self.most_deaths and self.draw.random() < self.deaths:
            self.most_deaths -= 1
            self.up.discard(replica)
            self.waiting[replica] = self.draw.randint(0, 5)
            return [Lost(replica, "killed")]
        hands = self.hands[replica]
        if not hands or self.draw.random() < 0.3:
            return [Advanced(replica, Progress(tokens=1, slots=3))]
        number = self.draw.choice(sorted(hands))
        some = hands.pop(number)
        completion = completed(some)
        self.last[replica] = (*some.ids, *completion.ids)
        self.taken[replica] = self.taken.get(replica, 0) + 1
        return [Advanced(replica, Progress(len(completion.ids), 3, number, completion))]

    def close(self) -> None:
        self.closed = True


def outcome(run: Callable[[Sequence[Job], FollowUp], None], jobs: Sequence[Job]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []

    def on_completion(done: Job, completion: Completion) -> Iterable[Job]:
        found.append((done.ids, completion, done.tag))
        return [job(*done.ids, *completion.ids[:cut], most=3) for cut in (2, 4)] if len(done.ids) < 3 else []

    run(jobs, on_completion)
    return sorted(found, key=repr)


JOBS = [job(first, second) for first in range(8) for second in range(8)]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 4))
def test_replicas_decode_what_one_engine_does_however_they_die(seed: int, asked: int, late: int) -> None:
    pool = FakePool(random.Random(seed), asked, late=min(late, asked - 1), deaths=0.05, most=3)
    assert outcome(ReplicaEngine(pool, 100).run, JOBS) == outcome(ScriptedEngine(script).run, JOBS)
    assert not pool.closed


def test_every_replica_gets_a_share_even_of_few_jobs() -> None:
    pool = FakePool(random.Random(0), 4)
    outcome(ReplicaEngine(pool, 100).run, JOBS[:8])
    assert set(pool.taken) == {0, 1, 2, 3}


def test_a_replica_that_joins_late_takes_work() -> None:
    pool = FakePool(random.Random(0), 2, late=1)
    outcome(ReplicaEngine(pool, 100).run, JOBS * 4)
    assert pool.taken[0] > 50, "number 0 comes after five rounds"


def test_the_pool_serves_several_runs() -> None:
    pool = FakePool(random.Random(0), 2)
    engine = ReplicaEngine(pool, 100)
    first = outcome(engine.run, JOBS)
    pool.loading, pool.waiting = 2, [0, 0]
    assert outcome(engine.run, JOBS) == first


def test_tags_stay_with_the_caller() -> None:
    pool = FakePool(random.Random(0), 1)
    tagged = Job((1, 2, 3), 3, Stop(), Sampling(), 0, tag=lambda: "not picklable")
    seen: list[Job] = []
    pool_advance = pool.advance

    def advance(replica: int, follow_ups: Sequence[Numbered], new: Sequence[Numbered]) -> None:
        seen.extend(some for _, some in new)
        pool_advance(replica, follow_ups, new)

    pool.advance = advance  # type: ignore[method-assign]  # to look at what is sent
    ((_, _, tag),) = outcome(ReplicaEngine(pool, 10).run, [tagged])
    assert tag is tagged.tag and seen[0].tag is None


def test_replicas_that_die_without_finishing_anything_end_the_run() -> None:
    pool = FakePool(random.Random(0), 2, deaths=1.0)
    with pytest.raises(EngineError, match=r"replica \d has died 4 times without finishing anything: killed"):
        outcome(ReplicaEngine(pool, 100).run, JOBS)
    assert pool.closed


# Requests that are no jobs ------------------------------------------------------------------------------


class CallPool:
    """Replicas that answer calls in order; the first calls are lost."""

    def __init__(self, asked: int, lost: int) -> None:
        self.asked, self.lost = asked, lost
        self.calls: list[tuple[int, list[object]]] = []

    def free(self) -> list[int]:
        return sorted(set(range(self.asked)) - {replica for replica, _ in self.calls})

    def call(self, replica: int, method: str, requests: Sequence[object]) -> None:
        self.calls.append((replica, [(method, request) for request in requests]))

    def events(self) -> list[Event]:
        replica, results = self.calls.pop(0)
        if self.lost:
            self.lost -= 1
            return [Lost(replica, "killed")]
        return [Called(replica, results)]


def test_other_requests_come_back_in_order_also_from_replicas_that_died() -> None:
    pool: Any = CallPool(3, lost=3)
    requests = list(range(50))
    assert scattered(pool, "loglikelihood", requests) == [("loglikelihood", request) for request in requests]
    assert scattered(pool, "loglikelihood", []) == []


def test_other_requests_that_kill_every_replica_end_the_run() -> None:
    pool: Any = CallPool(1, lost=10**9)
    with pytest.raises(EngineError, match="replica 0 has died 4 times"):
        scattered(pool, "loglikelihood", [1, 2])


def test_replicas_that_die_while_they_load_end_the_run() -> None:
    from lm_eval_ext.generation.engines.ray import RayPool

    pool = RayPool.__new__(RayPool)  # without Ray: only waiting for the first replica is tested
    pool._identity = None
    pool.events = lambda: [Lost(0, "out of memory")]  # type: ignore[method-assign]  # in place of Ray's
    with pytest.raises(EngineError, match="replica 0 has died 4 times without finishing anything: out of memory"):
        pool.identity()


# One replica --------------------------------------------------------------------------------------------


class Model:
    """A loaded model whose engine is given."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.identity = Identity("weights", "versions")

    def engine(self, tokens: int, on_tokens: Callable[[int], None]) -> LocalEngine:
        return self._engine

    def context(self) -> nullcontext[None]:
        return nullcontext()

    def call(self, method: str, requests: Sequence[object]) -> list[object]:
        return [(method, request) for request in requests]


def replica_of(engine: LocalEngine) -> Replica:
    replica = Replica(lambda: Model(engine))
    assert not replica.place().loaded
    assert replica.load() == Identity("weights", "versions", {"other": "facts"})
    assert replica.place().loaded
    replica.begin(100)
    return replica


def test_a_replica_hands_over_one_completion_at_a_time_and_waits_for_its_follow_ups() -> None:
    engine = ScriptedEngine(script)
    replica = replica_of(engine)
    first = replica.advance([], [(0, job(1)), (1, job(2))])
    assert (first.number, first.completion) == (0, completed(job(1)))
    second = replica.advance([(2, job(1, 2, 3, most=2))], [])
    assert second.number == 1, "jobs that wait are not overtaken"
    third = replica.advance([], [])
    assert (third.number, third.completion) == (2, completed(job(1, 2, 3, most=2)))
    assert replica.call("loglikelihood", ["a"]) == [("loglikelihood", "a")]
    assert replica.begin(100) == 1
    assert replica.advance([], [(3, job(4))]).completion == completed(job(4))


class Slow:
    """An engine that decodes one long job, and takes new ones between its steps."""

    batch_size = 2

    def __init__(self) -> None:
        self.release = threading.Event()

    def run(self, jobs: Sequence[Job], on_completion: FollowUp, poll: Poll = no_more) -> None:
        waiting = list(jobs)[1:]
        while not self.release.is_set():
            for some in waiting:
                list(on_completion(some, completed(some)))
            waiting = list(poll())
            time.sleep(0.01)
        list(on_completion(jobs[0], completed(jobs[0])))


def test_a_replica_takes_new_jobs_while_it_decodes_a_long_one() -> None:
    engine = Slow()
    replica = replica_of(engine)
    assert replica.advance([], [(0, job(1))]) == Progress(tokens=0, slots=2), "nothing has finished within a second"
    assert replica.advance([], [(1, job(2))]).number == 1
    engine.release.set()
    assert replica.advance([], []).number == 0


def test_an_error_of_the_model_reaches_the_caller() -> None:
    def broken(some: Job) -> list[int]:
        raise ValueError("no such token")

    replica = replica_of(ScriptedEngine(broken))
    with pytest.raises(ValueError, match="no such token"):
        replica.advance([], [(0, job(1))])
