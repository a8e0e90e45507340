"""Where runs are started: on this machine, by Slurm, or on a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.sweep.locks import hold, is_held
from lm_eval_ext.sweep.manifest import Local
from lm_eval_ext.sweep.one import BUSY, CHANGED
from lm_eval_ext.sweep.plan import Item, PlannedRun, Stage, stages
from lm_eval_ext.sweep.slurm import submit
from lm_eval_ext.sweep.sources import LOCK, Study

Tell = Callable[[str], None]  # called with each line about what happens


class LaunchKind(StrEnum):
    """The kinds of places."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


def launch(study: Study, runs: Sequence[PlannedRun], kind: LaunchKind, jobs: int | None, tell: Tell) -> bool:
    """Do runs and what they need, or submit them; returns whether all are done or submitted.

    Args:
        study: the study.
        runs: of the study.
        kind: where they are started.
        jobs: most at once, on this machine.
        tell: called with each line about what starts and ends.

    Raises:
        ManifestError: the settings don't fit this machine, or `jobs` has no meaning for it.
    """
    given = study.manifest.launch
    if kind is LaunchKind.local:
        return LocalLauncher(study, slots(given.local, jobs), tell).run(runs)
    if kind is LaunchKind.slurm:
        if jobs is not None:
            raise ManifestError("--jobs: with --launch slurm, give launch.slurm.parallel in the manifest")
        return submit(study, runs, tell)
    if jobs is not None:
        raise ManifestError("--jobs: with --launch ray, runs follow one another, because each fills the cluster")
    extra = (f"ray_address={given.ray.address}", "data_parallel_size=auto")
    return LocalLauncher(study, [Slot()], tell, extra).run(runs)


_PAUSE = 0.2  # seconds between two looks at what runs
_LATER = 5.0  # seconds before another look at what another process runs


@dataclass
class Slot:
    """A place for one run, with its GPUs."""

    gpus: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    item: Item | None = None
    locks: list[int] = field(default_factory=list)

    def take(self) -> bool:
        """Lock the slot's GPUs for whatever is started in it; false if another sweep uses one."""
        for gpu in self.gpus:
            folder = Path(tempfile.gettempdir()) / f"lm-eval-tts-{os.getuid()}"
            lock = hold(folder / f"gpu-{gpu}.lock")
            if lock is None:
                self.release()
                return False
            self.locks.append(lock)
        return True

    def release(self) -> None:
        """Close this process's hold on the GPUs; what was started in the slot keeps its own."""
        for lock in self.locks:
            os.close(lock)
        self.locks.clear()


def slots(local: Local, jobs: int | None) -> list[Slot]:
    """The slots of this machine.

    Raises:
        ManifestError: there are fewer GPUs than a run needs.
    """
    gpus = tuple(map(str, local.gpus)) or _all_gpus()
    if not gpus:
        return [Slot() for _ in range(jobs or local.jobs or 1)]
    if len(gpus) < local.gpus_per_run:
        raise ManifestError(f"launch.local.gpus_per_run={local.gpus_per_run}: this machine has {len(gpus)} GPUs")
    each = local.gpus_per_run
    made = [Slot(tuple(gpus[start : start + each])) for start in range(0, len(gpus) - each + 1, each)]
    return made[: jobs or local.jobs or len(made)]


def _all_gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process may use, for CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    return tuple((named or list(map(str, range(count))))[:count])


