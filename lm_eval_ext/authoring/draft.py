"""Drafts a task YAML from a dataset: which columns hold question, answer and options, and of which kind answers are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from lm_eval_ext.authoring.task_fields import Choices, Code
from lm_eval_ext.authoring.task_file import is_template
from lm_eval_ext.choices import LETTERS, column, listed, texts
from lm_eval_ext.errors import DatasetError, TaskError, did_you_mean, reason_of
from lm_eval_ext.grading.kinds import KINDS
from lm_eval_ext.grading.letters import ALL
from lm_eval_ext.grading.texts import TextRules, yes_no
from lm_eval_ext.grading.units import unit_of
from lm_eval_ext.paths import TASKS, write_whole
from lm_eval_ext.redaction import mapping

_SCHEMA = "# yaml-language-server: $schema=../schema.json"  # for completion in editors
_FILES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_USUAL = {  # names of columns, the likeliest first
    "question": "question problem prompt query input puzzle quiz",
    "answer": "answer solution target gold label output final_answer expected_answer answerkey answer_index "
    "correct_answer correct gold_index answer_idx answers",
    "tests": "tests test test_list test_cases asserts",
    "entry": "entry_point entry function_name func_name function name",
    "options": "options choices candidates answers endings answer_choices alternatives choice option",
}
_NUMBER = re.compile(r"[+-]?(?=\.?\d)\d*(?:\.(?P<decimals>\d+))?(?P<power>[eE][+-]?\d+)?\s*(?P<unit>[^\d\s].*)?")
_LETTER = re.compile(r"\(?([A-Z])\)?\.?")
_NUMBERED = re.compile(r"(?i)(?:opt|option|choice|answer|ending|candidate)?[ _-]?([a-j]|\d)")
_CHOSEN = 6  # decimals at most of a number that somebody wrote
_SURE = 20  # questions, of which one would have the first option as the right one
Records = Sequence[Mapping[str, object]]


class Draft(NamedTuple):
    """A task YAML, the kind of its answers, and what was guessed for it, to be said."""

    text: str
    kind: str
    guessed: str


def draft(
    name: str, dataset: str, split: str, question: str | None, answer: str | None, *, choices: Sequence[str] = (),
    kind: str | None = None, way: str | None = None, language: str | None = None, config: str | None, source: str,
    licence: str, budgets: list[int], votes: list[int], metadata: Mapping[str, object] = {}, repeats: int = 0,
    shown: Sequence[str] = (),
) -> Draft:  # fmt: skip
    """A task YAML that asks the questions of a dataset.

    Args:
        name: name of the benchmark, without `tts_`.
        dataset: a name on the Hub, a file (.jsonl, .json, .csv, .parquet), or a folder of such files.
        split: split of the dataset.
        question, answer: columns of the dataset; by default those with the usual names. For programs, `answer` is the
            column with their tests.
        choices: for multiple choice, the column that lists the options, or one column per option; by default those with
            the usual names.
        kind: kind of the answers; by default guessed from them.
        way: how the answers name an option, such as `index`, if they could do so in several ways.
        language: language of the questions, such as `de`.
        config: configuration of the dataset, if it has several.
        source, licence: origin and license of the questions.
        budgets, votes: the variants to declare.
        metadata: further fields; `shuffle` is one of the options of multiple choice.
        repeats: samples of each question; 0 for the usual number.
        shown: columns that a question which is a template shows.

    Raises:
        TaskError: an invalid name, split, column or kind.
        DatasetError: the dataset cannot be loaded.
    """
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name):
        raise TaskError(f"name={name!r}; allowed: lowercase letters, digits and single underscores, such as hmmt_feb25")
    where: dict[str, object] = {"dataset_path": dataset, "dataset_name": config}
    if files := _files(dataset):
        split, names = "test", [str(file) for file in files]
        data = {"data_files": {split: names[0] if len(names) == 1 else names}}
        where = {"dataset_path": _FILES[files[0].suffix], "dataset_kwargs": data}
    records, columns = _records({key: value for key, value in where.items() if value}, dataset, split)
    question, tested = question or _column_for("question", columns), _tested(columns, answer, kind)
    answer = answer or (Code.model_validate(tested).columns[0] if tested else _column_for("answer", columns))
    for field in (*(shown if shown and is_template(question) else [question]), answer, *choices):
        _check(field, records[0], dataset)
    kind, declared, reason = (
        _guessed(records, answer, choices, kind, columns, way)
        if not tested
        else ("code", dict[str, object](code=tested), f"its tests are in {answer}")
    )
    further = dict(metadata)
    if shuffle := further.pop("shuffle", None):
        declared["choices"] = {**mapping(declared["choices"]), "shuffle": shuffle}
    if not source and "hub" not in metadata:
        source = Path(dataset).name if files else f"https://huggingface.co/datasets/{dataset}"
    about: dict[str, object] = {"source": source, "license": licence, "question": question, **declared}
    about = {key: value for key, value in about.items() if value}
    about |= {**({"language": language} if language else {}), **further}
    lines = [_SCHEMA, f"include: ../_{kind}", f"task: tts_{name}"]
    lines += [f"{key}: {_flow(value)}" for key, value in where.items() if value]
    lines += [f"test_split: {split}", *([f"repeats: {repeats}"] if repeats else []), "metadata:", "  version: 1.0"]
    lines += [f"  {key}: {_flow(value)}" for key, value in about.items()]
    lines += [f"  variants: {{budgets: {budgets}{'' if tested else f', votes: {votes}'}}}"]
    more = "".join(f"; {_flow({key: value})[1:-1]}" for key, value in declared.items() if key != "answer")
    said = f"question: {_flow(question)}, answer: {answer}, kind: {kind} ({reason}; change it with --kind){more}"
    return Draft("\n".join(lines) + "\n", kind, said)


def _flow(value: object) -> str:
    """A value on one line of YAML."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip().removesuffix("\n...")


