"""Renders the templates in `leaderboard/templates/`."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.analysis.board import Board, Entry
from lm_eval_ext.metrics import score_named
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.runs.run import Pruning, Run, TaskResult, told
from lm_eval_ext.site import figures
from lm_eval_ext.site.figures import Mark
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.wording import ranges, short_name

if TYPE_CHECKING:
    from markupsafe import Markup


NAVIGATION = (
    ("index.html", "Overview"),
    ("budgets.html", "Budgets"),
    ("votes.html", "Votes"),
    ("depth.html", "Layers"),
    ("parts.html", "Parts"),
    ("cost.html", "Cost"),
    ("found.html", "Found, then lost"),
    ("questions.html", "Questions"),
    ("compare.html", "Compare"),
    ("published.html", "As published"),
    ("paper.html", "The paper"),
    ("about.html", "About"),
)
STUDIES = ("studies.html", "Studies")  # only where there are any
_MOST = 1.07  # of the base, at the right end of the scale of what is kept


class Renderer:
    """Writes pages below a folder.

    Args:
        out: the folder.
        board: all models.
        names: of bases and models.
        values: what every page can use.
    """

    def __init__(self, out: Path, board: Board, names: Names, **values: object) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self.out = out
        environment = Environment(
            loader=FileSystemLoader(LEADERBOARD / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        environment.filters |= {**_FILTERS, "called": names.base, "full_name": names.full}
        environment.globals |= {
            "board": board, "catalogue": board.catalogue, "title": board.title, **values
        }  # fmt: skip
        self._environment = environment

    def write(self, template: str, path: str, **values: object) -> None:
        """Write a page.

        Args:
            template: name of the template.
            path: of the page, from the site's first folder.
            values: what the template uses.
        """
        section = template if "/" not in path else ""
        text = self._environment.get_template(template).render(root="../" * path.count("/"), section=section, **values)
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return "" if value is None else f"{100 * value:.{digits}f}"


def count(value: float | None) -> str:
    """A number in few characters.

    >>> count(7.6e9), count(1234), count(12.5)
    ('7.6B', '1,234', '12.5')
    """
    if value is None:
        return ""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def span(interval: Interval) -> str:
    """An interval in percent: `42–48`, with a decimal if it is narrow."""
    digits = 0 if interval.high - interval.low > 0.05 else 1
    return f"{percent(interval.low, digits)}–{percent(interval.high, digits)}"


def _place(value: float) -> str:
    """Where a share of the base is on the scale of what is kept."""
    return f"{1 + 92 * min(value, _MOST):.2f}%"


def _drawings(panel: figures.Panel) -> Markup:
    from markupsafe import Markup

    return Markup(figures.drawings(panel))  # escapes its texts itself


def _sample_mark(mark: Mark) -> Markup:
    from markupsafe import Markup

    return Markup(mark.drawn([(18, 6)]))


def tone(run: Run) -> str:
    """The CSS colour of a model's lines: how much was taken away, and nothing else."""
    if not run.dropped:
        return "ink" if run.dense else "bits"
    return ("one", "two", "three")[min(len(run.dropped), 3) - 1]


_FILTERS = {
    "percent": percent,
    "count": count,
    "span": span,
    "layers": ranges,
    "tone": tone,
    "whole_percent": lambda value: "" if value is None else f"{100 * value:.0f}%",
    "whole_span": lambda interval: f"{percent(interval.low, 0)}–{percent(interval.high, 0)}",
    "blank": lambda value: "" if value is None else value,
    "exactly": lambda value: Interval(value, value, value),
    "place": _place,
    "kept_length": lambda value: f"{92 * min(value, _MOST):.2f}%",
    "kept_width": lambda interval: f"{92 * max(0.0, min(interval.high, _MOST) - interval.low):.2f}%",
    "drawings": _drawings,
    "sample_mark": _sample_mark,
}


MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"

