"""Runs a study on a Ray cluster: one run after another, whose replicas fill it."""

from __future__ import annotations

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.sweep.launchers import Launcher, Tell
from lm_eval_ext.sweep.local import LocalLauncher, Slot
from lm_eval_ext.sweep.study import Study


def ray_launcher(study: Study, jobs: int | None, tell: Tell) -> Launcher:
    """A launcher that runs in this process, and loads models on the cluster.

    Raises:
        ManifestError: several runs at once are asked for.
    """
    if jobs is not None:
        raise ManifestError("--jobs: with --launch ray, runs follow one another, because each fills the cluster")
    where = f"ray_address={study.manifest.launch.ray.address}"
    return LocalLauncher(study, [Slot()], tell, (where, "data_parallel_size=auto"))