def write_draft(text: str, name: str, folder: Path) -> Path:
    """Write a task YAML as `FOLDER/NAME/tts_NAME.yaml`, and the templates it includes into FOLDER if missing.

    Raises:
        TaskError: the file exists.
    """
    path = folder / name / f"tts_{name}.yaml"
    if path.exists():
        raise TaskError(f"{path}: already exists; edit it, or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    for template in ("schema.json", "_math", text.partition("include: ../")[2].partition("\n")[0]):
        if not (folder / template).exists():
            write_whole(folder / template, (TASKS / template).read_bytes())
    write_whole(path, text)
    return path


# The dataset --------------------------------------------------------------------------------------------


def _files(dataset: str) -> list[Path]:
    """The files of a local dataset; none if the name may be one on the Hub."""
    path = Path(dataset)
    allowed = f"expected a name on the Hub, a file ending in {', '.join(_FILES)}, or a folder of such files"
    if path.is_dir() and not re.fullmatch(r"[^./][^/]*/[^/]+", dataset):  # that may be a name on the Hub
        found = sorted(file for file in path.iterdir() if file.suffix in _FILES)
        if len({file.suffix for file in found}) != 1:
            raise TaskError(f"dataset={dataset}: holds {'several kinds of files' if found else 'no data'}; {allowed}")
    elif path.suffix in _FILES:
        found = [path]
    elif path.is_file():
        raise TaskError(f"dataset={dataset}; {allowed}")
    else:
        return []
    for file in found:
        if not file.is_file() or not file.stat().st_size:
            raise DatasetError(f"dataset={file}: {'file is empty' if file.is_file() else 'no such file'}")
    return [file.resolve() for file in found]


def _records(where: Mapping[str, object], dataset: str, split: str) -> tuple[list[dict[str, object]], list[str]]:
    """The records of a split, and its columns."""
    import datasets

    options = mapping(where.get("dataset_kwargs"))
    try:
        loaded = datasets.load_dataset(where["dataset_path"], where.get("dataset_name"), **options)
        known = list(map(str, loaded))
        records = list(loaded[split]) if split in loaded else []
    except Exception as error:  # anything the library raises
        raise DatasetError(f"dataset={dataset}: cannot be loaded ({reason_of(error)})") from error
    if split not in known:
        raise TaskError(f"no split {split!r}; {dataset} has: {', '.join(known)}")
    if not records:
        raise DatasetError(f"dataset={dataset}: the split {split} has no questions")
    return records, list(loaded[split].column_names)


def _column_for(role: str, columns: Sequence[str]) -> str:
    """The column with the question or the answer, by its usual names."""
    lowered = {name.lower(): name for name in columns}
    found = next((lowered[name] for name in _USUAL[role].split() if name in lowered), None)
    if found is None:
        raise TaskError(f"which column is the {role}? Give --{role}, one of: {', '.join(columns)}")
    return found


def _tested(columns: Sequence[str], answer: str | None, kind: str | None) -> dict[str, object]:
    """What `metadata.code` declares, by the usual names of columns; empty if answers are no programs.

    Raises:
        TaskError: they are programs, as `kind` says, and no column has tests, or the name of what is tested.
    """
    asked = kind == "code"
    lowered = {name.lower(): name for name in columns}
    if kind not in (None, "code") or not (asked or (answer is None and {"test", "entry_point"} <= lowered.keys())):
        return {}
    if answer is None and {"inputs", "outputs"} <= lowered.keys():
        return {"stdin": {"inputs": lowered["inputs"], "outputs": lowered["outputs"]}}
    if not any(name in lowered for name in _USUAL["entry"].split()):
        raise TaskError(f"which column names the function that is tested? Expected one of: {_USUAL['entry']}")
    entry = _column_for("entry", columns)
    if answer is None and {"arguments", "expected"} <= lowered.keys():
        return {"entry": entry, "calls": {"arguments": lowered["arguments"], "expected": lowered["expected"]}}
    return {"entry": entry, "tests": answer or _column_for("tests", columns)}


def _check(name: str, record: Mapping[str, object], dataset: str) -> None:
    try:
        column(record, name)
    except TaskError as error:
        hint = did_you_mean(name, record)
        raise TaskError(f"no field {name!r}; {dataset} has: {', '.join(record)}{hint}") from error


# The kind of answers ------------------------------------------------------------------------------------


def _guessed(
    records: Records, answer: str, choices: Sequence[str], kind: str | None, known: Sequence[str], way: str | None
) -> tuple[str, dict[str, object], str]:
    """The kind of a benchmark's answers, what `metadata` declares for it, and why."""
    if kind is not None and kind not in KINDS:
        raise TaskError(f"kind={kind!r}; expected one of: {', '.join(KINDS)}")
    if choices and kind not in (None, "choice"):
        raise TaskError(f"kind={kind!r} has no options; leave out --choices, or use --kind choice")
    golds = [column(record, answer) for record in records]
    columns = tuple(choices) or (_option_columns(records, answer, known) if kind in (None, "choice") else ())
    found, reason = ("choice", f"its options are in {', '.join(columns)}") if columns else kind_of(golds)
    found, reason = (kind, "as given") if kind else (found, reason)
    if found == "choice":
        return found, {"choices": _declared_choices(records, answer, columns, way)}, reason
    for gold in golds if found == "expression" else ():
        if fault := KINDS["expression"]().fault(str(gold)):
            raise TaskError(
                f"answer={answer}: {fault}; compose it from the columns, as metadata.answer of tts_countdown does"
            )
    options = _grading(found, [str(gold).strip() for gold in golds])
    if found == "number" and not options:
        reason += "; compared exactly, as whole numbers must be; metadata.grading may allow a tolerance"
    return found, {"answer": answer, **options}, reason


def kind_of(golds: Sequence[object]) -> tuple[str, str]:
    """The kind that gold answers look like, and why."""
    written = [str(gold).strip() for gold in golds]
    if all(isinstance(one, (list, tuple)) for one in golds):
        return "list", "every answer is a list"
    if all(map(_is_object, golds, written)):
        return "json", "every answer is a JSON object"
    if _are_yes_no(written):
        return "text", "every answer is yes or no, true or false"
    if _are_letters(golds):
        return "choice", "every answer is a letter"
    if _are_quantities(written):
        return "number", "every answer is a number, some with decimals or units"
    if not any(re.search(r"[\d\\^=]", gold) for gold in written) and any(len(gold) > 1 for gold in written):
        return "text", "every answer is in words"
    return "math", "answers look like mathematics"


def _is_object(gold: object, text: str) -> bool:
    try:
        return isinstance(gold, dict) or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _are_yes_no(golds: Sequence[str]) -> bool:
    rules = TextRules(synonyms="yes_no")
    return len(set(golds)) > 1 and all(rules.key(gold) in yes_no() and len(gold) > 1 for gold in golds)


def _are_letters(golds: Sequence[object]) -> bool:
    """Whether every answer is one letter, or several such as `A, C`."""
    parts = [listed(gold) if str(gold).strip() else [""] for gold in golds]
    alone = [str(one).strip() for some in parts for one in some]
    return len(set(alone)) > 1 and all(_LETTER.fullmatch(one) and one.strip("().") in ALL for one in alone)


def _are_quantities(golds: Sequence[str]) -> bool:
    """Whether all are numbers, some of them with decimals or a unit."""
    found = [_NUMBER.fullmatch(gold) for gold in golds]
    units = [unit_of(one["unit"]) for one in found if one and one["unit"]]
    measured = all(unit is not None and "[" in unit.dimension for unit in units)
    return all(found) and measured and any(one and (one["decimals"] or one["unit"]) for one in found)


def _grading(kind: str, golds: Sequence[str]) -> dict[str, object]:
    """The options of the comparison that the answers suggest."""
    if kind == "text" and _are_yes_no(golds):
        return {"grading": {"synonyms": "yes_no"}}
    found = [_NUMBER.fullmatch(gold) for gold in golds] if kind == "number" else []
    measured = [one for one in found if one and (one["decimals"] or one["power"])]
    if not found or len(measured) < len(found):
        return {}  # a tolerance would make 404 right for 408
    if all(len(one["decimals"] or "") <= _CHOSEN for one in measured):
        return {"grading": {"digits": "gold"}}
    # Many decimals were computed, and so may a whole number have been, written as 408.0.
    whole = any(set(one["decimals"] or "1") == {"0"} and not one["power"] for one in measured)
    return {} if whole else {"grading": {"relative": 0.01}}


# Options of multiple choice -----------------------------------------------------------------------------


def _option_columns(records: Records, answer: str, known: Sequence[str]) -> tuple[str, ...]:
    """The columns with the options, by their usual names, if the answers name one of them; empty if there are none."""
    usual = _USUAL["options"].split()
    named = sorted((name for name in known if name.lower() in usual), key=lambda name: usual.index(name.lower()))
    nested = {name for name in named if isinstance(mapping(records[0][name]).get("text"), (list, tuple))}
    numbered = tuple(name for name in known if _NUMBERED.fullmatch(name))
    candidates = [(f"{name}.text" if name in nested else name,) for name in named]
    for columns in [*candidates, *([numbered] if len(numbered) > 1 else [])]:
        try:
            fits = answer not in columns and any(_ways(records, answer, columns, several) for several in (False, True))
        except TaskError:
            continue
        if fits:
            return columns
    return ()


def _declared_choices(records: Records, answer: str, columns: Sequence[str], way: str | None) -> dict[str, object]:
    """What `metadata.choices` declares; without columns, the question lists the options."""
    if not columns:
        parts = [listed(column(record, answer)) for record in records]
        letters = {match[1] for some in parts for one in some if (match := _LETTER.fullmatch(str(one).strip()))}
        if not letters:
            raise TaskError(f"answer={answer}: not letters; give --choices, the columns with the options")
        last = max(2, LETTERS.index(max(letters)) + 1)
        several = {"several": "all"} if any(len(some) > 1 for some in parts) else {}
        return {"letters": LETTERS[:last], "answer": answer, **several}
    one = _ways(records, answer, columns, several=False)
    ways = one or _ways(records, answer, columns, several=True)
    if way is not None and way not in ways:
        said = f"; they fit as {' or '.join(ways)}" if ways else ""
        raise TaskError(f"--as {way}: the answers in {answer} don't name options so{said}")
    if not ways:
        raise TaskError(f"answer={answer}: not a letter, an index or the text of a choice in every record")
    if len(ways) > 1 and way is None:
        raise TaskError(f"answer={answer}: could be {' or '.join(ways)} of an option; say which with --as")
    declared: dict[str, object] = {"from": columns[0] if len(columns) == 1 else list(columns), "answer": answer}
    declared |= {"labels": _labels_of(columns)} if (way or ways[0]) == "label" else {}
    declared |= {"as": way or ways[0], **({} if one else {"several": "all"})}
    Choices.model_validate(declared)
    return declared


def _labels_of(columns: Sequence[str]) -> str:
    """The column beside `choices.text` that names its options, `choices.label`; empty if there can be none."""
    return columns[0].removesuffix(".text") + ".label" if columns[0].endswith(".text") else ""


def _ways(records: Records, answer: str, columns: Sequence[str], several: bool) -> list[str]:
    """Every way in which all answers name an option."""
    golds = [listed(column(record, answer)) if several else [column(record, answer)] for record in records]
    named = [(at, str(gold).strip()) for at, some in enumerate(golds) for gold in some]
    shown = [texts(record, columns) for record in records]
    labels = [_labels(record, _labels_of(columns)) for record in records]
    numbers = [(int(one), len(shown[at])) for at, one in named if one.isdecimal()]
    enough = len(records) >= _SURE and all(number for number, _ in numbers)
    all_numbers, bare = len(numbers) == len(named), [(at, one.strip("().")) for at, one in named]
    fits: dict[str, Callable[[], bool]] = {
        "letter": lambda: all(one in tuple(ALL[: len(shown[at])]) for at, one in bare),
        "text": lambda: all(one in shown[at] for at, one in named),
        "label": lambda: any(labels) and all(one in labels[at] for at, one in named),
        "index": lambda: all_numbers and not enough and all(number < count for number, count in numbers),
        "number": lambda: all_numbers and all(0 < number <= count for number, count in numbers),
    }
    found = [way for way, fit in fits.items() if fit()]
    if not {"letter", "label"} <= {*found}:
        return found
    same = labels == [list(LETTERS[: len(some)]) for some in shown]
    return [way for way in found if way != ("label" if same else "letter")]


def _labels(record: Mapping[str, object], name: str) -> list[str]:
    try:
        found = column(record, name) if name else []
    except TaskError:
        return []
    return [str(one).strip() for one in found] if isinstance(found, (list, tuple)) else []
