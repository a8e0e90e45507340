"""Converts lm-eval's requests to ours and returns our generations; shared by all model classes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from lm_eval.api.instance import Instance

from lm_eval_ext.errors import EngineError, JournalError
from lm_eval_ext.generation.budget_forcing import BudgetForcing, Plan, plan
from lm_eval_ext.generation.engine import Codec, Engine, MergingEngine, codec_of
from lm_eval_ext.generation.journal import Journal, JournaledEngine, default_journal
from lm_eval_ext.generation.request import Generation, GenerationOptions, Request, parse_options
from lm_eval_ext.harness.arguments import ThinkingArguments
from lm_eval_ext.harness.prompts import EncodedPrompt, Prompt, Prompts
from lm_eval_ext.harness.thinking_model import ProgressBar, ThinkingModel, Totals
from lm_eval_ext.paths import expanded
from lm_eval_ext.thinking_formats import ThinkingFormat, detect_format, format_of, with_markers

logger = logging.getLogger("lm_eval.tts")


class ThinkingRequests:
    """Runs the thinking requests of `generate_until` calls.

    Args:
        lm: the lm-eval model; provides tokenizer, chat template, context length and decoding engine.
        arguments: our model arguments; only those about thinking are used.
    """

    def __init__(self, lm: ThinkingModel, arguments: ThinkingArguments) -> None:
        self.lm = lm
        self.arguments = arguments
        self.journal = open_journal(arguments.journal, arguments.journal_alone)
        self.totals = Totals()
        self.thinking_format = (
            format_of(arguments.thinking_format)
            if arguments.thinking_format
            else detect_format(lm.tokenizer, str(lm.pretrained) if isinstance(lm.pretrained, str) else "")
        )
        logger.info("thinking format: %s", self.thinking_format.name)
        if "strftime_now" in str(lm.tokenizer.chat_template):
            logger.warning(
                "the chat template puts today's date into every prompt, so samples differ from day to day, and a run "
                "that is continued on another day cannot use the journal"
            )
        self.prompts = Prompts(lm, arguments.auto_chat_template, arguments.thinking)
        self._warned_closed: set[str] = set()

    @property
    def seed(self) -> int:
        """The seed from which all sampling seeds are derived."""
        return torch_seed() if self.arguments.seed is None else self.arguments.seed

    def run(self, instances: Sequence[Instance], disable_tqdm: bool = False) -> list[Generation]:
        """Return one generation per instance, in order.

        Raises:
            ArgumentError: generation arguments are unknown or contradict each other, or a prompt does not fit the
                context; raised before anything is decoded.
        """
        options = [self._options(instance) for instance in instances]
        prompts = self.prompts.of(instances)
        groups = []
        for thinking_format, indices in self._by_format(options).items():
            requests = self._requests(instances, options, prompts, indices, thinking_format)
            groups.append((thinking_format, indices, requests, self._planned(requests)))
        results: dict[int, Generation] = {}
        for thinking_format, indices, requests, planned in groups:
            generations = self._generate(requests, planned, thinking_format, disable_tqdm)
            results.update(zip(indices, generations, strict=True))
        return [results[index] for index in range(len(instances))]

    def _options(self, instance: Instance) -> GenerationOptions:
        return parse_options(
            instance.args[1], answer_budget=self.arguments.answer_token_budget, max_tokens=self.lm.max_gen_toks
        )

    def _by_format(self, options: Sequence[GenerationOptions]) -> dict[ThinkingFormat, list[int]]:
        groups: dict[ThinkingFormat, list[int]] = {}
        for index, option in enumerate(options):
            groups.setdefault(
                with_markers(self.thinking_format, option.thinking_start, option.thinking_end), []
            ).append(index)
        return groups

    def _requests(
        self,
        instances: Sequence[Instance],
        options: Sequence[GenerationOptions],
        prompts: Sequence[Prompt],
        indices: Sequence[int],
        thinking_format: ThinkingFormat,
    ) -> list[Request]:
        repeats = repeat_indices(instances)
        encoded = {prompt: self.prompts.encoded(prompt, thinking_format) for prompt in dict.fromkeys(prompts)}
        closed = [one for one in indices if prompts[one].thinking and not encoded[prompts[one]].thinks]
        self._warn_of_closed_thinking(instances, closed)
        return [_request(encoded[prompts[index]], repeats[index], options[index]) for index in indices]

    def _warn_of_closed_thinking(self, instances: Sequence[Instance], closed: Sequence[int]) -> None:
        if not self.arguments.thinking:
            return
        for task in dict.fromkeys(str(instances[index].task_name) for index in closed):
            if task not in self._warned_closed:
                self._warned_closed.add(task)
                logger.warning(
                    "%s: the prompt already closes the thinking (in the chat template or the task's gen_prefix), so "
                    "the thinking budget has no effect",
                    task,
                )

    # Decoding ---------------------------------------------------------------------------------------------

    def _planned(self, requests: Sequence[Request]) -> Plan:
        self._warn_of_clamps(requests)
        planned = plan(requests, self.lm.max_length, share=self.arguments.share_traces)
        logger.info(
            "%d traces: at most %d thinking tokens to decode for %d requested, %d saved by sharing",
            len(planned.traces),
            planned.at_most,
            planned.asked,
            planned.asked - planned.at_most,
        )
        return planned

    def _generate(
        self, requests: Sequence[Request], planned: Plan, thinking_format: ThinkingFormat, quiet: bool
    ) -> list[Generation]:
        codec = codec_of(self.lm.tokenizer, self._eos())
        with (
            ProgressBar(len(requests), quiet or self.lm.rank != 0) as progress,
            self.totals.timed(),
            self.lm.decoding_context(),
        ):
            forcing = BudgetForcing(
                self._engine(codec, requests, planned, progress),
                codec,
                thinking_format,
                base_seed=self.seed,
                max_length=self.lm.max_length,
                stop_loops=self.arguments.stop_loops,
                on_result=lambda index, generation: progress.on_result(),
            )
            try:
                results = forcing.run(requests, planned)
            except EngineError as error:
                missing = len(requests) - progress.results
                raise EngineError(f"{missing} of {len(requests)} texts are missing: {error}") from error
        self.totals.prompt_tokens += sum(len(trace.prompt) for trace in planned.traces)
        self.totals.saved_by_sharing += forcing.saved
        self._log_resumed()
        return results

    def _engine(self, codec: Codec, requests: Sequence[Request], planned: Plan, progress: ProgressBar) -> Engine:
        answers = max(
            request.max_tokens if request.answer_budget is None else request.answer_budget for request in requests
        )
        longest = max(len(trace.prompt) + trace.limit for trace in planned.traces) + answers
        tokens = min(longest, self.lm.max_length)

        def create() -> Engine:
            return self.lm.decoding_engine(tokens, codec.decode, progress.on_tokens, progress.on_replicas)

        model = f"{self.lm.fingerprint}, {self.lm.versions}"
        return MergingEngine(
            JournaledEngine(create, self.journal, model, codec.decode, self.lm.sampler, self.totals.count)
        )

    def _log_resumed(self) -> None:
        if self.journal is not None and self.totals.resumed:
            logger.info(
                "resumed: %d completions (%d tokens) were taken from the journal %s",
                self.totals.resumed,
                self.totals.resumed_tokens,
                self.journal.path,
            )

    def _eos(self) -> set[int]:
        """All ids that end a text: the tokenizer's and those in the generation config."""
        named = getattr(self.lm.generation_defaults(), "eos_token_id", None)
        ids = set(named) if isinstance(named, (list, tuple)) else {named}
        return {int(token) for token in ids | {self.lm.tokenizer.eos_token_id} if token is not None}

    def _warn_of_clamps(self, requests: Sequence[Request]) -> None:
        room = self.lm.max_length - max(len(request.prompt) for request in requests)
        asked = max(request.max_tokens for request in requests)
        if asked > room:
            logger.warning(
                "max_gen_toks=%d does not fit the model's context of %d tokens: at most %d tokens are decoded after "
                "the longest prompt",
                asked,
                self.lm.max_length,
                room,
            )
        starved = [
            r for r in requests if r.thinking_budget is not None and r.thinking_budget >= min(r.max_tokens, room)
        ]
        if starved:
            logger.warning(
                "%d requests have a thinking budget (%d, for example) that leaves no room for an answer within "
                "max_gen_toks and the context, so their traces are not forced to answer",
                len(starved),
                starved[0].thinking_budget,
            )


