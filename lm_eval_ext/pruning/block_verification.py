"""Checks on a tiny twin of a model whether attention and MLP blocks can be left out, and whether zeros do the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import auto_class, text_config
from lm_eval_ext.pruning.blocks import KINDS, Blocks, blocks_of, check_residual, forget_left_out, silenced
from lm_eval_ext.pruning.verification import TOLERANCE, Twin, check_equal, logits_of, tiny_twin, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LoadWithout = Callable[[str, "PreTrainedConfig", "Blocks", bool], "PreTrainedModel"]

_ROWS = 3  # not 2: a block that returns a pair would be unpacked as if it returned one tensor of two rows

_shown_exact: set[tuple[object, ...]] = set()  # configs and blocks checked in this process


def ensure_blocks_exact(
    config: PreTrainedConfig, blocks: Blocks, load: LoadWithout, *, trust_remote_code: bool = False
) -> None:
    """Refuse to leave blocks out unless a check on a tiny twin shows that this is exact.

    Args:
        config: config of the model with all blocks.
        blocks: the blocks to leave out.
        load: loads the twin, given its folder, its config, the blocks to leave out, and whether to trust its code.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the blocks cannot be left out; the message says why.
    """
    what = (config.to_json_string(use_diff=False), *map(tuple, blocks))
    if what in _shown_exact:
        return
    with _refusing(config), tiny_twin(config, trust_remote_code=trust_remote_code) as twin:
        ids = token_ids(twin.model, _ROWS)
        check_residual(twin.model, blocks, ids)
        short = load(twin.folder, twin.config, blocks, trust_remote_code).eval()
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
    with _refusing(config), tiny_twin(config, trust_remote_code=trust_remote_code) as twin:
        layers = {kind: tuple(block.layer for block in blocks_of(twin.model, [kind])) for kind in KINDS}
        for kind in kinds:
            if not layers[kind]:
                raise ArchitectureError(
                    f"no part of its layers is known as {kind}; declare its name in architectures.yaml"
                )
        known = Blocks(**{kind: layers[kind] for kind in kinds})
        check_residual(twin.model, known, token_ids(twin.model, _ROWS))


@contextmanager
def _refusing(config: PreTrainedConfig) -> Iterator[None]:
    """Refuse to leave blocks out if anything is raised within the context."""
    try:
        yield
    except Exception as error:  # an unknown model class may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ArchitectureError(
            f"blocks of a {text_config(config).model_type} model cannot be left out: a tiny twin could not show that "
            f"this is exact ({reason})"
        ) from error


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
    difference = float((found - expected).abs().max()) / float(expected.abs().max())
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
