"""Replicas as Ray actors, on one machine or on a cluster.

Ray restarts an actor whose process or machine has died, on any machine that has room. The jobs it had are decoded
again by whichever replica is free; since samples depend on seeds alone, the results are the same.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from lm_eval_ext.errors import ArgumentError, EngineError, TTSError
from lm_eval_ext.generation.engine import FollowUp
from lm_eval_ext.generation.engines.replica import (
    LoadedModel,
    ModelIdentity,
    NotLoadedError,
    Numbered,
    Place,
    Replica,
    Report,
)
from lm_eval_ext.generation.engines.supervisor import Done, Down, Event, Failed, Supervisor, Task, Up
from lm_eval_ext.generation.request import Job

if TYPE_CHECKING:
    from ray import ObjectRef


logger = logging.getLogger("lm_eval.tts")

_WAIT = 10.0  # seconds to wait for the next event while a model loads
_SPARE = 4  # a replica gets a quarter more jobs than it has slots, so that prompts can be prefilled together
_MOST_RESTARTS = 3  # of one replica without a completion in between
_NOBODY = 1800.0  # seconds without any replica, or any place for one, after which the run ends
_SILENT = 1800.0  # seconds without a token after which a replica is started again

Stage = Literal["place", "load", "begin", "advance", "call"]


@dataclass(frozen=True)
class Call:
    """Requests that are no jobs, for a method of the model class such as `loglikelihood`."""

    method: str
    requests: Sequence[object]


@dataclass
class _Seat:
    """A replica.

    Attributes:
        coming: whether it loads the model, or prepares for a run.
        loaded: whether it has loaded the model.
        advancing: whether it has been called and has not answered yet.
        tasks: in its hands, by number.
        follow_ups, new: numbers of those to be sent with the next call.
        deaths: how often it has died since it last finished something.
        heard: when it last decoded something.
    """

    coming: bool = False
    loaded: bool = False
    advancing: bool = False
    tasks: dict[int, Task[Any]] = field(default_factory=dict)
    follow_ups: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    deaths: int = 0
    heard: float = 0.0


class RayFleet:
    """Replicas as Ray actors; see `Fleet`. It stays open between runs.

    Args:
        factory: loads the model in a replica's process.
        cluster: where they run.
        needs: resources of each.

    Attributes:
        on_tokens: called with the number of tokens that a replica has decoded.
    """

    def __init__(self, factory: Callable[[], LoadedModel], cluster: Cluster, needs: Needs) -> None:
        self._ray = cluster.ray
        self.asked = needs.replicas
        self.on_tokens: Callable[[int], None] = lambda tokens: None
        self.restarts = 0
        self.places: dict[int, Place] = {}
        self._seats = [_Seat() for _ in range(self.asked)]
        self._identity: ModelIdentity | None = None
        self._tokens: int | None = None  # most of a text in this run; None if it has no jobs
        self._calls: dict[ObjectRef[Any], tuple[int, Stage]] = {}
        self._events: list[Event] = []
        self._numbers = count()
        self._somebody = self._told = time.monotonic()
        self._needs = needs
        remote = self._ray.remote(max_restarts=-1, max_task_retries=0)(Replica)
        self._actors = [remote.options(**cluster.options(needs)).remote(factory, node_id) for _ in range(self.asked)]
        for replica in range(self.asked):
            self._call(replica, "place")

    def identity(self) -> ModelIdentity:
        """The identity of the model, once the first replica has loaded it; all others must have the same.

        Raises:
            EngineError: loading fails, or a replica dies again and again while it loads.
        """
        while self._identity is None:
            self.events(_WAIT)
        return self._identity

    def begin(self, tokens: int | None) -> None:
        """Prepare all replicas for jobs of up to `tokens` tokens, or for calls if that is None."""
        self._tokens = tokens
        self._somebody = time.monotonic()
        # What a former run has left to say is not awaited.
        self._calls = {ref: call for ref, call in self._calls.items() if call[1] in ("place", "load")}
        self._events = []
        for replica, seat in enumerate(self._seats):
            seat.advancing = False
            seat.tasks, seat.follow_ups, seat.new = {}, [], []
            if seat.loaded:
                self._join(replica)

    def _join(self, replica: int) -> None:
        if self._tokens is None:
            self._events.append(Up(replica, 1))
        else:
            self._seats[replica].coming = True
            self._call(replica, "begin", self._tokens)

    @property
    def coming(self) -> int:
        """Number of replicas that have their resources, and load the model or prepare for the run."""
        return sum(seat.coming for seat in self._seats)

    def send(self, worker: int, task: Task[Any]) -> None:
        """Give a task to a replica, which gets it with its next call."""
        seat, number = self._seats[worker], next(self._numbers)
        if not seat.loaded:  # it has died since the last event was taken
            self._events.append(Failed(worker, task, "has died"))
            return
        seat.tasks[number] = task
        (seat.follow_ups if task.follows else seat.new).append(number)

    def _flush(self, replica: int, seat: _Seat) -> None:
        if seat.advancing or not seat.tasks:
            return
        seat.advancing = True
        if len(seat.tasks) == len(seat.new):  # it was idle
            seat.heard = time.monotonic()
        if self._tokens is None:
            (number,) = seat.new
            call = seat.tasks[number].item
            self._call(replica, "call", number, call.method, list(call.requests))
        else:
            self._call(replica, "advance", _jobs(seat, seat.follow_ups), _jobs(seat, seat.new))
        seat.follow_ups, seat.new = [], []

    def _call(self, replica: int, stage: Stage, *arguments: object, **options: object) -> None:
        method = getattr(self._actors[replica], stage)
        if options:
            method = method.options(**options)
        self._calls[method.remote(*arguments)] = replica, stage

    # Events -----------------------------------------------------------------------------------------------

    def events(self, patience: float) -> list[Event]:
        """What has happened; see `Fleet`."""
        for replica, seat in enumerate(self._seats):
            self._flush(replica, seat)
        if not self._events and self._calls:
            ready, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=patience)
            for ref in ready:
                self._answered(ref)
            self._watch()
        events, self._events = self._events, []
        return events

    def _answered(self, ref: ObjectRef[Any]) -> None:
        replica, stage = self._calls.pop(ref)
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, NotLoadedError):
                raise self._failed(replica, error) from error
            self._died(replica, str(error.cause))
            return
        except self._ray.exceptions.RayError as error:  # its process or its machine has died
            self._died(replica, " ".join(str(error).split())[:200])
            return
        getattr(self, f"_after_{stage}")(replica, self._seats[replica], value)

    def _failed(self, replica: int, error: Any) -> EngineError:
        cause = getattr(error, "cause", None) or error
        text = str(cause).strip().splitlines()[0] if str(cause).strip() else ""
        name = "" if isinstance(cause, TTSError) else f"{type(cause).__name__}: "
        return EngineError(f"replica {replica} on {self.places[replica].node}: {name}{text}")

    def _died(self, replica: int, reason: str) -> None:
        self.restarts += 1
        seat = self._seats[replica]
        self._seats[replica] = _Seat(deaths=seat.deaths + 1)
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] != replica}
        if seat.deaths + 1 > _MOST_RESTARTS:
            raise EngineError(
                f"replica {replica} has died {seat.deaths + 1} times without finishing anything: {reason}; what has "
                "been finished is in the journal"
            )
        logger.warning("replica %d has died and is started again: %s", replica, reason)
        self._call(replica, "place", max_task_retries=-1)  # waits until the process has been started again
        self._events += [Down(replica), *(Failed(replica, task, reason) for task in seat.tasks.values())]

    def _after_place(self, replica: int, seat: _Seat, place: Place) -> None:
        if place.loaded:  # the process was out of reach for a moment; it still decodes what was given up
            self._ray.kill(self._actors[replica], no_restart=False)
            self._call(replica, "place", max_task_retries=-1)
            return
        self.places[replica] = place
        seat.coming = True
        self._call(replica, "load")

    def _after_load(self, replica: int, seat: _Seat, identity: ModelIdentity) -> None:
        seat.coming, seat.loaded = False, True
        if self._identity is None:
            self._identity = identity
        elif identity != self._identity:
            raise EngineError(
                f"replica {replica} on {self.places[replica].node} has loaded model {identity.fingerprint} with "
                f"{identity.versions}, but the others {self._identity.fingerprint} with {self._identity.versions}; "
                "every machine needs the same checkpoint and the same packages"
            )
        self._join(replica)

    def _after_begin(self, replica: int, seat: _Seat, slots: int) -> None:
        seat.coming, seat.heard = False, time.monotonic()
        self._events.append(Up(replica, slots + slots // _SPARE))

    def _after_advance(self, replica: int, seat: _Seat, progress: Report) -> None:
        seat.advancing = False
        if progress.tokens or progress.completion:
            seat.heard = time.monotonic()
        self.on_tokens(progress.tokens)
        if progress.number is not None:
            self._done(replica, seat, progress.number, progress.completion)

    def _after_call(self, replica: int, seat: _Seat, answer: tuple[int, list[object]]) -> None:
        seat.advancing = False
        self._done(replica, seat, *answer)

    def _done(self, replica: int, seat: _Seat, number: int, result: object) -> None:
        seat.deaths = 0
        self._events.append(Done(replica, seat.tasks.pop(number), result))

    def _watch(self) -> None:
        """Restart silent replicas, and give up if there has been none for half an hour."""
        now = time.monotonic()
        for replica, seat in enumerate(self._seats):
            if self._tokens is not None and seat.advancing and now - seat.heard > _SILENT:
                logger.warning("replica %d has decoded nothing for %d minutes", replica, _SILENT // 60)
                seat.heard = now
                self._ray.kill(self._actors[replica], no_restart=False)
        loaded = any(seat.loaded for seat in self._seats)
        if loaded or self.coming:
            self._somebody = now
        if now - self._somebody > _NOBODY:
            raise EngineError(
                f"no replica has been up for {_NOBODY // 60:.0f} minutes: the cluster has no room for one "
                f"({self._needs}); what has been finished is in the journal"
            )
        if now - self._told > 60 and not loaded:
            self._told = now
            logger.info("waiting: %d of %d replicas are loading the model", self.coming, self.asked)

    # Results ----------------------------------------------------------------------------------------------

    def info(self) -> dict[str, object]:
        """Replicas and machines of the run, for the results."""
        up = [replica for replica, seat in enumerate(self._seats) if seat.loaded]
        return {
            "replicas": self.asked,
            "replicas_up": len(up),
            "nodes": len({self.places[replica].node for replica in up}),
            "restarts": self.restarts,
            "ray": self._ray.__version__,
        }

    def close(self) -> None:
        """End all replicas."""
        if self._ray.is_initialized():
            for actor in self._actors:
                self._ray.kill(actor)


def _jobs(seat: _Seat, numbers: Sequence[int]) -> list[Numbered]:
    """Numbered jobs without their tags, which belong to the caller, and need not be picklable."""
    return [(number, replace(seat.tasks[number].item, tag=None)) for number in numbers]


@dataclass(eq=False)
class RayEngine:
    """Decodes on the replicas of a fleet.

    Attributes:
        fleet: the replicas; it stays open after a run that ends well.
        tokens: most tokens in one text.
        on_tokens: called with the number of tokens that a replica has decoded.
        on_replicas: called with the number of replicas that are up and of those asked for, when one changes.
    """

    fleet: RayFleet
    tokens: int
    on_tokens: Callable[[int], None] = lambda tokens: None
    on_replicas: Callable[[int, int], None] = lambda up, asked: None

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups; a follow-up goes to the replica that holds its trace.

        Raises:
            EngineError: a replica's model has failed, or replicas die again and again.
        """
        self.fleet.on_tokens = self.on_tokens
        try:
            self.fleet.begin(self.tokens)
            Supervisor(self.fleet, on_completion, self.on_replicas).run(jobs)
        except BaseException:
            self.fleet.close()  # the replicas still hold jobs
            raise


