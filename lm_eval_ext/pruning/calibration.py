"""Calibration texts, which most pruning methods use to score layers: from a file, the Hub, a task or a run."""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.errors import ArgumentError, DatasetError, first_fault
from lm_eval_ext.paths import expanded, is_there, write_whole
from lm_eval_ext.thinking_formats import assistant_ending, assistant_header, detect_format

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


Batches = Iterator[tuple["torch.Tensor", "torch.Tensor"]]  # token ids and attention mask, of shape (batch, length)
ReplyBatches = Iterator[tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]]  # and what counts, of the same shape

EMBEDDED = "embedded"
# Functions of a name and a number of texts, by name because they belong to layers that build on this one.
_SOURCES = {
    "task": "lm_eval_ext.harness.prompts:task_prompts",
    "run": "lm_eval_ext.runs.correct_traces:correct_traces",
}
_TEXTS = Path(__file__).with_name("calibration.txt")


@dataclass(frozen=True)
class HubTexts:
    """Location of texts on the Hub."""

    path: str
    split: str
    field: str
    configuration: str | None = None
    prompt: str = ""  # fields of a conversation, whose reply comes after the thinking in `field`
    reply: str = ""

    def of(self, row: Mapping[str, object]) -> str | Exchange:
        """The text in a row of the dataset."""
        text = str(row[self.field])
        return Exchange(str(row[self.prompt]), str(row[self.reply]), text) if self.prompt else text


# Corpora used for calibration in papers, in versions that load without custom code.
CORPORA = {
    "pg19": HubTexts("emozilla/pg19-test", "test", "text"),
    "bookcorpus": HubTexts("rojagtap/bookcorpus", "train", "text"),
    "wikitext": HubTexts("Salesforce/wikitext", "train", "text", "wikitext-2-raw-v1"),
    "c4": HubTexts("allenai/c4", "validation", "text", "en"),
    "s1k": HubTexts("simplescaling/s1K-1.1", "train", "deepseek_thinking_trajectory"),
    "s1k-chat": HubTexts(
        "simplescaling/s1K-1.1", "train", "deepseek_thinking_trajectory", prompt="question", reply="deepseek_attempt"
    ),
}
_ALLOWED = (
    f"{EMBEDDED}, {', '.join(CORPORA)}, ORG/NAME:SPLIT:FIELD on the Hub, a text file (texts separated by empty lines), "
    "a .jsonl file of prompts and replies, task:NAME, or run:FOLDER"
)
_SHORTEST = 64  # characters; shorter rows are skipped, as WikiText has empty lines and headings between its texts


