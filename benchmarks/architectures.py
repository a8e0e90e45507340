"""Tests on tiny random models from which causal language models in the installed transformers layers can be dropped.

    python -m benchmarks.architectures [KIND ...] [--every 5] [--experts] [--write]

For every model type, several sets of layers are dropped (first, middle, last, several, all of one kind). The logits are
compared with those of the base model with these layers bypassed, cached generation with uncached, and what transformers
reads from the export with what is exported. Exits with 1 if a verified model type is not exact, or a drop fails with an
error other than a refusal. `--write` saves the results to `verification.yaml` and `docs/reference/supported-models.md`.

With `--experts`, experts are dropped from those that have some, equally and unequally many in each layer. The logits
are compared with those of the base model whose router never chooses them. Three mutations of every type must be
noticed: wrong rows, wrong correction biases, and groups that lose different numbers.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
import yaml
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lm_eval_ext.errors import ArchitectureError, TTSError
from lm_eval_ext.generation.engines.hf import engine_types
from lm_eval_ext.harness.models.pruned_hf import why_wrong
from lm_eval_ext.pruning import verification
from lm_eval_ext.pruning.architecture import check_supported, depth, text_config
from lm_eval_ext.pruning.expert_verification import difference_without, expert_twin, find_experts, kept_of_twin
from lm_eval_ext.pruning.experts import KeptExperts, Rows, groups_of, number_of_experts
from lm_eval_ext.pruning.export import read_back_difference

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "supported-models.md"
TABLE = Path(verification.__file__).with_name("verified.yaml")
LAYERS = 6
INTRODUCTION = """# Supported models

This page lists the causal language models that can be loaded without some of their layers. Each model type in
transformers {version} was built as a tiny random model and loaded without its first, middle, last, several, and all
layers of one kind. It counts as exact if its logits equal those of the base model with these layers bypassed (float32,
within 1e-4 of the largest), and cached generation equals uncached, also with padding on the left. Each was also
exported, and read back by transformers; a note says which are not exported, as they would be read as another model.

The column "experts" says whether experts can be dropped: exact if the logits equal those of the base model whose router
never chooses them, with the same number of experts dropped in each layer, and with different numbers unless it says
otherwise. It is empty for a model type without experts.

A model type that is not listed, such as one from a later transformers release or with custom code, is tested the same
way when it is loaded. This takes seconds, and the model is refused if it is not exact. So are image-text models without
a causal class, such as Ministral 3, Qwen3-VL and GLM-4V, which text tasks run through `AutoModelForImageTextToText`.

vLLM has model code of its own. The column "in vLLM" says what `python -m benchmarks.vllm_kinds` found: with layers
dropped while loading into `pruned-vllm`, whether greedy texts and log-likelihoods equal those of `pruned-hf` on the
exported checkpoint. A type that was not tried, or that differs, is loaded with a warning, and the results say so. Two
types differ or fail in vLLM {vllm} on a CPU even as whole models: `gemma2` and `olmo2`.

