"""A whole model in a process of its own, which takes jobs from another process while it decodes."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from lm_eval_ext.generation.engine import LocalEngine
from lm_eval_ext.generation.request import Completion, Job

Numbered = tuple[int, Job]

_PATIENCE = 1.0  # seconds that `advance` waits for a completion
_DEAD_ENGINE = "EngineDeadError"  # vLLM's core process has died, so this process is useless


@dataclass(frozen=True)
class ModelIdentity:
    """What all replicas of one run must have in common.

    Attributes:
        fingerprint: identifies the weights and the config.
        versions: software that affects the decoded tokens.
        facts: further properties of the loaded model, for the results.
    """

    fingerprint: str
    versions: str
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Place:
    """The process of a replica: its machine, its process id, and whether it has loaded the model."""

    node: str
    pid: int
    loaded: bool


class LoadedModel(Protocol):
    """A model that a replica's factory has loaded."""

    @property
    def identity(self) -> ModelIdentity:
        """What all replicas must have in common."""

    def engine(self, tokens: int, on_tokens: Callable[[int], None]) -> LocalEngine:
        """An engine for texts of up to `tokens` tokens."""

    def context(self) -> AbstractContextManager[object]:
        """A context manager that is active while decoding."""

    def call(self, method: str, requests: Sequence[object]) -> list[object]:
        """Run requests that are no jobs with a method of the model class."""


class NotLoadedError(Exception):
    """The replica's process has died since it loaded the model, and was started again."""


@dataclass(frozen=True)
class Report:
    """What a replica has done since it last reported.

    Attributes:
        tokens: decoded since then.
        number: of the job that has finished; None if none has.
        completion: of that job.
    """

    tokens: int
    number: int | None = None
    completion: Completion | None = None


class Replica:
    """Decodes numbered jobs with an engine that runs in a thread of its own.

    When a job finishes, the engine waits for its follow-ups, so that they continue from the states that are still in
    its slot. `advance` brings them, along with new jobs.

    Args:
        factory: loads the model.
        locate: identifies the machine.
    """

    def __init__(self, factory: Callable[[], LoadedModel], locate: Callable[[], str] = platform.node) -> None:
        self._factory = factory
        self._locate = locate
        self._model: LoadedModel | None = None
        self._new: SimpleQueue[Job] = SimpleQueue()
        self._follow_ups: SimpleQueue[list[Job]] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, Completion] | BaseException] = SimpleQueue()
        self._waiting = False  # whether the engine waits for follow-ups
        self._idle = threading.Event()  # set while the engine has no run
        self._idle.set()
        self._tokens = 0
        self._counting = threading.Lock()
        self._engine: LocalEngine | None = None
        self._thread: threading.Thread | None = None

    def place(self) -> Place:
        """Where the replica is; answers at once."""
        return Place(self._locate(), os.getpid(), self._model is not None)

    def load(self) -> ModelIdentity:
        """Load the model; may take minutes."""
        self._model = self._factory()
        return self._model.identity

    def begin(self, tokens: int) -> int:
        """Prepare a run of jobs of up to `tokens` tokens; returns the number of jobs that are decoded at once.

        Raises:
            NotLoadedError: the process is a new one.
        """
        model = self._loaded()
        self._finish()
        self._engine = model.engine(tokens, self._count)
        if self._thread is None:
            self._thread = threading.Thread(target=self._decode, daemon=True)
            self._thread.start()
        return self._engine.batch_size

    def advance(self, follow_ups: Sequence[Numbered], new: Sequence[Numbered]) -> Report:
        """Hand over jobs, and wait for the next completion, but not longer than a second.

        Args:
            follow_ups: numbered jobs that follow the completion returned last; empty if there was none.
            new: numbered jobs to start when a slot is free.

        Raises:
            NotLoadedError: the process is a new one.
            Exception: decoding has failed.
        """
        self._loaded()
        for numbered in new:
            self._new.put(_tagged(numbered))
        if self._waiting:
            self._waiting = False
            self._follow_ups.put([_tagged(numbered) for numbered in follow_ups])
        done = self._next()
        with self._counting:
            tokens, self._tokens = self._tokens, 0
        return Report(tokens, *(done or ()))

    def call(self, number: int, method: str, requests: Sequence[object]) -> tuple[int, list[object]]:
        """Run requests that are no jobs with a method of the model class; returns the number with the results."""
        model = self._loaded()
        self._finish()
        return number, model.call(method, requests)

    def _loaded(self) -> LoadedModel:
        if self._model is None:
            raise NotLoadedError("its process has died while it was idle")
        return self._model

    def _finish(self) -> None:
        """Let the engine end its run, which frees its memory; it has no jobs left."""
        if self._waiting:
            self._waiting = False
            self._follow_ups.put([])
        self._idle.wait()

    def _next(self) -> tuple[int, Completion] | None:
        try:
            done = self._done.get(timeout=_PATIENCE)
        except Empty:
            return None
        if isinstance(done, BaseException):
            if any(kind.__name__ == _DEAD_ENGINE for kind in type(done).__mro__):
                os._exit(1)  # Ray starts another process; this one would fail for ever
            raise done
        self._waiting = True
        return done

    # The engine's thread ----------------------------------------------------------------------------------

    def _decode(self) -> None:
        try:
            while True:
                first = self._new.get()
                self._idle.clear()
                assert self._model is not None and self._engine is not None  # `load` and `begin` were called
                with self._model.context():
                    self._engine.run([first, *self._arrived()], self._hand_over, self._arrived)
                self._idle.set()
        except BaseException as error:  # `advance` raises it
            self._done.put(error)
            self._idle.set()

    def _hand_over(self, job: Job, completion: Completion) -> Iterable[Job]:
        self._done.put((job.tag, completion))
        return self._follow_ups.get()

    def _arrived(self) -> Iterator[Job]:
        while not self._new.empty():
            yield self._new.get()

    def _count(self, tokens: int) -> None:
        with self._counting:
            self._tokens += tokens


def _tagged(numbered: Numbered) -> Job:
    number, job = numbered
    return replace(job, tag=number)
