"""How fast a model is: as measured, or as a GPU's arithmetic allows."""

from __future__ import annotations

from dataclasses import dataclass

from lm_eval_ext.errors import ManifestError

# Dense bfloat16 arithmetic of a GPU, in operations per second, by its maker's data sheet.
GPUS = {"a100": 312e12, "h100": 989e12, "h200": 989e12, "l40s": 362e12, "rtx4090": 165e12}
_USED = 0.2  # share of it that decoding in large batches is taken to reach: a rule of thumb, so measure if it matters


@dataclass(frozen=True)
class Speed:
    """A speed in tokens per second, or in operations per second.

    Attributes:
        tokens: tokens per second; None if it follows from the operations.
        operations: operations per second.
        said: the speed in words.
    """

    tokens: float | None
    operations: float
    said: str

    def hours(self, tokens: int, operations: float | None) -> float | None:
        """Hours for so many tokens or operations; None if the operations are needed and unknown."""
        if self.tokens is not None:
            return tokens / self.tokens / 3600
        return None if operations is None else operations / self.operations / 3600


def speed_of(tokens: float | None, gpu: str | None) -> Speed | None:
    """The speed that is given; None if none is.

    Raises:
        ManifestError: the GPU is unknown, or both are given.

    >>> speed_of(1000, None).hours(3_600_000, None)
    1.0
    """
    if tokens is not None and gpu is not None:
        raise ManifestError("--speed and --gpu: give one of them")
    if tokens is not None:
        return Speed(tokens, 0.0, f"at {tokens:,.0f} tokens/s")
    if gpu is None:
        return None
    if gpu.lower() not in GPUS:
        raise ManifestError(f"--gpu {gpu}: expected one of: {', '.join(GPUS)}; or give --speed in tokens/s")
    return Speed(None, GPUS[gpu.lower()] * _USED, f"on {gpu.lower()}, if {_USED:.0%} of its arithmetic is used")
