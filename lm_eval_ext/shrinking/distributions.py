"""What models would write at each place of given traces, as it is kept: the likeliest tokens, and all others together.

A base's are kept on disk, so that base and candidates are never in memory at the same time. What that leaves out of a
divergence is measured at some places, whose distributions are kept whole.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.paths import digest, write_whole
from lm_eval_ext.shrinking.token_traces import TokenTrace

TOP = 64  # tokens of a place
PROBES = 64  # places whose distributions are kept whole
PASS = 2048  # tokens of short traces that are read in one pass, with what pads them to equal lengths

Floats = NDArray[np.float32]


class Likeliest(NamedTuple):
    """What a model would write at each place of a trace.

    Attributes:
        ids: of shape (places, top): the likeliest tokens, the likeliest first.
        log_probs: of shape (places, top): their log-probabilities.
        rest: of shape (places,): the log-probability of all others together.
        own: of shape (places,): that of the token that the trace has there.
    """

    ids: NDArray[np.int64]
    log_probs: Floats
    rest: Floats
    own: Floats


class AtTokens(NamedTuple):
    """What another model would do at each place of a trace, at the tokens that the base's `Likeliest` holds.

    Attributes:
        log_probs: of shape (places, top): their log-probabilities; NaN where they aren't known, as a server may give
            only those of its own likeliest tokens.
        rest: of shape (places,): the log-probability of all tokens together that are not among them, or not known.
        own: of shape (places,): that of the token that the trace has there.
        best: of shape (places,): the likeliest token.
        most: of shape (places,): its log-probability.
    """

    log_probs: Floats
    rest: Floats
    own: Floats
    best: NDArray[np.int64]
    most: Floats


class Probes(NamedTuple):
    """Places of a trace whose distributions are whole.

    Attributes:
        places: their numbers.
        log_probs: of shape (their number, vocabulary).
    """

    places: NDArray[np.int64]
    log_probs: Floats


class ForcedModel(Protocol):
    """A model that reads traces and says what it would have written instead: teacher forcing; nothing is decoded.

    It reads a few traces at a time, those of one pass.

    Attributes:
        identity: of its weights.
        truncated: whether it only says so of its likeliest tokens.
    """

    identity: str
    truncated: bool

    def likeliest(
        self, traces: Sequence[TokenTrace], top: int, probed: Sequence[Sequence[int]]
    ) -> list[tuple[Likeliest, Probes]]:
        """What it would write at each place of each trace, and in whole at some of them."""

    def at_tokens(
        self, traces: Sequence[TokenTrace], base: Sequence[Likeliest], probed: Sequence[Sequence[int]]
    ) -> list[tuple[AtTokens, Floats]]:
        """The same at the tokens that are known of a base; and in whole at some places, if it can tell."""


class BaseDistributions:
    """What a base would write at each place of its traces, on disk.

    Args:
        folder: where they are; one folder can hold those of several bases.
        traces: the traces.
        model: identity of the base's weights.
        top: how many tokens are kept of each place.
        seed: of the places that are kept whole.
    """

    def __init__(self, folder: Path, traces: Sequence[TokenTrace], model: str, top: int = TOP, seed: int = 0) -> None:
        self.traces = list(traces)
        self.top = top
        self.identity = digest([model, top, seed, PROBES, PASS, [(trace.ids, trace.start) for trace in self.traces]])
        self.tokens = sum(trace.places for trace in self.traces)
        self._folder = folder / f"base-{self.identity[:16]}"
        places = [(number, place) for number, trace in enumerate(self.traces) for place in range(trace.places)]
        drawn = random.Random(seed).sample(places, min(PROBES, len(places)))
        self._probed = [sorted(place for one, place in drawn if one == number) for number in range(len(self.traces))]

    @cached_property
    def passes(self) -> list[range]:
        """The traces that are read together, by their numbers. Base and candidates read the same ones together, so that
        rounding is the same."""
        found, first, longest = [], 0, 0
        for number, trace in enumerate(self.traces):
            longest = max(longest, len(trace.ids))
            if number > first and longest * (number + 1 - first) > PASS:
                found.append(range(first, number))
                first, longest = number, len(trace.ids)
        return [*found, range(first, len(self.traces))]

    def compute(self, base: ForcedModel, on_tokens: Callable[[int], object]) -> None:
        """Compute what isn't there yet, pass by pass.

        Args:
            base: the model.
            on_tokens: called with the number of places of the traces of each pass that is done.
        """
        for numbers in self.passes:
            missing = [number for number in numbers if self._read(number) is None]
            if missing:
                read = missing if base.truncated else numbers  # a server reads each by itself
                probed = [self._probed[number] for number in read]
                found = base.likeliest([self.traces[number] for number in read], self.top, probed)
                for number, (likeliest, probes) in zip(read, found, strict=True):
                    if number in missing:
                        self._write(number, likeliest, probes)
            on_tokens(sum(self.traces[number].places for number in numbers))

    def at(self, number: int) -> tuple[Likeliest, Probes]:
        """What the base would write along a trace.

        Raises:
            ArgumentError: it was not computed, or its file was removed or changed meanwhile.
        """
        found = self._read(number)
        if found is None:
            raise ArgumentError(f"{self._path(number)}: was removed or changed; start again")
        return found

    def _read(self, number: int) -> tuple[Likeliest, Probes] | None:
        try:
            with np.load(self._path(number)) as found:
                return Likeliest(*(found[name] for name in Likeliest._fields)), Probes(found["places"], found["whole"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # not there, or damaged
            return None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05}.npz"

    def _write(self, number: int, found: Likeliest, probes: Probes) -> None:
        content = io.BytesIO()
        np.savez(content, **found._asdict(), places=probes.places, whole=probes.log_probs)
        write_whole(self._path(number), content.getvalue())
