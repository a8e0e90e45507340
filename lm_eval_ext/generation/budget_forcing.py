"""Budget forcing: think under a budget, then answer. The semantics are the same for every engine.

A trace is decoded up to the largest budget. If it ends by itself within a budget, it gets one answer, shared by all
such budgets. Otherwise it is cut at the budget, the format's early stop is appended, and the model answers (budget
forcing, s1, arXiv 2501.19393; the wording of the early stop is Qwen3's). Everything works on token ids: a trace is
never decoded to text and encoded again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engine import Codec, Engine, loops
from lm_eval_ext.generation.request import Completion, Generation, Job, Request, Stop, seed_for
from lm_eval_ext.thinking_formats import ThinkingFormat


@dataclass
class _State:
    """A trace while it is decoded."""

    trace: Trace
    first: Request
    waits: int
    out: tuple[int, ...] = ()
    end: str | None = None  # how it ended by itself: "marker" or "eos"; None if it was cut, at its limit or in a loop
    resumed: bool = False  # whether an earlier run decoded part of it


@dataclass
class BudgetForcing:
    """Runs a plan on an engine.

    Attributes:
        engine: decodes jobs.
        codec: encodes markers and decodes texts.
        thinking_format: how this model marks its thinking.
        base_seed: the seeds of all samples are derived from it.
        max_length: the model's context length, in tokens.
        stop_loops: stop a trace in a repetition loop, and let it answer if it has a budget.
        on_result: called with a request's index and its result as soon as it is finished.
        saved: thinking tokens saved so far by sharing traces.
    """

    engine: Engine
    codec: Codec
    thinking_format: ThinkingFormat
    base_seed: int
    max_length: int
    stop_loops: bool = False
    on_result: Callable[[int, Generation], None] = lambda index, generation: None
    saved: int = 0
    _results: dict[int, Generation] = field(default_factory=dict)

    def run(self, requests: Sequence[Request], plan: Plan) -> list[Generation]:
        """Return one generation per request, in the order of the requests.

        Raises:
            ArgumentError: a prompt is empty or fills the whole context; raised before anything is decoded.
        """
        self._check_room(requests)
        self._requests = requests
        self._results = {}
        jobs: list[Job] = []
        for trace in plan.traces:
            state = _State(trace, requests[trace.cuts[0].request], requests[trace.cuts[0].request].wait_count)
            jobs += [self._think(state)] if trace.limit else self._answers(state)
        self.engine.run(jobs, self._then)
        return [self._results[index] for index in range(len(requests))]

    def _check_room(self, requests: Sequence[Request]) -> None:
        longest = max((len(request.prompt) for request in requests), default=0)
        if longest >= self.max_length:
            raise ArgumentError(
                f"a prompt of {longest} tokens leaves no room in the model's context of {self.max_length}; "
                "raise max_length if the model allows it, or leave that question out"
            )
        if any(not request.prompt for request in requests):
            raise ArgumentError("a prompt is empty, so there is nothing to continue; check the task's doc_to_text")

    def _then(self, job: Job, completion: Completion) -> Iterable[Job]:
        followed: Iterable[Job] = job.tag(completion)
        return followed

    # Thinking ---------------------------------------------------------------------------------------------

    def _think(self, state: _State) -> Job:
        cut = state.first.wait_count - state.waits
        return Job(
            ids=state.trace.prompt + state.out,
            max_tokens=state.trace.limit - len(state.out),
            stop=self._end_of_thinking(),
            sampling=state.first.sampling,
            seed=seed_for(self.base_seed, state.first.sampling, state.trace.prompt, state.trace.repeat, "think", cut),
            tag=lambda completion: self._thought(state, completion),
        )

    def _end_of_thinking(self) -> Stop:
        stop = Stop(tokens=self.codec.eos, sequences=self._end_ids, loops=self.stop_loops)
        found_in_text = self.thinking_format.separates and not self._end_ids
        return replace(stop, strings=self.thinking_format.ends) if found_in_text else stop

    @cached_property
    def _end_ids(self) -> tuple[tuple[int, ...], ...]:
        """Token ids of each marker that may end the thinking; none if there is no marker, or it is found in the text.

        Ordinary text can be split into tokens in many ways; a marker token cannot.
        """
        if not self.thinking_format.separates:
            return ()
        ends = tuple(tuple(self.codec.encode(end)) for end in self.thinking_format.ends)
        return ends if ends[0][0] in self.codec.markers else ()

    def _end_of(self, out: tuple[int, ...]) -> tuple[int, ...]:
        """The end marker at the end of a trace; empty if there is none."""
        return next((ids for ids in self._end_ids if ids and out[-len(ids) :] == ids), ())

    def _thought(self, state: _State, completion: Completion) -> Iterable[Job]:
        state.out += completion.ids
        state.resumed |= completion.resumed
        if completion.reason == "stop":
            state.end = "eos" if completion.ids[-1] in self.codec.eos else "marker"
            if self._end_of(state.out):
                state.end = "marker"  # a marker's last token may itself be an end-of-text token
            if self._wait(state):
                return [self._think(state)]
        return self._answers(state)

    def _wait(self, state: _State) -> bool:
        """Replace the end of thinking with the wait text, if waits and room are left; returns whether it did."""
        waiting = self._without_end(state) + tuple(self.codec.encode(state.first.wait_text))
        if state.waits == 0 or len(waiting) >= state.trace.limit:
            return False
        state.waits -= 1
        state.out, state.end = waiting, None
        return True

    def _without_end(self, state: _State) -> tuple[int, ...]:
        if state.end == "eos":
            return state.out[:-1]
        if state.end == "marker" and self._end_ids:
            return state.out[: len(state.out) - len(self._end_of(state.out))]
        return self._before_text(state.out) if state.end == "marker" else state.out

    def _before_text(self, out: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens before the one where the end marker's text begins."""
        text = self.codec.decode(out)
        begins = max(text.rfind(end) for end in self.thinking_format.ends)
        kept = len(out)
        while kept and len(self.codec.decode(out[:kept])) > begins:
            kept -= 1
        return out[:kept]

    def _without_begun_end(self, out: tuple[int, ...]) -> tuple[int, ...]:
        """Remove the beginning of an end marker: a cut may fall inside one, and a complete one is appended next."""
        begun = [length for ids in self._end_ids for length in range(1, len(ids)) if out[-length:] == ids[:length]]
        return out[: len(out) - max(begun, default=0)]

    # Answering --------------------------------------------------------------------------------------------

    def _answers(self, state: _State) -> list[Job]:
        """Jobs for the answers that the cuts of a finished trace still need; equal jobs are merged."""
        wanted: dict[Job, list[int]] = {}
        if not state.resumed:  # otherwise an earlier run has counted it
            self.saved += sum(min(len(state.out), cut.limit) for cut in state.trace.cuts) - len(state.out)
        for cut in state.trace.cuts:
            ended = state.end is not None and len(state.out) <= cut.limit
            job = self._answer(state, cut, ended)
            if job is None:
                self._finish(cut.request, self._without_answer(state, cut, ended))
            else:
                wanted.setdefault(job, []).append(cut.request)
        return [self._tagged(job, indices) for job, indices in wanted.items()]

    def _answer(self, state: _State, cut: Cut, ended: bool) -> Job | None:
        request = self._requests[cut.request]
        if (ended and not self.thinking_format.separates) or not (ended or cut.forced or not request.thinks):
            return None
        opening = self._opening(state, cut, ended)
        # Tokens written by the model count, including its end of thinking; tokens inserted for it don't.
        used = len(state.out) if ended else opening.thinking_tokens
        length = len(request.prompt) + len(opening.thinking) + len(opening.ids)
        room = min(request.max_tokens - used, self.max_length - length)
        limit = room if request.answer_budget is None else min(room, request.answer_budget)
        if limit <= 0:
            return None
        return Job(
            ids=request.prompt + opening.thinking + opening.ids,
            max_tokens=limit,
            stop=Stop(tokens=self.codec.eos, sequences=self._marker_stops(request.until), strings=request.until),
            sampling=request.sampling,
            seed=seed_for(self.base_seed, request.sampling, request.prompt, request.repeat, "answer", used),
            phase="answer",
            tag=opening,
        )

    def _marker_stops(self, until: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Ids of stop strings that begin with a marker token, as special tokens don't appear in decoded text."""
        encoded = [tuple(self.codec.encode(stop)) for stop in until]
        return tuple(ids for ids in encoded if ids and ids[0] in self.codec.markers)

    def _opening(self, state: _State, cut: Cut, ended: bool) -> _Opening:
        if not self._requests[cut.request].thinks:
            return _Opening((), (), "", 0, forced=False)
        if not ended:
            ids = tuple(self.codec.encode(self.thinking_format.early_stop))
            thought = state.out[: cut.limit]
            kept = self._without_begun_end(thought)
            return _Opening(kept, ids, self.thinking_format.early_stop, len(thought), forced=True)
        kept = self._without_end(state)
        if state.end == "eos":
            ids = tuple(self.codec.encode(self.thinking_format.close))
            return _Opening(kept, ids, self.thinking_format.close, len(kept), forced=False)
        closing = state.out[len(kept) :]
        # Special tokens don't appear in decoded text, but the site and the grader need to find the marker.
        shown = self.thinking_format.end if self._end_ids else self.codec.decode(closing)
        return _Opening(kept, closing, shown, len(kept), forced=False)

    def _tagged(self, job: Job, indices: Sequence[int]) -> Job:
        opening: _Opening = job.tag
        return replace(job, tag=lambda completion: self._answered(job, opening, indices, completion))

    def _answered(self, job: Job, opening: _Opening, indices: Sequence[int], completion: Completion) -> list[Job]:
        ended = bool(completion.ids) and completion.ids[-1] in self.codec.eos
        ids = completion.ids[:-1] if ended else completion.ids
        for sequence in job.stop.sequences:
            ids = ids[: -len(sequence)] if ids[-len(sequence) :] == sequence else ids
        written = _before_stop(self.codec.decode(ids), job.stop.strings)
        text = self.codec.decode(opening.thinking) + opening.text + written
        for index in indices:
            self._finish(
                index,
                Generation(
                    text,
                    answer=self._graded(opening, written) if self.thinking_format.separates else text,
                    thinking_tokens=opening.thinking_tokens,
                    answer_tokens=len(ids),
                    forced=opening.forced,
                    looped=loops(opening.thinking),
                    finish_reason="stop" if completion.reason == "stop" else "length",
                    seed=job.seed,
                ),
            )
        return []

    def _graded(self, opening: _Opening, written: str) -> str:
        """The text after the end of thinking, including the part of the answer that an early stop begins."""
        after = min((opening.text.rpartition(end)[2] for end in self.thinking_format.ends), key=len)
        return after + written

    def _without_answer(self, state: _State, cut: Cut, ended: bool) -> Generation:
        """The result for a trace that is its own answer (plain models), or that was cut before it could answer."""
        kept = self._without_end(state) if ended else state.out[: cut.limit]
        text = self.codec.decode(kept)
        full = len(state.trace.prompt) + len(kept) >= self.max_length
        short = not ended and len(kept) < cut.limit
        whole = ended and not self.thinking_format.separates
        return Generation(
            text,
            answer=text if whole else None,
            thinking_tokens=len(kept),
            looped=loops(kept),
            finish_reason="stop" if whole else "context" if full else "loop" if short else "length",
            seed=seed_for(self.base_seed, state.first.sampling, state.trace.prompt, state.trace.repeat, "think", 0),
        )

    def _finish(self, index: int, generation: Generation) -> None:
        self._results[index] = generation
        self.on_result(index, generation)


@dataclass(frozen=True)
class _Opening:
    """The tokens between prompt and answer: the thinking that is kept, then the ids that close it."""

    thinking: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    thinking_tokens: int
    forced: bool


def _before_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first occurrence of any stop string."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


@dataclass(frozen=True)
class Cut:
    """Limit on one request's thinking.

    Attributes:
        request: index in the list of requests.
        limit: maximum thinking tokens.
        forced: whether to force an answer at the limit. False if the limit comes from the context or from `max_tokens`
            and not from a budget, because then there is no room left for an answer.
    """

    request: int
    limit: int
    forced: bool


@dataclass(frozen=True)
class Trace:
    """One stretch of thinking, decoded once to the largest limit of its cuts."""

    prompt: tuple[int, ...]
    repeat: int
    cuts: tuple[Cut, ...]

    @property
    def limit(self) -> int:
        """Maximum number of tokens to decode."""
        return max(cut.limit for cut in self.cuts)


@dataclass(frozen=True)
class Plan:
    """The traces to decode, ordered by their first request."""

    traces: tuple[Trace, ...]

    @property
    def asked(self) -> int:
        """Maximum number of thinking tokens that separate runs would decode."""
        return sum(cut.limit for trace in self.traces for cut in trace.cuts)

    @property
    def at_most(self) -> int:
        """Maximum number of thinking tokens that this plan decodes."""
        return sum(trace.limit for trace in self.traces)


def plan(requests: Sequence[Request], max_length: int, *, share: bool = True) -> Plan:
    """Group requests into traces.

    Args:
        requests: the requests to plan for.
        max_length: the model's context length, in tokens.
        share: False gives every request its own trace; the results are the same.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        groups[_trace_key(request) if share else index].append(index)
    return Plan(tuple(_trace(requests, members, max_length) for members in groups.values()))


def _trace_key(request: Request) -> Hashable:
    return (
        request.prompt,
        request.repeat,
        request.sampling,
        request.wait_count,
        request.wait_text,
        request.thinks,
        # Whether there is room for a wait depends on the limit, so traces with waits are not shared.
        (request.thinking_budget, request.max_tokens) if request.wait_count else None,
    )


def _trace(requests: Sequence[Request], members: Sequence[int], max_length: int) -> Trace:
    first = requests[members[0]]
    cuts = tuple(_cut(index, requests[index], max_length) for index in members)
    return Trace(first.prompt, first.repeat, cuts)


def _cut(index: int, request: Request, max_length: int) -> Cut:
    if not request.thinks:
        return Cut(index, 0, forced=False)
    room = min(request.max_tokens, max_length - len(request.prompt))
    budget = request.thinking_budget
    if budget is None or budget >= room:
        return Cut(index, room, forced=False)
    return Cut(index, budget, forced=True)
