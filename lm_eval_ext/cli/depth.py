"""`lm-eval-tts depth`: at which depth a model breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def depth(
    runs: Annotated[list[Path], typer.Argument(help="Results folders of one model each, or published runs.")],
) -> None:
    """Show accuracy by number of steps, the half-life, and where written chains first go wrong."""
    from tqdm import tqdm

    from lm_eval_ext.analysis.depth import COLUMN, depths
    from lm_eval_ext.analysis.evaluated import read_model
    from lm_eval_ext.errors import ResultsError
    from lm_eval_ext.runs.catalogue import read_catalogue

    models = [read_model(path, read_catalogue()) for path in runs]
    tasks = [task for model in models for task in model.tasks.values() if COLUMN in task.result.parts]
    if not tasks:
        raise ResultsError("no task with a number of steps; expected results of tts_depth or tts_chain with samples")
    with tqdm(total=sum(len(task.scores) for task in tasks), desc="Questions", disable=None) as bar:
        found = [depths(model, bar.update) for model in models]
    print("\n\n".join(map(str, found)))
