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
    from_: Text | Annotated[list[Text], Field(min_length=2)] | None = Field(
        default=None, alias="from", description="column with the list of options, or one column per option"
    )
    letters: str | None = Field(
        default=None, pattern="^[A-Z]{2,26}$", description="if the question lists its options: their letters"
    )
    answer: Text = Field(description="column with the right option")
    as_: Literal["letter", "index", "number", "text", "label"] | None = Field(
        default=None,
        alias="as",
        description="how `answer` names an option: its letter, index from 0, number from 1, text or label; by "
        "default whatever is unambiguous",
    )
    labels: Text | None = Field(default=None, description="column with the options' names, if they are not letters")
    shuffle: bool | Text = Field(
        default=False, description="order by a hash of the record: `true`, or the column that identifies it"
    )
    several: Literal["any", "all"] | None = Field(
        default=None, description="if `answer` lists several options: whether any is right, or all are needed"
    )

    @model_validator(mode="after")
    def _has_options(self) -> Choices:
        if (self.from_ is None) == (self.letters is None):
            raise ValueError("choices: expected one of from (columns with the options) and letters (in the question)")
        if self.letters and (self.shuffle or self.letters != ascii_uppercase[: len(self.letters)]):
            raise ValueError("choices.letters: the question's own, from A on, such as ABCD; they cannot be shuffled")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns of `from`."""
        return [self.from_] if isinstance(self.from_, str) else self.from_ or []


class Calls(_Fields):
    """Calls of a function, by which a program is tested."""

    arguments: Text = Field(description="column with a list of the arguments of each call")
    expected: Text = Field(description="column with a list of what each call must return")


class Stdin(_Fields):
    """Inputs of a program, by which it is tested."""

    inputs: Text = Field(description="column with a list of texts, each the standard input of a run")
    outputs: Text = Field(description="column with a list of what each run must print")


class Code(_Fields):
    """What a program is tested with; `tasks sync` writes the filter that runs it from this."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    language: Literal["python"] = "python"
    entry: Text | None = Field(
        default=None, description="column with the name of the function, or `Class.method`, or with a test of it"
    )
    tests: Text | None = Field(
        default=None, description="column with asserts, or with a function `check(candidate)`, or a list of them"
    )
    calls: Calls | None = Field(default=None, description="columns with arguments and expected values")
    stdin: Stdin | None = Field(default=None, description="columns with inputs and outputs")
    cases: Text | None = Field(
        default=None, description="column with rows of `input` and `output`, as LiveCodeBench's; no `entry` means stdin"
    )
    prelude: Text | None = Field(
        default=None, description="column with what comes before the program: imports, helpers"
    )

    dated: Text | None = Field(default=None, description="column with a day, by which questions are left out")
    from_: date | None = Field(
        default=None, alias="from", description="the first day, such as 2024-08-01, to keep out what is older"
    )
    until: date | None = Field(default=None, description="the last day")

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

    score: float = Field(ge=0, le=1, description="accuracy, from 0 to 1")
    source: str = Field(min_length=1, description="where it is from")
    tolerance: float = Field(default=0.05, ge=0, lt=1, description="how far a measured accuracy may be from it")


