"""Diagnosis of a run from its samples alone: no model, no judge.

Signs in a text of how a model reasons: repetition, diversity, reflection, foreign scripts. Pure functions of texts.

Words are runs of letters and digits, or single other characters, in lower case. They are not the model's tokens, so
that models with different tokenizers can be compared.

Self-BLEU: how much texts of one set resemble each other. Every n-gram is counted once, whatever the set's size.

Sources: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; for self-BLEU, Zhu et
al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models" (arXiv 1802.01886). Smoothing, effective order
and the length of the closest reference are those of sacrebleu's `sentence_bleu` (Post 2018, arXiv 1804.08771).
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lm_eval_ext.analysis.evaluated import EvaluatedModel
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.thinking_formats import thinking_of
from lm_eval_ext.wording import text_table

if TYPE_CHECKING:
    import pandas


# Name: what it says.
SIGNS: Mapping[str, str] = {
    "words": "words per trace",
    "self_bleu": "self-BLEU over up to 20 sentences of a trace",
    "self_bleu_samples": "self-BLEU over the samples of a question",
    "distinct_1": "distinct words, as a share of all",
    "distinct_2": "distinct pairs of words, as a share of all",
    "distinct_3": "distinct triples of words, as a share of all",
    "compression": "compression ratio by zlib",
    "repeated": "share of words in a run of 20 that occurred before",
    "repeated_steps": "share of sentences that repeat an earlier one",
    "reflections": "marks of reflection per 1,000 words",
    "foreign": "share of letters in scripts that the prompt does not use",
}


@dataclass(frozen=True)
class Diagnosis:
    """Signs in a model's traces: means over questions, by task."""

    model: str
    tasks: Mapping[str, Mapping[str, float | None]]
    left_out: Sequence[str] = ()

    def to_frame(self) -> pandas.DataFrame:
        """One row per task, one column per sign."""
        import pandas

        return pandas.DataFrame([{"model": self.model, "task": task, **found} for task, found in self.tasks.items()])

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))

    def __str__(self) -> str:
        names = list(self.tasks)
        rows = [
            (SIGNS[sign], *("-" if (value := self.tasks[name][sign]) is None else f"{value:.3f}" for name in names))
            for sign in SIGNS
        ]
        notes = [
            f"{task}: no texts were saved, because it is gated or does not generate text" for task in self.left_out
        ]
        return "\n".join([self.model, text_table(("sign", *names), rows), *notes])


def diagnose(model: EvaluatedModel, on_question: Callable[[], object] = lambda: None) -> Diagnosis:
    """Measure the signs of all tasks with texts.

    Args:
        model: the evaluated model.
        on_question: called after each question.
    """
    tasks: dict[str, Mapping[str, float | None]] = {}
    left_out = []
    for name, task in model.tasks.items():
        rows = [(row, source.run.thinking_format) for source in task.sources for row in source.samples(task.task)]
        if not any(output.text for row, _ in rows for output in row.outputs):
            left_out.append(name)
            continue
        found = []
        for row, thinking_format in rows:
            found.append(of_question(row, thinking_format))
            on_question()
        tasks[name] = {sign: _mean(one[sign] for one in found) for sign in SIGNS}
    return Diagnosis(model.label, tasks, left_out)


def of_question(row: Sample, thinking_format: str = "") -> dict[str, float | None]:
    """Signs of a question: means over its samples."""
    texts = [thinking_of(output.text, thinking_format) for output in row.outputs if output.text]
    traces = [of_trace(text, row.prompt or "") for text in texts]
    found = {sign: _mean(trace[sign] for trace in traces) for sign in SIGNS if sign != "self_bleu_samples"}
    return found | {"self_bleu_samples": self_bleu([words_of(text) for text in texts])}


