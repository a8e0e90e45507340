"""How well many replicas are used, and what the process that drives them costs.

    python -m benchmarks.replicas [--replicas 64] [--slots 32] [--rate 2000] [--traces 20000] [--deaths 0.02]
    python -m benchmarks.replicas --ray 8        # the driver's CPU time with real Ray actors that only sleep

The first simulates: each replica decodes `rate` tokens/s in `slots` rows, traces have log-normal lengths (median 6,000
tokens, at most 32,768) and are followed by two answers of 300 tokens, and some replicas die once and are away for 90 s.
Time is virtual, but the code that dispatches is the real one, and the time it takes on this machine counts.
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from lm_eval_ext.generation.engine import FollowUp, LocalEngine, Poll, no_more
from lm_eval_ext.generation.engines.replica import ModelIdentity
from lm_eval_ext.generation.engines.supervisor import Done, Down, Event, Failed, Supervisor, Task, Up
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop

MEDIAN, SPREAD, LONGEST = 6000, 0.8, 32768
ANSWER, ANSWERS = 300, 2
AWAY = 90.0  # seconds to start a replica again
CALL = 0.0015  # seconds from a call to the replica, or from its reply to the driver


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--replicas", type=int, default=64)
    arguments.add_argument("--slots", type=int, default=32)
    arguments.add_argument("--rate", type=int, default=2000, help="tokens/s of each replica")
    arguments.add_argument("--traces", type=int, default=20000)
    arguments.add_argument("--deaths", type=float, default=0.02, help="share of the replicas that die")
    arguments.add_argument("--ray", type=int, help="number of real Ray actors")
    given = arguments.parse_args()
    if given.ray:
        with_ray(given.ray, given.replicas * given.rate, given.slots * given.replicas // given.ray)
    else:
        simulated(given.replicas, given.slots, given.rate, given.traces, given.deaths)


def lengths(number: int) -> list[int]:
    draw = random.Random(0)
    return [min(LONGEST, max(1, int(MEDIAN * draw.lognormvariate(0, SPREAD)))) for _ in range(number)]


def jobs_of(traces: Sequence[int]) -> list[Job]:
    return [Job((number,), length, Stop(), Sampling(), 0) for number, length in enumerate(traces)]


def answers_of(job: Job, completion: Completion) -> list[Job]:
    """Answers that cut the trace in the middle and at its end, as two budgets do."""
    if job.phase == "answer":
        return []
    cuts = (len(completion.ids) // 2, len(completion.ids))
    return [Job((*job.ids, *completion.ids[:cut]), ANSWER, Stop(), Sampling(), 0, "answer") for cut in cuts]


# Simulation ---------------------------------------------------------------------------------------------


@dataclass
class Machine:
    """A replica: rows that all decode at the same pace, and jobs that wait for a row."""

    slots: int
    pace: float  # tokens/s of each row
    rows: list[tuple[float, int, Any]] = field(default_factory=list)  # when each ends, on this machine's own clock
    waiting: deque[Any] = field(default_factory=deque)
    clock: float = 0.0  # own clock: stands still while it waits for follow-ups
    busy: float = 0.0  # row-seconds
    calling: bool = False
    _order: count[int] = field(default_factory=count)

    def start(self, tokens: Callable[[Any], int]) -> None:
        """Start waiting jobs that there are rows for."""
        while self.waiting and len(self.rows) < self.slots:
            waiting = self.waiting.popleft()
            heapq.heappush(self.rows, (self.clock + tokens(waiting) / self.pace, next(self._order), waiting))

    def decode(self, seconds: float) -> tuple[float, Any]:
        """Decode until the first row ends, or for some seconds; returns how long that took and what has ended."""
        took = min(seconds, self.rows[0][0] - self.clock) if self.rows else seconds
        self.clock += took
        self.busy += took * len(self.rows)
        if self.rows and self.rows[0][0] <= self.clock:
            return took, heapq.heappop(self.rows)[2]
        return took, None


class SimulatedFleet:
    """Replicas in virtual time; each is called at most once at a time, as actors are."""

    coming = 0

    def __init__(self, replicas: int, slots: int, rate: int, deaths: Sequence[float]) -> None:
        self.asked = replicas
        self.slots, self.pace = slots, rate / slots
        self.machines = [self._new() for _ in range(replicas)]
        self.now = 0.0
        self.driver = 0.0
        self.deaths = dict(enumerate(deaths))
        self.order = count()
        self.arriving: list[tuple[float, int, int, list[Event]]] = []
        for number in range(replicas):
            self._arrives(0.0, number, [Up(number, slots + slots // 4)])
        self._since = time.process_time()

    def _new(self) -> Machine:
        return Machine(self.slots, self.pace)

    def _arrives(self, at: float, replica: int, events: list[Event]) -> None:
        heapq.heappush(self.arriving, (at, next(self.order), replica, events))

    def send(self, worker: int, task: Task[Job]) -> None:
        """Queue a job; follow-ups come first."""
        waiting = self.machines[worker].waiting
        (waiting.appendleft if task.follows else waiting.append)(task)

    def _call(self, replica: int, machine: Machine) -> None:
        """Decode at once, and deliver the result when it would arrive."""
        machine.calling = True
        machine.start(lambda task: task.item.max_tokens)
        took, task = machine.decode(1.0)
        at = self.now + CALL + took + CALL
        dies = self.deaths.get(replica)
        if dies is None or at < dies:
            done = Completion(tuple(range(task.item.max_tokens)), "length") if task else None
            self._arrives(at, replica, [Done(replica, task, done)] if task else [])
            return
        del self.deaths[replica]
        held = [*machine.waiting, *(row[2] for row in machine.rows), *([task] if task else [])]
        self.machines[replica] = self._new()
        self._arrives(at, replica, [Down(replica), *(Failed(replica, task, "died") for task in held)])
        self._arrives(at + AWAY, replica, [Up(replica, self.slots + self.slots // 4)])

    def events(self, patience: float) -> Sequence[Event]:
        """The next events, at their time; the driver's own time passes in the simulation, too."""
        took = time.process_time() - self._since
        self.driver += took
        self.now += took
        for replica, machine in enumerate(self.machines):
            if not machine.calling and (machine.waiting or machine.rows):
                self._call(replica, machine)
        at, _, replica, events = heapq.heappop(self.arriving)
        self.now = max(self.now, at)
        self.machines[replica].calling = False
        self._since = time.process_time()
        return events


