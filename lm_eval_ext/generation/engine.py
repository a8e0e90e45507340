"""The interface of a decoding engine.

Detects repetition loops: traces that degenerate into repeating the same text (arXiv 1904.09751, section 4).

Here a text *loops* if it ends in at least four exact copies of a block of tokens (of any length) that cover at least
32 tokens. A row of dots or a repeated variable is too short to count; a sentence repeated four times counts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from lm_eval_ext.generation.request import Completion, Job, Stop

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Loops are checked for every _LOOP_STRIDE tokens. A loop must be much longer to end a trace than to be reported.
_LOOP_STRIDE = 64
_LOOP_COPIES = 8
_LOOP_TOKENS = 256

FollowUp = Callable[[Job, Completion], Iterable[Job]]
Poll = Callable[[], Iterable[Job]]


def no_more() -> Iterable[Job]:
    """The `poll` of a run whose jobs are all known when it starts."""
    return ()


class Engine(Protocol):
    """Decodes jobs, in any order and batching, until none is left."""

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job; `on_completion` is called with each finished completion and may return further jobs.

        A returned job usually continues what was just decoded (its ids start with it or with part of it), so
        an engine can reuse its state. What a job decodes to must not depend on the other jobs.
        """


class LocalEngine(Engine, Protocol):
    """An engine that decodes in this process, and takes further jobs while it does.

    Attributes:
        batch_size: most jobs decoded at once.
    """

    batch_size: int

    def run(self, jobs: Sequence[Job], on_completion: FollowUp, poll: Poll = no_more) -> None:
        """Like `Engine.run`; `poll` is called between steps, and the jobs it returns join the run."""


def advanced(
    out: list[int], tokens: Sequence[int], job: Job, decode: Callable[[Sequence[int]], str]
) -> Completion | None:
    """Append new tokens (one step may bring several) up to the one that ends the job; returns its completion."""
    for token in tokens:
        out.append(token)
        reason = ended(out, job, decode)
        if reason:
            return Completion(tuple(out), reason)
    return None


def ended(
    out: Sequence[int], job: Job, decode: Callable[[Sequence[int]], str]
) -> Literal["stop", "length", "loop"] | None:
    """Why the last token of `out` ended the job; None if it did not."""
    if _stops(out, job.stop, decode):
        return "stop"
    if len(out) >= job.max_tokens:
        return "length"
    if job.stop.loops and len(out) % _LOOP_STRIDE == 0 and loops(out, _LOOP_COPIES, _LOOP_TOKENS):
        return "loop"
    return None


def _stops(out: Sequence[int], stop: Stop, decode: Callable[[Sequence[int]], str]) -> bool:
    if out[-1] in stop.tokens:
        return True
    if any(len(out) >= len(ids) and tuple(out[-len(ids) :]) == ids for ids in stop.sequences):
        return True
    if not stop.strings:
        return False
    # Each token adds at least one byte, so a stop string that just ended spans at most as many tokens as it has bytes.
    tail = decode(out[-(max(len(string.encode()) for string in stop.strings) + 8) :])
    return any(string in tail for string in stop.strings)


@dataclass(frozen=True)
class Codec:
    """Converts text to ids and back: encoding adds no special tokens, decoding leaves them out.

    Attributes:
        encode: text to ids.
        decode: ids to text.
        eos: ids that end a text.
        markers: added tokens, which are encoded as themselves whatever text surrounds them.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    eos: frozenset[int]
    markers: frozenset[int]


def codec_of(tokenizer: PreTrainedTokenizerBase, eos: Iterable[int]) -> Codec:
    """The codec of a transformers tokenizer; `eos` are all ids that end a text."""
    return Codec(
        encode=lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        decode=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
        eos=frozenset(eos),
        markers=frozenset(tokenizer.get_added_vocab().values()),
    )


COPIES = 4
TOKENS = 32


def loops(ids: Sequence[int], copies: int = COPIES, tokens: int = TOKENS) -> bool:
    """Whether `ids` end in at least `copies` copies of one block, covering at least `tokens` tokens."""
    matches = _matches_of_reversed(ids)
    return any(period + matches[period] >= max(copies * period, tokens) for period in range(1, len(ids) // copies + 1))


def _matches_of_reversed(ids: Sequence[int]) -> list[int]:
    """Z-function of the reversed sequence: for each shift, how many tokens match at the end of `ids`."""
    text = list(reversed(ids))
    z = [0] * len(text)
    left = right = 0
    for position in range(1, len(text)):
        if position < right:
            z[position] = min(right - position, z[position - left])
        while position + z[position] < len(text) and text[z[position]] == text[position + z[position]]:
            z[position] += 1
        if position + z[position] > right:
            left, right = position, position + z[position]
    return z


@dataclass
class MergingEngine:
    """An engine that shares one completion between all equal jobs in flight.

    Jobs are equal if they continue the same ids in the same way; a job with a lower limit gets the beginning.

    Attributes:
        engine: decodes each job once.
    """

    engine: Engine
    _waiting: dict[Hashable, tuple[Job, list[Job]]] = field(default_factory=dict)

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups."""

        def finished(job: Job, completion: Completion) -> Iterable[Job]:
            more = list(on_completion(job, completion))
            for follower in self._followers(job):
                part = completion.within(follower.max_tokens)
                more += [follower] if part is None else on_completion(follower, part)
            return self._admitted(more)

        self.engine.run(self._admitted(jobs), finished)

    def _followers(self, job: Job) -> list[Job]:
        """The jobs that were waiting for this one; none if they are waiting for another."""
        leader, followers = self._waiting.get(_key(job), (None, []))
        if leader != job:
            return []
        del self._waiting[_key(job)]
        return followers

    def _admitted(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that have to be decoded, in order; the others wait for one in flight."""
        jobs = list(jobs)
        longest: dict[Hashable, Job] = {}
        for job in sorted(jobs, key=lambda job: job.max_tokens):
            longest[_key(job)] = job
        admitted = []
        for job in jobs:
            leader, followers = self._waiting.setdefault(_key(job), (longest[_key(job)], []))
            if leader is job or leader.max_tokens < job.max_tokens:
                admitted.append(job)
            else:
                followers.append(job)
        return admitted


def _key(job: Job) -> Hashable:
    return job.ids, job.stop, job.sampling, job.seed
