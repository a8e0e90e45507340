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

# The longest first: `healthbench_hard` is not the model `hard` on `healthbench`.
_EVALS = (
    "healthbench_consensus", "healthbench_hard", "healthbench_meta", "healthbench", "humaneval", "simpleqa",
    "browsecomp", "math_500", "math", "gpqa", "mmlu", "mgsm", "drop",
)  # fmt: skip
_NAME = re.compile(rf"(?P<eval>{'|'.join(_EVALS)})_(?P<model>.+)_(?P<day>\d{{8}})_(?P<time>\d{{6}})(?:_allresults)?")


def read(path: Path, content: Mapping[str, object]) -> Log:
    """The log in either file; what was evaluated is only in its name.

    Raises:
        ResultsError: names the file and the field.
    """
    found = _NAME.fullmatch(path.stem)
    if found is None:
        raise ResultsError(
            f"{path}: expected a name such as gpqa_MODEL_20261127_143000.json, which says what it is of; a run for "
            "debugging is no result"
        )
    score, asked = (
        share(content.get("score"), f"{path}: score"),
        [_asked(one) for one in sequence(content.get("convos"))],
    )
    distinct = len(set(asked))
    repeats = len(asked) // distinct if asked and len(asked) % distinct == 0 else 1
    shuffled = found["eval"] == "gpqa"  # so that the same question has other texts
    deviation = number(mapping(content.get("metrics")).get("score:std", content.get("score:std")))
    stderr = deviation / distinct**0.5 if deviation is not None and distinct and not shuffled else None
    moment = f"{found['day']}T{found['time']}"
    count = None if shuffled or not asked else distinct
    return Log(
        "simple-evals", "", found["model"], utc(moment),
        [Evaluation(found["eval"], "score", score, stderr, count, repeats)],
    )  # fmt: skip


def _asked(conversation: object) -> str:
    """The first message of a conversation."""
    return str(mapping(next(iter(sequence(conversation)), None)).get("content"))
