"""Replicas without Ray: actors that answer in any order, and that die at any time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engine import FollowUp, LocalEngine, Poll, no_more
from lm_eval_ext.generation.engines.ray import Needs, RayEngine, RayFleet, scattered
from lm_eval_ext.generation.engines.replica import ModelIdentity, NotLoadedError, Numbered, Place, Replica, Report
from lm_eval_ext.generation.engines.supervisor import Done, Event, Supervisor, Task, Up
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


class TaskError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class DeadActorError(Exception):
    pass


class Reference(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]  # each is another, whatever it says


class FakeRay:
    """Ray with actors that do one thing at a time, in an order drawn by `draw`, and die at any time.

    Attributes:
        taken: number of jobs that each replica has decoded.
    """

    __version__ = "fake"
    exceptions = SimpleNamespace(RayTaskError=TaskError, RayError=DeadActorError)

    def __init__(self, draw: random.Random, late: int = 0, deaths: float = 0.0, most: int = 10**9) -> None:
        self.draw, self.late, self.deaths, self.most_deaths = draw, late, deaths, most
        self.ray = self  # it is its own cluster
        self.hands: list[dict[int, Job]] = []
        self.loaded: list[bool] = []
        self.rounds: list[int] = []  # until it has a place
        self.last: dict[int, tuple[int, ...]] = {}  # the text that a replica has just decoded
        self.taken: dict[int, int] = {}
        self.sent: list[Job] = []
        self.killed: list[int] = []

    def options(self, needs: Needs) -> dict[str, object]:
        return {}

    def remote(self, **options: object) -> Any:
        def start(*arguments: object) -> SimpleNamespace:
            replica = len(self.hands)
            self.hands.append({})
            self.loaded.append(False)
            self.rounds.append(5 if replica < self.late else 0)

            def method(stage: str) -> SimpleNamespace:
                def call(*arguments: Any) -> SimpleNamespace:
                    return Reference(replica=replica, stage=stage, arguments=arguments)

                return SimpleNamespace(remote=call, options=lambda **options: SimpleNamespace(remote=call))

            return SimpleNamespace(
                number=replica, **{stage: method(stage) for stage in ("place", "load", "begin", "advance", "call")}
            )

        return lambda kind: SimpleNamespace(options=lambda **options: SimpleNamespace(remote=start))

    def wait(self, calls: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        ready = []
        for call in calls:
            if call.stage == "place" and self.rounds[call.replica] > 0:
                self.rounds[call.replica] -= 1
            else:
                ready.append(call)
        return [self.draw.choice(ready)] if ready else [], []

    def get(self, call: Any) -> object:
        replica, stage, arguments = call.replica, call.stage, call.arguments
        if stage in ("advance", "call") and self.most_deaths and self.draw.random() < self.deaths:
            self.most_deaths -= 1
            self.die(replica)
            raise DeadActorError("killed")
        return getattr(self, f"_{stage}")(replica, *arguments)

    def die(self, replica: int) -> None:
        self.loaded[replica] = False
        self.hands[replica] = {}
        self.rounds[replica] = self.draw.randint(0, 5)
        self.last.pop(replica, None)

    def _place(self, replica: int) -> Place:
        return Place("here", replica, self.loaded[replica])

    def _load(self, replica: int) -> ModelIdentity:
        self.loaded[replica] = True
        return ModelIdentity("weights", "versions")

    def _begin(self, replica: int, tokens: int) -> int:
        if not self.loaded[replica]:
            raise TaskError(NotLoadedError("a new process"))
        return self.draw.randint(1, 5)

    def _call(self, replica: int, number: int, method: str, requests: list[object]) -> tuple[int, list[object]]:
        return number, [(method, request) for request in requests]

    def _advance(self, replica: int, follow_ups: Sequence[Numbered], new: Sequence[Numbered]) -> Report:
        for _, follow_up in follow_ups:
            text = self.last[replica]
            assert follow_up.ids[: len(text) - 4] == text[: len(text) - 4], "its trace is on another replica"
        self.last.pop(replica, None)
        hands = self.hands[replica]
        hands |= dict(follow_ups) | dict(new)
        self.sent += [some for _, some in new]
        if not hands or self.draw.random() < 0.3:
            return Report(tokens=1)
        number = self.draw.choice(sorted(hands))
        some = hands.pop(number)
        completion = completed(some)
        self.last[replica] = (*some.ids, *completion.ids)
        self.taken[replica] = self.taken.get(replica, 0) + 1
        return Report(len(completion.ids), number, completion)

    def is_initialized(self) -> bool:
        return True

    def kill(self, actor: SimpleNamespace, no_restart: bool = True) -> None:
        self.killed.append(actor.number)


def fleet_on(ray: FakeRay, replicas: int) -> RayFleet:
    cluster: Any = ray
    return RayFleet(lambda: Model(ScriptedEngine(script)), cluster, Needs(replicas, 0, 1))


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
    ray = FakeRay(random.Random(seed), late=min(late, asked - 1), deaths=0.05, most=3)
    assert outcome(RayEngine(fleet_on(ray, asked), 100).run, JOBS) == outcome(ScriptedEngine(script).run, JOBS)
    assert not ray.killed


def test_every_replica_gets_a_share_even_of_few_jobs() -> None:
    ray = FakeRay(random.Random(0))
    fleet = fleet_on(ray, 4)
    while sum(ray.loaded) < 4:
        fleet.events(0.0)
    outcome(RayEngine(fleet, 100).run, JOBS[:16])
    assert set(ray.taken) == {0, 1, 2, 3}


def test_a_replica_that_joins_late_takes_work() -> None:
    ray = FakeRay(random.Random(0), late=1)
    outcome(RayEngine(fleet_on(ray, 2), 100).run, JOBS * 4)
    assert ray.taken[0] > 50, "number 0 comes after five rounds"


def test_replicas_serve_several_runs_also_after_they_died_in_between() -> None:
    ray = FakeRay(random.Random(0))
    engine = RayEngine(fleet_on(ray, 2), 100)
    first = outcome(engine.run, JOBS)
    assert outcome(engine.run, JOBS) == first
    ray.die(0)
    assert outcome(engine.run, JOBS) == first and engine.fleet.restarts == 1


def test_a_replica_that_died_while_it_was_idle_loads_again_when_it_gets_work() -> None:
    replica = Replica(lambda: Model(ScriptedEngine(script)))
    for call in (
        lambda: replica.begin(100),
        lambda: replica.advance([], [(0, job(1))]),
        lambda: replica.call(0, "m", []),
    ):
        with pytest.raises(NotLoadedError):
            call()


def test_what_has_arrived_is_kept_when_one_result_ends_the_run() -> None:
    tasks = [Task(number) for number in range(5)]

    class Batch:
        """Five tasks that are done at the same moment."""

        asked, coming = 1, 0

        def __init__(self) -> None:
            self.events_left: list[list[Event]] = [[Up(0, 5)], []]

        def send(self, worker: int, task: Task[Any]) -> None:
            self.events_left[-1].append(Done(worker, task, task.item))

        def events(self, patience: float) -> Sequence[Event]:
            return self.events_left.pop(0) if self.events_left else []

    kept: list[int] = []

    def on_result(item: int, result: int) -> Sequence[int]:
        if not kept and item == 0:
            raise KeyboardInterrupt
        kept.append(item)
        return ()

    with pytest.raises(KeyboardInterrupt):
        Supervisor[int, int](Batch(), on_result).run([task.item for task in tasks])
    assert kept == [1, 2, 3, 4]


def test_tags_stay_with_the_caller() -> None:
    ray = FakeRay(random.Random(0))
    tagged = Job((1, 2, 3), 3, Stop(), Sampling(), 0, tag=lambda: "not picklable")
    ((_, _, tag),) = outcome(RayEngine(fleet_on(ray, 1), 10).run, [tagged])
    assert tag is tagged.tag and ray.sent[0].tag is None


def test_replicas_that_die_without_finishing_anything_end_the_run() -> None:
    ray = FakeRay(random.Random(0), deaths=1.0)
    with pytest.raises(EngineError, match=r"replica \d has died 4 times without finishing anything: killed"):
        outcome(RayEngine(fleet_on(ray, 2), 100).run, JOBS)
    assert ray.killed == [0, 1]


def test_other_requests_come_back_in_order_also_from_replicas_that_died() -> None:
    fleet = fleet_on(FakeRay(random.Random(0), deaths=1.0, most=3), 3)
    requests = list(range(50))
    assert scattered(fleet, "loglikelihood", requests) == [("loglikelihood", request) for request in requests]
    assert scattered(fleet, "loglikelihood", []) == []
    assert outcome(RayEngine(fleet, 100).run, JOBS) == outcome(ScriptedEngine(script).run, JOBS)


def test_other_requests_that_kill_every_replica_end_the_run() -> None:
    with pytest.raises(EngineError, match="replica 0 has died 4 times"):
        scattered(fleet_on(FakeRay(random.Random(0), deaths=1.0), 1), "loglikelihood", [1, 2])


def test_replicas_that_die_while_they_load_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(random.Random(0))

    def dying(replica: int) -> ModelIdentity:
        raise DeadActorError("out of memory")

    monkeypatch.setattr(ray, "_load", dying)
    with pytest.raises(EngineError, match="replica 0 has died 4 times without finishing anything: out of memory"):
        fleet_on(ray, 1).identity()


# One replica --------------------------------------------------------------------------------------------


class Model:
    """A loaded model whose engine is given."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.identity = ModelIdentity("weights", "versions")

    def engine(self, tokens: int, on_tokens: Callable[[int], None]) -> LocalEngine:
        return self._engine

    def context(self) -> nullcontext[None]:
        return nullcontext()

    def call(self, method: str, requests: Sequence[object]) -> list[object]:
        return [(method, request) for request in requests]


def replica_of(engine: LocalEngine) -> Replica:
    replica = Replica(lambda: Model(engine))
    assert not replica.place().loaded
    assert replica.load() == ModelIdentity("weights", "versions", {"other": "facts"})
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
    assert replica.call(7, "loglikelihood", ["a"]) == (7, [("loglikelihood", "a")])
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
    assert replica.advance([], [(0, job(1))]) == Report(tokens=0), "nothing has finished within a second"
    assert replica.advance([], [(1, job(2))]).number == 1
    engine.release.set()
    assert replica.advance([], []).number == 0


def test_an_error_of_the_model_reaches_the_caller() -> None:
    def broken(some: Job) -> list[int]:
        raise ValueError("no such token")

    replica = replica_of(ScriptedEngine(broken))
    with pytest.raises(ValueError, match="no such token"):
        replica.advance([], [(0, job(1))])