# Measures by their names in results, as pages and data files call them.
MEASURES: Mapping[str, str] = {
    "acc": "accuracy",
    "answered": "answered",
    "graded": "comparable answers",
    "cells": "right cells",
    "tests": "tests passed",
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


@dataclass(frozen=True)
class Names:
    """Names of all bases and models of a board.

    Attributes:
        bases: what each base is called: the last part of its name, or all of it where another ends alike.
        models: of each model among those of its base, by key of the entry; different ones for different models.
    """

    bases: Mapping[str, str]
    models: Mapping[str, ModelName]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Names:
        """The names of some entries."""
        every = list(entries)
        bases = list(dict.fromkeys(entry.base for entry in every))
        endings = Counter(map(short_name, bases))
        alike: dict[tuple[str, ModelName], list[Entry]] = {}
        for entry in every:
            alike.setdefault((entry.base, name_of(entry.latest)), []).append(entry)
        models: dict[str, ModelName] = {}
        for (_, name), some in alike.items():
            details = _details([entry.latest for entry in some]) if len(some) > 1 else [""]
            models |= {
                one.key: name._replace(more=" ".join(filter(None, (name.more, more))))
                for one, more in zip(some, details, strict=True)
            }
        return cls({base: base if endings[short_name(base)] > 1 else short_name(base) for base in bases}, models)

    def base(self, base: str) -> str:
        """What a base is called."""
        return self.bases.get(base) or short_name(base)

    def full(self, entry: Entry) -> str:
        """What a model is called among all."""
        name = self.models[entry.key]
        parts = (self.base(entry.base), name.more) if entry.dense else (self.base(entry.base), str(name))
        return " ".join(part for part in parts if part)

    def __getitem__(self, key: str) -> ModelName:
        return self.models[key]


def name_of(run: Run) -> ModelName:
    """Name of a run's model."""
    if run.dense:
        return ModelName("base", more=f"by {run.tool}" if run.tool else "")
    pruning = run.pruning
    done = _taken(pruning) if pruning else []
    how = [pruning.method] if pruning and done else []
    bits = bits_of(run)
    done += [f"{bits:g} bits"] if bits else []
    done += [pruning.relation] if pruning and pruning.relation and not done else []
    how += [pruning.quantization] if pruning and pruning.quantization else []
    how += ["recovered"] if pruning and pruning.recovered else []
    changed = {name: value for name, value in run.changed.items() if not (bits and name in _BITS)}
    checkpoint = str(changed.pop("checkpoint", "")).rpartition("/")[2]
    others = ", ".join(part for part in (checkpoint, told(changed), run.control) if part)
    if not done:
        return ModelName(others or " + ".join(how), "" if not others else " + ".join(how))
    return ModelName(", ".join(done), ", ".join(part for part in (" + ".join(how), others) if part))


def _taken(pruning: Pruning) -> list[str]:
    """How many layers, blocks and experts were dropped, and weights set to zero."""
    words = {"mlp": "MLP"}
    zeros = [f"zeros {pruning.zeros}"] if pruning.zeros else []
    return zeros + [
        f"{MINUS}{count} {words.get(kind, kind.removesuffix('s') if count == 1 else kind)}"
        for kind, count in pruning.counts.items()
    ]


def bits_of(run: Run) -> float | None:
    """Bits of a weight, if the weights are quantized: in the mean over a checkpoint, or as loaded."""
    if run.pruning and run.pruning.bits:
        return round(run.pruning.bits, 1)
    return next((bits for name, bits in _BITS.items() if str(run.changed.get(name)).lower() in ("true", "1")), None)


def _details(runs: Sequence[Run]) -> list[str]:
    """What tells models of the same name apart: the first property in which all of them differ."""
    for tell in _TELLING:
        found = [tell(run) for run in runs]
        if len(set(found)) == len(runs) and all(found):
            return [f"({one})" for one in found]
    return [f"({run.id})" for run in runs]


def _merged(run: Run) -> str:
    merged = run.pruning.merged if run.pruning else {}
    return "; ".join(f"{ranges(some)} into {into}" for into, some in merged.items())


_TELLING: Sequence[Callable[[Run], str]] = (
    lambda run: ranges(run.dropped),
    lambda run: run.base_revision,
    _merged,
    lambda run: run.asked or "as the tasks ask",
    lambda run: ", ".join(filter(None, (ranges(run.dropped), run.base_revision, run.asked))),
    lambda run: run.pruning.recipe_hash[:6] if run.pruning else "",
    lambda run: run.fingerprint[:6],
)


def sized(task: TaskResult) -> str:
    """How many questions and samples: `30 questions x 8 samples`, with the sign of multiplication."""
    questions = "1 question" if task.questions == 1 else f"{task.questions:,} questions"
    return f"{questions} {TIMES} {'1 sample' if task.repeats == 1 else f'{task.repeats} samples'}"


def unique(paths: Sequence[str]) -> list[str]:
    """Paths of pages, each made different from those before it.

    >>> unique(["a.html", "b.html", "a.html"])
    ['a.html', 'b.html', 'a-3.html']
    >>> unique(["a-3.html", "a.html", "a.html"])
    ['a-3.html', 'a.html', 'a-4.html']
    """
    found: list[str] = []
    for number, path in enumerate(paths, 1):
        others = (path.replace(".html", f"-{other}.html") for other in itertools.count(number))
        found.append(path if path not in found else next(other for other in others if other not in found))
    return found


def slug(text: str) -> str:
    """A part of a file name.

    >>> slug("Org/Model 8B")
    'org-model-8b'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"
