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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from lm_eval_ext.errors import ArgumentError, EngineError, TTSError
from lm_eval_ext.generation.engines.dispatch import Advanced, Called, Event, Lost, Numbered, Ready, Restarts
from lm_eval_ext.generation.engines.replica import Identity, LoadedModel, Place, Progress, Replica

if TYPE_CHECKING:
    from ray import ObjectRef


logger = logging.getLogger("lm_eval.tts")

_WAIT = 10.0  # seconds that `events` waits
_NOBODY = 1800.0  # seconds without any replica, or any place for one, after which the run ends
_SILENT = 1800.0  # seconds without a token after which a replica is started again

Stage = Literal["place", "load", "begin", "advance", "call"]


class RayPool:
    """Replicas as Ray actors; see `Pool`.

    Args:
        factory: loads the model in a replica's process.
        cluster: where they run.
        needs: resources of each.
    """

    def __init__(self, factory: Callable[[], LoadedModel], cluster: Cluster, needs: Needs) -> None:
        self._ray = cluster.ray
        self.asked = needs.replicas
        self.restarts = 0
        self.places: dict[int, Place] = {}
        self._loading: set[int] = set()
        self._loaded: set[int] = set()
        self._identity: Identity | None = None
        self._tokens: int | None = None
        self._calls: dict[ObjectRef[Any], tuple[int, Stage]] = {}
        self._heard: dict[int, float] = {}
        self._somebody = self._told = time.monotonic()
        self._needs = needs
        remote = self._ray.remote(max_restarts=-1, max_task_retries=0)(Replica)
        self._actors = [remote.options(**cluster.options(needs)).remote(factory, node_id) for _ in range(self.asked)]
        for replica in range(self.asked):
            self._call(replica, "place")

    # Calls ------------------------------------------------------------------------------------------------

    @property
    def loading(self) -> int:
        """Number of replicas that have their resources and are loading the model."""
        return len(self._loading)

    def identity(self) -> Identity:
        """Identity of the model, once the first replica has loaded it; all others must have the same.

        Raises:
            EngineError: loading fails, or a replica dies again and again while it loads.
        """
        restarts = Restarts()
        while self._identity is None:
            for event in self.events():
                if isinstance(event, Lost):
                    restarts.lost(event)
        return self._identity

    def begin(self, tokens: int) -> None:
        """Prepare all replicas for jobs of up to `tokens` tokens."""
        self._tokens = tokens
        self._calls = {ref: call for ref, call in self._calls.items() if call[1] != "begin"}  # of a run that has ended
        for replica in self._loaded:
            self._call(replica, "begin", tokens)

    def advance(self, replica: int, follow_ups: Sequence[Numbered], new: Sequence[Numbered]) -> None:
        """Call `Replica.advance`, without waiting for the result."""
        self._call(replica, "advance", list(follow_ups), list(new))

    def free(self) -> list[int]:
        """The replicas that are loaded and have no call in flight."""
        busy = {replica for replica, _ in self._calls.values()}
        return sorted(self._loaded - busy)

    def call(self, replica: int, method: str, requests: Sequence[object]) -> None:
        """Call `Replica.call`, without waiting for the result."""
        self._tokens = None  # whoever joins now does not have to prepare a run
        self._call(replica, "call", method, list(requests))

    def _call(self, replica: int, stage: Stage, *arguments: object, **options: object) -> None:
        method = getattr(self._actors[replica], stage)
        if options:
            method = method.options(**options)
        self._calls[method.remote(*arguments)] = replica, stage
        self._heard.setdefault(replica, time.monotonic())

    # Events -----------------------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """What has happened; waits up to ten seconds."""
        ready, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=_WAIT)
        found = [self._event(ref) for ref in ready if ref in self._calls]
        self._watch()
        return [event for event in found if event is not None]

    def _event(self, ref: ObjectRef[Any]) -> Event | None:
        replica, stage = self._calls.pop(ref)
        try:
            value = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise self._failed(replica, error) from error
        except self._ray.exceptions.RayError as error:  # its process or its machine has died
            return self._died(replica, error)
        event: Event | None = getattr(self, f"_after_{stage}")(replica, value)
        return event

    def _failed(self, replica: int, error: Any) -> EngineError:
        cause = getattr(error, "cause", None) or error
        text = str(cause).strip().splitlines()[0] if str(cause).strip() else ""
        name = "" if isinstance(cause, TTSError) else f"{type(cause).__name__}: "
        return EngineError(f"replica {replica} on {self.places[replica].node}: {name}{text}")

    def _died(self, replica: int, error: Exception) -> Lost:
        self.restarts += 1
        self._loading.discard(replica)
        self._loaded.discard(replica)
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] != replica}
        self._call(replica, "place", max_task_retries=-1)  # waits until the process has been started again
        return Lost(replica, " ".join(str(error).split())[:200])

    def _after_place(self, replica: int, place: Place) -> None:
        if place.loaded:  # the process was out of reach for a moment; it still decodes what was given up
            self._ray.kill(self._actors[replica], no_restart=False)
            self._call(replica, "place", max_task_retries=-1)
            return
        self.places[replica] = place
        self._loading.add(replica)
        self._call(replica, "load")

    def _after_load(self, replica: int, identity: Identity) -> None:
        self._loading.discard(replica)
        self._loaded.add(replica)
        if self._identity is None:
            self._identity = identity
        elif identity != self._identity:
            raise EngineError(
                f"replica {replica} on {self.places[replica].node} has loaded model {identity.fingerprint} with "
                f"{identity.versions}, but the others {self._identity.fingerprint} with {self._identity.versions}; "
                "every machine needs the same checkpoint and the same packages"
            )
        if self._tokens is not None:
            self._call(replica, "begin", self._tokens)

    def _after_begin(self, replica: int, slots: int) -> Ready:
        self._heard[replica] = time.monotonic()
        return Ready(replica, slots)

    def _after_advance(self, replica: int, progress: Progress) -> Advanced:
        if progress.tokens or progress.completion:
            self._heard[replica] = time.monotonic()
        return Advanced(replica, progress)

    def _after_call(self, replica: int, results: list[object]) -> Called:
        return Called(replica, results)

    def _watch(self) -> None:
        """Restart silent replicas, and give up if there has been none for half an hour."""
        now = time.monotonic()
        for replica, stage in list(self._calls.values()):
            if stage == "advance" and now - self._heard[replica] > _SILENT:
                logger.warning("replica %d has decoded nothing for %d minutes", replica, _SILENT // 60)
                self._heard[replica] = now
                self._ray.kill(self._actors[replica], no_restart=False)
        if self._loading or self._loaded:
            self._somebody = now
        if now - self._somebody > _NOBODY:
            raise EngineError(
                f"no replica has been up for {_NOBODY // 60:.0f} minutes: the cluster has no room for one "
                f"({self._needs}); what has been finished is in the journal"
            )
        if now - self._told > 60 and not self._loaded:
            self._told = now
            logger.info("waiting: %d of %d replicas are loading the model", len(self._loading), self.asked)

    # Results ----------------------------------------------------------------------------------------------

    def info(self) -> dict[str, object]:
        """Replicas and machines of the run, for the results."""
        return {
            "replicas": self.asked,
            "replicas_up": len(self._loaded),
            "nodes": len({self.places[replica].node for replica in self._loaded}),
            "restarts": self.restarts,
            "ray": self._ray.__version__,
        }

    def close(self) -> None:
        """End all replicas."""
        if self._ray.is_initialized():
            for actor in self._actors:
                self._ray.kill(actor)


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