@dataclass(frozen=True)
class Calibration:
    """Texts and their source."""

    name: str
    texts: tuple[str | Exchange, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 of all texts."""
        texts = (text if isinstance(text, str) else "\1".join(map(str, text)) for text in self.texts)
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def calibration(source: str = EMBEDDED, samples: int = 16) -> Calibration:
    """The first `samples` texts of a source.

    Args:
        source: `embedded`, a corpus from `CORPORA`, `ORG/NAME:SPLIT:FIELD`, a text file, a `.jsonl` file whose lines
            have `prompt` and `reply` (and `thinking` before the reply, or `seen` if the prompt has its chat template
            already), `task:NAME` for the prompts of a task, or `run:FOLDER` for the correct replies in results that
            were saved with `--log_samples`.
        samples: maximum number of texts.

    Raises:
        ArgumentError: the source is unknown or has no texts.
        DatasetError: the dataset cannot be loaded.
    """
    if samples < 1:
        raise ArgumentError(f"samples={samples}: at least one calibration text is needed")
    kind, _, name = source.partition(":")
    texts: Sequence[str | Exchange]
    if kind in _SOURCES:
        found: Callable[[str, int], Sequence[str | Exchange]] = pkgutil.resolve_name(_SOURCES[kind])
        texts = found(name, samples)
    elif source == EMBEDDED:
        texts = _of_file(_TEXTS)
    elif is_there(Path(source)):
        texts = _of_file(Path(source))
    else:
        texts = _of_hub(_hub_texts(source), samples)
    if not texts:
        raise ArgumentError(f"calibration={source}: contains no text")
    return Calibration(source, tuple(texts[:samples]))


def check_source(source: str) -> None:
    """Check that a source of texts is of a known form, and that what it names is here, without reading any.

    Raises:
        ArgumentError: it isn't.
    """
    kind, _, place = source.partition(":")
    if kind == "run" and not is_there(expanded(place), folder=True):
        raise ArgumentError(f"calibration={source}: is no folder of results")
    if kind not in _SOURCES and source != EMBEDDED and not is_there(Path(source)):
        _hub_texts(source)


def write_exchanges(path: Path, exchanges: Sequence[Exchange]) -> None:
    """Write exchanges as a `.jsonl` file, which `calibration` reads."""
    write_whole(path, "".join(f"{json.dumps(one._asdict())}\n" for one in exchanges))


def _of_file(path: Path) -> Sequence[str | Exchange]:
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"calibration={path}: cannot be read as UTF-8 text ({error})") from error
    if path.suffix == ".jsonl":
        lines = [(at, line) for at, line in enumerate(content.split("\n"), 1) if line.strip()]
        return [_exchange(line, f"calibration={path}: line {at}") for at, line in lines]
    return [" ".join(text.split()) for text in content.split("\n\n") if text.strip()]


def _exchange(line: str, place: str) -> Exchange:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Exchange).validate_json(line)
    except ValidationError as error:
        raise ArgumentError(f"{place}: expected a prompt and a reply; {first_fault(error)}") from error


def _hub_texts(source: str) -> HubTexts:
    parts = source.split(":")
    if source in CORPORA:
        return CORPORA[source]
    if len(parts) == 3 and "/" in parts[0] and all(parts):
        return HubTexts(*parts)
    raise ArgumentError(f"unknown calibration {source!r}; expected one of: {_ALLOWED}")


def _of_hub(where: HubTexts, samples: int) -> list[str | Exchange]:
    from datasets import load_dataset

    try:
        rows = load_dataset(where.path, where.configuration, split=where.split, streaming=True)
        found = (where.of(row) for row in rows if len(str(row[where.field])) >= _SHORTEST)
        return list(islice(found, samples))
    except KeyError as error:
        raise ArgumentError(f"calibration: {where.path} has no field {error.args[0]!r}") from error
    except Exception as error:  # whatever is wrong with a dataset or the network
        reason = " ".join(str(error).split())
        raise DatasetError(f"calibration: {where.path} ({where.split}) cannot be loaded: {reason}") from error


def token_rows(texts: Sequence[str | Exchange], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> list[TokenRow]:
    """Token ids of the texts, cut to `max_tokens`; texts with fewer than two tokens are left out.

    Raises:
        ArgumentError: no text is left, or `max_tokens` is below 2.
    """
    if max_tokens < 2:
        raise ArgumentError(f"max_tokens={max_tokens}: at least 2 tokens per text are needed")
    rows = [encoded(text, tokenizer, max_tokens) for text in texts]
    if not any(len(row.ids) > 1 for row in rows):
        raise ArgumentError(
            f"calibration: none of the {len(texts)} texts has at least two tokens; the first is {texts[0]!r:.60}"
        )
    return [row for row in rows if len(row.ids) > 1]


def with_replies(rows: Sequence[TokenRow], max_tokens: int) -> list[TokenRow]:
    """The rows in which a reply begins.

    Raises:
        ArgumentError: in none, one does.
    """
    found = [row for row in rows if len(row.ids) > row.start]
    if not found:
        raise ArgumentError(f"max_tokens={max_tokens}: no reply begins before; give more than its prompt has")
    return found


def token_batches(rows: Sequence[TokenRow], batch_size: int, device: torch.device | str | None = None) -> Batches:
    """The rows in batches, padded on the right."""
    for ids, mask, _ in reply_batches(rows, batch_size, device):
        yield ids, mask


def reply_batches(rows: Sequence[TokenRow], batch_size: int, device: torch.device | str | None = None) -> ReplyBatches:
    """The same, and a mask of the tokens that a model would write."""
    import torch

    for first in range(0, len(rows), batch_size):
        group = rows[first : first + batch_size]
        width = max(len(row.ids) for row in group)
        ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in group], device=device)
        places = torch.arange(width, device=ids.device)
        lengths, starts = torch.tensor([(len(row.ids), row.start) for row in group], device=ids.device).T[..., None]
        yield ids, (places < lengths).long(), ((places >= starts) & (places < lengths)).long()


class Exchange(NamedTuple):
    """A prompt, with or without the chat template, and what a model has replied.

    Attributes:
        prompt: the prompt.
        reply: the reply, with the model's own markers of thinking if it has any.
        thinking: a trace before the reply, to be put between the markers of whichever model reads it.
        seen: whether the prompt is as the model has seen it, so that no chat template is applied.
    """

    prompt: str
    reply: str
    thinking: str = ""
    seen: bool = False


class TokenRow(NamedTuple):
    """A text as token ids, and the place of the first token that a model would write: 1 or later."""

    ids: list[int]
    start: int


def encoded(text: str | Exchange, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> TokenRow:
    """Encode a text, or an exchange as the model sees and writes it, to the end of its turn; cut to `max_tokens`."""
    if isinstance(text, str):
        return TokenRow(tokenizer.encode(text)[:max_tokens], 1)
    text = _with_markers(text, tokenizer)
    prompt = _opened(text.prompt if text.seen else _templated(text.prompt, tokenizer), text.reply, tokenizer)
    begun = bool(tokenizer.bos_token) and prompt.startswith(str(tokenizer.bos_token))
    before = tokenizer.encode(prompt, add_special_tokens=not begun)
    reply = tokenizer.encode(text.reply, add_special_tokens=False)
    return TokenRow([*before, *reply, *_ending(tokenizer)][:max_tokens], max(1, len(before)))


def _with_markers(exchange: Exchange, tokenizer: PreTrainedTokenizerBase) -> Exchange:
    """The exchange with its trace in the reply."""
    if not exchange.thinking:
        return exchange
    marks = detect_format(tokenizer)
    ended = f"{exchange.thinking}{marks.end}" if marks.separates else f"{exchange.thinking}\n\n"
    return exchange._replace(reply=ended + exchange.reply, thinking="")


def _templated(prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt with the chat template, unless it has it already."""
    if not tokenizer.chat_template:
        return prompt

    def templated(text: str) -> str:
        turns = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    header = assistant_header(templated).strip()
    return prompt if header and header in prompt else templated(prompt)


def _ending(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What ends a reply: the token that the chat template puts after it, else the one that ends a text, if any."""
    ids: list[int] = tokenizer.encode(assistant_ending(tokenizer).strip(), add_special_tokens=False)
    ends = [token for token in ids if token in tokenizer.added_tokens_decoder]
    return (ends or [token for token in [tokenizer.eos_token_id] if token is not None])[:1]


def _opened(prompt: str, reply: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt with the start of thinking, if the reply ends a thinking that neither of them has started."""
    marks = detect_format(tokenizer)
    start = marks.start.strip()
    ended = any(end.strip() in reply for end in marks.ends)
    opened = not start or start in reply or prompt.rstrip().endswith(start)
    return prompt if opened or not ended else prompt + marks.start
