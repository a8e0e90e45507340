"""Prompts of each family: its own template, one start of thinking, one beginning of text."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lm_eval_ext.generation.budget_forcing import codec_of
from lm_eval_ext.models.thinking_requests import ThinkingRequests
from tests.tokenizers import byte_tokenizer

FAMILIES = json.loads((Path(__file__).parent / "cases" / "chat_templates.json").read_text("utf-8"))


def requests_of(family: dict[str, Any]) -> ThinkingRequests:
    tokenizer = byte_tokenizer(family["template"], tuple(family["markers"]))

    def apply_chat_template(history: list[dict[str, str]]) -> str:
        return str(
            tokenizer.apply_chat_template(
                history, tokenize=False, add_generation_prompt=True, **family.get("arguments", {})
            )
        )

    lm = SimpleNamespace(
        tokenizer=tokenizer,
        pretrained=family.get("model", ""),
        apply_chat_template=apply_chat_template,
        tok_encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
    )
    return ThinkingRequests(
        lm,
        format_name=None,
        answer_budget=10,
        auto_chat_template=True,
        share_traces=True,
        stop_loops=False,
        journal="off",
        seed=0,
    )


@pytest.mark.parametrize("family", [pytest.param(family, id=family["family"]) for family in FAMILIES])
def test_a_prompt_ends_where_thinking_starts(family: dict[str, Any]) -> None:
    requests = requests_of(family)
    assert requests.form.name == family["format"]
    text = requests._templated("Why?")
    ids, thinks = requests._encode(text, requests.form)
    prompt = requests.lm.tokenizer.decode(list(ids))
    assert prompt.endswith(family["end"]) and prompt.count("Why?") == 1
    assert thinks == family["thinks"]
    assert prompt.count("<s>") == ("bos_token" in (family["template"] or ""))
    assert requests._templated(text) == text, "a prompt with the template got it again"


@pytest.mark.parametrize("family", [pytest.param(family, id=family["family"]) for family in FAMILIES])
def test_markers_come_back_from_their_ids(family: dict[str, Any]) -> None:
    requests = requests_of(family)
    codec = codec_of(requests.lm.tokenizer, {2})
    for marker in (requests.form.start, requests.form.end, requests.form.early_stop, requests.form.close):
        assert requests.lm.tokenizer.decode(codec.encode(marker)) == marker
