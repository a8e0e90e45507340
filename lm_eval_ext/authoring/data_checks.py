"""Checks on a benchmark's questions and answers, with its dataset as lm-eval sees it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lm_eval_ext.authoring.checks import INSTRUCTIONS, render_all
from lm_eval_ext.authoring.draft import kind_of
from lm_eval_ext.authoring.task_fields import Choices, Metadata
from lm_eval_ext.authoring.task_file import Merged, TaskFinding, function_of, is_template, shown_names
from lm_eval_ext.choices import column, texts
from lm_eval_ext.errors import TaskError, did_you_mean, reason_of
from lm_eval_ext.grading.code import CodeExtractor, CodeRules
from lm_eval_ext.grading.grading import gold_answer, grades
from lm_eval_ext.grading.kinds import KINDS, kind_of_metric
from lm_eval_ext.grading.rules import Rules
from lm_eval_ext.grading.units import is_unit
from lm_eval_ext.metrics import METRIC_FIELDS
from lm_eval_ext.redaction import sequence
from lm_eval_ext.runs.catalogue import Catalogue

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


_PROSE = (
    "{gold!r} reads like prose, so only an answer in the same words would be correct; extract the answer itself, "
    "such as doc_to_target: \"{{{{answer.split('is')[-1]}}}}\""
)
Docs = Sequence[Mapping[str, object]]  # a dataset's rows, in lm-eval's terms
_ANOTHER = "98765.4321"  # a readable answer that is never a gold answer
_USUAL_SPLITS = ("test", "validation", "train")


def check_data(task: Merged, catalogue: Catalogue, *, trust: bool = False) -> list[TaskFinding]:
    """Findings on a benchmark whose file has no errors; stops at one that prevents further checks."""
    dataset, fault = _dataset(task, trust)
    if dataset is None:
        return [fault] if fault else []
    split = str(task.fields["test_split"])
    if split not in dataset:
        return [task.finding(["test_split"], "split", f"{split}; the dataset has: {', '.join(map(str, dataset))}")]
    docs, fault = _docs(task, dataset[split], trust)
    found = [fault] if fault else list(_fields(task, docs))
    if found:
        return found
    return [*_gated(task, catalogue), *_splits(task, dataset, split), *_questions(task, docs)]


def _dataset(task: Merged, trust: bool) -> tuple[DatasetDict | None, TaskFinding | None]:
    """All splits, or a finding if the dataset cannot be loaded."""
    import datasets

    fields, field = task.fields, "custom_dataset" if "custom_dataset" in task.fields else "dataset_path"
    try:
        if field == "custom_dataset":
            return function_of(task, field, trust=trust)(**(fields.get("dataset_kwargs") or {})), None
        options = dict(fields.get("dataset_kwargs") or {})
        datasets.disable_progress_bars()
        return datasets.load_dataset(fields["dataset_path"], fields.get("dataset_name"), **options), None
    except Exception as error:  # anything a library or a user's function raises
        files = (fields.get("dataset_kwargs") or {}).get("data_files")
        return None, task.finding([field], "dataset", f"{files or fields[field]} cannot be loaded ({reason_of(error)})")


def _docs(task: Merged, split: Dataset, trust: bool) -> tuple[Docs, TaskFinding | None]:
    name = task.fields.get("process_docs")
    try:
        docs = list(function_of(task, "process_docs", trust=trust)(split) if name else split)
    except Exception as error:  # a user's function
        return [], task.finding(["process_docs"], "function", f"{name} fails ({reason_of(error)})")
    empty = None if docs else task.finding(["test_split"], "split", f"{task.fields['test_split']} has no questions")
    return docs, empty


def _fields(task: Merged, docs: Docs) -> Iterator[TaskFinding]:
    """Fields that the dataset does not have; lm-eval silently treats such an answer as fixed text."""
    from jinja2 import TemplateSyntaxError

    known = sorted(docs[0])
    metadata = Metadata.model_validate(task.fields.get("metadata") or {})
    try:
        declared = _declared(metadata)
    except TemplateSyntaxError as error:
        yield task.finding(["metadata"], "template", f"is not a valid Jinja template: {error.message}")
        return
    for name in declared:
        try:
            column(docs[0], name)
        except TaskError:
            hint = did_you_mean(name, known)
            yield task.finding(["metadata"], "field", f"no field {name}; the dataset has: {', '.join(known)}{hint}")
    for field in ("doc_to_text", "doc_to_target") if metadata.question is None else ():
        text = str(task.fields[field])
        names = shown_names(text) if is_template(text) else {text} if field == "doc_to_target" else set()
        if not names and field == "doc_to_text" and text not in known:
            yield task.finding([field], "field", f"uses no field of the dataset, which has: {', '.join(known)}")
        for name in sorted(names - set(known)):
            hint = did_you_mean(name, known)
            yield task.finding([field], "field", f"no field {name}; the dataset has: {', '.join(known)}{hint}")


def _declared(metadata: Metadata) -> list[str]:
    """The dataset's columns that `metadata` names."""
    choices = metadata.choices
    given = [metadata.question, metadata.answer, *(metadata.code.columns if metadata.code else [])]
    given += [metadata.parts] if isinstance(metadata.parts, str) else metadata.parts or []
    if metadata.question is not None and choices is not None:
        shuffle = None if choices.shuffle in (True, False) else str(choices.shuffle)
        given += [*choices.columns, choices.answer, choices.labels, shuffle]
    some = [one for one in given if one]
    return sorted({name for one in some for name in (shown_names(one) if is_template(one) else {one})})


