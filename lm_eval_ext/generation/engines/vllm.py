"""The decoding engine on vLLM: new jobs enter its scheduler at once, so answers and traces are decoded together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from lm_eval_ext.generation.engine import FollowUp, Poll, advanced, no_more
from lm_eval_ext.generation.request import Completion, Job

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

_Running = tuple[Job, list[int]]  # a job, and the tokens decoded so far


@dataclass(eq=False)
class VLLMEngine:
    """Runs one vLLM engine step by step; when a job ends is decided here, by the same rules as for every engine.

    vLLM's prefix cache keeps prompts and traces, so an answer does not have to prefill its trace again.

    Attributes:
        llm: a `vllm.LLM`.
        decode: ids to text, for stop strings.
        on_tokens: called after each step with the number of tokens it decoded.
        lora: adapter for all requests, or None.
        reproducible: whether each request has a seed of its own. Without seeds, vLLM samples all rows at once.
    """

    llm: LLM
    decode: Callable[[Sequence[int]], str]
    on_tokens: Callable[[int], None] = lambda tokens: None
    lora: LoRARequest | None = None
    reproducible: bool = True

    def __post_init__(self) -> None:
        self.engine = self.llm.llm_engine
        self.batch_size = int(self.engine.vllm_config.scheduler_config.max_num_seqs)
        self._numbers = count()

    def run(self, jobs: Sequence[Job], on_completion: FollowUp, poll: Poll = no_more) -> None:
        """Decode every job and its follow-ups."""
        running: dict[str, _Running] = {}  # in vLLM's scheduler
        try:
            self._add(jobs, running)
            while running:
                self._step(running, on_completion)
                self._add(poll(), running)
        finally:  # an interrupted run leaves nothing behind in the scheduler
            self.engine.abort_request(list(running))

    def _add(self, jobs: Iterable[Job], running: dict[str, _Running]) -> None:
        for job in jobs:
            name = f"tts-{next(self._numbers)}"
            parameters = sampling_params(job, self.reproducible)
            self.engine.add_request(name, {"prompt_token_ids": list(job.ids)}, parameters, lora_request=self.lora)
            running[name] = job, []

    def _step(self, running: dict[str, _Running], on_completion: FollowUp) -> None:
        finished: list[tuple[Job, Completion]] = []
        tokens = 0
        for output in self.engine.step():
            if output.request_id not in running:  # the step was already running when its request ended
                continue
            job, out = running[output.request_id]
            before = len(out)
            completion = advanced(out, output.outputs[0].token_ids, job, self.decode)
            tokens += len(out) - before
            if completion:
                finished.append((job, completion))
                del running[output.request_id]
                if not output.finished:
                    self.engine.abort_request([output.request_id])
            elif output.finished:
                raise RuntimeError(
                    f"vLLM ended a request unexpectedly: finish_reason={output.outputs[0].finish_reason}"
                )
        self.on_tokens(tokens)
        for job, completion in finished:
            self._add(on_completion(job, completion), running)


def sampling_params(job: Job, reproducible: bool = True) -> SamplingParams:
    """vLLM's sampling parameters for a job; each job has its own seed, so repeats are independent.

    Stop sequences of one token become stop tokens, so that vLLM itself ends the request at once.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    markers = {ids[0] for ids in job.stop.sequences if len(ids) == 1}
    return SamplingParams(
        max_tokens=job.max_tokens,
        temperature=job.sampling.temperature,
        top_p=job.sampling.top_p,
        top_k=job.sampling.top_k,
        min_p=job.sampling.min_p,
        repetition_penalty=job.sampling.repetition_penalty,
        seed=job.seed if reproducible else None,
        stop_token_ids=sorted(job.stop.tokens | markers),
        ignore_eos=True,  # the job's stop tokens decide
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
