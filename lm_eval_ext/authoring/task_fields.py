"""The fields of a task YAML: the schema that files are checked against, and editors read."""

from __future__ import annotations

from datetime import date
from string import ascii_uppercase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Text = Annotated[str, Field(min_length=1)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Variants(_Fields):
    """Variants written by `lm-eval-tts tasks sync`."""

    budgets: list[Annotated[int, Field(gt=0, strict=True)]] = []
    votes: list[Annotated[int, Field(gt=1, strict=True)]] = []


class Choices(_Fields):
    """The options of a multiple-choice question; `tasks sync` writes prompt and gold letter from them."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    from_: Annotated[
        Text | Annotated[list[Text], Field(min_length=2)] | None,
        Field(alias="from", description="column with the list of options, or one column per option"),
    ] = None
    letters: Annotated[
        str | None, Field(pattern="^[A-Z]{2,26}$", description="if the question lists its options: their letters")
    ] = None
    answer: Annotated[Text, Field(description="column with the right option")]
    as_: Annotated[
        Literal["letter", "index", "number", "text", "label"] | None,
        Field(
            alias="as",
            description="how `answer` names an option: its letter, index from 0, number from 1, text or label; by "
            "default whatever is unambiguous",
        ),
    ] = None
    labels: Annotated[Text | None, Field(description="column with the options' names, if they are not letters")] = None
    shuffle: Annotated[
        bool | Text,
        Field(description="order by a hash of the record: `true`, or the column that identifies it"),
    ] = False
    several: Annotated[
        Literal["any", "all"] | None,
        Field(description="if `answer` lists several options: whether any is right, or all are needed"),
    ] = None

    @model_validator(mode="after")
    def _has_options(self) -> Choices:
        if (self.from_ is None) == (self.letters is None):
            raise ValueError("choices: expected one of from (columns with the options) and letters (in the question)")
        if self.letters and (self.shuffle or self.letters != ascii_uppercase[: len(self.letters)]):
            raise ValueError("choices.letters: the question's own, from A on, such as ABCD; they cannot be shuffled")
        return self


class Calls(_Fields):
    """Calls of a function, by which a program is tested."""

    arguments: Annotated[Text, Field(description="column with a list of the arguments of each call")]
    expected: Annotated[Text, Field(description="column with a list of what each call must return")]


class Stdin(_Fields):
    """Inputs of a program, by which it is tested."""

    inputs: Annotated[Text, Field(description="column with a list of texts, each the standard input of a run")]
    outputs: Annotated[Text, Field(description="column with a list of what each run must print")]


class Code(_Fields):
    """What a program is tested with; `tasks sync` writes the filter that runs it from this."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    language: Literal["python"] = "python"
    entry: Annotated[
        Text | None, Field(description="column with the name of the function, or `Class.method`, or with a test of it")
    ] = None
    tests: Annotated[
        Text | None, Field(description="column with asserts, or with a function `check(candidate)`, or a list of them")
    ] = None
    calls: Annotated[Calls | None, Field(description="columns with arguments and expected values")] = None
    stdin: Annotated[Stdin | None, Field(description="columns with inputs and outputs")] = None
    cases: Annotated[
        Text | None,
        Field(description="column with rows of `input` and `output`, as LiveCodeBench's; no `entry` means stdin"),
    ] = None
    prelude: Annotated[
        Text | None, Field(description="column with what comes before the program: imports, helpers")
    ] = None

    dated: Annotated[Text | None, Field(description="column with a day, by which questions are left out")] = None
    from_: Annotated[
        date | None, Field(alias="from", description="the first day, such as 2024-08-01, to keep out what is older")
    ] = None
    until: Annotated[date | None, Field(description="the last day")] = None

    @model_validator(mode="after")
    def _has_tests(self) -> Code:
        if sum(one is not None for one in (self.tests, self.calls, self.stdin, self.cases)) != 1:
            raise ValueError("code: expected one of tests, calls, stdin and cases: what a program is tested with")
        if self.stdin is None and self.entry is None:
            raise ValueError("code.entry is missing: the column with the function that is tested")
        if (self.dated is None) != (self.from_ is None and self.until is None):
            raise ValueError("code.dated: expected with from or until, and they with it")
        return self

    @property
    def columns(self) -> list[str]:
        """All columns that say what a program is tested with."""
        pairs = [(one.arguments, one.expected) for one in (self.calls,) if one]
        pairs += [(one.inputs, one.outputs) for one in (self.stdin,) if one]
        given = [self.tests, self.cases, *(column for pair in pairs for column in pair), self.entry, self.prelude]
        return [one for one in given if one]


class PublishedScore(_Fields):
    """A score that somebody published, which a sound measurement comes near to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: Annotated[float, Field(ge=0, le=1, description="accuracy, from 0 to 1")]
    source: Annotated[str, Field(min_length=1, description="where it is from")]
    tolerance: Annotated[float, Field(ge=0, lt=1, description="how far a measured accuracy may be from it")] = 0.05


class OnTheHub(_Fields):
    """The task of a dataset's `eval.yaml` that a benchmark is, so that the Hub shows results of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", description="the dataset, `ORG/NAME`")]
    task_id: Annotated[str, Field(min_length=1, description="its `id` there")]
    scale: Annotated[float, Field(gt=0, description="what an accuracy of 1 is on the Hub")] = 100


class Metadata(_Fields):
    """Metadata of a benchmark."""

    version: Annotated[str | float, Field(description="increase it when scores are no longer comparable")] | None = None
    source: (
        Annotated[Text, Field(description="where the questions are published, unless that is `hub`'s dataset")] | None
    ) = None
    license: Annotated[Text, Field(description="license of the questions, as an SPDX name if possible")] | None = None
    chance: Annotated[float, Field(ge=0, lt=1, description="score of guessing; needed unless it is 0")] | None = None
    parts: Annotated[
        Text | list[Text] | None, Field(description="columns whose values give scores of their own, such as `level`")
    ] = None
    question: Annotated[
        Text | None, Field(description="column with the question, or a template; `tasks sync` writes the prompt")
    ] = None
    answer: Annotated[
        Text | None, Field(description="column with the gold answer, or a template; not for multiple choice")
    ] = None
    choices: Annotated[Choices | None, Field(description="options of multiple choice")] = None
    code: Annotated[Code | None, Field(description="what programs are tested with")] = None
    instruction: Annotated[
        str | None, Field(description="how to answer; by default the usual sentence for this kind of answer")
    ] = None
    language: Annotated[Text | None, Field(description="language of that sentence, such as `de`; by default `en`")] = (
        None
    )
    grading: Annotated[
        dict[str, object] | None, Field(description="how answers are compared, such as `{relative: 0.01}`")
    ] = None
    questions: Annotated[int | None, Field(gt=0, description="how many there are, to estimate the cost")] = None
    published: Annotated[
        dict[str, PublishedScore] | None,
        Field(description="published scores by model, such as `Qwen/Qwen3-8B`; a gate checks its base by them"),
    ] = None
    hub: Annotated[
        OnTheHub | None, Field(description="the task of the dataset's `eval.yaml` that this is; for results on the Hub")
    ] = None
    gated: Annotated[bool, Field(description="the authors ask that questions never be shown")] = False
    variants: Variants | None = None

    @property
    def published_at(self) -> str:
        """Where the questions are published: `source`, or else the Hub's dataset; empty if neither is there."""
        return self.source or (f"https://huggingface.co/datasets/{self.hub.dataset}" if self.hub else "")


class Function(_Fields):
    """A filter's function and its options."""

    model_config = ConfigDict(extra="allow")
    function: Text


class Filter(_Fields):
    """A named chain of filters."""

    name: Text
    filter: Annotated[list[Function], Field(min_length=1)]


class MetricEntry(_Fields):
    """A metric and its options."""

    model_config = ConfigDict(extra="allow")
    metric: Text
    aggregation: Text | None = None
    higher_is_better: bool | None = None


class GroupMetric(_Fields):
    """How a group's accuracy is aggregated from its members."""

    metric: Text
    aggregation: Text | None = None
    weight_by_size: bool | None = None
    filter_list: Text | list[Text] | None = None


class TaskFile(_Fields):
    """The lm-eval fields of a task or group that benchmarks of this registry use."""

    include: Annotated[
        Text | list[Text] | None, Field(description="files to inherit fields from; fields in this file win")
    ] = None
    task: Annotated[Text | list[object] | None, Field(description="name of the task; for a group, its members")] = None
    task_alias: Annotated[Text | None, Field(description="display name in tables")] = None
    group: Annotated[Text | None, Field(description="name of the group")] = None
    group_alias: Text | None = None
    aggregate_metric_list: list[GroupMetric] | None = None
    tag: Annotated[Text | list[Text] | None, Field(description="names shared by several tasks")] = None
    custom_dataset: Annotated[Text | None, Field(description="`!function` that returns the dataset")] = None
    dataset_path: Annotated[Text | None, Field(description="name on the Hub, a folder, or a loader such as json")] = (
        None
    )
    dataset_name: Annotated[Text | None, Field(description="configuration of the dataset")] = None
    dataset_kwargs: Annotated[dict[str, object] | None, Field(description="arguments of `datasets.load_dataset`")] = (
        None
    )
    training_split: Annotated[Text | None, Field(description="training split of the dataset")] = None
    validation_split: Annotated[Text | None, Field(description="validation split of the dataset")] = None
    test_split: Annotated[Text | None, Field(description="split with the questions to ask")] = None
    fewshot_split: Annotated[Text | None, Field(description="split with the worked examples")] = None
    fewshot_config: dict[str, object] | None = None
    num_fewshot: Annotated[
        Annotated[int, Field(ge=0, strict=True)] | None, Field(description="worked examples in the prompt")
    ] = None
    process_docs: Annotated[Text | None, Field(description="`!function` that changes the questions")] = None
    doc_to_text: Annotated[Text | None, Field(description="the prompt, a Jinja template over a question's fields")] = (
        None
    )
    doc_to_target: Annotated[Text | None, Field(description="the gold answer: a field, or a template")] = None
    process_results: Annotated[
        Text | None, Field(description="`!function` that grades the answers instead of our metrics; see the howto")
    ] = None
    doc_to_choice: Annotated[Text | list[Text] | None, Field(description="choices")] = None
    description: Annotated[str | None, Field(description="text before every prompt")] = None
    target_delimiter: str | None = None
    fewshot_delimiter: str | None = None
    gen_prefix: Annotated[str | None, Field(description="text that starts the answer")] = None
    output_type: Annotated[Literal["generate_until"] | None, Field(description="`generate_until`")] = None
    repeats: Annotated[Annotated[int, Field(gt=0, strict=True)] | None, Field(description="samples per question")] = (
        None
    )
    generation_kwargs: Annotated[dict[str, object] | None, Field(description="see generation arguments")] = None
    filter_list: Annotated[
        Annotated[list[Filter], Field(min_length=1)] | None, Field(description="how answers are extracted")
    ] = None
    unsafe_code: Annotated[bool | None, Field(description="whether answers are programs, which are run")] = None
    metric_list: Annotated[
        Annotated[list[MetricEntry], Field(min_length=1)] | None, Field(description="how answers are scored")
    ] = None
    metadata: Annotated[Metadata | None, Field(description="see below")] = None
