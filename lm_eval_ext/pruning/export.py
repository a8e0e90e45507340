"""Exports a pruned model as an ordinary checkpoint that any library can load, with one shard in memory at a time."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lm_eval_ext.errors import ArchitectureError, ArgumentError, CheckpointError, reason_of
from lm_eval_ext.paths import json_object
from lm_eval_ext.plugins import own_version
from lm_eval_ext.pruning.architecture import auto_class, depth, layer_of_tensor, slice_config, text_config
from lm_eval_ext.pruning.block_verification import ensure_zeros_exact
from lm_eval_ext.pruning.blocks import check_zeros, forget_left_out
from lm_eval_ext.pruning.checkpoint import (
    NO_CHANGES,
    Zeros,
    card_metadata,
    find_file,
    kept_tensors,
    read_config,
    stored_bytes,
)
from lm_eval_ext.pruning.experts import refuse_uneven
from lm_eval_ext.pruning.lineage import check_fits
from lm_eval_ext.pruning.loading import sliced_by
from lm_eval_ext.pruning.merging import LazyTensor
from lm_eval_ext.pruning.quantization import method_of, quantization_of
from lm_eval_ext.pruning.recipe import Recipe, format_layers, told_experts, write_recipe
from lm_eval_ext.pruning.verification import (
    TOLERANCE,
    NotExactError,
    Twin,
    logits_of,
    refusing,
    relative_difference,
    tiny_twin,
    token_ids,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


logger = logging.getLogger("lm_eval.tts")

# Files that belong to a model besides its weights and config.
_BESIDES = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
    "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json", "preprocessor_config.json",
    "processor_config.json", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "USE_POLICY.md",
)  # fmt: skip
_PLACES = ("name_or_path", "special_tokens_map_file", "tokenizer_file")  # fields of a tokenizer's config
_INDEX = "model.safetensors.index.json"
_TWIN_BYTES = 200_000_000  # more than any twin has


def export(
    recipe: Recipe,
    folder: Path,
    *,
    pretrained: str | None = None,
    shard_bytes: int = 2_000_000_000,
    trust_remote_code: bool = False,
    trust_layer_fields: bool = False,
) -> Path:
    """Write the pruned model of a recipe to a folder.

    Args:
        recipe: the recipe.
        folder: a new or empty folder.
        pretrained: a local copy of the recipe's base or checkpoint, to use instead.
        shard_bytes: maximum size of a file; at most this plus one tensor is in memory.
        trust_remote_code: run the model code that the base model ships.
        trust_layer_fields: as in `load_pruned`.

    Raises:
        ArgumentError: the folder is not empty, or the recipe quantizes weights while they are loaded.
        TTSError: the base model cannot be read or pruned, or the export of its tiny twin is read as another model.
    """
    if recipe.quantization is not None:
        raise ArgumentError(
            f"quantization: {recipe.quantization}: the weights are quantized while they are loaded, so there is no "
            "quantized checkpoint to write or to train; leave it out of the recipe, or name a quantized checkpoint"
        )
    check_new_folder(folder)
    published = recipe.published()
    place = Path(os.path.realpath(folder))  # a link, or `.`, could not be replaced
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=place.parent, prefix=f".{place.name}-", ignore_cleanup_errors=True
    ) as unfinished:  # once it has another name, there is nothing to clean up
        base = pretrained or recipe.pretrained
        _write_checkpoint(recipe, published, Path(unfinished), base, shard_bytes, trust_remote_code, trust_layer_fields)
        Path(unfinished).chmod(0o755)
        if _is_put(Path(unfinished), place):
            return folder
        for file in sorted(Path(unfinished).iterdir(), key=lambda file: file.name == "config.json"):
            shutil.move(file, place)  # without its config, nobody takes it for a model
    return folder


def _is_put(whole: Path, place: Path) -> bool:
    """Put a folder in its place, all or nothing; false if an empty folder there can't be replaced."""
    with suppress(FileNotFoundError):
        if place == Path.cwd():
            return False
    try:
        whole.rename(place)
    except OSError:
        if not place.is_dir() or any(place.iterdir()):
            raise
        return False  # as a volume of a container
    return True


def check_new_folder(folder: Path) -> None:
    """Refuse to overwrite anything.

    Raises:
        ArgumentError: it is a file, a folder that is not empty, or a link that leads nowhere.
    """
    if Path(os.path.realpath(folder)).is_symlink():
        raise ArgumentError(f"{folder}: is a link to itself; give a new folder")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ArgumentError(f"{folder}: is not empty; give a new folder")


