"""Multiple choice: four choices, in an order that depends only on the record."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import Dataset

LETTERS = "ABCD"


@usable_from_yaml
def shuffled(dataset: Dataset) -> Dataset:
    """Add `choices` (a list of four texts) and `letter` (that of the correct choice) to GPQA's records.

    Choices are sorted by a hash of record and choice, so the order never depends on a seed or on other records.
    """
    return dataset.map(_with_choices)


def _with_choices(record: dict[str, object]) -> dict[str, object]:
    right = str(record["Correct Answer"]).strip()
    texts = [right, *(str(record[f"Incorrect Answer {number}"]).strip() for number in (1, 2, 3))]
    ordered = sorted(texts, key=lambda text: _digest(str(record.get("Record ID") or record["Question"]), text))
    return {"choices": ordered, "letter": LETTERS[ordered.index(right)]}


def _digest(record: str, text: str) -> bytes:
    return hashlib.sha256(f"{record}\n{text}".encode()).digest()
