"""Checks on a tiny twin of a model what can be done with its attention and MLP blocks.

Whether they can be left out, whether zeros in their last projections do the same, and whether a linear map of what they
add can be multiplied into these.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import Block, auto_class, text_config
from lm_eval_ext.pruning.blocks import (
    KINDS,
    MLP,
    Blocks,
    blocks_of,
    check_residual,
    forget_left_out,
    leave_out,
    silenced,
    silent,
)
from lm_eval_ext.pruning.checkpoint import Changes
from lm_eval_ext.pruning.layers import decoder_layers, hidden_states, hooked, with_states
from lm_eval_ext.pruning.merging import save_map
from lm_eval_ext.pruning.verification import (
    TOLERANCE,
    VISIBLE,
    Twin,
    check_equal,
    logits_of,
    refusing,
    relative_difference,
    tiny_twin,
    token_ids,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from lm_eval_ext.pruning.layers import Output

_ROWS = 3  # not 2: a block that returns a pair would be unpacked as if it returned one tensor of two rows

_shown_exact: set[tuple[object, ...]] = set()  # configs and blocks checked in this process


def ensure_blocks_exact(config: PreTrainedConfig, blocks: Blocks, *, trust_remote_code: bool = False) -> None:
    """Refuse to leave blocks out unless a check on a tiny twin shows that this is exact.

    Args:
        config: config of the model with all blocks.
        blocks: the blocks to leave out.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the blocks cannot be left out; the message says why.
    """
    what = (config.to_json_string(use_diff=False), *map(tuple, blocks))
    if what in _shown_exact:
        return
    with refusing(_refusal(config)), tiny_twin(config, trust_remote_code=trust_remote_code) as twin:
        ids = token_ids(twin.model, _ROWS)
        check_residual(twin.model, blocks, ids)
        sliced = copy.deepcopy(twin.config)
        leave_out(sliced, blocks)
        short = twin.loaded(sliced)
        with silenced(twin.model, blocks):
            expected = logits_of(twin.model, ids)
        check_equal(twin.model, short, ids, expected)
    _shown_exact.add(what)


def ensure_blocks_known(config: PreTrainedConfig, kinds: Sequence[str], *, trust_remote_code: bool = False) -> None:
    """Refuse to score blocks of some kinds unless a tiny twin has them, and its layers are the sum of their parts.

    Args:
        config: config of the model with all blocks.
        kinds: some of `KINDS`.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the message says why.
    """
    with refusing(_refusal(config)), tiny_twin(config, trust_remote_code=trust_remote_code) as twin:
        layers = {kind: tuple(block.layer for block in blocks_of(twin.model, [kind])) for kind in KINDS}
        for kind in kinds:
            if not layers[kind]:
                raise ArchitectureError(
                    f"no part of its layers is known as {kind}; declare its name in architectures.yaml"
                )
        known = Blocks(**{kind: layers[kind] for kind in kinds})
        check_residual(twin.model, known, token_ids(twin.model, _ROWS))


def _refusal(config: PreTrainedConfig) -> str:
    kind = text_config(config).model_type
    return f"blocks of a {kind} model cannot be left out: a tiny twin could not show that this is exact"


def ensure_zeros_exact(config: PreTrainedConfig, blocks: Blocks, *, trust_remote_code: bool = False) -> None:
    """Refuse zeros in place of blocks unless a check on a tiny twin shows that the model is the same.

    Args:
        config: config of the model, whose field `left_out` is not used.
        blocks: the blocks whose last projections are to be zeros.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the blocks add something all the same, as where a bias follows the last projection.
    """
    whole = copy.deepcopy(config)
    forget_left_out(whole)
    with tiny_twin(whole, trust_remote_code=trust_remote_code) as twin:
        ids = token_ids(twin.model)
        with silenced(twin.model, blocks):
            expected = logits_of(twin.model, ids)
        found = logits_of(_with_zeros(twin, blocks), ids)
    difference = relative_difference(found, expected)
    if not difference <= TOLERANCE:  # also true for NaN
        raise ArchitectureError(
            f"blocks of a {text_config(config).model_type} model cannot be replaced by zeros in their last "
            f"projections: the logits of a tiny twin differ by {difference:.1e}; only pruned-hf leaves them out"
        )


def _with_zeros(twin: Twin, blocks: Blocks) -> PreTrainedModel:
    """The twin, with zeros written into its checkpoint as `export` writes them."""
    import torch
    from safetensors.torch import load_file, save_file

    path = Path(twin.folder) / "model.safetensors"
    tensors = load_file(path)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if blocks.end_with(name)}
    save_file(tensors | zeros, path, metadata={"format": "pt"})
    model: PreTrainedModel = auto_class(twin.config).from_pretrained(
        twin.folder, dtype="float32", trust_remote_code=twin.trust_remote_code
    )
    return model.eval()


def ensure_map_exact(config: PreTrainedConfig, after: int, *, trust_remote_code: bool = False) -> None:
    """Refuse a linear map unless a check on a tiny twin shows that multiplying it into the weights is the same.

    It is not where a norm follows the feed-forward network, as in Gemma 2, or where its experts are in one tensor.

    Args:
        config: config of the base model.
        after: the layer whose feed-forward network the map follows.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: with the reason.
    """
    import torch

    what = (config.to_json_string(use_diff=False), after)
    if what in _shown_exact:
        return
    kind = text_config(config).model_type
    refusal = f"a linear map cannot be multiplied into the feed-forward network of layer {after} of a {kind} model"
    with (
        refusing(refusal, "; use a method that only drops layers"),
        tiny_twin(config, trust_remote_code=trust_remote_code) as twin,
    ):
        ids = token_ids(twin.model, _ROWS)
        width = int(text_config(twin.config).hidden_size)
        matrix = torch.randn(width, width, generator=torch.Generator().manual_seed(7)) / width**0.5
        changes = Changes(linear_map=save_map(after, matrix, Path(twin.folder)))
        found = logits_of(twin.loaded(twin.config, changes=changes), ids)
        whole = logits_of(twin.model, ids)
        with _addition_mapped(twin.model, after, matrix):
            expected = logits_of(twin.model, ids)
        if relative_difference(whole, expected) < VISIBLE:
            raise ArchitectureError("the map changes nothing in a random twin")
        if not (difference := relative_difference(found, expected)) <= TOLERANCE:  # also true for NaN
            raise ArchitectureError(f"the logits of a tiny twin differ by {difference:.1e}")
    _shown_exact.add(what)


def _addition_mapped(model: PreTrainedModel, number: int, matrix: torch.Tensor) -> AbstractContextManager[None]:
    """Multiply by a matrix what the feed-forward network of a layer adds, within the context."""
    layer, block = decoder_layers(model)[number], blocks_of(model, [MLP]).get(Block(MLP, number))
    if block is None:
        raise ArchitectureError("no part of the layer is known as its feed-forward network")

    def hook(module: torch.nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any], output: Output) -> Output:
        with silent([block]):
            without = hidden_states(module.forward(*positional, **named))
        return with_states(output, without + (hidden_states(output) - without) @ matrix)

    return hooked([(layer, hook)], with_kwargs=True)
