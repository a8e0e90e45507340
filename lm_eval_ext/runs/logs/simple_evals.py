"""Summaries of OpenAI's simple-evals: `EVAL_MODEL_DATE.json`, and `..._allresults.json` with the conversations.

Source: openai/simple-evals ee3b031 (`simple_evals.py`, `common.py`). Questions have no id, options are shuffled anew
for every sample, and scores of single samples are only in HTML; so only the mean is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.redaction import mapping, number, sequence
from lm_eval_ext.runs.logs.log import Evaluation, Log, share, utc

_NAME = re.compile(r"(?P<eval>[^_]+)_(?P<model>.+)_(?P<day>\d{8})_(?P<time>\d{6})(?:_allresults|_DEBUG)*")


def read(path: Path, content: Mapping[str, object]) -> Log:
    """The log in either file; what was evaluated is only in its name.

    Raises:
        ResultsError: names the file and the field.
    """
    found = _NAME.fullmatch(path.stem)
    if found is None:
        raise ResultsError(f"{path}: expected a name such as gpqa_MODEL_20261127_143000.json, which says what it is of")
    score, samples = share(content.get("score"), f"{path}: score"), len(sequence(content.get("convos")))
    deviation = number(mapping(content.get("metrics")).get("score:std", content.get("score:std")))
    stderr = deviation / samples**0.5 if deviation is not None and samples else None
    moment = f"{found['day']}T{found['time']}"
    return Log(
        "simple-evals", "", found["model"], utc(moment),
        [Evaluation(found["eval"], "score", score, stderr, max(1, samples))],
    )  # fmt: skip
