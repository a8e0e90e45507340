"""Turns an lm-eval results file, ours or a stock one, into a run that can be published.

Paths and secrets are removed, and so is everything about gated questions except their hashes and grades.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lm_eval_ext.errors import ResultsError, StoppedEarlyError
from lm_eval_ext.generation.request import canonical
from lm_eval_ext.harness.arguments import parse_model_args
from lm_eval_ext.harness.effects import changing, controlling, effect, marked, publishable, warn_of_unknown
from lm_eval_ext.paths import digest, json_object
from lm_eval_ext.redaction import line, mapping, number, public_name, scrubbed, sequence, whole
from lm_eval_ext.runs.catalogue import Catalogue
from lm_eval_ext.runs.run import Run, told_value
from lm_eval_ext.runs.samples import RUN_FILE, pack, validated
from lm_eval_ext.runs.task_results import is_gated, scored_tasks, task_result, task_rows
from lm_eval_ext.wording import number_listed

STOPPED_EARLY = "stopped_early"  # marks a results file that holds a part of a benchmark, chosen by what came out


def refuse_stopped_early(content: Mapping[str, object], path: Path) -> None:
    """Raise an error for results that were stopped early."""
    if STOPPED_EARLY in content:
        raise StoppedEarlyError(
            f"{path}: was stopped early by `lm-eval-tts gate`, when its verdict stood; so its mean is biased and no "
            "result of a benchmark; `gate --status` shows the verdict"
        )


def submission(path: Path, catalogue: Catalogue, base: str | None = None, *, in_part: bool = False) -> Run:
    """The run of one results file.

    Args:
        path: `results_*.json`.
        catalogue: which metric is the accuracy, and which benchmarks are gated.
        base: Hub name of the base model, if it was loaded from a local folder.
        in_part: whether it may have been stopped early.

    Raises:
        StoppedEarlyError: it was stopped early.
        ResultsError: the file is invalid; names the file and the field.
    """
    content = _results(path)
    if not in_part:
        refuse_stopped_early(content, path)
    config = mapping(content.get("config"))
    tasks, hashes = _tasks(content, catalogue, path)
    pruning = mapping(config.get("pruning"))
    arguments = model_arguments(config)
    warn_of_unknown(arguments)
    named = public_name(base or pruning.get("base") or arguments.get("pretrained") or content.get("model_name"))
    loaded = public_name(pruning["checkpoint"]) if pruning.get("checkpoint") else ""
    recovered = mapping(pruning.get("recovered"))
    if recovered:
        arguments.pop("peft", None)  # already recorded in `recovered`
    fields = {
        "date": _date(content, path),
        "base": named,
        "revision": line(config.get("model_revision") or arguments.get("revision"), 100),
        "changed": _made_from_base(pruning) | _public(changing(arguments)),
        "controls": _public(controlling(arguments)),
        "system_instruction": line(content.get("system_instruction"), 100),
        "gen_kwargs": {line(name, 200): value for name, value in canonical(mapping(config.get("gen_kwargs"))).items()},
        "fingerprint": line(pruning.get("model_fingerprint"), 64),
        "engine": line(config.get("model"), 100) or "unknown",
        "dtype": line(config.get("model_dtype"), 50).removeprefix("torch."),
        "pruning": _pruning(pruning, recovered) if pruning else None,
        "tasks": tasks,
        "generation": _numbers(config.get("generation")),
        "seconds": _not_negative(content.get("total_evaluation_time_seconds")),
        "seeds": {name: whole(value) for name, value in config.items() if name.endswith("_seed")},
        "software": _software(content),
        "settings": {line(name, 200): line(value) for name, value in mapping(config.get("settings")).items()},
        "costs": _numbers(config.get("costs")),
        "model_args": _public(publishable(arguments)),
        "command": command_of(content, list(tasks), loaded or named),
        "samples": hashes,
    }
    public = mapping(scrubbed(fields))
    return validated(public | {"id": _run_id(public)}, path)


def _results(path: Path) -> dict[str, object]:
    content = json_object(path, ResultsError)
    for field in ("results", "config"):
        if not isinstance(content.get(field), dict):
            kind = type(content.get(field)).__name__
            raise ResultsError(f"{path}: {field}: is {kind}; expected an object, as lm-eval writes it")
    return content


def _tasks(
    content: Mapping[str, object], catalogue: Catalogue, path: Path
) -> tuple[dict[str, dict[str, object]], dict[str, str]]:
    """Results by task, and the SHA-256 of each task's samples file; reads the samples of one task at a time."""
    tasks, hashes = {}, {}
    for scored in scored_tasks(content, catalogue, path):
        rows = task_rows(path, content, scored, catalogue)
        gated = is_gated(content, scored.task, catalogue)
        tasks[scored.task] = task_result(content, scored, rows, path, gated=gated)
        if tasks[scored.task]["scores"]:
            hashes[scored.task] = hashlib.sha256(pack(rows)).hexdigest()
    if not tasks:
        raise ResultsError(f"{path}: results: no task with an accuracy, such as acc or exact_match")
    return tasks, hashes