@dataclass
class LocalLauncher:
    """Does what a study still needs; several may work on one study at the same time.

    Args:
        study: the study.
        slots: where runs are started.
        tell: called with each line about what starts and ends.
        extra: model arguments that say where a run's model runs.
    """

    study: Study
    slots: Sequence[Slot]
    tell: Tell
    extra: Sequence[str] = ()
    _failed: set[str] = field(default_factory=set, init=False)
    _later: dict[str, float] = field(default_factory=dict, init=False)  # when to look at what another process runs

    def run(self, runs: Sequence[PlannedRun]) -> bool:
        """Do all runs and what they need; returns whether all are done. Stops what runs if it is interrupted."""
        waiting: list[Item] = [*stages(runs), *runs]
        try:
            while waiting or any(slot.process for slot in self.slots):
                waiting = [item for item in waiting if not self._is_over(item)]
                self._check_progress(waiting)
                for slot in self.slots:
                    if slot.process is not None:
                        waiting += self._ended(slot)
                    elif (item := self._next(waiting)) is not None and slot.take():
                        waiting.remove(item)
                        self._start(slot, item)
                time.sleep(_PAUSE)
        finally:
            self._stop()
        self.tell(f"{len(runs) - sum(run.name in self._failed for run in runs)} of {len(runs)} runs are done")
        return not self._failed

    def _check_progress(self, waiting: Sequence[Item]) -> None:
        """Raise an error rather than wait for layers that nobody will choose."""
        busy = any(slot.process for slot in self.slots) or any(isinstance(item, Stage) for item in waiting)
        stuck = next((item for item in waiting if self.study.folder_of(item) is None), None)
        if stuck is not None and not busy:
            raise ManifestError(f"{stuck.name}: its recipe is not among those that its method has written")

    def _is_over(self, item: Item) -> bool:
        """Whether nothing is to be done for an item: it is done, or what it needs has failed."""
        if isinstance(item, PlannedRun) and item.stage is not None and item.stage.name in self._failed:
            self._failed.add(item.name)
            self.tell(f"{item.name}: not run, because its layers could not be chosen")
            return True
        if isinstance(item, Stage) and item.traces in self._failed:
            self._failed.add(item.name)
            self.tell(f"{item.name}: not chosen, because {item.traces} has failed, whose replies it needs")
            return True
        return self.study.found(item).state == "done"

    def _next(self, waiting: Iterable[Item]) -> Item | None:
        """The first item that can be started now: what it needs is there, and nobody else does it."""
        now = time.monotonic()
        for item in waiting:
            folder = self.study.folder_of(item)
            if folder is None or self._later.get(item.name, 0.0) > now:
                continue
            if isinstance(item, Stage) and not self.study.is_ready(item):
                continue
            if not is_held(folder / LOCK):
                return item
            self._later[item.name] = now + _LATER
        return None

    def _start(self, slot: Slot, item: Item) -> None:
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(slot.gpus)} if slot.gpus else {}
        for lock in slot.locks:
            os.set_inheritable(lock, True)
        told = [str(self.study.path.resolve()), self.study.ticket(item), *self.extra]
        words = [sys.executable, "-m", self.study.runner, *told]
        slot.item = item
        slot.process = subprocess.Popen(
            words, env={**os.environ, **visible}, stdin=subprocess.DEVNULL, pass_fds=slot.locks, start_new_session=True
        )
        slot.release()
        where = f" on GPU {', '.join(slot.gpus)}" if slot.gpus else ""
        self.tell(f"{item.name}: started{where}")

    def _ended(self, slot: Slot) -> list[Item]:
        """What has to be done again later, if the slot's process has ended."""
        assert slot.process is not None and slot.item is not None
        code = slot.process.poll()
        if code is None:
            return []
        item, slot.process, slot.item = slot.item, None, None
        if code == BUSY:
            self._later[item.name] = time.monotonic() + _LATER
            return [item]
        if code == 0 and self.study.found(item).state != "done":
            code = CHANGED  # it has done what the manifest or a file says by now, which is another run
        if code != 0:
            self._failed.add(item.name)
        self.tell(f"{item.name}: {'done' if code == 0 else self._reason(item, code)}")
        return []

    def _reason(self, item: Item, code: int) -> str:
        if code == CHANGED:
            return f"not run, because {self.study.path} or a file that it names has changed; start the sweep again"
        said = self.study.found(item).said
        return f"failed: {said.get('why') or f'exit code {code}'}"

    def _stop(self) -> None:
        running = [slot.process for slot in self.slots if slot.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