def _write_checkpoint(
    recipe: Recipe,
    published: Recipe,
    folder: Path,
    base: str,
    shard_bytes: int,
    trust_remote_code: bool,
    trust_layer_fields: bool,
) -> None:
    hub = {"revision": recipe.revision}
    config = read_config(base, recipe.revision, trust_remote_code)
    check_fits(recipe, base, config)
    kept, changes, sliced = sliced_by(recipe, base, config, hub, trust_layer_fields, trust_remote_code)
    refuse_uneven(sliced, "the config of a checkpoint says")
    if not trust_layer_fields:
        kind = text_config(config).model_type
        refusal = (
            f"a {kind} model with these layers cannot be exported: the export of a tiny twin could not be read back"
        )
        with refusing(refusal), tiny_twin(config, trust_remote_code=trust_remote_code) as twin:
            read_back_difference(twin, kept)
    with ExitStack() as files:
        tensors = kept_tensors(base, kept, changes, hub, files)
        blocks = recipe.blocks.within(kept)
        if any(blocks):
            check_zeros(config, blocks, tensors)
            ensure_zeros_exact(sliced, blocks, trust_remote_code=trust_remote_code)
        tensors = {name: Zeros(one) if blocks.end_with(name) else one for name, one in tensors.items()}
        _check_layers(tensors, len(kept), config.model_type)
        _write_weights(tensors, folder, shard_bytes)
    if any(recipe.blocks):
        logger.info("blocks are exported with zeros in their last projection, so nothing of their size is saved")
        forget_left_out(sliced)
    sliced.save_pretrained(folder)
    _copy_besides(base, config, hub, folder)
    whole = published.model_copy(update=recipe.attached)  # whose files are copied, under another name
    write_recipe(whole, folder / "recipe.yaml")
    (folder / "README.md").write_text(model_card(published, config, len(kept), card_metadata(base, hub)), "utf-8")


def read_back_difference(twin: Twin, kept: Sequence[int]) -> float:
    """Export a pruned twin, and compare what transformers reads with what `load_pruned` loads.

    The class of a config may change what it reads: that of Gemma 4 makes the last layer attend to all tokens.

    Returns:
        The largest difference of their logits, relative to the largest logit.

    Raises:
        NotExactError: they differ.
        Exception: whatever saving or loading a model of this class raises.
    """
    hub = {"revision": "main"}
    sliced = slice_config(twin.config, kept)
    ours = twin.loaded(sliced, kept)
    with tempfile.TemporaryDirectory(prefix="lm-eval-tts-export-") as folder, ExitStack() as files:
        _write_weights(kept_tensors(twin.folder, kept, NO_CHANGES, hub, files), Path(folder), _TWIN_BYTES)
        sliced.save_pretrained(folder)
        _copy_besides(twin.folder, twin.config, hub, Path(folder))
        theirs = (
            auto_class(twin.config)
            .from_pretrained(folder, dtype="float32", trust_remote_code=twin.trust_remote_code)
            .eval()
        )
        ids = token_ids(ours)
        expected, found = logits_of(ours, ids), logits_of(theirs, ids)
    difference = relative_difference(found, expected)
    if not difference <= TOLERANCE:  # also true for NaN
        raise NotExactError(f"transformers reads a model from it whose logits differ by {difference:.1e}")
    return difference


def _check_layers(tensors: Iterable[str], kept: int, kind: str) -> None:
    """Check that every kept layer has tensors; this fails if the checkpoint's naming of layers is not known."""
    found = {layer for name in tensors if (layer := layer_of_tensor(name)) is not None}
    if found != set(range(kept)):
        raise ArchitectureError(
            f"cannot tell which layers the tensors of this {kind} checkpoint belong to; declare their names in "
            "lm_eval_ext/pruning/architectures.yaml under tensor_names"
        )


def _write_weights(tensors: Mapping[str, LazyTensor], folder: Path, shard_bytes: int) -> None:
    """Write files of at most `shard_bytes`, or of a single larger tensor; one of them is in memory at a time."""
    from huggingface_hub import split_state_dict_into_shards_factory
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    split = split_state_dict_into_shards_factory(
        dict(tensors), get_storage_size=stored_bytes, filename_pattern="model{suffix}.safetensors",
        max_shard_size=shard_bytes,
    )  # fmt: skip
    for file, names in split.filename_to_tensors.items():
        try:
            save_file(
                {name: tensors[name][...].contiguous() for name in names}, folder / file, metadata={"format": "pt"}
            )
        except SafetensorError as error:  # such as a full disk
            raise CheckpointError(f"{folder / file}: cannot be written ({reason_of(error)})") from error
        (folder / file).chmod(0o644)  # safetensors lets only the owner read it
        logger.info("%s: %d tensors", file, len(names))
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _copy_besides(base: str, config: PreTrainedConfig, hub: Mapping[str, object], folder: Path) -> None:
    for name in (*_BESIDES, *sorted(_code(base, config, hub))):
        found = find_file(base, name, hub)
        if found is not None:
            shutil.copyfile(found, folder / name)
    _forget_places(folder / "tokenizer_config.json")


def _forget_places(path: Path) -> None:
    """Remove what older versions of transformers noted of the machine; it is not read again."""
    content = json_object(path, CheckpointError) if path.is_file() else {}
    kept = {name: value for name, value in content.items() if name not in _PLACES}
    if kept != content:
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _code(base: str, config: PreTrainedConfig, hub: Mapping[str, object]) -> set[str]:
    """The Python files of a model with code of its own: those that the config names, and others beside them."""
    named = (str(name) for name in (getattr(config, "auto_map", None) or {}).values())
    code = {f"{name.split('--')[-1].split('.')[0]}.py" for name in named}
    beside = find_file(base, "config.json", hub) if code else None
    return code | ({path.name for path in beside.parent.glob("*.py")} if beside else set())