_PARTS = 4  # of other requests, for each replica, so that a slow one takes fewer


def scattered(
    fleet: RayFleet,
    method: str,
    requests: Sequence[object],
    on_results: Callable[[int], None] = lambda number: None,
) -> list[object]:
    """Results of a model class's method on all replicas, in the order of the requests.

    Args:
        fleet: replicas without jobs.
        method: name of the method, such as `loglikelihood`.
        requests: its requests.
        on_results: called with the number of results that have arrived.

    Raises:
        EngineError: the method has failed, or no replica is left.
    """
    size = max(1, -(-len(requests) // (fleet.asked * _PARTS)))
    calls = [Call(method, requests[start : start + size]) for start in range(0, len(requests), size)]
    results: dict[int, list[object]] = {}

    def keep(call: Call, found: list[object]) -> Sequence[Call]:
        results[id(call)] = found
        on_results(len(found))
        return ()

    fleet.begin(None)
    Supervisor(fleet, keep).run(calls)
    return [result for call in calls for result in results[id(call)]]


_STORE = 256 * 2**20  # bytes of shared memory; jobs and completions are small
_REACH = 10.0  # seconds to wait for a cluster's answer
_MOST_CPUS = 64  # for one replica without a GPU

Result = TypeVar("Result")


class Needs(NamedTuple):
    """Replicas, and the resources that each takes.

    Attributes:
        replicas: how many.
        gpus: GPUs of each.
        cpus: CPUs of each.
        across_nodes: whether the GPUs may be on several machines; vLLM then uses Ray for its own workers.
    """

    replicas: int
    gpus: int
    cpus: int
    across_nodes: bool = False


class Cluster:
    """A connection to Ray.

    Args:
        address: of a running cluster, such as `auto`; None for `RAY_ADDRESS`, or else a Ray that is started on this
            machine and ends with this process.
        cpus: least number of CPUs that a Ray started here offers, so that small tests fit.

    Raises:
        ArgumentError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str | None = None, cpus: int = 1) -> None:
        self.ray = _imported()
        self.address = address or os.environ.get("RAY_ADDRESS")
        if not self.ray.is_initialized():
            self._connect(cpus)

    def _connect(self, cpus: int) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        if self.address is None:
            options |= {
                "num_cpus": max(os.cpu_count() or 1, cpus), "include_dashboard": False, "object_store_memory": _STORE
            }  # fmt: skip
        try:
            _check_reachable(self.address)
            self.ray.init(address=self.address or "local", **options)
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ArgumentError(f"ray_address={self.address}: Ray cannot be reached or started ({reason})") from error

    def needs(self, replicas: int | Literal["auto"], gpus: int | None = None) -> Needs:
        """What a number of replicas takes.

        Args:
            replicas: number of replicas; "auto" for as many as there are GPUs for, or without GPUs, one per machine.
            gpus: GPUs of each; None for one, if there are any.

        Raises:
            ArgumentError: Ray was started on this machine, and it has too few GPUs.
        """
        there = int(self.ray.cluster_resources().get("GPU", 0))
        if gpus is None:
            gpus = int(there > 0)
            if not there:
                logger.warning("Ray sees no GPU, so the replicas run on CPUs")
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        most = there // gpus if gpus else len(nodes)
        number = max(1, most) if replicas == "auto" else replicas
        if self.address is None and number * gpus > there:
            raise ArgumentError(
                f"data_parallel_size={replicas}: {number} replicas with {gpus} GPUs each don't fit this machine, which "
                f"has {there}; give a smaller number, or the ray_address of a cluster"
            )
        across_nodes = gpus > 1 and gpus > max(int(node.get("GPU", 0)) for node in nodes)
        cpus = [int(node.get("CPU", 0)) for node in nodes]
        share = max(1, min(sum(cpus) // number, *cpus, _MOST_CPUS))
        return Needs(number, gpus, 1 if gpus else share, across_nodes)

    def options(self, needs: Needs) -> dict[str, object]:
        """Options of an actor with the resources of one replica."""
        if not needs.across_nodes:
            return {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = placement_group([{"GPU": 1, "CPU": 1}] * needs.gpus, strategy="PACK")
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
        return {"num_cpus": 1, "num_gpus": 0, "scheduling_strategy": strategy}

    def run(self, function: Callable[[], Result], needs: Needs) -> Result:
        """Run a function where a replica could run, and wait for it.

        Raises:
            Exception: whatever the function raises.
        """

        def task_function() -> Result:  # Ray takes no other kind of callable
            return function()

        task = self.ray.remote(max_retries=0, num_cpus=needs.cpus, num_gpus=needs.gpus)(task_function)
        try:
            result: Result = self.ray.get(task.remote())
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        return result


def _check_reachable(address: str | None) -> None:
    """Raise an OSError if nobody listens at `HOST:PORT`, because Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_REACH).close()


def node_id() -> str:
    """Ray's identifier of this process's machine."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ArgumentError(
            f"data_parallel_size and ray_address need Ray, which cannot be imported ({error}); pip install "
            "'lm-eval-tts[ray]'"
        ) from error
    return ray