def of_trace(text: str, prompt: str) -> dict[str, float | None]:
    """Signs of one trace."""
    words = words_of(text)
    return {
        "words": float(len(words)),
        "self_bleu": self_bleu_of_sentences(text),
        **{f"distinct_{order}": distinct(words, order) for order in (1, 2, 3)},
        "compression": compression_ratio(text),
        "repeated": repeated_share(words),
        "repeated_steps": repeated_steps(text),
        "reflections": reflections(text, len(words)),
        "foreign": foreign_letters(text, prompt),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


_WORD = re.compile(r"\w+|[^\w\s]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[\u3002\uff01\uff1f])")
_SENTENCES = 20  # compared with each other
_REPEATED = 20  # words in a row that occurred before in the same order
_OF_FORMULAS = frozenset({"LATIN", "GREEK", "MATHEMATICAL"})  # scripts that formulas use in any language


def words_of(text: str) -> list[str]:
    """Words and punctuation marks.

    >>> words_of("Wait, 2+2=4.")
    ['wait', ',', '2', '+', '2', '=', '4', '.']
    """
    return _WORD.findall(text.lower())


def sentences_of(text: str) -> list[str]:
    """Sentences or lines, without surrounding spaces.

    >>> sentences_of("One. Two!\\nThree")
    ['One.', 'Two!', 'Three']
    """
    return [part.strip() for part in _SENTENCE.split(text) if part.strip()]


def self_bleu_of_sentences(text: str, seed: int = 0) -> float | None:
    """Self-BLEU over the sentences of a text, at most 20 of them, drawn by a fixed seed; None with fewer than two."""
    sentences = [words_of(sentence) for sentence in sentences_of(text)]
    if len(sentences) > _SENTENCES:
        sentences = random.Random(seed).sample(sentences, _SENTENCES)
    return self_bleu(sentences)


def distinct(words: Sequence[str], order: int) -> float | None:
    """Distinct n-grams as a share of all; None if there are none.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models" (arXiv
    1510.03055).

    >>> distinct(["a", "b", "a", "b"], 2)
    0.6666666666666666
    """
    grams = list(zip(*(words[start:] for start in range(order)), strict=False))
    return len(set(grams)) / len(grams) if grams else None


def compression_ratio(text: str) -> float | None:
    """Bytes of a text over its bytes after zlib; larger if it repeats itself. None for an empty text.

    Source: Shaib et al. 2024, "Standardizing the Measurement of Text Diversity" (arXiv 2403.00553).
    """
    raw = text.encode("utf-8", "replace")
    return len(raw) / len(zlib.compress(raw)) if raw else None


def repeated_share(words: Sequence[str]) -> float:
    """Share of words inside a run of 20 words that occurred before in the same text.

    >>> repeated_share(["a"] * 10), repeated_share([str(number) for number in range(30)] * 2)
    (0.0, 0.5)
    """
    seen: set[tuple[str, ...]] = set()
    covered, reached = 0, 0
    for start in range(len(words) - _REPEATED + 1):
        run = tuple(words[start : start + _REPEATED])
        if run in seen:
            covered += start + _REPEATED - max(start, reached)
            reached = start + _REPEATED
        seen.add(run)
    return covered / len(words) if words else 0.0


def repeated_steps(text: str) -> float | None:
    """Share of sentences that equal an earlier one, whatever their case and spaces; None for an empty text."""
    steps = [" ".join(words_of(sentence)) for sentence in sentences_of(text)]
    return 1 - len(set(steps)) / len(steps) if steps else None


def reflections(text: str, words: int) -> float | None:
    """Marks of reflection per 1,000 words, of all languages in `reflection.yaml`; None for an empty text.

    >>> reflections("Wait, that is 5. But no: let me check.", 10)
    300.0
    """
    return 1000 * len(reflection_places(text)) / words if words else None


def reflection_places(text: str) -> list[int]:
    """Where marks of reflection begin in a text.

    >>> reflection_places("Wait, that is 5. But no: let me check.")
    [0, 17, 25]
    """
    return [found.start() for found in _reflection().finditer(text)]


@cache
def _reflection() -> re.Pattern[str]:
    table = yaml.safe_load(Path(__file__).with_name("reflection.yaml").read_text("utf-8"))
    spaced = sorted((mark for name, marks in table.items() if name not in ("zh", "ja") for mark in marks), key=len)
    joined = sorted((mark for name in ("zh", "ja") for mark in table[name]), key=len)
    words = "|".join(map(re.escape, reversed(spaced)))
    return re.compile(rf"\b(?:{words})\b|{'|'.join(map(re.escape, reversed(joined)))}", re.IGNORECASE)


def foreign_letters(text: str, prompt: str) -> float | None:
    """Share of letters in scripts that the prompt does not use; Latin and Greek never count. None without letters.

    >>> foreign_letters("答案 is 4", "What is 2+2?")
    0.5
    """
    known = _OF_FORMULAS | {_script(letter) for letter in set(prompt)}
    letters = [letter for letter in text if letter.isalpha()]
    return sum(_script(letter) not in known for letter in letters) / len(letters) if letters else None


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


_ORDER = 4

Words = Sequence[str]
Grams = Counter[tuple[str, ...]]


def self_bleu(texts: Sequence[Words]) -> float | None:
    """Mean BLEU, from 0 to 1, of each text against all the others; None for fewer than two texts with words.

    >>> self_bleu([["a", "b", "c", "d"], ["a", "b", "c", "d"]])
    1.0
    """
    texts = [text for text in texts if text]
    if len(texts) < 2:
        return None
    counted = [[_grams(text, order) for order in range(1, _ORDER + 1)] for text in texts]
    most = [_two_most([grams[order] for grams in counted]) for order in range(_ORDER)]
    lengths = sorted(map(len, texts))
    scores = [
        _bleu([_matches(grams[order], most[order]) for order in range(_ORDER)], len(text), _closest(lengths, len(text)))
        for text, grams in zip(texts, counted, strict=True)
    ]
    return sum(scores) / len(scores)


def _grams(words: Words, order: int) -> Grams:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _two_most(counts: Sequence[Grams]) -> Mapping[tuple[str, ...], tuple[int, int]]:
    """For each n-gram, its two largest counts: the largest in the *other* texts is one of them."""
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for grams in counts:
        for gram, count in grams.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (count, first) if count > first else (first, max(second, count))
    return found


def _matches(grams: Grams, most: Mapping[tuple[str, ...], tuple[int, int]]) -> int:
    """N-grams that some other text has, too, each at most as often as there."""
    total = 0
    for gram, count in grams.items():
        first, second = most[gram]
        total += min(count, second if count == first else first)
    return total


def _closest(lengths: Sequence[int], length: int) -> int:
    """The length closest to that of a text among the others; the shorter of two that are as close."""
    others = list(lengths)
    others.remove(length)
    return min(others, key=lambda other: (abs(other - length), other))


def _bleu(correct: Sequence[int], length: int, reference: int) -> float:
    if not any(correct):
        return 0.0
    smoothing, logs = 1.0, []
    for order, right in enumerate(correct):
        total = length - order
        if total <= 0:
            break
        if right == 0:
            smoothing *= 2
        logs.append(math.log(right / total if right else 1 / (smoothing * total)))
    brevity = min(0.0, 1 - reference / length)
    return math.exp(brevity + sum(logs) / len(logs))
