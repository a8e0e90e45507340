"""Findings on gold answers that another kind would compare better, and on options and fields that no prompt shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from lm_eval_ext.authoring.finding import TaskFinding
from lm_eval_ext.authoring.guess import kind_of
from lm_eval_ext.authoring.task_fields import Choices, Metadata
from lm_eval_ext.authoring.task_file import Merged
from lm_eval_ext.choices import column, texts
from lm_eval_ext.runs.untrusted import sequence

Docs = Sequence[Mapping[str, object]]
_ENOUGH = 20  # questions, of which one would have the first option as the right one
_OPTION = r"(?m)(?:^|[\s(\[*]){letter}[).:\]]"
# What gold answers of one kind look like when another would do better: declared kind, what it looks like, advice.
_OTHERS = {
    ("math", "text"): "read like words; ../_text compares words",
    ("math", "json"): "are JSON objects; ../_json compares them field by field",
    ("math", "list"): "are lists; ../_list compares their items",
    ("text", "json"): "are JSON objects; ../_json compares them field by field",
    ("text", "number"): "are numbers; ../_number or ../_math also accept other ways to write them",
    ("list", "text"): "read like single words; ../_text compares words",
}


def of_kinds(
    task: Merged, kind: str, golds: Sequence[str], prompts: Sequence[str], docs: Docs
) -> Iterator[TaskFinding]:
    """Findings on gold answers that can be compared, but not as their kind does it best."""
    metadata = Metadata.model_validate(task.fields.get("metadata") or {})
    if metadata.choices is not None:
        yield from _of_choices(task, metadata.choices, prompts, docs)
    elif advice := _advice(kind, golds, metadata):
        yield task.finding(["doc_to_target"], "gold", f"all gold answers {advice}", warning=True)
    elif kind == "math" and (name := _indexed(golds, docs)):
        text = f"all gold answers are positions in {name}; if these are options, include ../_choice and declare choices"
        yield task.finding(["doc_to_target"], "gold", text, warning=True)
    if kind == "json" and (names := _unnamed(golds[0], prompts[0])):
        text = f"no field of the answer is named in the prompt ({', '.join(names[:3])}); say in it what is to be filled"
        yield task.finding(["doc_to_text"], "question", text, warning=True)


def _advice(kind: str, golds: Sequence[str], metadata: Metadata) -> str:
    looks, _ = kind_of(golds)
    if looks == "text" and re.fullmatch(r"(?i)yes|no|true|false", golds[0].strip()):
        verdicts = "are yes or no, true or false; ../_text with grading: {synonyms: yes_no} also accepts other words"
        return "" if kind == "text" and (metadata.grading or {}).get("synonyms") else verdicts
    if kind == "text" and all(re.fullmatch(r"\s*[+-]?[\d.,]+%?\s*", gold) for gold in golds):
        looks = "number"
    return _OTHERS.get((kind, looks), "") if len(golds) > 1 else ""


def _indexed(golds: Sequence[str], docs: Docs) -> str:
    """A column of lists of which every gold answer is a position; empty if there is none."""
    for name in docs[0]:
        lists = [sequence(doc.get(name)) for doc in docs]
        usual = name.lower() in ("options", "choices", "candidates", "answers", "endings")
        if usual and all(gold.isdecimal() and int(gold) < len(some) for gold, some in zip(golds, lists, strict=True)):
            return name
    return ""


def _unnamed(gold: str, prompt: str) -> list[str]:
    """The fields of an answer, if the prompt names none of them."""
    try:
        found = json.loads(gold)
    except ValueError:
        return []
    names = [str(name) for name in found] if isinstance(found, dict) else []
    return [] if any(name.lower() in prompt.lower() for name in names) else names


def _of_choices(task: Merged, choices: Choices, prompts: Sequence[str], docs: Docs) -> Iterator[TaskFinding]:
    if choices.from_ is None:
        yield from _unseen(task, choices.letters or "", prompts)
        return
    columns = [choices.from_] if isinstance(choices.from_, str) else choices.from_
    for number, doc in enumerate(docs):
        some = texts(doc, columns)
        if len(set(some)) < len(some):
            text = f"question {number}: an option is there twice ({max(some, key=some.count)[:40]!r})"
            yield task.finding(["metadata", "choices"], "choices", text, warning=True)
            break
    if choices.as_ is None and len(docs) >= _ENOUGH:
        values = [str(column(doc, choices.answer)) for doc in docs]
        if all(map(str.isdecimal, values)) and "0" not in values:
            text = f"choices.answer={choices.answer} is never 0: declare as: number if it counts from 1, else index"
            yield task.finding(["metadata", "choices"], "gold", text, warning=True)


def _unseen(task: Merged, letters: str, prompts: Sequence[str]) -> Iterator[TaskFinding]:
    """An error if prompts don't show the options that they are said to list."""
    shown = [re.compile(_OPTION.format(letter=letter)) for letter in letters[:2]]
    unseen = [number for number, prompt in enumerate(prompts) if not all(one.search(prompt) for one in shown)]
    if unseen:
        text = (
            f"question {unseen[0]} ({len(unseen)} in all) shows no options such as A) or (A); declare choices.from, "
            "the columns with the options, or write them into the question"
        )
        yield task.finding(["metadata", "choices"], "choices", text)
