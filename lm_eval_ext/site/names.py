"""One vocabulary for all pages and data files: names of models, of what was done to them, and of measures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.grading.metrics import score_named
from lm_eval_ext.runs.run import Run

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"

# Measures by their names in results, as pages and data files call them.
MEASURES: Mapping[str, str] = {
    "acc": "accuracy",
    "answered": "answered",
    "graded": "comparable answers",
    "thinking_tokens": "thinking tokens",
    "answer_tokens": "answer tokens",
    "forced": "forced",
    "looped": "repeating",
    "pass@k": "pass@k",
    "maj@k": "maj@k",
    "g-pass@k_t": "G-pass@k",
}
_SHORT = 20  # characters
_BITS = {"load_in_4bit": 4, "load_in_8bit": 8}


def measure(name: str) -> str:
    """What a measure is called.

    >>> measure("looped"), measure("maj@8")
    ('repeating', 'maj@8')
    """
    known = score_named(name)
    return MEASURES.get(known.name, name) if known and "@" not in known.name else name


class ModelName(NamedTuple):
    """Name of a model among those of its base.

    Attributes:
        done: what was done to the base, such as `-2 layers`; `base` for the base itself.
        method: how it was done, such as `shortgpt + recovered`.
        more: what tells it from another model of the same name.
    """

    done: str
    method: str = ""
    more: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in self if part)

    @property
    def short(self) -> str:
        """For the end of a line: `-2 shortgpt`."""
        text = str(self).replace(" layers", "").replace(" layer", "")
        return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def names_of(entries: Iterable[Entry]) -> dict[str, ModelName]:
    """Names by key of the entry; entries of one base have different ones."""
    every = list(entries)
    plain = {entry.key: name_of(entry.latest) for entry in every}
    count = Counter((entry.base, plain[entry.key]) for entry in every)
    return {
        entry.key: plain[entry.key]
        if count[entry.base, plain[entry.key]] == 1
        else plain[entry.key]._replace(more=_detail(entry.latest))
        for entry in every
    }


def name_of(run: Run) -> ModelName:
    """Name of a run's model."""
    if run.dense:
        return ModelName("base")
    pruning, count = run.pruning, len(run.dropped)
    done = [f"{MINUS}{count} {'layer' if count == 1 else 'layers'}"] if count else []
    bits = bits_of(run)
    done += [f"{bits} bits"] if bits else []
    how = [pruning.method] if pruning and count else []
    how += ["recovered"] if pruning and pruning.recovered else []
    others = _without_bits(run.variation) if bits else run.variation
    if not done:
        return ModelName(others or " + ".join(how), "" if not others else " + ".join(how))
    return ModelName(", ".join(done), ", ".join(part for part in (" + ".join(how), others) if part))


def bits_of(run: Run) -> int | None:
    """Bits of a weight, if the model was quantized while loading."""
    return next((bits for name, bits in _BITS.items() if re.search(rf"\b{name}=(true|1)\b", run.variation, re.I)), None)


def _without_bits(variation: str) -> str:
    parts = [part for part in variation.split(", ") if part.partition("=")[0] not in _BITS]
    return ", ".join(parts)


def _detail(run: Run) -> str:
    parts = [layers(run.dropped), run.revision, run.pruning.recipe_hash[:6] if run.pruning else "", run.fingerprint[:6]]
    return f"({', '.join(part for part in parts if part)})"


def short_base(base: str) -> str:
    """A base model's name without its organisation."""
    return base.rstrip("/").split("/")[-1]


def layers(numbers: Sequence[int]) -> str:
    """Layers in few characters.

    >>> layers([3, 25, 26, 27])
    '3, 25-27'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def tone(run: Run) -> str:
    """The CSS colour of a model's lines: how much was taken away, and nothing else."""
    if not run.dropped:
        return "ink" if run.dense else "bits"
    return ("one", "two", "three")[min(len(run.dropped), 3) - 1]


def slug(text: str) -> str:
    """A part of a file name.

    >>> slug("Org/Model 8B")
    'org-model-8b'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"
