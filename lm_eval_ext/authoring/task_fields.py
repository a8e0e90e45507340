"""The fields of a task YAML: the schema that files are checked against, and editors read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Variants(_Fields):
    """Variants written by `lm-eval-tts tasks sync`."""

    budgets: list[Annotated[int, Field(gt=0, strict=True)]] = []
    votes: list[Annotated[int, Field(gt=1, strict=True)]] = []


class Metadata(_Fields):
    """Metadata of a benchmark."""

    version: Annotated[str | float, Field(description="increase it when scores are no longer comparable")] | None = None
    source: Annotated[Text, Field(description="where the questions are published")] | None = None
    license: Annotated[Text, Field(description="license of the questions, as an SPDX name if possible")] | None = None
    chance: Annotated[float, Field(ge=0, lt=1, description="score of guessing; needed unless it is 0")] | None = None
    parts: Annotated[
        Text | list[Text] | None, Field(description="columns whose values give scores of their own, such as `level`")
    ] = None
    gated: Annotated[bool, Field(description="the authors ask that questions never be shown")] = False
    variants: Variants | None = None


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
    metric_list: Annotated[
        Annotated[list[MetricEntry], Field(min_length=1)] | None, Field(description="how answers are scored")
    ] = None
    metadata: Annotated[Metadata | None, Field(description="see below")] = None