Written by `python -m benchmarks.architectures --write`.
"""


class Verdict(NamedTuple):
    """Verdict on a model type: exact, refused, not exact or cannot be built, why, and whether it is decoded rightly."""

    name: str
    why: str = ""
    decoded: bool = False


Judge = Callable[[str, Mapping[str, Any]], Verdict | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="model types to test; by default all")
    parser.add_argument("--every", type=int, default=1, help="only test every Nth model type")
    parser.add_argument("--experts", action="store_true", help="drop experts, not layers")
    parser.add_argument("--write", action="store_true", help="save the results")
    given = parser.parse_args()
    kinds = given.kinds or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)[:: given.every]
    verdicts = dict(_verdicts(kinds, without_experts if given.experts else without_layers))
    for name in sorted({verdict.name for verdict in verdicts.values()}):
        print(f"{sum(verdict.name == name for verdict in verdicts.values())} {name}")
    if given.write:
        (_write_experts if given.experts else _write)(verdicts)
    if faults := _faults(verdicts, experts=given.experts):
        raise SystemExit("\n".join(faults))


def _verdicts(kinds: Sequence[str], judge: Judge) -> Iterator[tuple[str, Verdict]]:
    """Verdicts on model types, from as many processes of one thread as there are cores."""
    given: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_quiet) as processes:
        timed = processes.map(_timed, kinds, [given.get(kind, {}) for kind in kinds], [judge] * len(kinds))
        for kind, (verdict, seconds) in zip(kinds, timed, strict=True):
            if verdict is None:
                continue
            print(f"{kind:<28}{verdict.name:<16}{seconds:5.1f} s  {verdict.why}"[:160], flush=True)
            yield kind, verdict


def _quiet() -> None:
    torch.set_num_threads(1)  # faster than several for so small a model
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)


def _timed(kind: str, fields: Mapping[str, Any], judge: Judge) -> tuple[Verdict | None, float]:
    started = time.perf_counter()
    verdict = judge(kind, fields)
    return verdict, time.perf_counter() - started


def without_layers(kind: str, fields: Mapping[str, Any]) -> Verdict:
    """See `verdict_on`, and whether the model type is decoded rightly."""
    return verdict_on(kind, fields)._replace(decoded=is_decoded(kind, fields))


def verdict_on(kind: str, fields: Mapping[str, Any]) -> Verdict:
    """Build a tiny model of a model type, and drop layers from it."""
    try:
        config = _config(kind, fields)
        check_supported(config)
    except ArchitectureError as refusal:
        return Verdict("refused", str(refusal).partition("cannot be dropped: ")[2])
    except Exception as error:
        return Verdict("cannot be built", _line(error))
    try:
        with verification.tiny_twin(config) as twin:
            _run(twin.model)
            outcomes = [_outcome(config, twin, dropped) for dropped in _sets(config)]
    except Exception as error:
        return Verdict("cannot be built", _line(error))
    return next((outcome for outcome in outcomes if outcome.name == "not exact"), _mildest(outcomes))


def without_experts(kind: str, fields: Mapping[str, Any]) -> Verdict | None:
    """Build a tiny model of a model type, and drop experts from it; None if it has none."""
    try:
        config = _config(kind, fields)
        if not number_of_experts(config):
            return None
    except ArchitectureError:
        return None  # it has several text models
    except Exception as error:
        return Verdict("cannot be built", _line(error))
    try:
        tensors = find_experts(config)
    except Exception as error:
        return Verdict("refused", _reason(error))
    with expert_twin(config) as twin:
        even = kept_of_twin(twin, tensors, even=True)
        try:
            difference_without(twin, even)
        except Exception as error:  # as when such a model is loaded
            return Verdict("refused", _reason(error))
        if missed := _missed(twin, even):
            return Verdict("not exact", f"mutations that were not noticed: {', '.join(missed)}")
        try:
            difference_without(twin, kept_of_twin(twin, tensors, even=False))
        except Exception as error:
            return Verdict("exact", f"not with different numbers by layer: {_reason(error)}")
    return Verdict("exact")


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())
    return (said.partition("this is exact ")[2].strip("()") or said or type(error).__name__)[:200]


@dataclass(frozen=True)
class Mixed(KeptExperts):
    """Takes the first rows of some tensors in place of those of the experts that are kept."""

    mixes: Callable[[Sequence[int], Rows], bool] = lambda shape, rows: True

    def rows_of(self, name: str, shape: Sequence[int]) -> Rows | None:
        """The rows that are loaded of a tensor."""
        rows = super().rows_of(name, shape)
        return rows._replace(parts=tuple(range(len(rows.parts)))) if rows and self.mixes(shape, rows) else rows


def _is_bias(shape: Sequence[int], rows: Rows) -> bool:
    return all(size == 1 for dimension, size in enumerate(shape) if dimension != rows.dimension)


def _missed(twin: verification.Twin, kept: KeptExperts) -> list[str]:
    """Mutations that the check doesn't notice, of those that can be made of this model."""
    shapes = {name: tensor.shape for name, tensor in twin.model.state_dict().items()}
    cut = [(shape, rows) for name, shape in shapes.items() if (rows := kept.rows_of(name, shape))]
    mutations: dict[str, KeptExperts] = {"rows": Mixed(kept.tensors, kept.by_layer)}
    if any(_is_bias(*one) for one in cut):
        mutations["biases"] = Mixed(kept.tensors, kept.by_layer, _is_bias)
    if groups_of(twin.config) != (1, 1):
        uneven = dict.fromkeys(kept.by_layer, tuple(range(2, kept.tensors.count)))
        mutations["groups"] = KeptExperts(kept.tensors, uneven)
    return [name for name, mutated in mutations.items() if _passes(twin, kept, mutated, name)]


def _passes(twin: verification.Twin, kept: KeptExperts, mutated: KeptExperts, name: str) -> bool:
    """Whether the check takes what was loaded for the model without the experts."""
    asked = mutated if name == "groups" else kept
    try:
        difference_without(twin, asked, mutated)
    except Exception:
        return False
    return True


def is_decoded(kind: str, fields: Mapping[str, Any]) -> bool:
    """Whether the engine that a model type's cache allows decodes it as transformers computes it."""
    try:
        with verification.tiny_twin(_config(kind, fields)) as twin:
            return why_wrong(twin.model, engine_types(twin.model)[0]) is None
    except Exception:
        return False  # it is checked when it is loaded


def _config(kind: str, fields: Mapping[str, Any]) -> Any:
    try:
        return CONFIG_MAPPING[kind](num_hidden_layers=LAYERS, **fields)
    except Exception:  # its layer count is in another field, or derived
        return CONFIG_MAPPING[kind](**fields)


