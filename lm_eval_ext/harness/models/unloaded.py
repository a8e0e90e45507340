"""What is known of a model before it is loaded: a run that finds everything in the journal need not load it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ValidationError

from lm_eval_ext.errors import CheckpointError
from lm_eval_ext.paths import cache_folder
from lm_eval_ext.pruning.checkpoint import Changes, weight_files
from lm_eval_ext.pruning.loading import config_content
from lm_eval_ext.version import software

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig


_FORM = 2  # of the key


def _said(value: object) -> object:
    """All that an object says of itself: the text of some quantization configs leaves out the type of the weights."""
    fields = getattr(value, "to_dict", None)
    return [type(value).__name__, fields()] if fields else str(value)


class LoadedFacts(BaseModel):
    """Properties of a loaded model.

    Attributes:
        fingerprint: changes with the weights and the config.
        parameters: number of parameters.
        bytes: of all weights in memory.
        dtype: of the weights, such as `bfloat16`.
        generation_config: the checkpoint's defaults for generation.
    """

    fingerprint: str
    parameters: int
    bytes: int
    dtype: str
    generation_config: dict[str, object]


class UnloadedModel:
    """Stands in for a model; knows what lm-eval reads from one that it does not run."""

    def __init__(self, facts: Callable[[], LoadedFacts]) -> None:
        self.facts = facts

    def num_parameters(self) -> int:
        """Number of parameters."""
        return self.facts().parameters

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        import torch

        found: torch.dtype = getattr(torch, self.facts().dtype)
        return found

    def to(self, device: object) -> Self:
        """Return itself: there are no weights to move."""
        return self


class FactsCache:
    """Facts of one model, kept on disk under everything that they depend on.

    A file of weights counts as unchanged if its path, size and time of modification are.

    Args:
        pretrained: Hub name or folder of the checkpoint.
        revision: branch, tag or commit.
        config: the config to load it with.
        kept: indices of the layers that are loaded.
        changes: how weights of these layers are changed.
        options: how it is loaded.
    """

    def __init__(
        self,
        pretrained: str,
        revision: str,
        config: PreTrainedConfig,
        kept: Sequence[int],
        changes: Changes,
        options: Mapping[str, object],
    ) -> None:
        self._path: Path | None = None
        try:
            files = weight_files(pretrained, kept, changes, {"revision": revision, "local_files_only": True})
        except (CheckpointError, OSError):  # no safetensors, or not downloaded yet
            return
        state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        versions = list(software("torch", "transformers").values())
        mapped = changes.linear_map and changes.linear_map.model_dump()
        content = [_FORM, state, versions, config_content(config).decode(), kept, changes.merged, mapped, options]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=_said).encode()).hexdigest()[:32]
        self._path = cache_folder() / "models" / f"{digest}.json"

    def read(self) -> LoadedFacts | None:
        """The facts that an earlier run has found; None if there was none."""
        try:
            return None if self._path is None else LoadedFacts.model_validate_json(self._path.read_text("utf-8"))
        except (OSError, ValidationError):
            return None

    def write(self, facts: LoadedFacts) -> None:
        """Keep the facts for later runs, if the cache can be written."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(facts.model_dump_json(), "utf-8")
        except OSError:  # a read-only home; a later run loads the model, as this one did
            self._path = None
