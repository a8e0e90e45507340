"""Prompts of each family: its own template, one start of thinking, one beginning of text."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from lm_eval_ext.authoring.variants import sync
from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engine import codec_of
from lm_eval_ext.harness import thinking_model
from lm_eval_ext.harness.arguments import Arguments
from lm_eval_ext.harness.bridge import ThinkingRequests
from lm_eval_ext.paths import TASKS
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

FAMILIES = case_table("chat_templates.json")


def requests_of(family: dict[str, Any]) -> ThinkingRequests:
    tokenizer = byte_tokenizer(family["template"], tuple(family["markers"]))

    def apply_chat_template(history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return str(
            tokenizer.apply_chat_template(
                history, tokenize=False, add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt, **family.get("arguments", {}),
            )
        )  # fmt: skip

    lm = SimpleNamespace(
        tokenizer=tokenizer,
        pretrained=family.get("model", ""),
        apply_chat_template=apply_chat_template,
        tok_encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
    )
    return ThinkingRequests(lm, Arguments.of({"answer_token_budget": 10, "journal": "off", "seed": 0}))


def instance(text: str, gen_prefix: str | None = None) -> Instance:
    made = Instance("generate_until", {}, (text, {"thinking_token_budget": 5}), 0, ("tts_test", 0, 1))
    made.gen_prefix = gen_prefix
    return made


@pytest.mark.parametrize("family", [pytest.param(family, id=family["family"]) for family in FAMILIES])
def test_a_prompt_ends_where_thinking_starts(family: dict[str, Any]) -> None:
    requests = requests_of(family)
    assert requests.thinking_format.name == family["format"]
    (prompt,) = requests.prompts.of([instance("Why?")])
    ids, thinks = requests.prompts.encoded(prompt, requests.thinking_format)
    text = requests.lm.tokenizer.decode(list(ids))
    assert text.endswith(family["end"]) and text.count("Why?") == 1
    assert thinks == family["thinks"]
    assert text.count("<s>") == ("bos_token" in (family["template"] or ""))
    (again,) = requests.prompts.of([instance(prompt.text)])
    assert again.text == prompt.text, "a prompt with the template got it again"


RENDERING_ASSISTANTS = [
    pytest.param(family, id=family["family"])
    for family in FAMILIES
    if "message.role + '" in (family["template"] or "") and "<|turn>" not in family["template"]
]


@pytest.mark.parametrize("family", RENDERING_ASSISTANTS)
@pytest.mark.parametrize("templated_before", [True, False])
def test_a_gen_prefix_begins_the_assistants_turn(family: dict[str, Any], templated_before: bool) -> None:
    """Whether lm-eval applied the template or left it to us, and never with the thinking opened again behind it."""
    requests = requests_of(family)
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because"}]
    rendered = requests.lm.apply_chat_template(turns, add_generation_prompt=False)
    text = rendered if templated_before else "Why? Because"
    (prompt,) = requests.prompts.of([instance(text, "Because")])
    assert prompt.text == rendered
    ids, thinks = requests.prompts.encoded(prompt, requests.thinking_format)
    assert requests.lm.tokenizer.decode(list(ids)).endswith("Because")
    assert not thinks or not requests.thinking_format.separates


def test_a_template_without_assistants_is_followed_by_the_prefix() -> None:
    requests = requests_of(next(family for family in FAMILIES if family["format"] == "deepseek-r1"))
    (prompt,) = requests.prompts.of([instance("Why? Because", "Because")])
    assert prompt.text == "<s><｜User｜>Why?<｜Assistant｜><think>\nBecause"
    assert requests.prompts.encoded(prompt, requests.thinking_format).thinks, "the template has opened the thinking"


def test_a_prefix_behind_a_closed_thinking_does_not_open_it_again() -> None:
    requests = requests_of(next(family for family in FAMILIES if family["format"] == "qwen3"))
    text = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nBecause"
    (prompt,) = requests.prompts.of([instance(text, "Because")])
    ids, thinks = requests.prompts.encoded(prompt, requests.thinking_format)
    assert (requests.lm.tokenizer.decode(list(ids)), thinks) == (text, False)


def test_a_gen_prefix_may_begin_the_thinking() -> None:
    requests = requests_of(next(family for family in FAMILIES if family["format"] == "qwen3"))
    (prompt,) = requests.prompts.of([instance("Why? <think>\nFirst,", "<think>\nFirst,")])
    ids, thinks = requests.prompts.encoded(prompt, requests.thinking_format)
    assert thinks and requests.lm.tokenizer.decode(list(ids)).endswith("<think>\nFirst,")


@pytest.mark.parametrize("family", [pytest.param(family, id=family["family"]) for family in FAMILIES])
def test_markers_come_back_from_their_ids(family: dict[str, Any]) -> None:
    requests = requests_of(family)
    codec = codec_of(requests.lm.tokenizer, {2})
    for marker in (
        requests.thinking_format.start,
        requests.thinking_format.end,
        requests.thinking_format.early_stop,
        requests.thinking_format.close,
    ):
        assert requests.lm.tokenizer.decode(codec.encode(marker)) == marker


EXAMPLES = """\
include: ../_math
task: tts_examples
dataset_path: json
dataset_kwargs: {data_files: {test: TEST, train: TRAIN}}
test_split: test
fewshot_split: train
description: "You are a careful accountant.\\n\\n"
metadata: {version: 1, question: problem, answer: answer}
"""


@pytest.fixture(scope="module")
def with_examples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A task with a system prompt and worked examples, whose rows also hold somebody's thoughts."""
    folder = tmp_path_factory.mktemp("examples")
    for split, count in (("test", 1), ("train", 2)):
        rows = [
            {"problem": f"{split} problem {n}?", "thoughts": "<think>secret thoughts</think>", "answer": f"{n}7"}
            for n in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    own = folder / "tasks" / "examples" / "tts_examples.yaml"
    own.parent.mkdir(parents=True)
    (folder / "tasks" / "_math").write_text((TASKS / "_math").read_text("utf-8"), "utf-8")
    text = EXAMPLES.replace("TEST", str(folder / "test.jsonl")).replace("TRAIN", str(folder / "train.jsonl"))
    own.write_text(text, "utf-8")
    sync(folder / "tasks")
    return TaskManager(include_path=str(folder / "tasks"), include_defaults=False).load(["tts_examples"])["tasks"][
        "tts_examples"
    ]


def test_the_bar_is_drawn_every_second_while_no_request_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(thinking_model, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    with thinking_model.ProgressBar(2, quiet=False) as progress:
        now = 300.0
        progress.on_result()
        capsys.readouterr()
        for _ in range(240):  # a minute
            now += 0.25
            progress.on_tokens(90)
        drawn = capsys.readouterr().err.split("\r")[1:]
    assert len(drawn) == 60 and " 1/2 [05:59<" in drawn[-1] and " 59 tokens/s" in drawn[-1]


@pytest.mark.parametrize("way", ["plain", "one turn", "many turns"])
@pytest.mark.parametrize("family", [pytest.param(family, id=family["family"]) for family in FAMILIES])
def test_worked_examples_and_a_system_prompt_go_with_thinking(
    family: dict[str, Any], way: str, with_examples: Any
) -> None:
    if way != "plain" and not family["template"]:
        pytest.skip("a model without a chat template has only the plain way")
    requests = requests_of(family)
    roles = [{"role": role, "content": role.upper()} for role in ("system", "user", "assistant", "user")]
    if way != "plain" and not all(role["content"] in requests.lm.apply_chat_template(roles) for role in roles):
        pytest.skip("this family's template here has no system prompt, or no turns of the assistant")
    with_examples.set_fewshot_seed(1)
    context = with_examples.fewshot_context(
        next(iter(with_examples.test_docs())), 2, apply_chat_template=way != "plain",
        fewshot_as_multiturn=way == "many turns", chat_template=requests.lm.apply_chat_template,
    )  # fmt: skip
    (prompt,) = requests.prompts.of([instance(context)])
    ids, thinks = requests.prompts.encoded(prompt, requests.thinking_format)
    text = requests.lm.tokenizer.decode(list(ids))
    assert text.count("You are a careful accountant.") == 1
    assert text.index("accountant") < text.index("train problem") < text.index("test problem 0?")
    assert text.count("\\boxed{07}") == text.count("\\boxed{17}") == 1, "the examples answer as they ask for"
    assert text.count("within \\boxed{}") == 3 and "secret" not in text
    assert text.endswith(family["end"].replace("Why?", "\\boxed{}.")) and thinks == family["thinks"]


# Formats --------------------------------------------------------------------------------------------------------------


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
