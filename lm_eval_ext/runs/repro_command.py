"""The command that reproduces a run, without details of the machine it ran on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from lm_eval_ext.harness.arguments import PUBLIC, parse_model_args
from lm_eval_ext.redaction import public_name
from lm_eval_ext.runs.run import CONTROLS
from lm_eval_ext.runs.untrusted import line, mapping, whole

# Model arguments that affect what is computed. Others (a cache, a token, a journal) are only named as left out.
_SHOWN = {
    "revision", "subfolder", "dtype", "tokenizer", "peft", "delta", "gguf_file", "load_in_4bit", "load_in_8bit",
    "quantization", "bnb_4bit_quant_type", "bnb_4bit_compute_dtype", "bnb_4bit_use_double_quant", "autogptq",
    "gptqmodel", "kv_cache_dtype", "lora_local_path", "hf_overrides", *PUBLIC,
    "enable_thinking", "think_end_token", "chat_template_args", "max_length", "max_gen_toks", "max_model_len",
    "add_bos_token", "prefix_token_id", "trust_remote_code", "parallelize", "device_map", "backend",
    "attn_implementation", "tensor_parallel_size", "data_parallel_size", "pipeline_parallel_size",
    "gpu_memory_utilization", "swap_space", "enforce_eager", "max_num_seqs", "max_num_batched_tokens",
    "tokenizer_mode", "batch_size", "max_batch_size",
}  # fmt: skip
# Those that change the model, or how it is prompted.
_VARYING = ("subfolder", "peft", "delta", "gguf_file", "load_in_4bit", "load_in_8bit", "quantization", "autogptq",
            "gptqmodel", "kv_cache_dtype", "lora_local_path", "hf_overrides", *CONTROLS)  # fmt: skip
_USUAL = {"load_in_4bit": False, "load_in_8bit": False, "autogptq": False, "gptqmodel": False, "enable_thinking": True,
          "kv_cache_dtype": "auto", "stop_loops": False, "thinking": True, "protocol": "default"}  # fmt: skip
_NAMES = (
    "peft",
    "delta",
    "tokenizer",
    "gguf_file",
    "recipe",
    "calibration",
    "lora_local_path",
    "thinking_format",
    "chat_template",
)  # arguments whose values may be paths
_LONGEST = 4000


def model_arguments(config: Mapping[str, object]) -> dict[str, object]:
    """lm-eval's `--model_args` as names and values, in whatever form they were saved."""
    given = config.get("model_args")
    return parse_model_args(given) if isinstance(given, str) else mapping(given)


def variation(arguments: Mapping[str, object], content: Mapping[str, object]) -> str:
    """Settings that change the model or how it is prompted: `load_in_4bit=true, peft=adapter`."""
    given = {name: arguments[name] for name in _VARYING if arguments.get(name) is not None}
    told = [f"{name}={_shown(name, value)}" for name, value in given.items() if not _is_usual(name, value)]
    if content.get("system_instruction"):
        told.append(f"system_instruction: {line(content['system_instruction'], 100)}")
    return line(", ".join(told))


def _is_usual(name: str, value: object) -> bool:
    """Whether a setting has its default value; a flag may be written as a word."""
    usual = _USUAL.get(name)
    words = ("true", "on", "yes") if usual else ("false", "off", "no")
    return value == usual or (isinstance(usual, bool) and str(value).lower() in words)


def command_of(content: Mapping[str, object], tasks: Sequence[str], base: str) -> str:
    """A one-line shell command from a results file; omitted arguments are named after a `#`."""
    config = mapping(content.get("config"))
    given = model_arguments(config)
    arguments = {"pretrained": base} | {name: given[name] for name in given if name in _SHOWN}
    words = ["lm_eval", "--model", line(config.get("model") or "hf"), "--model_args", _pairs(arguments)]
    words += ["--tasks", ",".join(tasks), *_options(content, config)]
    left_out = sorted(line(name, 50) for name in set(given) - _SHOWN - {"pretrained"})
    command = shlex.join(words) + (f"  # without {', '.join(left_out)}" if left_out else "")
    return line(command, _LONGEST)


def _options(content: Mapping[str, object], config: Mapping[str, object]) -> list[str]:
    words: list[str] = []
    if config.get("gen_kwargs"):
        generation = config["gen_kwargs"]
        words += ["--gen_kwargs", _pairs(generation) if isinstance(generation, dict) else line(generation)]
    for name in ("num_fewshot", "batch_size", "limit"):
        value = config.get(name)
        if value not in (None, ""):
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else line(value)]
    if content.get("chat_template"):
        words.append("--apply_chat_template")
    if content.get("fewshot_as_multiturn"):
        words.append("--fewshot_as_multiturn")
    if content.get("system_instruction"):
        words += ["--system_instruction", line(content["system_instruction"])]
    seeds = [whole(config.get(f"{name}_seed")) for name in ("random", "numpy", "torch", "fewshot")]
    return words + (["--seed", ",".join(map(str, seeds))] if None not in seeds else [])


def _pairs(values: Mapping[str, object]) -> str:
    return ",".join(f"{name}={_shown(name, value)}" for name, value in values.items())


def _shown(name: str, value: object) -> str:
    if name in _NAMES and isinstance(value, str) and not value.startswith("{"):  # the marks of a thinking format
        return line(public_name(value))
    return line(value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str))
