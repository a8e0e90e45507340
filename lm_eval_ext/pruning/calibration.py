"""Calibration texts, which most pruning methods use to score layers: embedded, from a text file or from the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArgumentError, DatasetError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Batches = Iterator[tuple["torch.Tensor", "torch.Tensor"]]  # token ids and attention mask, of shape (batch, length)

EMBEDDED = "embedded"
_TEXTS = Path(__file__).with_name("calibration.txt")


@dataclass(frozen=True)
class HubTexts:
    """Location of texts on the Hub."""

    path: str
    split: str
    field: str
    configuration: str | None = None


# Corpora used for calibration in papers, in versions that load without custom code.
CORPORA = {
    "pg19": HubTexts("emozilla/pg19-test", "test", "text"),
    "bookcorpus": HubTexts("rojagtap/bookcorpus", "train", "text"),
    "wikitext": HubTexts("Salesforce/wikitext", "train", "text", "wikitext-2-raw-v1"),
    "c4": HubTexts("allenai/c4", "validation", "text", "en"),
    "s1k": HubTexts("simplescaling/s1K-1.1", "train", "deepseek_thinking_trajectory"),
}
_ALLOWED = (
    f"{EMBEDDED}, {', '.join(CORPORA)}, ORG/NAME:SPLIT:FIELD on the Hub, a text file (texts separated by empty lines), "
    "or task:NAME"
)
_SHORTEST = 64  # characters; shorter rows are skipped, as WikiText has empty lines and headings between its texts


@dataclass(frozen=True)
class Calibration:
    """Texts and their source."""

    name: str
    texts: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 of all texts."""
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()


def calibration(
    source: str = EMBEDDED, samples: int = 16, task_prompts: Callable[[str, int], list[str]] | None = None
) -> Calibration:
    """The first `samples` texts of a source.

    Args:
        source: `embedded`, a corpus from `CORPORA`, `ORG/NAME:SPLIT:FIELD`, a text file, or `task:NAME`.
        samples: maximum number of texts.
        task_prompts: returns the first prompts of a task, given its name and a number.

    Raises:
        ArgumentError: the source is unknown or has no texts.
        DatasetError: the dataset cannot be loaded.
    """
    if samples < 1:
        raise ArgumentError(f"samples={samples}: at least one calibration text is needed")
    if source.startswith("task:") and task_prompts is not None:
        texts = task_prompts(source.removeprefix("task:"), samples)
    elif source == EMBEDDED:
        texts = _of_file(_TEXTS)
    elif Path(source).is_file():
        texts = _of_file(Path(source))
    else:
        texts = _of_hub(_hub_texts(source), samples)
    if not texts:
        raise ArgumentError(f"calibration={source}: contains no text")
    return Calibration(source, tuple(texts[:samples]))


def _of_file(path: Path) -> list[str]:
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"calibration={path}: cannot be read as UTF-8 text ({error})") from error
    return [" ".join(text.split()) for text in content.split("\n\n") if text.strip()]


def _hub_texts(source: str) -> HubTexts:
    parts = source.split(":")
    if source in CORPORA:
        return CORPORA[source]
    if len(parts) == 3 and "/" in parts[0] and all(parts):
        return HubTexts(*parts)
    raise ArgumentError(f"unknown calibration {source!r}; expected one of: {_ALLOWED}")


def _of_hub(where: HubTexts, samples: int) -> list[str]:
    from datasets import load_dataset

    try:
        rows = load_dataset(where.path, where.configuration, split=where.split, streaming=True)
        texts = (str(row[where.field]) for row in rows)
        return list(islice((text for text in texts if len(text) >= _SHORTEST), samples))
    except KeyError as error:
        raise ArgumentError(f"calibration: {where.path} has no field {where.field!r}") from error
    except Exception as error:  # whatever is wrong with a dataset or the network
        reason = " ".join(str(error).split())
        raise DatasetError(f"calibration: {where.path} ({where.split}) cannot be loaded: {reason}") from error


def token_rows(texts: tuple[str, ...], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> list[list[int]]:
    """Token ids of the texts, cut to `max_tokens`; texts with fewer than two tokens are left out.

    Raises:
        ArgumentError: no text is left, or `max_tokens` is below 2.
    """
    if max_tokens < 2:
        raise ArgumentError(f"max_tokens={max_tokens}: at least 2 tokens per text are needed")
    rows = [tokenizer.encode(text)[:max_tokens] for text in texts]
    if not any(len(row) > 1 for row in rows):
        raise ArgumentError(
            f"calibration: none of the {len(texts)} texts has at least two tokens; the first is {texts[0]!r:.60}"
        )
    return [row for row in rows if len(row) > 1]


def token_batches(rows: list[list[int]], batch_size: int, device: torch.device | str | None = None) -> Batches:
    """The rows in batches, padded on the right."""
    import torch

    for start in range(0, len(rows), batch_size):
        group = rows[start : start + batch_size]
        width = max(map(len, group))
        ids = [row + [0] * (width - len(row)) for row in group]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in group]
        yield torch.tensor(ids, device=device), torch.tensor(mask, device=device)