_WARNING = """
Pruned models keep their knowledge scores and lose long reasoning: "When Fewer Layers Break More Chains",
arXiv 2510.22228. Measure both before relying on this one.
"""
_KEPT_FIELDS = ("license", "license_name", "license_link", "language")


def model_card(recipe: Recipe, config: PreTrainedConfig, kept: int, base_card: Mapping[str, object]) -> str:
    """The text of `README.md`.

    Args:
        recipe: of the model, as it is published.
        config: of the base.
        kept: number of layers that are left.
        base_card: metadata of the base's model card.
    """
    fields, model_class = quantization_of(config), auto_class(config).__name__
    own_code = getattr(config, "auto_map", None)
    left_out = _left_out(recipe)
    without = f" without {' and '.join(left_out)}" if left_out else ""
    trusting = ", trust_remote_code=True" if own_code else ""
    licence = base_card.get("license")
    packed = f"\nThe weights stay quantized as the base's are: {method_of(fields)}.\n" if fields is not None else ""
    named = f"`{recipe.named}` (revision `{recipe.revision}`)"
    sentence = f"{kept} of the {depth(config)} decoder layers of {named}" if recipe.drop else f"{named}{without}"
    made_from = f"- {recipe.relation} from: `{recipe.base}`\n" if recipe.checkpoint else ""
    zeros = "\nBlocks that are left out are there with zeros, so nothing of their size is saved.\n"
    return f"""---
{yaml.safe_dump(_metadata(recipe, base_card), sort_keys=False).strip()}
---
# {recipe.named.rstrip("/").split("/")[-1]}{without}

{sentence}, not trained further. \
Written by lm-eval-tts {own_version()}.

{made_from}- method: {recipe.method}
- source: {recipe.source}
{"".join(f"- {what}, counted from 0: {layers}{chr(10)}" for what, layers in _listed(recipe).items())}\
{_changed(recipe)}- recipe: `recipe.yaml`, {recipe.digest}
{packed}{zeros if any(recipe.blocks) else ""}
It is an ordinary checkpoint, loaded without lm-eval-tts (`PATH` is this folder or repository):

```python
from transformers import {model_class}, AutoTokenizer

model = {model_class}.from_pretrained("PATH", dtype="auto"{trusting})
tokenizer = AutoTokenizer.from_pretrained("PATH"{trusting})
```

    vllm serve PATH{" --trust-remote-code" if own_code else ""}

The licence is that of the base model{f", {licence}" if licence else ""}.
{_WARNING if left_out else ""}"""


def _metadata(recipe: Recipe, base_card: Mapping[str, object]) -> dict[str, object]:
    found = {key: base_card[key] for key in _KEPT_FIELDS if key in base_card}
    if "/" in recipe.named:
        found |= {"base_model": recipe.named}
    done = {
        "layer-pruning": recipe.drop, "block-pruning": any(recipe.blocks), "expert-pruning": recipe.drop_experts,
        "weight-pruning": recipe.sparsity,
    }  # fmt: skip
    tags = [tag for tag, applies in done.items() if applies]
    return found | {"library_name": "transformers", "tags": [*tags, recipe.method] if tags else []}


_PARTS = {  # by a recipe's field: what a card lists, and calls left out
    "drop": ("dropped layers", "layers {}"),
    "drop_attention": ("layers without attention", "the attention of layers {}"),
    "drop_mlp": ("layers without a feed-forward network", "the feed-forward networks of layers {}"),
}


def _listed(recipe: Recipe) -> dict[str, str]:
    """Indices of what is left out, by what it is."""
    found = {what: format_layers(some) for field, (what, _) in _PARTS.items() if (some := getattr(recipe, field))}
    experts = "; ".join(f"layer {layer}: {format_layers(some)}" for layer, some in recipe.drop_experts.items())
    return found | ({"dropped experts": experts} if experts else {})


def _left_out(recipe: Recipe) -> list[str]:
    said = [name.format(_listed(recipe)[what]) for what, name in _PARTS.values() if what in _listed(recipe)]
    said += [told_experts(recipe.drop_experts)] if recipe.drop_experts else []
    return said + ([f"{recipe.sparsity.amount} of the weights in its matrices"] if recipe.sparsity else [])


def _changed(recipe: Recipe) -> str:
    changes = [f"layers {list(step.layers)} were merged into {step.into} ({recipe.variant})" for step in recipe.merge]
    if recipe.sparsity:
        zeros = f"{recipe.sparsity.zeros:,} weights, {recipe.sparsity.amount} of those in its matrices, are zero"
        changes.append(f"{zeros}; they are stored like other weights, so they save no memory and no time")
    if recipe.linear_map:
        after = recipe.linear_map.after
        changes.append(f"a linear map, multiplied into the feed-forward network of layer {after}, stands in for them")
    return "".join(f"- {what}\n" for what in changes)
