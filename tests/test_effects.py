"""What the arguments of a model do to a run."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TypeGuard

import lm_eval
import pytest

from lm_eval_ext.harness.arguments import Arguments
from lm_eval_ext.harness.effects import changed_fingerprint, changing, controlling, publishable, unknown
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.harness.server_arguments import ServerArguments

PLAIN = {
    "dtype": "bfloat16",
    "tensor_parallel_size": 2,
    "max_num_seqs": 8,
    "kv_cache_dtype": "auto",
    "quantization": None,
}


def test_what_only_changes_the_speed_leaves_the_fingerprint_as_it_is() -> None:
    assert changing(PLAIN) == {} and changed_fingerprint("abc", changing(PLAIN)) == "abc"


@pytest.mark.parametrize(
    "more",
    [
        {"quantization": "fp8"}, {"kv_cache_dtype": "fp8"}, {"hf_overrides": {"rope_theta": 5}},
        {"hf_overrides": '{"rope_theta": 5}'}, {"speculative_config": {"model": "x"}}, {"new_option": 3},
    ],
)  # fmt: skip
def test_what_may_change_texts_changes_the_fingerprint(more: dict[str, object]) -> None:
    found = changed_fingerprint("abc", changing(PLAIN | more))
    assert found != "abc" and found == changed_fingerprint("abc", changing(more)) and len(found) == 16


def test_an_adapter_counts_by_its_weights(tmp_path: Path) -> None:
    def adapter(name: str, weights: bytes) -> dict[str, object]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"r": 4}))
        (folder / "adapter_model.safetensors").write_bytes(weights)
        return {"lora_local_path": str(folder)}

    one, same, other = adapter("one", b"1"), adapter("same", b"1"), adapter("other", b"2")
    found = [changed_fingerprint("abc", changing(given)) for given in (one, same, other)]
    assert found[0] == found[1] != found[2] and "abc" not in found
    for value in (b"1", b"2"):
        (tmp_path / "one" / "adapter_model.safetensors").unlink(missing_ok=True)
        (tmp_path / "one" / "adapter_model.bin").write_bytes(value)
        found.append(changed_fingerprint("abc", changing(one)))
    assert len(set(found)) == 4, "also where they are in the older format"


def _is_constructor(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def test_every_argument_of_our_models_and_of_lm_evals_is_in_the_table() -> None:
    folder = Path(lm_eval.__file__).parent / "models"
    theirs = set()
    for file in ("huggingface.py", "vllm_causallms.py", "api_models.py"):  # vLLM need not be installed
        made = (node for node in ast.walk(ast.parse((folder / file).read_text("utf-8"))) if _is_constructor(node))
        theirs |= {argument.arg for function in made for argument in (*function.args.args, *function.args.kwonlyargs)}
    assert {"peft", "lora_local_path", "tokenized_requests"} <= theirs
    names = {*Arguments.model_fields, *ServerArguments.model_fields, *theirs} - {"self", "kwargs"}
    assert unknown(sorted(names)) == []


def test_an_argument_that_nobody_knows_makes_another_model(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "lm_eval.tts"):
        model = PrunedHFLM(journal="off", ignore_mismatched_sizes=True)
    assert "what ignore_mismatched_sizes changes isn't known" in caplog.text
    assert model.fingerprint != PrunedHFLM(journal="off").fingerprint


def test_nothing_private_or_unknown_is_published() -> None:
    given = {"pretrained": "a", "token": "t", "rope_theta": 1, "dtype": "bfloat16", "thinking": "off", "journal": "/x"}
    assert publishable(given) == {"pretrained": "a", "dtype": "bfloat16", "thinking": "off"}
    assert controlling(given) == {"thinking": "off"} and changing(given) == {"rope_theta": 1}


def test_the_order_of_arguments_makes_no_other_model_or_control() -> None:
    given = {
        "stop_loops": True,
        "rope_theta": 1,
        "enable_thinking": False,
        "quantization": "fp8",
        "abc": 2,
        "peft": "a",
    }
    both = [given, dict(reversed(given.items()))]
    assert [list(changing(one)) for one in both] == [["peft", "quantization", "abc", "rope_theta"]] * 2
    assert [list(controlling(one)) for one in both] == [["enable_thinking", "stop_loops"]] * 2


def test_what_shows_in_neither_weights_nor_config_counts_in_the_fingerprint() -> None:
    plain = PrunedHFLM(journal="off").fingerprint
    assert PrunedHFLM(journal="off", mixed_precision_dtype="bfloat16").fingerprint != plain
    assert PrunedHFLM(journal="off", batch_size=4, max_length=128).fingerprint == plain
