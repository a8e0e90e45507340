"""Runs one of our model classes as replicas on Ray: what the replicas load, and what the driver asks of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from tqdm import tqdm

from lm_eval_ext.generation.engine import Engine, LocalEngine, codec_of
from lm_eval_ext.generation.engines.ray import Cluster, Needs, RayEngine, RayFleet, scattered
from lm_eval_ext.generation.engines.replica import ModelIdentity
from lm_eval_ext.harness.model_costs import device_name
from lm_eval_ext.harness.thinking_model import ThinkingModel

if TYPE_CHECKING:
    from lm_eval_ext.pruning.recipe import Recipe


def loaded(engine: str, arguments: Mapping[str, object]) -> ReplicaModel:
    """Load one of our models in a replica's process.

    Args:
        engine: its name in the table of engines.
        arguments: keyword arguments of the model class.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # one process fewer; the replica is one already
    from lm_eval_ext.harness.session import load_model

    given = dict(arguments)
    batch_size = cast("int | str", given.pop("batch_size", None) or "auto")
    return ReplicaModel(cast("_ReplicatedModel", load_model(given, engine, batch_size)))


class _ReplicatedModel(ThinkingModel, Protocol):
    @property
    def facts(self) -> Any:
        """Has `shared`: what a process without the weights needs."""


class ReplicaModel:
    """A loaded model as a replica uses it; see `LoadedModel`."""

    def __init__(self, lm: _ReplicatedModel) -> None:
        self._lm = lm
        self._decode = codec_of(lm.tokenizer, set()).decode

    @property
    def identity(self) -> ModelIdentity:
        """What all replicas must have in common."""
        return ModelIdentity(
            self._lm.fingerprint, self._lm.versions, {**self._lm.facts.shared, "device": device_name()}
        )

    def engine(self, tokens: int, on_tokens: Callable[[int], None]) -> LocalEngine:
        """An engine for texts of up to `tokens` tokens."""
        return cast("LocalEngine", self._lm.decoding_engine(tokens, self._decode, on_tokens, lambda up, asked: None))

    def context(self) -> AbstractContextManager[object]:
        """A context manager that is active while decoding."""
        return self._lm.decoding_context()

    def call(self, method: str, requests: Sequence[object]) -> list[object]:
        """Run a method of lm-eval's model class."""
        return list(getattr(self._lm, method)(list(requests), disable_tqdm=True))


class Replicas:
    """The replicas of a model, as seen by the process that runs the evaluation and loads no weights.

    Args:
        engine: name of the engine of each replica.
        number: how many, or "auto".
        gpus: GPUs of each; None for one, if there are any.
        address: address of a Ray cluster; None for a Ray on this machine.
    """

    def __init__(self, engine: str, number: int | Literal["auto"], gpus: int | None, address: str | None) -> None:
        self.engine = engine
        self.cluster = Cluster(address, 1 if number == "auto" else number)
        self.needs: Needs = self.cluster.needs(number, gpus)

    def choose(self, choose: Callable[[], Recipe]) -> Recipe:
        """Choose layers where a replica could run, because this machine may be too small for the whole model."""
        return self.cluster.run(choose, self.needs)

    def start(self, arguments: Mapping[str, object]) -> None:
        """Start the replicas, and return without waiting for them."""
        given = {"journal": "off"} | dict(arguments)
        given["pretrained"] = _absolute(given.get("pretrained"))
        if self.needs.across_nodes:
            given["distributed_executor_backend"] = "ray"
        self.fleet = RayFleet(partial(loaded, self.engine, given), self.cluster, self.needs)

    @cached_property
    def identity(self) -> ModelIdentity:
        """The identity of the loaded model; waits until a replica has loaded it."""
        return self.fleet.identity()

    def decoding_engine(
        self, tokens: int, on_tokens: Callable[[int], None], on_replicas: Callable[[int, int], None]
    ) -> Engine:
        """An engine that decodes on all replicas."""
        return RayEngine(self.fleet, tokens, on_tokens, on_replicas)

    def call(self, method: str, requests: Sequence[object], quiet: bool) -> list[object]:
        """Run a method of lm-eval's model class on all replicas."""
        with tqdm(total=len(requests), desc=method, disable=quiet) as bar:
            return scattered(self.fleet, method, requests, bar.update)

    def info(self) -> dict[str, object]:
        """Replicas and machines of the run, for the results."""
        return self.fleet.info() | {"versions": self.identity.versions}


def _absolute(pretrained: object) -> object:
    """The absolute path of a folder, because processes on other machines have another working directory."""
    return str(Path(pretrained).resolve()) if isinstance(pretrained, str) and Path(pretrained).is_dir() else pretrained
