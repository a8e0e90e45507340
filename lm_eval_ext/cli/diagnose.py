"""`lm-eval-tts diagnose`: what traces look like, from samples alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def diagnose(
    runs: Annotated[list[Path], typer.Argument(help="Results folders of one model each, or published runs.")],
) -> None:
    """Measure signs of repetition, diversity and reflection in the traces of runs, from their samples alone."""
    from tqdm import tqdm

    from lm_eval_ext.analysis.diagnosis import diagnose as diagnosed
    from lm_eval_ext.analysis.evaluated import read_model
    from lm_eval_ext.runs.catalogue import read_catalogue

    models = [read_model(path, read_catalogue()) for path in runs]
    questions = sum(len(task.scores) * len(task.sources) for model in models for task in model.tasks.values())
    with tqdm(total=questions, desc="Questions", disable=None) as bar:
        found = [diagnosed(model, bar.update) for model in models]
    print("\n\n".join(map(str, found)))
