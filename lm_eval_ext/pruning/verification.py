"""Checks on a tiny twin of a model whether dropping layers is exact for its architecture.

The twin (`twin`) is saved as a checkpoint and loaded again without the dropped layers. Its logits must equal those of
the full twin with these layers bypassed (their outputs replaced by their inputs), and generation with a cache must
equal generation without, also with padding on the left. Models that fail this check, or that it cannot be run on, are
refused.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import yaml
from packaging.version import Version

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import auto_class, check_supported, depth, text_config, unknown_layer_fields
from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.pruning.twin import tiny_config

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel


logger = logging.getLogger("lm_eval.tts")

Load = Callable[[str, "PreTrainedConfig", Sequence[int], bool], "PreTrainedModel"]

TOLERANCE = 1e-4  # for float32 logits, relative to the largest
VISIBLE = 1e-2  # the dropped layers must change the logits by at least this, or the check is meaningless
_CACHE_TOLERANCE = 1e-2
_PROMPT, _NEW_TOKENS, _PADDING = 70, 5, 3  # many times the twin's windows, and more than one of 64 of unknown name
_LARGEST = 50_000_000  # parameters; a larger twin means that its sizes could not be reduced


_shown_exact: set[tuple[str, tuple[int, ...]]] = set()  # configs and kept layers checked in this process


class NotExactError(ArchitectureError):
    """The model with dropped layers differs from the model with these layers bypassed."""


def ensure_exact(config: PreTrainedConfig, kept: Sequence[int], load: Load, *, trust_remote_code: bool = False) -> None:
    """Refuse to drop layers unless that is known to be exact for the architecture, or a check shows it now.

    Args:
        config: config of the base model.
        kept: ascending indices of the layers to keep.
        load: loads the twin, given its folder, its config, the layers to keep, and whether to trust its code.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the layers cannot be dropped; the message says why, and how to override the check.
    """
    check_supported(config, kept)
    what = (config.to_json_string(use_diff=False), tuple(kept))
    if is_verified(config, "exact") or what in _shown_exact:
        return
    kind = text_config(config).model_type
    refusal = f"layers of a {kind} model cannot be dropped: a tiny twin could not show that this is exact"
    with refusing(refusal, "; trust_layer_fields=true skips this check"):
        difference = drop_difference(config, kept, load, trust_remote_code=trust_remote_code)
    _shown_exact.add(what)
    logger.info(
        "%s is not a verified architecture: checked on a tiny random twin, dropping is exact to %.0e", kind, difference
    )


@contextmanager
def refusing(refusal: str, advice: str = "") -> Iterator[None]:
    """Raise an `ArchitectureError` with the reason if anything is raised within the context."""
    try:
        yield
    except Exception as error:  # an unknown model class may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ArchitectureError(f"{refusal} ({reason}){advice}") from error


def is_verified(config: PreTrainedConfig, what: Literal["exact", "decoded"]) -> bool:
    """Whether the benchmarks found a model's architecture right, in a way that holds for this model.

    Args:
        config: config of the model.
        what: `exact` for dropping layers, `decoded` for the engine that is chosen by its cache.
    """
    own_code = bool(getattr(config, "auto_map", None))
    if own_code or config.model_type not in verified()[what] or _is_newer_transformers():
        return False
    return not unknown_layer_fields(text_config(config).to_dict(), depth(config))


def _is_newer_transformers() -> bool:
    """Whether the installed transformers is a later minor release than the one used for verification."""
    import transformers

    return Version(transformers.__version__).release[:2] > Version(verified()["transformers"]).release[:2]


def drop_difference(
    config: PreTrainedConfig, kept: Sequence[int], load: Load, *, trust_remote_code: bool = False
) -> float:
    """Compare the logits of a twin loaded without some layers with those of a twin that bypasses them.

    Args:
        config: config of the base model; only its structure is used.
        kept: ascending indices of the layers to keep.
        load: loads the twin, given its folder, its config, the layers to keep, and whether to trust its code.
        trust_remote_code: run the model code that the repository ships.

    Returns:
        The largest difference, relative to the largest logit.

    Raises:
        NotExactError: the logits differ, or generation with a cache differs from generation without.
        Exception: whatever building, saving, loading or running a model of this class raises.
    """
    with tiny_twin(config, trust_remote_code=trust_remote_code) as twin:
        return twin.difference(kept, load)


@dataclass(frozen=True)
class Twin:
    """A tiny random model with the structure of another model, in float32.

    Attributes:
        folder: folder of its checkpoint.
        config: its config, which differs from the other model's only in sizes.
        model: the model itself, with all layers.
        trust_remote_code: run the model code that the repository ships.
    """

    folder: str
    config: PreTrainedConfig
    model: PreTrainedModel
    trust_remote_code: bool = False

    def difference(self, kept: Sequence[int], load: Load) -> float:
        """See `drop_difference`."""
        pruned = load(self.folder, self.config, kept, self.trust_remote_code).eval()
        return _compared(self.model, pruned, kept)


@contextmanager
def tiny_twin(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> Iterator[Twin]:
    """Create a twin whose checkpoint exists as long as the context.

    Raises:
        Exception: whatever building, saving or loading a model of this class raises.
    """
    with quiet_transformers(), tempfile.TemporaryDirectory(prefix="lm-eval-tts-twin-") as folder:
        tiny = tiny_config(config)
        _write(tiny, folder, trust_remote_code)
        model = auto_class(config).from_pretrained(folder, dtype="float32", trust_remote_code=trust_remote_code)
        yield Twin(folder, tiny, model.eval(), trust_remote_code)


def _write(tiny: PreTrainedConfig, folder: str, trust_remote_code: bool) -> None:
    """Write a random checkpoint with all modalities in the config."""
    import torch
    from transformers import AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if _causal_is_text_alone(tiny) else auto_class(tiny)
    with torch.device("meta"):
        size = auto.from_config(tiny, trust_remote_code=trust_remote_code).num_parameters()
    if size > _LARGEST:
        raise ArchitectureError(f"its sizes could not be reduced: {size} parameters are left")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = auto.from_config(tiny, trust_remote_code=trust_remote_code, dtype=torch.float32)
        _shake(model)
    model.save_pretrained(folder)


def _causal_is_text_alone(config: PreTrainedConfig) -> bool:
    """Whether a multimodal model's causal class only covers the text part, so that checkpoints have another class."""
    from transformers import AutoModelForCausalLM

    causal = AutoModelForCausalLM._model_mapping.get(type(config), None)
    of_text = config.sub_configs.get("text_config")
    return of_text is not None and getattr(causal, "config_class", None) is of_text


