"""Signs in a text of how a model reasons: repetition, diversity, reflection, foreign scripts. Pure functions of texts.

Words are runs of letters and digits, or single other characters, in lower case. They are not the model's tokens, so
that models with different tokenizers can be compared.
"""

from __future__ import annotations

import random
import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

from lm_eval_ext.analysis.bleu import self_bleu

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
    return 1000 * len(_reflection().findall(text)) / words if words else None


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
