"""Model arguments: what is wrong with them is one line, and runs are named after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.errors import TTSError
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from tests.shared import case_table


@pytest.mark.parametrize(("arguments", "message"), case_table("wrong_arguments.yaml")["models"])
def test_wrong_arguments_are_one_line(arguments: dict[str, Any], message: str, tiny_model: Path) -> None:
    with pytest.raises(TTSError) as error:
        PrunedHFLM(**{"pretrained": str(tiny_model), "device": "cpu", **arguments})
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"pretrained": "org/m"}, "org/m"),
        ({"pretrained": "org/m", "drop_layers": [3, 4, 7]}, "org/m-drop3-4+7"),
        ("pretrained=org/m,drop_layers=[3,4]", "org/m-drop3-4"),
        ({"recipe": "qwen3-8b-reverse-2"}, "Qwen/Qwen3-8B-drop34-35"),
        ({"recipe": "qwen3-8b-reverse-2", "pretrained": "local"}, "local-drop34-35"),
    ],
)
def test_dense_and_pruned_runs_have_names_of_their_own(arguments: Any, name: str) -> None:
    assert run_name("org/m", arguments) == name