def _run(model: Any) -> None:
    """Run the full model: if it does not work, dropping layers cannot be tested."""
    with torch.no_grad():
        model.generate(torch.full((1, 4), 7), max_new_tokens=2, do_sample=False)


def _sets(config: Any) -> list[list[int]]:
    """Sets of layers to drop."""
    total = depth(config)
    sets = [[0], [total // 2], [total - 1], sorted({1, total - 2}), list(range(0, total, 2))]
    for field in ("layer_types", "mlp_layer_types", "layers_block_type"):
        kinds = getattr(text_config(config), field, None) or ()
        sets += [[layer for layer, other in enumerate(kinds) if other == one] for one in sorted(set(kinds))]
    return [dropped for dropped in sets if 0 < len(dropped) < total]


def _outcome(config: Any, twin: verification.Twin, dropped: Sequence[int]) -> Verdict:
    kept = [layer for layer in range(depth(config)) if layer not in dropped]
    try:
        check_supported(config, kept)
    except ArchitectureError as refusal:
        return Verdict("refused", str(refusal).partition("cannot be dropped: ")[2])
    try:
        twin.difference(kept)
    except TTSError as error:
        return Verdict("not exact", f"without layers {dropped}: {error}")
    except Exception as error:
        return Verdict("not exact", f"without layers {dropped}: {_line(error)}")
    try:
        read_back_difference(twin, kept)
    except Exception as error:  # what `export` refuses, too
        return Verdict("exact", f"not exported without layers {dropped}: {_line(error)}")
    return Verdict("exact")


def _mildest(outcomes: Sequence[Verdict]) -> Verdict:
    """Exact, with the layers that must be kept; refused if no layer can be dropped."""
    conditions = list(dict.fromkeys(outcome.why for outcome in outcomes if outcome.why))
    exact = any(outcome.name == "exact" for outcome in outcomes)
    return Verdict("exact" if exact else "refused", conditions[0] if conditions else "")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _faults(verdicts: Mapping[str, Verdict], *, experts: bool) -> list[str]:
    """Model types that are verified but not exact, and those that are neither exact nor refused by a rule."""
    table = yaml.safe_load(TABLE.read_text("utf-8"))
    listed = [kind for kind, why in table["experts"].items() if why.startswith("exact")] if experts else table["exact"]
    return [
        f"{kind}: {verdict.name} ({verdict.why})"
        for kind, verdict in verdicts.items()
        if verdict.name == "not exact" or (kind in listed and verdict.name != "exact")
    ]


def _write(verdicts: Mapping[str, Verdict]) -> None:
    exact = [kind for kind, verdict in verdicts.items() if verdict.name == "exact"]
    decoded = [kind for kind, verdict in verdicts.items() if verdict.decoded]
    experts = verification.verified()["experts"]
    _write_table({"transformers": transformers.__version__, "exact": exact, "decoded": decoded, "experts": experts})
    PAGE.write_text(
        INTRODUCTION.format(version=transformers.__version__, vllm=verification.verified("verified_vllm.yaml")["vllm"])
        + "".join(_sections(verdicts)),
        "utf-8",
    )


def _write_experts(verdicts: Mapping[str, Verdict]) -> None:
    """Save what came out for experts; the page gets it with the next results for layers."""
    found = {kind: ": ".join(part for part in verdict[:2] if part) for kind, verdict in verdicts.items()}
    _write_table({**verification.verified(), "experts": found})


def _write_table(table: Mapping[str, object]) -> None:
    header = """# Written by `python -m benchmarks.architectures --write`: kinds from which dropping layers is exact,
# those that our engine decodes as transformers computes them, and, with --experts, whether dropping experts is exact.
"""
    TABLE.write_text(header + yaml.safe_dump(dict(table), sort_keys=False, width=120), "utf-8")


def _sections(verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    titles = {"exact": "Exact", "refused": "Refused", "not exact": "Not exact", "cannot be built": "Not tried"}
    for name, title in titles.items():
        rows = [(kind, verdict.why) for kind, verdict in verdicts.items() if verdict.name == name]
        if rows:
            yield f"\n## {title} ({len(rows)})\n\n| model_type | in vLLM | experts | note |\n|---|---|---|---|\n"
            yield from (
                f"| `{kind}` | {_in_vllm(kind)} | {_of_experts(kind)} | {why.replace('|', '/')} |\n"
                for kind, why in rows
            )


def _of_experts(kind: str) -> str:
    return str(verification.verified()["experts"].get(kind, "")).replace("|", "/")


def _in_vllm(kind: str) -> str:
    return verification.verdict_in_vllm(kind).partition(":")[0]


if __name__ == "__main__":
    main()
