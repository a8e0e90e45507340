"""Which engine decodes a kind of model as transformers computes it: found on a tiny twin where it isn't known."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError, TTSError
from lm_eval_ext.generation.engine import LocalEngine
from lm_eval_ext.generation.engines.hf.decoding import HFEngine, engine_types
from lm_eval_ext.generation.engines.hf.single import SingleRowEngine
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from lm_eval_ext.generation.sampling import next_tokens
from lm_eval_ext.pruning.architecture import text_config
from lm_eval_ext.pruning.verification import is_verified, logits_of, tiny_twin, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger("lm_eval.tts")

_LENGTHS = (3, 7, 12, 20)  # of prompts, in one batch
_NEW_TOKENS = 12
_ENDS = frozenset({0, 1, 2})  # the twin's special tokens; after padding, some classes count positions otherwise
_SAMPLING = Sampling(temperature=2.0)  # a small error in the logits changes a sample sooner than the likeliest token

_found: dict[str, bool] = {}  # by config, in this process


def needs_single_rows(config: PreTrainedConfig) -> bool:
    """Whether a model has to be decoded one row at a time, though its layers cache keys and values.

    Raises:
        ArchitectureError: no engine decodes it as transformers computes it.
    """
    if is_verified(config, "decoded"):
        return False
    what = config.to_json_string(use_diff=False)
    if what not in _found:
        _found[what] = _single_rows_on_twin(config)
    return _found[what]


def _single_rows_on_twin(config: PreTrainedConfig) -> bool:
    kind, reasons = text_config(config).model_type, []
    try:
        with tiny_twin(config, trust_remote_code=bool(getattr(config, "auto_map", None))) as twin:
            logits_of(twin.model, token_ids(twin.model))  # if this fails, it says nothing about engines
            types = engine_types(twin.model)
            for engine in types:
                reason = why_wrong(twin.model, engine)
                if reason is None:
                    return engine is not types[0]
                reasons.append(reason)
    except Exception as error:  # an unknown model class may raise anything
        logger.warning("decoding of %s models could not be checked on a tiny twin (%s)", kind, _line(error))
        return False
    raise ArchitectureError(f"{kind} models cannot be decoded: {reasons[-1]}; their likelihoods can be scored")


def why_wrong(model: PreTrainedModel, engine: type[HFEngine] | type[SingleRowEngine]) -> str | None:
    """Why an engine does not decode a tiny model as transformers computes it without a cache; None if it does."""
    generator, vocabulary = random.Random(3), int(text_config(model.config).vocab_size)
    prompts = [tuple(generator.randrange(5, vocabulary) for _ in range(length)) for length in _LENGTHS]
    jobs = [Job(ids, _NEW_TOKENS, Stop(_ENDS), _SAMPLING, seed) for seed, ids in enumerate(prompts)]
    texts: dict[Job, Sequence[int]] = {}

    def finished(job: Job, done: Completion) -> Iterable[Job]:
        texts[job] = done.ids
        return ()

    try:
        started: LocalEngine = HFEngine(model, 4, str) if engine is HFEngine else SingleRowEngine(model, str)
        started.run(jobs, finished)
        right = all(
            ids == _without_cache(model, job, ids) or ids == _generated(model, job) for job, ids in texts.items()
        )
    except Exception as error:  # an unknown model class may raise anything
        return _line(error)
    return None if right else "the tokens that a tiny twin samples differ from those of transformers"


def _without_cache(model: PreTrainedModel, job: Job, ids: Sequence[int]) -> tuple[int, ...]:
    """The tokens that follow each prefix of a text."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*job.ids, *ids]]), use_cache=False).logits[0, len(job.ids) - 1 : -1]
    return tuple(next_tokens(logits, _SAMPLING, [job.seed] * len(ids), range(len(ids))))


def _generated(model: PreTrainedModel, job: Job) -> tuple[int, ...]:
    """What `generate` samples with its cache; with random weights, scores that are equal may choose otherwise there."""
    import torch

    def chosen(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        (token,) = next_tokens(scores, _SAMPLING, [job.seed], [ids.shape[1] - len(job.ids)])
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([token]), 0.0)

    prompt = torch.tensor([job.ids])
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=_NEW_TOKENS,
        do_sample=False,
        eos_token_id=sorted(_ENDS),
        logits_processor=[chosen],
    )
    return tuple(output[0, len(job.ids) :].tolist())


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, TTSError) else f"{type(error).__name__}: {text}"
