"""The model card of an exported checkpoint: what was left out, by what, and how to load it without this package."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from lm_eval_ext.pruning.recipe import Recipe, format_layers
from lm_eval_ext.version import own_version

_WARNING = """
Pruned models keep their knowledge scores and lose long reasoning: "When Fewer Layers Break More Chains",
arXiv 2510.22228. Measure both before relying on this one.
"""
_KEPT_FIELDS = ("license", "license_name", "license_link", "language")


def model_card(
    recipe: Recipe,
    kept: int,
    total: int,
    base_card: Mapping[str, object],
    quantization: str = "",
    *,
    auto_class: str = "AutoModelForCausalLM",
    own_code: bool = False,
) -> str:
    """The text of `README.md`.

    Args:
        recipe: of the model, as it is published.
        kept, total: number of layers that are left, and of the base.
        base_card: metadata of the base's model card.
        quantization: method by which the base's weights are packed; empty if they are not.
        auto_class: name of the class of transformers that loads it.
        own_code: whether the base comes with Python code of its own.
    """
    left_out = _left_out(recipe)
    without = f" without {' and '.join(left_out.values())}" if left_out else ""
    trusting = ", trust_remote_code=True" if own_code else ""
    licence = base_card.get("license")
    packed = f"\nThe weights stay quantized as the base's are: {quantization}.\n" if quantization else ""
    zeros = "\nBlocks that are left out are there with zeros, so nothing of their size is saved.\n"
    return f"""---
{yaml.safe_dump(_metadata(recipe, base_card), sort_keys=False).strip()}
---
# {recipe.named.rstrip("/").split("/")[-1]}{without}

{kept} of the {total} decoder layers of `{recipe.named}` (revision `{recipe.revision}`), not trained further. \
Written by lm-eval-tts {own_version()}.

{_made_from(recipe)}- method: {recipe.method}
- source: {recipe.source}
{"".join(f"- {what}, counted from 0: {layers}{chr(10)}" for what, layers in _listed(recipe).items())}\
{_changed(recipe)}- recipe: `recipe.yaml`, {recipe.digest}
{packed}{zeros if any(recipe.blocks) else ""}
It is an ordinary checkpoint, loaded without lm-eval-tts (`PATH` is this folder or repository):

```python
from transformers import {auto_class}, AutoTokenizer

model = {auto_class}.from_pretrained("PATH", dtype="auto"{trusting})
tokenizer = AutoTokenizer.from_pretrained("PATH"{trusting})
```

    vllm serve PATH{" --trust-remote-code" if own_code else ""}

The licence is that of the base model{f", {licence}" if licence else ""}.
{_WARNING if left_out else ""}"""


def _metadata(recipe: Recipe, base_card: Mapping[str, object]) -> dict[str, object]:
    found = {key: base_card[key] for key in _KEPT_FIELDS if key in base_card}
    if "/" in recipe.named:
        found |= {"base_model": recipe.named}
    return found | {"library_name": "transformers", "tags": ["layer-pruning", recipe.method] if recipe.drops else []}


def _made_from(recipe: Recipe) -> str:
    return f"- {recipe.relation} from: `{recipe.base}`\n" if recipe.checkpoint else ""


def _listed(recipe: Recipe) -> dict[str, str]:
    """Indices of what is left out, by what it is."""
    parts = {
        "dropped layers": recipe.drop,
        "layers without attention": recipe.drop_attention,
        "layers without a feed-forward network": recipe.drop_mlp,
    }
    return {what: format_layers(layers) for what, layers in parts.items() if layers}


def _left_out(recipe: Recipe) -> dict[str, str]:
    words = {
        "dropped layers": "layers {}",
        "layers without attention": "the attention of layers {}",
        "layers without a feed-forward network": "the feed-forward networks of layers {}",
    }
    return {what: words[what].format(layers) for what, layers in _listed(recipe).items()}


def _changed(recipe: Recipe) -> str:
    changes = [f"layers {list(step.layers)} were merged into {step.into} ({recipe.variant})" for step in recipe.merge]
    if recipe.linear_map:
        after = recipe.linear_map.after
        changes.append(f"a linear map, multiplied into the feed-forward network of layer {after}, stands in for them")
    return "".join(f"- {what}\n" for what in changes)
