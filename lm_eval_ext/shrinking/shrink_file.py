"""`shrink.yaml`: a base, what may be removed from it, what is to become small, and the gate that has to be passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lm_eval_ext.declared import read_yaml, schema_of
from lm_eval_ext.errors import ArgumentError, ManifestError
from lm_eval_ext.gating.gate_file import GateBudget, GateRules, or_a_tier
from lm_eval_ext.harness.effects import effect
from lm_eval_ext.harness.prune_on_load import parse_prune_spec
from lm_eval_ext.paths import expanded
from lm_eval_ext.pruning.quantization import parse_quantize
from lm_eval_ext.pruning.selection import check_amount, method_named
from lm_eval_ext.sweep.manifest import (
    NAMES,
    Arguments,
    ManifestPart,
    Positive,
    Setup,
    Value,
    placed_arguments,
    placed_path,
)

Minimised = Literal["bytes", "parameters", "active_parameters", "flops", "layers"]
What = Literal["layers", "attention", "mlp"]

MOST_VARIANTS = 32
# What makes a model smaller, by what is to become small. Zeros take as many bytes as other weights, and dropped experts
# don't change how many read a token.
_REDUCES: Mapping[Minimised, tuple[str, ...]] = {
    "bytes": ("layers", "attention", "mlp", "experts", "bits"),
    "parameters": ("layers", "attention", "mlp", "experts", "weights"),
    "active_parameters": ("layers", "attention", "mlp", "weights"),
    "flops": ("layers", "attention", "mlp"),
    "layers": ("layers",),
}
# Arguments that the base may have although they change the model: what is loaded, and how vLLM computes it.
_SAME_MODEL = ("pretrained", "revision", "kv_cache_dtype")


class TraceSource(ManifestPart):
    """Correct traces of the base, by which steps are scored."""

    tasks: tuple[str, ...] = Field(
        default=(),
        description="tasks, with or without `tts_`, that the base is evaluated on first, or of `run`; their "
        "questions aren't the gate's",
    )
    run: str | None = Field(default=None, description="a folder of results of the base, with samples")
    count: int = Field(default=32, ge=2, description="traces, one of each question before a second one of any")
    max_tokens: Positive = Field(default=2048, description="most tokens of a trace, with its prompt")
    limit: Positive | None = Field(default=None, description="questions of each task")

    @model_validator(mode="after")
    def _one(self) -> TraceSource:
        if not self.tasks and self.run is None:
            raise ValueError("expected tasks, or run, a folder of results")
        return self


class Removable(ManifestPart):
    """What may be removed. Of layers and blocks, the methods whose own choices are among the candidates."""

    layers: tuple[str, ...] | None = Field(default=None, description="methods, such as [shortgpt, trace]")
    attention: tuple[str, ...] | None = Field(
        default=None, description="methods for attention blocks: [attention], or with `mlp` [joint]"
    )
    mlp: tuple[str, ...] | None = Field(default=None, description="methods for feed-forward networks: [mlp, joint]")
    weights: tuple[str, ...] = Field(default=(), description="as in `prune=`: [wanda:20%, wanda:40%]")
    experts: tuple[str, ...] = Field(default=(), description="as in `prune=`: [reap:25%]")
    bits: tuple[str, ...] = Field(default=(), description="as in `quantize=`: [quanto:int8]")

    @model_validator(mode="after")
    def _sound(self) -> Removable:
        if not (self.kinds or self.weights or self.experts or self.bits):
            raise ValueError("nothing may be removed; name layers, attention, mlp, weights, experts or bits")
        try:
            for kind in self.kinds:
                for name in self.methods(kind):
                    _check_method(kind, name, self.kinds)
            for written, experts in [(one, True) for one in self.experts] + [(one, False) for one in self.weights]:
                _check_amount(written, experts=experts)
            for one in self.bits:
                parse_quantize(one)
        except ArgumentError as error:
            raise ValueError(str(error)) from error
        pairs = (1 + len(self.bits)) * (1 + len(self.weights) + len(self.experts))
        if pairs > MOST_VARIANTS:
            raise ValueError(f"{pairs} combinations of bits, weights and experts; at most {MOST_VARIANTS}")
        return self

    @property
    def named(self) -> list[str]:
        """Everything that may be removed."""
        return [*self.kinds, *(name for name in ("weights", "experts", "bits") if getattr(self, name))]

    @property
    def kinds(self) -> tuple[What, ...]:
        """What is removed step by step."""
        every: tuple[What, ...] = ("layers", "attention", "mlp")
        return tuple(kind for kind in every if getattr(self, kind) is not None)

    def methods(self, kind: What) -> tuple[str, ...]:
        """Methods for a kind, whose own choices are among the candidates."""
        return {"layers": self.layers, "attention": self.attention, "mlp": self.mlp}[kind] or ()


def _check_method(kind: What, name: str, kinds: Sequence[What]) -> None:
    method = method_named(name)
    chosen = () if method.experts or method.weights else method.blocks or ("layers",)
    if kind not in chosen:
        raise ArgumentError(f"{kind}: {name} doesn't choose {kind}")
    if other := [one for one in chosen if one not in kinds]:
        raise ArgumentError(f"{kind}: {name} also chooses {other[0]}; give {other[0]}: [] if they may be removed")


def _check_amount(written: str, *, experts: bool) -> None:
    spec = parse_prune_spec(written)
    check_amount(spec.method, spec.amount, written)
    if method_named(spec.method).experts != experts or method_named(spec.method).weights == experts:
        raise ArgumentError(f"{'experts' if experts else 'weights'}: {written} doesn't choose them")


class ShrinkGate(GateRules):
    """What has to be kept, and how it is proven; as in a `gate.yaml`."""

    keep: float = Field(
        default=0.95, gt=0, lt=1, description="share of the base's accuracy above chance that must be kept"
    )


class Search(ManifestPart):
    """How candidates are looked for."""

    beam: Positive = Field(default=2, description="states of each number of steps that are gone on from")
    worst: float = Field(default=0.5, gt=0, description="bits a token at which a state is given up")
    front: Positive = Field(default=12, description="most candidates that are proven, from large to small")


class ShrinkFile(Setup):
    """What to make smaller, and what it must still be able to do."""

    base: Annotated[Arguments, Field(min_length=1, description="model arguments, or what is loaded")]
    remove: Removable = Field(description="what may be removed")
    traces: TraceSource = Field(description="correct traces of the base, by which steps are scored")
    gate: ShrinkGate = Field(description="what must be kept")
    minimise: Minimised = Field(
        default="bytes",
        description="`bytes` of the weights; `parameters` that aren't zero; `active_parameters`, of these those "
        "that read each token; `flops` of an answer as long as the traces; `layers`",
    )
    search: Search = Field(default=Search(), description="how candidates are looked for")
    recover: dict[str, Value] | None = Field(
        default=None,
        description="settings of `recover`: candidates are trained before they are proven, on other questions",
    )
    budget: GateBudget = Field(
        default=GateBudget(),
        description="what the proof may use each time it is started: no candidate is begun once `tokens` are used "
        "up, and it stops after `hours`",
    )

    @model_validator(mode="after")
    def _whole(self) -> ShrinkFile:
        if self.engine not in ("pruned-hf", "pruned-vllm"):
            raise ValueError(f"engine={self.engine}: models are made smaller here; expected pruned-hf or pruned-vllm")
        if not isinstance(self.base.get("pretrained"), str) or "base_url" in self.base:
            raise ValueError("base: expected pretrained, a whole model that is loaded here")
        other = [name for name in (*self.base, *self.model_args) if effect(name) == "model"]
        if other := [name for name in other if name not in _SAME_MODEL]:
            raise ValueError(f"{other[0]}: makes another model of the base; expected a whole one, by its pretrained")
        reduces = _REDUCES[self.minimise]
        idle = [name for name in self.remove.named if name not in reduces]
        if idle:
            raise ValueError(f"remove.{idle[0]}: doesn't reduce {self.minimise}; what does: {', '.join(reduces)}")
        if self.engine == "pruned-vllm" and self.remove.bits:
            raise ValueError("remove.bits: pruned-vllm doesn't load what is quantized so; expected engine: pruned-hf")
        if self.engine == "pruned-vllm" and self.remove.experts and self.remove.mlp is not None:
            raise ValueError("remove.mlp: pruned-vllm needs as many experts in every layer; expected engine: pruned-hf")
        if self.recover is not None and self.remove.bits:
            raise ValueError("remove.bits: quantized models aren't trained; give no bits, or no recover")
        if self.recover is not None and self.remove.weights and not self.recover.get("lora"):
            raise ValueError("remove.weights: training would fill the zeros again; give recover lora: true")
        return self

    @property
    def loading(self) -> Arguments:
        """Model arguments beside what is loaded, which candidates share with the base."""
        return {name: value for name, value in self.base.items() if name not in ("pretrained", "revision")}


def load_shrink(path: Path) -> ShrinkFile:
    """Read a `shrink.yaml`; relative paths in it are those of its folder.

    Raises:
        ManifestError: it cannot be read, or a field is missing, unknown or invalid; one line.
    """
    found, folder = read_yaml(path, ShrinkFile, ManifestError, NAMES), path.parent.resolve()
    run, recover = found.traces.run, found.recover
    traces = {"run": str(folder / expanded(run))} if run else {}
    if recover and isinstance(recover.get("data"), str):
        recover = {**recover, "data": placed_path(str(recover["data"]), folder)}
    return found.model_copy(update={
        **found.placed(folder), "base": placed_arguments(found.base, folder), "recover": recover,
        "traces": found.traces.model_copy(update=traces),
    })  # fmt: skip


def shrink_schema() -> dict[str, object]:
    """The JSON Schema of `shrink.yaml`, which editors read for completion."""
    schema = schema_of(ShrinkFile)
    or_a_tier(schema["$defs"]["ShrinkGate"]["properties"]["benchmarks"])
    return schema
