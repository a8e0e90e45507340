"""Drops layers in vLLM: a model loader that streams and renames the kept tensors; no pruned copy is written.

vLLM calls `register` in every process, including its workers, through the entry point `vllm.general_plugins`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import config_overrides, text_config
from lm_eval_ext.pruning.block_verification import ensure_zeros_exact
from lm_eval_ext.pruning.blocks import NO_BLOCKS, Blocks, check_zeros, left_out
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes, check_one_checkpoint, is_used, tensor_names
from lm_eval_ext.pruning.experts import KeptExperts, count_overrides, refuse_uneven
from lm_eval_ext.pruning.merging import LinearMap, mapped, merged_weights
from lm_eval_ext.pruning.quantization import for_vllm, quantization_of
from lm_eval_ext.pruning.sparsity import Sparsity

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig
    from vllm.config import LoadConfig

LOAD_FORMAT = "lm-eval-tts"
KEPT, MERGED, MAP, ZEROS, EXPERTS, SPARSITY = (
    "kept_layers",
    "merged_layers",
    "linear_map",
    "zeroed_blocks",
    "kept_experts",
    "sparsity",
)  # our keys of `model_loader_extra_config`


def changed_fields(
    pretrained: str,
    config: PreTrainedConfig,
    sliced: PreTrainedConfig,
    kept: Sequence[int],
    hub: Mapping[str, object],
    changes: Changes = NO_CHANGES,
) -> dict[str, object]:
    """The config fields that change in a pruned model, for vLLM's `hf_overrides`.

    Args:
        pretrained: Hub name or local folder of the base model.
        config: of the base model.
        sliced: of the pruned model (`loading.pruned_config`).
        kept: ascending indices of the layers to keep.
        hub: arguments of `cached_file`, such as the revision.
        changes: which experts are kept.

    Raises:
        ArchitectureError: vLLM's loader can't drop these layers.
        CheckpointError: vLLM would read other weights than transformers.
    """
    check_one_checkpoint(pretrained, hub)
    refuse_uneven(sliced, "vLLM takes")
    changed = config_overrides(config, kept)
    if changes.experts:
        text = changed if text_config(config) is config else changed["text_config"]
        assert isinstance(text, dict)
        text |= count_overrides(sliced)
    fields, blocks = quantization_of(sliced), left_out(sliced)
    if getattr(text_config(config), "hidden_size_per_layer_input", None):
        kind = config.model_type
        raise ArchitectureError(
            f"layers of this {kind} model cannot be dropped in vLLM, which reads its per-layer embeddings whole; "
            "export the pruned model first"
        )
    if fields is None and not any(blocks):
        return changed
    renamed = (changes.renamed(name, kept) for name in tensor_names(pretrained, hub))
    names = [name for name in renamed if name is not None]
    if any(blocks):
        check_zeros(config, blocks, names)
        ensure_zeros_exact(sliced, blocks)
    return changed if fields is None else {**changed, "quantization_config": for_vllm(fields, names)}


def engine_arguments(
    overrides: dict[str, object],
    kept: Sequence[int],
    changes: Changes = NO_CHANGES,
    blocks: Blocks = NO_BLOCKS,
) -> dict[str, object]:
    """Arguments for `vllm.LLM` that load only the layers `kept`.

    Args:
        overrides: the config fields that change.
        kept: ascending indices of the layers to keep.
        changes: how weights of these layers are changed.
        blocks: blocks that are to add zeros, by the layers of the base model; vLLM can't leave them out.
    """
    # Pairs, because vLLM sends its configuration to its workers as JSON, which has no integer keys.
    pairs = [[layer, list(parts.items())] for layer, parts in changes.merged.items()]
    return {
        "load_format": LOAD_FORMAT,
        "model_loader_extra_config": {
            KEPT: list(kept),
            MERGED: pairs,
            MAP: changes.linear_map.model_dump() if changes.linear_map else None,
            ZEROS: [list(some) for some in blocks.within(kept)],
            EXPERTS: changes.experts.as_json() if changes.experts else None,
            SPARSITY: changes.sparsity.model_dump(mode="json") if changes.sparsity else None,
        },
        "hf_overrides": overrides,
    }


def register() -> None:
    """Register the load format with vLLM; may be called more than once."""
    from vllm.model_executor import model_loader

    if LOAD_FORMAT not in model_loader._LOAD_FORMAT_TO_MODEL_LOADER:
        model_loader.register_model_loader(LOAD_FORMAT)(_loader_class())


def _loader_class() -> type:
    import dataclasses

    import torch
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    class PrunedModelLoader(DefaultModelLoader):  # type: ignore[misc]  # vllm may not be installed
        """vLLM's own loader, without the tensors of dropped layers."""

        def __init__(self, load_config: LoadConfig) -> None:
            extra = dict(load_config.model_loader_extra_config)
            self.kept = tuple(extra.pop(KEPT))
            merged = {int(layer): {int(one): share for one, share in parts} for layer, parts in extra.pop(MERGED)}
            given, experts, sparsity = extra.pop(MAP), extra.pop(EXPERTS), extra.pop(SPARSITY)
            self.changes = Changes(
                merged,
                LinearMap.model_validate(given) if given else None,
                KeptExperts.from_json(experts) if experts else None,
                Sparsity.model_validate(sparsity) if sparsity else None,
            )
            self.zeros = Blocks(*map(tuple, extra.pop(ZEROS)))
            super().__init__(dataclasses.replace(load_config, load_format="auto", model_loader_extra_config=extra))

        def _get_weights_iterator(self, source: DefaultModelLoader.Source) -> Iterator[tuple[str, torch.Tensor]]:
            theirs = source.is_unused_weight

            def unused(name: str) -> bool:
                return not is_used(name, self.kept, self.changes) or bool(theirs and theirs(name))

            # Shards with only unused tensors are not read at all.
            source = dataclasses.replace(source, is_unused_weight=unused)
            weights = merged_weights(
                self._mapped(self._of_kept_experts(self._sparse(super()._get_weights_iterator(source)))),
                self.kept,
                self.changes.merged,
            )
            return ((name, torch.zeros_like(one) if self.zeros.end_with(name) else one) for name, one in weights)

        def _sparse(self, weights: Iterator[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
            sparsity = self.changes.sparsity
            for name, one in weights:
                yield name, sparsity.applied(name, one) if sparsity and sparsity.applies_to(name) else one

        def _of_kept_experts(self, weights: Iterator[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
            if (experts := self.changes.experts) is None:
                yield from weights
                return
            for name, one in weights:
                if (new := experts.renamed(name)) is not None:
                    rows = experts.rows_of(name, one.shape)
                    yield new, one if rows is None else rows.taken_from(one)

        def _mapped(self, weights: Iterator[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
            linear_map = self.changes.linear_map
            for name, one in weights:
                yield name, mapped(name, one, linear_map) if linear_map and linear_map.applies_to(name) else one

    return PrunedModelLoader