def torch_seed() -> int:
    """The seed set by lm-eval's `--seed`."""
    import torch

    return torch.initial_seed()


def repeat_indices(instances: Sequence[Instance]) -> list[int]:
    """Index of each instance among the repeats of its question.

    lm-eval passes the same object `repeats` times. When ranks are padded to equal length, whole sets of repeats occur
    again; they get the same indices.
    """
    seen: Counter[int] = Counter()
    indices = []
    for instance in instances:
        indices.append(seen[id(instance)] % max(1, instance.repeats or 1))
        seen[id(instance)] += 1
    return indices


def _request(prompt: EncodedPrompt, repeat: int, options: GenerationOptions) -> Request:
    thinks = prompt.thinks
    return Request(
        prompt=prompt.ids,
        repeat=repeat,
        sampling=options.sampling,
        thinking_budget=options.thinking_budget,
        # Without thinking, the answer is the whole output, so only an explicit budget limits it.
        answer_budget=options.answer_budget if thinks or options.names_answer_budget else None,
        max_tokens=options.max_tokens,
        until=options.until,
        wait_count=options.wait_count,
        wait_text=options.wait_text,
        thinks=thinks,
    )


def open_journal(journal: str | bool | None, alone: bool = False) -> Journal | None:
    """Open the journal that the model argument `journal` names; None if it is switched off.

    If the default journal cannot be used, that is only a warning.

    Raises:
        JournalError: a journal named by the user cannot be used.
    """
    if journal in ("off", "none", False, None):
        return None
    if journal not in ("on", True):
        return Journal(expanded(str(journal)), alone)
    try:
        return Journal(default_journal(), alone)
    except (JournalError, OSError) as error:
        logger.warning("%s; continuing without a journal", error)
        return None