def _gated(task: Merged, catalogue: Catalogue) -> Iterator[TaskFinding]:
    metadata = task.fields.get("metadata") or {}
    path = str(task.fields.get("dataset_path") or "")
    hidden = catalogue.is_gated(task.fields["task"], path)
    if hidden and not metadata.get("gated"):
        text = "metadata.gated: true is missing, though leaderboard/site.yaml hides its questions"
        yield task.finding(["metadata"], "gated", text)
    elif metadata.get("gated") and not hidden:
        text = "gated, but leaderboard/site.yaml lists neither the task nor its dataset: questions would be shown"
        yield task.finding(["metadata", "gated"], "gated", text)


def _splits(task: Merged, dataset: DatasetDict, split: str) -> Iterator[TaskFinding]:
    """Check that the test split is not one used for training."""
    if split == "train" and (other := next((name for name in _USUAL_SPLITS[:2] if name in dataset), None)):
        yield task.finding(["test_split"], "split", f"train, although the dataset has {other}", warning=True)
    texts = {name: {_text(doc) for doc in dataset[name]} for name in dataset if name in (*_USUAL_SPLITS, split)}
    for name in sorted(set(texts) - {split}):
        if both := texts[split] & texts[name]:
            yield task.finding(["test_split"], "split", f"{len(both)} of its questions are also in {name}")


def _text(doc: Mapping[str, object]) -> str:
    return repr(sorted((key, value) for key, value in doc.items() if isinstance(value, str)))


def _questions(task: Merged, docs: Docs) -> Iterator[TaskFinding]:
    rendered = {}
    for field in ("doc_to_text", "doc_to_target"):
        try:
            rendered[field] = render_all(str(task.fields[field]), docs)
        except TaskError as error:
            yield task.finding([field], "template", str(error))
            return
    prompts, golds = rendered["doc_to_text"], rendered["doc_to_target"]
    yield from _prompts(task, prompts, docs)
    if "process_results" in task.fields:
        yield from of_checker(task, golds, docs)
        return
    kind, rules = _rules(task)
    if kind == "code":
        yield from _untestable(task, docs)
    if kind == "math" and (of_choices := _of_choices(golds, docs)):
        text = f"gold answers are {of_choices}; include ../_choice, or create the task with tasks new --choices"
        yield task.finding(["doc_to_target"], "gold", text)
        return
    bad, why = _ungradable(golds) if kind == "math" else _incomparable(golds, rules)
    if not bad:
        yield from of_kinds(task, kind, golds, prompts, docs)
    if bad:
        text = f"question {bad[0]} and {len(bad) - 1} more: " if len(bad) > 1 else f"question {bad[0]}: "
        warning = why == _PROSE
        yield task.finding(["doc_to_target"], "gold", text + why.format(gold=golds[bad[0]][:80]), warning=warning)


def _untestable(task: Merged, docs: Docs) -> Iterator[TaskFinding]:
    """The first question whose columns hold no tests by which a program could be graded."""
    steps = [dict(step) for chain in task.fields["filter_list"] for step in chain["filter"]]
    extractor = next((CodeExtractor(**one) for one in steps if one.pop("function") == CodeRules.filter_name()), None)
    if extractor is None:
        return
    for number, doc in enumerate(docs):
        try:
            extractor.tests_of(doc)
        except TaskError as error:
            yield task.finding(["metadata", "code"], "tests", f"question {number}: {error}")
            return


def _rules(task: Merged) -> tuple[str, Rules]:
    """Kind of the answers, and the rules by which they are compared; mathematics if the metric is not one of ours."""
    for one in task.fields["metric_list"]:
        if kind := kind_of_metric(str(one["metric"])):
            options = {name: value for name, value in one.items() if name not in METRIC_FIELDS}
            return kind.KIND, kind.of(options)
    return "math", KINDS["math"]()


def _incomparable(golds: Sequence[str], rules: Rules) -> tuple[list[int], str]:
    faults = {gold: rules.fault(gold) for gold in dict.fromkeys(golds)}
    bad = [number for number, gold in enumerate(golds) if faults[gold]]
    return bad, f"{{gold!r}} {faults[golds[bad[0]]].replace('{', '{{').replace('}', '}}')}" if bad else ""


