"""vLLM's arguments in the fingerprint of a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_eval_ext.harness.arguments import changed_fingerprint, changing
from lm_eval_ext.runs.submission import variation

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
    assert variation(one, {}).startswith("lora_local_path=")
