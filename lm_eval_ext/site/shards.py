"""Samples for the browser: small JavaScript data files, loaded on demand, which also works from disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lm_eval_ext.runs.samples import Sample

QUESTIONS = 25  # per shard
LONGEST = 20_000  # characters shown of a text; the run's samples file has all of it


def write_shards(samples: Sequence[Sample], folder: Path, task: str, run: str) -> int:
    """Write `TASK-0.js`, `TASK-1.js`, ... into a folder; returns their number."""
    folder.mkdir(exist_ok=True)
    number = 0
    for number, shard in enumerate(_parts(samples), 1):
        content = json.dumps(
            [f"{run}/{task}/{number - 1}", shard], ensure_ascii=True, allow_nan=False, separators=(",", ":")
        )
        (folder / f"{task}-{number - 1}.js").write_text(f"lmtts.samples({content});\n", encoding="utf-8")
    return number


def _parts(samples: Sequence[Sample]) -> Iterator[list[dict[str, object]]]:
    for start in range(0, len(samples), QUESTIONS):
        yield [_shown(sample) for sample in samples[start : start + QUESTIONS]]


def _shown(sample: Sample) -> dict[str, object]:
    return {
        "id": sample.id, "hash": sample.hash[:16], "score": sample.score, "prompt": _cut(sample.prompt),
        "gold": _cut(sample.gold), "metrics": sample.metrics,
        "outputs": [[one.grade, _cut(one.answer), _cut(one.text)] for one in sample.outputs],
    }  # fmt: skip


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= LONGEST:
        return text
    head, tail = text[: LONGEST * 3 // 4], text[-LONGEST // 4 :]
    return f"{head}\n[... {len(text) - len(head) - len(tail):,} characters are not shown ...]\n{tail}"
