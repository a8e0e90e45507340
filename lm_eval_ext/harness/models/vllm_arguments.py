"""Arguments of vLLM that change what a model computes, and so belong to its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from lm_eval_ext.pruning.checkpoint import find_file

# Arguments that leave the weights and the computation as they are; any other one may change them.
_HARMLESS = {
    "dtype", "revision", "trust_remote_code", "tokenizer", "tokenizer_mode", "tokenizer_revision",
    "add_bos_token", "prefix_token_id", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size",
    "distributed_executor_backend", "max_gen_toks", "batch_size", "max_batch_size", "max_length",
    "max_model_len", "seed", "enable_thinking", "chat_template_args", "think_end_token", "truncation_side",
    "device", "swap_space", "cpu_offload_gb", "gpu_memory_utilization", "kv_cache_memory_bytes",
    "enforce_eager", "enable_prefix_caching", "enable_chunked_prefill", "max_num_seqs",
    "max_num_batched_tokens", "max_lora_rank", "download_dir", "disable_log_stats", "load_format",
}  # fmt: skip
_USUAL: tuple[object, ...] = (None, False, "auto", "", {})


def changing(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that may change the texts of a model, unless they have their usual value.

    >>> changing({"quantization": "fp8", "kv_cache_dtype": "auto", "max_num_seqs": 8})
    {'quantization': 'fp8'}
    """
    return {name: value for name, value in arguments.items() if name not in _HARMLESS and value not in _USUAL}


def changed_fingerprint(fingerprint: str, arguments: Mapping[str, object]) -> str:
    """A checkpoint's fingerprint, changed by the arguments with which it is loaded; 16 hex digits.

    Args:
        fingerprint: of the checkpoint.
        arguments: as `changing` returns them; of an adapter (`lora_local_path`), its tensors count and not its place.
    """
    if not arguments:
        return fingerprint
    said = {name: value for name, value in arguments.items() if name != "lora_local_path"}
    digest = hashlib.sha256(f"{fingerprint} {json.dumps(said, sort_keys=True, default=str)}".encode())
    adapter = arguments.get("lora_local_path")
    for name in ("adapter_config.json", "adapter_model.safetensors") if adapter else ():
        found = find_file(str(adapter), name, {})
        digest.update(found.read_bytes() if found else str(adapter).encode())
    return digest.hexdigest()[:16]