def _prompts(task: Merged, prompts: Sequence[str], docs: Docs) -> Iterator[TaskFinding]:
    text = str((task.fields.get("metadata") or {}).get("question") or task.fields["doc_to_text"])
    shown = (shown_names(text) if is_template(text) else set()) or {text}
    empty = [n for n, doc in enumerate(docs) if any(not str(doc.get(name, name) or "").strip() for name in shown)]
    first = {prompt: number for number, prompt in reversed(list(enumerate(prompts)))}
    twice = [(first[prompt], number) for number, prompt in enumerate(prompts) if first[prompt] != number]
    if empty:
        yield task.finding(["doc_to_text"], "question", f"question {empty[0]} is empty ({len(empty)} in all)")
    elif twice:
        text = f"questions {twice[0][0]} and {twice[0][1]} are the same ({len(twice)} repeated in all)"
        yield task.finding(["doc_to_text"], "question", text)
    elif not all(any(words in prompt for words in INSTRUCTIONS) for prompt in prompts):
        yield task.finding(["doc_to_text"], "instruction", "missing from some prompts")


def _of_choices(golds: Sequence[str], docs: Docs) -> str:
    """The kind of multiple-choice gold answers that these are; empty if they aren't."""
    if len(set(golds)) > 1 and all(re.fullmatch(r"\(?[A-J]\)?", gold.strip()) for gold in golds):
        return "letters of choices"
    for name, value in docs[0].items():
        if (
            isinstance(value, list)
            and len(value) > 1
            and all(gold in map(str, sequence(doc.get(name))) for gold, doc in zip(golds, docs, strict=True))
        ):
            return f"texts of the choices in {name}"
    return ""


def _ungradable(golds: Sequence[str]) -> tuple[list[int], str]:
    """Gold answers with which every sample would certainly, or else most likely, be graded wrong, and why."""
    empty = [number for number, gold in enumerate(golds) if not gold.strip()]
    if empty:
        return empty, "its gold answer is empty"
    itself, other = grades([(gold, gold_answer(gold)) for gold in golds]), grades([(gold, _ANOTHER) for gold in golds])
    unread = [n for n, gold in enumerate(golds) if not itself[n].correct or other[n].reason == "unparsable"]
    if unread:
        return unread, "{gold!r} cannot be read as mathematics"
    return [number for number, gold in enumerate(golds) if _is_prose(gold)], _PROSE


def _is_prose(gold: str) -> bool:
    """Whether a gold answer is a sentence or a whole solution, without a box or `####` to mark the answer in it.

    A quantity is not prose, however many units it has (`3 hours and 20 minutes`).
    """
    words = [word for word in re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", gold) if not is_unit(word) and word != "and"]
    declared = re.search(r"(?i)\banswer\b", gold) is not None
    return (len(words) >= 3 or declared or "\n" in gold.strip()) and not re.search(r"\\boxed\{|####", gold)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence library messages that would repeat the findings on every file."""
    loggers = [logging.getLogger(name) for name in ("datasets", "lm_eval", "huggingface_hub")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


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
        yield from _choices_unlike_golds(task, metadata.choices, prompts, docs)
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


def _choices_unlike_golds(task: Merged, choices: Choices, prompts: Sequence[str], docs: Docs) -> Iterator[TaskFinding]:
    if choices.from_ is None:
        yield from _unseen(task, choices.letters or "", prompts)
        return
    for number, doc in enumerate(docs):
        some = texts(doc, choices.columns)
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


def of_checker(task: Merged, golds: Sequence[str], docs: Sequence[Mapping[str, object]]) -> Iterator[TaskFinding]:
    """The first question whose gold answer the checker does not score better than no answer; runs the checker."""
    check = function_of(task, "process_results", trust=True)
    for number, (gold, doc) in enumerate(zip(golds, docs, strict=True)):
        if fault := _fault(task, check, gold, doc):
            yield task.finding(["process_results"], "checker", f"question {number}: {fault}")
            return


def _fault(task: Merged, check: Callable[..., Any], gold: str, doc: Mapping[str, object]) -> str:
    metrics = task.fields["metric_list"]
    names, first = [str(one["metric"]) for one in metrics], metrics[0]
    scores = []
    for answer in (gold, ""):
        try:
            given = dict(check(dict(doc), [answer if _takes_one(task) else [answer]]))
        except Exception as error:  # anything that a user's function raises
            return f"the checker fails on the answer {answer[:40]!r} ({reason_of(error)})"
        if set(given) != set(names):
            return (
                f"the checker returns {', '.join(map(str, given))}; expected what metric_list has: {', '.join(names)}"
            )
        scores.append(given[first["metric"]])
    right, none = scores
    comparable = all(isinstance(score, (int, float)) for score in scores) and gold.strip()
    if comparable and (right <= none if first.get("higher_is_better", True) else right >= none):
        return f"its gold answer {gold[:40]!r} has {names[0]}={right}, no answer {none}; expected a better score for it"
    return ""


def _takes_one(task: Merged) -> bool:
    """Whether the checker gets one answer of a question, because of lm-eval's filter, or a list with all of them."""
    return any(step["function"] == "take_first" for step in task.fields["filter_list"][0]["filter"])