def simulated(replicas: int, slots: int, rate: int, number: int, deaths: float) -> None:
    traces = lengths(number)
    tokens = sum(traces) + number * ANSWERS * ANSWER
    best = ideal(traces, replicas * slots, rate / slots)
    dying = round(replicas * deaths)
    died_at = [best * (place + 1) / (dying + 2) for place in range(dying)]
    fleet = SimulatedFleet(replicas, slots, rate, died_at)
    completions = 0

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        nonlocal completions
        completions += 1
        return answers_of(job, completion)

    Supervisor(fleet, on_completion).run(jobs_of(traces))
    print(f"{replicas} replicas of {slots} rows, {rate} tokens/s each; {number} traces, {tokens:,} tokens; {dying} die")
    print(
        f"time: {fleet.now:.0f} s; one ideal machine of as many rows: {best:.0f} s; efficiency {best / fleet.now:.3f}"
    )
    print(f"driver: {fleet.driver:.0f} s of CPU, {fleet.driver / fleet.now:.3f} of a core, without Ray's own work")
    print(f"        {fleet.driver / completions * 1e3:.2f} ms for each completion, so at most", end=" ")
    print(f"{tokens / fleet.driver / rate:.0f} replicas could be driven")


def ideal(traces: Sequence[int], rows: int, pace: float) -> float:
    """Seconds if every row that gets free takes the next trace at once, and decodes its answers after it."""
    free = [0.0] * rows
    for length in traces:
        heapq.heapreplace(free, free[0] + (length + ANSWERS * ANSWER) / pace)
    return max(free)


# Real Ray -----------------------------------------------------------------------------------------------


class Sleeper:
    """A model that sleeps as long as a real one would decode."""

    identity = ModelIdentity("none", "none")

    def __init__(self, slots: int, pace: float) -> None:
        self.slots, self.pace = slots, pace

    def engine(self, tokens: int, on_tokens: Callable[[int], None]) -> LocalEngine:
        """An engine that sleeps."""
        return SleepingEngine(self.slots, self.pace, on_tokens)

    def context(self) -> nullcontext[None]:
        """No context."""
        return nullcontext()

    def call(self, method: str, requests: Sequence[object]) -> list[object]:
        """Other requests are not used here."""
        return []


class SleepingEngine:
    """Finishes jobs when a real engine would, on the real clock."""

    def __init__(self, slots: int, pace: float, on_tokens: Callable[[int], None]) -> None:
        self.batch_size, self.pace, self.on_tokens = slots, pace, on_tokens

    def run(self, jobs: Sequence[Job], on_completion: FollowUp, poll: Poll = no_more) -> None:
        """Decode every job and its follow-ups."""
        machine = Machine(self.batch_size, self.pace)
        machine.waiting.extend(jobs)
        machine.start(lambda job: job.max_tokens)
        while machine.rows:
            took, job = machine.decode(0.1)
            time.sleep(took)
            self.on_tokens(int(took * self.pace * (len(machine.rows) + (job is not None))))
            if job:
                machine.waiting.extendleft(on_completion(job, Completion(tuple(range(job.max_tokens)), "length")))
            machine.waiting.extend(poll())
            machine.start(lambda job: job.max_tokens)


def with_ray(actors: int, rate: int, slots: int) -> None:
    from lm_eval_ext.generation.engines.ray import Cluster, Needs, RayEngine, RayFleet

    cluster = Cluster(None, actors)
    fleet = RayFleet(lambda: Sleeper(slots, rate / actors / slots), cluster, Needs(actors, 0, 0))
    fleet.identity()
    # About a minute. Traces are shorter than real ones, so that there is more to dispatch, and the last end in time.
    traces = [min(4000, length // 4) for length in lengths(max(1, rate * 60 // (MEDIAN // 4 + ANSWERS * ANSWER)))]
    counted = 0

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        nonlocal counted
        counted += 1
        return answers_of(job, completion)

    start, cpu = time.perf_counter(), time.process_time()
    RayEngine(fleet, LONGEST).run(jobs_of(traces), on_completion)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    tokens = sum(traces) + len(traces) * ANSWERS * ANSWER
    print(f"{actors} Ray actors, {rate:,} tokens/s in all: {tokens:,} tokens, {counted} completions in {took:.0f} s")
    print(f"driver: {cpu:.1f} s of CPU, {cpu / counted * 1e3:.2f} ms for each completion; at this rate of tokens")
    print(f"        {cpu / tokens * rate:.3f} of a core, so it would saturate at {tokens / cpu:,.0f} tokens/s")
    fleet.close()


if __name__ == "__main__":
    main()
