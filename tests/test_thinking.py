from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.thinking_formats import (
    detect_format,
    format_named,
    format_names,
    format_of,
    thinking_of,
    with_markers,
)
from tests.shared import case_table
from tests.tokenizers import byte_tokenizer


@pytest.mark.parametrize("name", format_names())
def test_every_format_is_whole(name: str) -> None:
    thinking_format = format_named(name)
    assert thinking_format.early_stop and (
        not thinking_format.separates
        or (thinking_format.end in thinking_format.early_stop and thinking_format.end in thinking_format.close)
    )


@pytest.mark.parametrize(("template", "markers", "model", "name"), case_table("answers_found.yaml")["formats"])
def test_formats_are_found(template: str | None, markers: tuple[str, ...], model: str, name: str) -> None:
    assert detect_format(byte_tokenizer(template, markers), model).name == name


def test_an_unknown_format_lists_the_known() -> None:
    with pytest.raises(ArgumentError, match="unknown thinking_format 'qwen4'; expected one of: gpt-oss, "):
        format_named("qwen4")


def test_markers_of_a_task_replace_the_formats() -> None:
    changed = with_markers(format_named("qwen3"), "<reason>", "</reason>")
    assert (changed.start, changed.end) == ("<reason>", "</reason>")
    assert "</reason>" in changed.early_stop and "</think>" not in changed.early_stop
    assert with_markers(changed, None, None) == changed


OWN = {"start": "<r>", "end": "</r>"}


@pytest.mark.parametrize("given", [OWN, json.dumps(OWN), "file"])
def test_own_marks_are_a_mapping_or_a_file(given: object, tmp_path: Path) -> None:
    if given == "file":
        given = str(tmp_path / "marks.yaml")
        Path(given).write_text(yaml.safe_dump(OWN), encoding="utf-8")
    found = format_of(given)  # type: ignore[arg-type]
    assert (found.start, found.end) == ("<r>", "</r>") and "</r>" in found.early_stop
    assert format_of(found.name) == found, "what is recorded is the marks"
    assert thinking_of("1+2</r>It is 3.", found.name) == "1+2"
    assert thinking_of(f"1+2{found.early_stop}3", found.name) == "1+2"


@pytest.mark.parametrize(
    "given",
    [
        {"start": "<r>"},
        {"start": "<r>", "end": ""},
        {"start": "<r>", "end": ["</r>"]},
        {**OWN, "ends": "x"},
        {**OWN, "other_ends": "</s>"},
        {**OWN, "close": "x" * 600},
        "{not json",
        "missing.yaml",
    ],
)
def test_marks_that_cannot_be_used_are_one_line(given: object) -> None:
    with pytest.raises(ArgumentError) as refusal:
        format_of(given)  # type: ignore[arg-type]
    assert str(refusal.value).startswith("thinking_format=") and "\n" not in str(refusal.value)


def test_marks_in_results_of_strangers_are_no_error() -> None:
    assert thinking_of("1+2</think>3", '{"start": 1}') == "1+2"