def _date(content: Mapping[str, object], path: Path) -> str:
    """When the run started; if it isn't recorded, the date in the file's name."""
    try:
        began = datetime.fromtimestamp(float(str(content["date"])), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        named = re.search(r"(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)", path.name)
        if named is None:
            raise ResultsError(
                f"{path}: date={line(repr(content.get('date')), 80)}; expected seconds since 1970, or a file named "
                "results_<date>.json"
            ) from None
        return f"{named[1]}T{named[2]}:{named[3]}:{named[4]}Z"
    return began.strftime("%Y-%m-%dT%H:%M:%SZ")


def _pruning(info: Mapping[str, object], recovered: Mapping[str, object]) -> dict[str, object]:
    kept, dropped = sequence(info.get("kept_layers")), sequence(info.get("dropped_layers"))
    merged: dict[str, list[object]] = {}
    mapped = mapping(info.get("linear_map"))
    for step in map(mapping, sequence(info.get("merged_layers"))):
        merged.setdefault(line(step.get("into"), 20), []).extend(sequence(step.get("layers")))
    return {
        "method": line(info.get("method"), 200) or "none",
        "source": line(info.get("source")),
        "depth": len(kept) + len(dropped),
        "dropped": dropped,
        "dropped_attention": sequence(info.get("dropped_attention")),
        "dropped_mlp": sequence(info.get("dropped_mlp")),
        **_experts(info),
        "merged": merged,
        "linear_map": f"{mapped.get('after')}:{mapped.get('sha256')}" if mapped else "",
        **_sparsity(mapping(info.get("sparsity"))),
        "layer_scores": [number(score) for score in sequence(info.get("layer_scores"))],
        "parameters_before": whole(info.get("parameters_before")) or 0,
        "parameters_after": whole(info.get("parameters_after")) or 0,
        "recipe_hash": line(info.get("recipe_hash"), 64),
        "recovered": line(json.dumps(scrubbed(recovered), sort_keys=True, default=str)) if recovered else "",
        "checkpoint": public_name(info["checkpoint"]) if info.get("checkpoint") else "",
        "relation": line(info.get("relation"), 50),
        **_quantization(mapping(info.get("quantization"))),
    }


def _experts(info: Mapping[str, object]) -> dict[str, object]:
    """Dropped experts, in runs that have them: others stay as they were published."""
    dropped = {line(layer, 10): line(some) for layer, some in mapping(info.get("dropped_experts")).items()}
    return {"dropped_experts": dropped, "experts": whole(info.get("experts")) or 0} if dropped else {}


def _sparsity(sparse: Mapping[str, object]) -> dict[str, object]:
    """Which weights are zero, in runs that have them."""
    said = {
        "sparsity": f"{sparse.get('amount')}:{sparse.get('sha256')}",
        "zero_weights": whole(sparse.get("zeros")) or 0,
    }
    return said if sparse else {}


def _made_from_base(pruning: Mapping[str, object]) -> dict[str, object]:
    """What was loaded, if it was made from the base, and how it was quantized while it was."""
    on_load = mapping(pruning.get("quantization")).get("on_load")
    loaded = {"checkpoint": public_name(pruning["checkpoint"])} if pruning.get("checkpoint") else {}
    return {**loaded, **({"quantize": line(on_load, 50)} if on_load else {})}


def _quantization(packed: Mapping[str, object]) -> dict[str, object]:
    bits, size = number(packed.get("bits")), whole(packed.get("bytes"))
    return {"quantization": line(packed.get("method"), 50), "bits": bits or None, "weight_bytes": size or None}


def _software(content: Mapping[str, object]) -> dict[str, str]:
    torch = re.search(r"PyTorch version: (\S+)", str(content.get("pretty_env_info")))
    named = {
        "lm-eval-tts": mapping(content.get("config")).get("lm_eval_tts_version"),
        "lm-eval": content.get("lm_eval_version"),
        "transformers": content.get("transformers_version"),
        "torch": torch[1] if torch else None,
    }
    return {name: line(version, 200) for name, version in named.items() if version}


def _run_id(fields: Mapping[str, object]) -> str:
    """A readable id that differs for different content."""
    pruning = mapping(fields["pruning"])
    kinds = {"": "dropped", "attention": "dropped_attention", "mlp": "dropped_mlp"}
    counts = {kind: len(sequence(pruning.get(name))) for kind, name in kinds.items()}
    counts["experts"] = sum(number_listed(str(some)) for some in mapping(pruning.get("dropped_experts")).values())
    method = str(pruning.get("method"))
    taken = [
        f"{method}-{count}{f'-{kind}' if kind not in ('', method) else ''}" for kind, count in counts.items() if count
    ]
    zeros = str(pruning.get("sparsity", "")).partition(":")[0].rstrip("%")
    taken += [f"{method}-zeros-{zeros}"] if zeros else []
    made = [str(pruning[name]) for name in ("relation", "quantization") if pruning.get(name)]
    label = "-".join([*taken, *made]) or "dense"
    words = f"{str(fields['base']).split('/')[-1]}-{label}-{digest(fields)[:8]}".lower()
    return re.sub(r"[^a-z0-9._-]+", "-", words)[-100:].strip("-._")


def _numbers(values: object) -> dict[str, float]:
    return {line(name, 200): found for name, value in mapping(values).items() if (found := number(value)) is not None}


def _not_negative(value: object) -> float | None:
    found = number(value)
    return found if found is not None and found >= 0 else None


def is_results(path: Path) -> bool:
    """Whether a file is named like lm-eval's results; published runs have another name."""
    return path.name != RUN_FILE and path.match("results_*.json")


_LONGEST = 4000


def model_arguments(config: Mapping[str, object]) -> dict[str, object]:
    """lm-eval's `--model_args` as names and values, in whatever form they were saved."""
    given = config.get("model_args")
    return parse_model_args(given) if isinstance(given, str) else mapping(given)


def _public(arguments: Mapping[str, object]) -> dict[str, object]:
    """Arguments as they may be published: of a path only the last part, and nothing of what isn't known here."""
    paths = marked("path")
    return {
        line(name, 200): f"not shown, {digest(value)[:6]}" if effect(name) is None
        else public_name(value) if name in paths and isinstance(value, str) and not value.startswith("{")
        else value
        for name, value in arguments.items()
    }  # fmt: skip


def command_of(content: Mapping[str, object], tasks: Sequence[str], base: str) -> str:
    """A one-line shell command from a results file; omitted arguments are named after a `#`."""
    config = mapping(content.get("config"))
    given = model_arguments(config)
    arguments = {"pretrained": base} | _public(publishable({**given, "pretrained": base}))
    words = ["lm_eval", "--model", line(config.get("model") or "hf"), "--model_args", _pairs(arguments)]
    words += ["--tasks", ",".join(tasks), *_options(content, config)]
    left_out = sorted(line(name, 50) for name in given if name not in arguments)
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
    if any(mapping(one).get("unsafe_code") for one in mapping(content.get("configs")).values()):
        words.append("--confirm_run_unsafe_code")
    if content.get("chat_template"):
        words.append("--apply_chat_template")
    if content.get("fewshot_as_multiturn"):
        words.append("--fewshot_as_multiturn")
    if content.get("system_instruction"):
        words += ["--system_instruction", line(content["system_instruction"])]
    seeds = [whole(config.get(f"{name}_seed")) for name in ("random", "numpy", "torch", "fewshot")]
    return words + (["--seed", ",".join(map(str, seeds))] if None not in seeds else [])


def _pairs(values: Mapping[str, object]) -> str:
    return ",".join(f"{name}={told_value(value)}" for name, value in values.items())
