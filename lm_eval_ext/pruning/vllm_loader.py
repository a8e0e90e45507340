"""Drops layers in vLLM: a model loader that streams and renames the kept tensors; no pruned copy is written.

vLLM calls `register` in every process, including its workers, through the entry point `vllm.general_plugins`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import config_overrides, text_config
from lm_eval_ext.pruning.block_verification import ensure_zeros_exact
from lm_eval_ext.pruning.blocks import Blocks, check_zeros, left_out
from lm_eval_ext.pruning.checkpoint import Changes, InMemory, changed, check_one_checkpoint, is_used, tensor_names
from lm_eval_ext.pruning.experts import count_overrides, refuse_uneven
from lm_eval_ext.pruning.loading import Sliced
from lm_eval_ext.pruning.merging import merged_weights
from lm_eval_ext.pruning.quantization import for_vllm, quantization_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig
    from vllm.config import LoadConfig

LOAD_FORMAT = "lm-eval-tts"
KEPT, CHANGES, ZEROS = "kept_layers", "changes", "zeroed_blocks"  # our keys of `model_loader_extra_config`
_CHANGES = TypeAdapter(Changes)  # vLLM sends its configuration to its workers as JSON


def engine_arguments(
    pretrained: str,
    config: PreTrainedConfig,
    sliced: Sliced,
    hub: Mapping[str, object],
    trust_remote_code: bool = False,
) -> dict[str, object]:
    """Arguments for `vllm.LLM` that load a pruned model; blocks that it leaves out add zeros there.

    Args:
        pretrained: Hub name or local folder of the base model.
        config: of the base model.
        sliced: what is left of it.
        hub: arguments of `cached_file`, such as the revision.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: vLLM's loader can't drop these layers.
        CheckpointError: vLLM would read other weights than transformers.
    """
    check_one_checkpoint(pretrained, hub)
    refuse_uneven(sliced.config, "vLLM takes")
    if getattr(text_config(config), "hidden_size_per_layer_input", None):
        raise ArchitectureError(
            f"layers of this {config.model_type} model cannot be dropped in vLLM, which reads its per-layer embeddings "
            "whole; export the pruned model first"
        )
    changed = config_overrides(config, sliced.kept)
    if sliced.changes.experts:
        text = changed if text_config(config) is config else changed["text_config"]
        assert isinstance(text, dict)
        text |= count_overrides(sliced.config)
    fields, blocks = quantization_of(sliced.config), left_out(sliced.config)
    if fields is not None or any(blocks):
        renamed = (sliced.changes.renamed(name, sliced.kept) for name in tensor_names(pretrained, hub))
        names = [name for name in renamed if name is not None]
        if any(blocks):
            check_zeros(config, blocks, names)
            ensure_zeros_exact(sliced.config, blocks, trust_remote_code=trust_remote_code)
        if fields is not None:
            changed["quantization_config"] = for_vllm(fields, names)
    extra = {KEPT: list(sliced.kept), CHANGES: _CHANGES.dump_python(sliced.changes, mode="json"), ZEROS: list(blocks)}
    return {"load_format": LOAD_FORMAT, "model_loader_extra_config": extra, "hf_overrides": changed}


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
            self.changes = _CHANGES.validate_python(extra.pop(CHANGES))
            self.zeros = Blocks(*map(tuple, extra.pop(ZEROS)))
            super().__init__(dataclasses.replace(load_config, load_format="auto", model_loader_extra_config=extra))

        def _get_weights_iterator(self, source: DefaultModelLoader.Source) -> Iterator[tuple[str, torch.Tensor]]:
            theirs = source.is_unused_weight

            def unused(name: str) -> bool:
                return not is_used(name, self.kept, self.changes) or bool(theirs and theirs(name))

            # Shards with only unused tensors are not read at all.
            source = dataclasses.replace(source, is_unused_weight=unused)
            weights = merged_weights(
                self._changed(super()._get_weights_iterator(source)), self.kept, self.changes.merged
            )
            return ((name, torch.zeros_like(one) if self.zeros.end_with(name) else one) for name, one in weights)

        def _changed(self, weights: Iterator[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
            experts = self.changes.experts
            for name, one in weights:
                if (new := experts.renamed(name) if experts else name) is not None:
                    yield new, changed(name, InMemory(one), self.changes)[...]

    return PrunedModelLoader
