"""Model arguments: what is wrong with them is one line, and runs are named after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.errors import TTSError
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

CASES = Path(__file__).parent / "cases"
SWEEP = [
    f"tts_{name}_b{budget}" for name in ("aime24", "aime25", "math500") for budget in (512, 1024, 2048, 4096, 8192)
]
SMALL = ["--limit", "2", "--gen_kwargs", "max_gen_toks=20,thinking_token_budget=6", "--batch_size", "8"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"recipe": "nope"},
            "recipe=nope: neither a YAML file nor an installed recipe; installed: deepseek-r1-distill-qwen-7b, "
            ".*qwen3-8b-reverse-1, ",
        ),
        ({"drop_layers": [6]}, "layer 6 does not exist; the model has layers 0-5"),
        ({"drop_layers": "0-5"}, "drops all 6 layers"),
        ({"drop_layers": 1, "recipe": "qwen3-8b-reverse-1"}, "contradict each other"),
        ({"drop_layers": 1, "delta": "x"}, "delta=x cannot be combined with dropped layers"),
        ({"drop_layers": 1, "gguf_file": "x"}, "gguf_file=x cannot be combined with dropped layers: .*safetensors"),
        ({"drop_layer": 1}, "unknown model argument 'drop_layer'; expected one of: drop_layers"),
        ({"drop_layers": 1, "drop_layer": 1}, "unknown model argument 'drop_layer'"),
        ({"dtype": "float23"}, "dtype=float23: give auto, float32, float16, bfloat16, or another float type of torch"),
        ({"dtype": "int8"}, "dtype=int8: give auto"),
        ({"dtype": 16}, "dtype=16: give auto"),
        ({"mixed_precision_dtype": "nn"}, "mixed_precision_dtype=nn: give auto"),
        ({"peft": "nothing"}, "peft=nothing: no adapter_config.json there.*; give the folder or Hub name of a PEFT"),
        ({"thinking_format": {"start": "<r>"}}, "thinking_format=.*: give start and end"),
        ({"chat_template": "none.jinja"}, "chat_template='none.jinja': cannot be read .No such file"),
        ({"stop_loops": "maybe"}, "stop_loops='maybe': give True or False"),
        ({"answer_token_budget": None}, "answer_token_budget=None: give a whole number of tokens"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: dict[str, Any], message: str, tiny_model: Path) -> None:
    with pytest.raises(TTSError, match=message) as error:
        PrunedHFLM(**{"pretrained": str(tiny_model), "device": "cpu", **arguments})
    assert "\n" not in str(error.value)


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
