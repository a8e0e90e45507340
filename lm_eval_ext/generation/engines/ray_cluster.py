"""Connection to a Ray cluster, or to a Ray that is started on this machine, and the resources of replicas in it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from lm_eval_ext.errors import ArgumentError

logger = logging.getLogger("lm_eval.tts")

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