def _shake(model: PreTrainedModel) -> None:
    """Set random weights that are large enough to reveal a wrong layer; transformers' own are nearly zero."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                noise = torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.1)
                parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)


def _compared(twin: PreTrainedModel, pruned: PreTrainedModel, kept: Sequence[int]) -> float:
    layers = decoder_layers(twin)
    dropped = [layer for layer in range(len(layers)) if layer not in kept]
    ids = token_ids(twin)
    whole = logits_of(twin, ids)
    with bypassed(layers, dropped):
        expected = logits_of(twin, ids)
    size = float(expected.abs().max())
    if dropped and float((expected - whole).abs().max()) < VISIBLE * size:
        raise ArchitectureError("its layers change nothing in a random twin")
    return check_equal(twin, pruned, ids, expected)


def check_equal(twin: PreTrainedModel, pruned: PreTrainedModel, ids: torch.Tensor, expected: torch.Tensor) -> float:
    """Check a pruned twin's logits and its generation; returns the largest difference, relative to the largest logit.

    Args:
        twin: with all layers.
        pruned: without some layers or blocks.
        ids: prompts, of shape (batch, length).
        expected: logits for them.

    Raises:
        NotExactError: its logits are not those expected, or generation with a cache differs from that without.
    """
    difference = float((logits_of(pruned, ids) - expected).abs().max()) / float(expected.abs().max())
    if not difference <= TOLERANCE:  # also true for NaN
        raise NotExactError(f"its logits differ by {difference:.1e} from those with the layers bypassed")
    for padding in (0, _PADDING):
        found = _cache_difference(pruned, ids, padding)
        if found > _CACHE_TOLERANCE >= _cache_difference(twin, ids, padding):
            how = " and padding on the left" if padding else ""
            raise NotExactError(f"generation with a cache{how} differs by {found:.1e} from generation without")
    return difference


def token_ids(model: PreTrainedModel, rows: int = 2) -> torch.Tensor:
    """Random prompts for a twin, of shape (rows, length)."""
    import torch

    generator = torch.Generator().manual_seed(5)
    return torch.randint(5, int(text_config(model.config).vocab_size), (rows, _PROMPT), generator=generator)


def logits_of(model: PreTrainedModel, ids: torch.Tensor, **options: object) -> torch.Tensor:
    """A model's logits in float32, of shape (batch, length, vocabulary)."""
    import torch

    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False, **options).logits
    return logits.float()


def _cache_difference(model: PreTrainedModel, ids: torch.Tensor, padding: int) -> float:
    """Largest difference between the logits of generation with and without a cache, relative to the largest logit."""
    cached, uncached = (_generated(model, ids, padding, use_cache=use_cache) for use_cache in (True, False))
    pairs = zip(cached, uncached, strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def _generated(model: PreTrainedModel, ids: torch.Tensor, padding: int, *, use_cache: bool) -> Sequence[torch.Tensor]:
    """Logits of each step of greedy generation after prompts with some padding on the left."""
    import torch
    from torch.nn.functional import pad

    length = {"max_new_tokens": _NEW_TOKENS, "min_new_tokens": _NEW_TOKENS}
    told = {"return_dict_in_generate": True, "output_logits": True}
    with torch.no_grad():
        output = model.generate(
            pad(ids, (padding, 0)),
            attention_mask=pad(torch.ones_like(ids), (padding, 0)),
            do_sample=False,
            use_cache=use_cache,
            **length,
            **told,
        )
    logits: Sequence[torch.Tensor] = output.logits
    return logits


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings and progress bars within the context."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()


class Verified(TypedDict):
    """What `python -m benchmarks.architectures` found, and the transformers release that it used.

    Attributes:
        transformers: the release.
        exact: architectures from which dropping layers is exact.
        decoded: those that our engine decodes as transformers computes them.
    """

    transformers: str
    exact: list[str]
    decoded: list[str]


class VerifiedInVLLM(TypedDict):
    """What `python -m benchmarks.vllm_kinds` found for model types, and the release of vLLM that it used."""

    vllm: str
    kinds: dict[str, str]


@cache
def verified() -> Verified:
    """Contents of `verified.yaml`."""
    table: Verified = yaml.safe_load(Path(__file__).with_name("verified.yaml").read_text("utf-8"))
    return table


def verdict_in_vllm(kind: str) -> str:
    """What came out when layers of a model type were dropped in vLLM; `not tried` for most types."""
    return vllm_table()["kinds"].get(kind, "not tried")


@cache
def vllm_table() -> VerifiedInVLLM:
    """Which model types were tried in vLLM, in which version, and with what result."""
    table: VerifiedInVLLM = yaml.safe_load(Path(__file__).with_name("verified_vllm.yaml").read_text("utf-8"))
    return table