class OnTheHub(_Fields):
    """The task of a dataset's `eval.yaml` that a benchmark is, so that the Hub shows results of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="the dataset, `ORG/NAME`")
    task_id: str = Field(min_length=1, description="its `id` there")
    scale: float = Field(default=100, gt=0, description="what an accuracy of 1 is on the Hub")


class Metadata(_Fields):
    """Metadata of a benchmark."""

    version: Annotated[str | float, Field(description="increase it when scores are no longer comparable")] | None = None
    source: (
        Annotated[Text, Field(description="where the questions are published, unless that is `hub`'s dataset")] | None
    ) = None
    license: Annotated[Text, Field(description="license of the questions, as an SPDX name if possible")] | None = None
    chance: Annotated[float, Field(ge=0, lt=1, description="score of guessing; needed unless it is 0")] | None = None
    parts: Text | list[Text] | None = Field(
        default=None, description="columns whose values give scores of their own, such as `level`"
    )
    question: Text | None = Field(
        default=None, description="column with the question, or a template; `tasks sync` writes the prompt"
    )
    answer: Text | None = Field(
        default=None, description="column with the gold answer, or a template; not for multiple choice"
    )
    choices: Choices | None = Field(default=None, description="options of multiple choice")
    code: Code | None = Field(default=None, description="what programs are tested with")
    instruction: str | None = Field(
        default=None, description="how to answer; by default the usual sentence for this kind of answer"
    )
    language: Text | None = Field(default=None, description="language of that sentence, such as `de`; by default `en`")
    grading: dict[str, object] | None = Field(
        default=None, description="how answers are compared, such as `{relative: 0.01}`"
    )
    questions: int | None = Field(default=None, gt=0, description="how many there are, to estimate the cost")
    published: dict[str, PublishedScore] | None = Field(
        default=None, description="published scores by model, such as `Qwen/Qwen3-8B`; a gate checks its base by them"
    )
    hub: OnTheHub | None = Field(
        default=None, description="the task of the dataset's `eval.yaml` that this is; for results on the Hub"
    )
    gated: bool = Field(default=False, description="the authors ask that questions never be shown")
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
    filter: list[Function] = Field(min_length=1)


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

    include: Text | list[Text] | None = Field(
        default=None, description="files to inherit fields from; fields in this file win"
    )
    task: Text | list[object] | None = Field(default=None, description="name of the task; for a group, its members")
    task_alias: Text | None = Field(default=None, description="display name in tables")
    group: Text | None = Field(default=None, description="name of the group")
    group_alias: Text | None = None
    aggregate_metric_list: list[GroupMetric] | None = None
    tag: Text | list[Text] | None = Field(default=None, description="names shared by several tasks")
    custom_dataset: Text | None = Field(default=None, description="`!function` that returns the dataset")
    dataset_path: Text | None = Field(default=None, description="name on the Hub, a folder, or a loader such as json")
    dataset_name: Text | None = Field(default=None, description="configuration of the dataset")
    dataset_kwargs: dict[str, object] | None = Field(default=None, description="arguments of `datasets.load_dataset`")
    training_split: Text | None = Field(default=None, description="training split of the dataset")
    validation_split: Text | None = Field(default=None, description="validation split of the dataset")
    test_split: Text | None = Field(default=None, description="split with the questions to ask")
    fewshot_split: Text | None = Field(default=None, description="split with the worked examples")
    fewshot_config: dict[str, object] | None = None
    num_fewshot: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None, description="worked examples in the prompt"
    )
    process_docs: Text | None = Field(default=None, description="`!function` that changes the questions")
    doc_to_text: Text | None = Field(default=None, description="the prompt, a Jinja template over a question's fields")
    doc_to_target: Text | None = Field(default=None, description="the gold answer: a field, or a template")
    process_results: Text | None = Field(
        default=None, description="`!function` that grades the answers instead of our metrics; see the howto"
    )
    doc_to_choice: Text | list[Text] | None = Field(default=None, description="choices")
    description: str | None = Field(default=None, description="text before every prompt")
    target_delimiter: str | None = None
    fewshot_delimiter: str | None = None
    gen_prefix: str | None = Field(default=None, description="text that starts the answer")
    output_type: Literal["generate_until"] | None = Field(default=None, description="`generate_until`")
    repeats: Annotated[int, Field(gt=0, strict=True)] | None = Field(default=None, description="samples per question")
    generation_kwargs: dict[str, object] | None = Field(default=None, description="see generation arguments")
    filter_list: Annotated[list[Filter], Field(min_length=1)] | None = Field(
        default=None, description="how answers are extracted"
    )
    unsafe_code: bool | None = Field(default=None, description="whether answers are programs, which are run")
    metric_list: Annotated[list[MetricEntry], Field(min_length=1)] | None = Field(
        default=None, description="how answers are scored"
    )
    metadata: Metadata | None = Field(default=None, description="see below")
