"""Runs lm-eval's requests on an endpoint that only offers chat: no thinking budgets, but seeds and a journal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from lm_eval.api.instance import Instance

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engine import DeferredEngine, Engine
from lm_eval_ext.generation.engines.dialects.chat import ChatReply, Conversation, Message, check_sampling
from lm_eval_ext.generation.journal import JournaledEngine
from lm_eval_ext.generation.options import Options, parse_options
from lm_eval_ext.generation.repetition import loops
from lm_eval_ext.generation.request import Completion, Generation, Job, seed_for
from lm_eval_ext.harness.accounting import Progress, Totals
from lm_eval_ext.harness.arguments import ThinkingArguments
from lm_eval_ext.harness.bridge import open_journal, repeat_indices, torch_seed
from lm_eval_ext.harness.thinking_model import ThinkingModel
from lm_eval_ext.thinking_formats import ThinkingFormat, answer_after_thinking, detect_format, format_named, format_of

_USUAL_FORMAT = "qwen3"  # `<think>`, as most models write it

Count = Callable[[str], int]


class ChatRequests:
    """Runs `generate_until` requests on chat endpoints.

    Args:
        lm: the lm-eval model; its tokenizer may be None.
        arguments: our model arguments; only those that make sense for chat are used.
    """

    def __init__(self, lm: ThinkingModel, arguments: ThinkingArguments) -> None:
        self.lm = lm
        self.arguments = arguments
        self.journal = open_journal(arguments.journal, arguments.journal_alone)
        self.totals = Totals()
        self.thinking_format = self._format()

    def _format(self) -> ThinkingFormat:
        if self.arguments.thinking_format:
            return format_of(self.arguments.thinking_format)
        found = detect_format(self.lm.tokenizer, str(self.lm.pretrained)) if self.lm.tokenizer else None
        return found if found and found.separates else format_named(_USUAL_FORMAT)

    @property
    def seed(self) -> int:
        """The seed from which all sampling seeds are derived."""
        return torch_seed() if self.arguments.seed is None else self.arguments.seed

    def run(self, instances: Sequence[Instance], disable_tqdm: bool = False) -> list[Generation]:
        """Return one generation per instance, in order.

        Raises:
            ArgumentError: generation arguments ask for more than chat can do; raised before anything is decoded.
        """
        options = [_options(instance, self.lm.max_gen_toks) for instance in instances]
        wanted: dict[Job, list[int]] = {}
        for index, (instance, repeat) in enumerate(zip(instances, repeat_indices(instances), strict=True)):
            wanted.setdefault(self._job(instance, options[index], repeat), []).append(index)
        results: dict[int, Generation] = {}
        with Progress(len(instances), disable_tqdm) as progress, self.totals.timed():

            def finished(job: Job, completion: Completion) -> Iterable[Job]:
                reply = ChatReply.of_ids(completion.ids)
                for index in wanted[job]:
                    results[index] = generation(
                        reply, self.thinking_format, self._count, options[index].until, job.seed
                    )
                    progress.on_result()
                self._add(reply, results[wanted[job][0]], completion.resumed)
                progress.on_tokens(0 if completion.resumed else reply.tokens)
                return ()

            self._engine(progress).run(list(wanted), finished)
        return [results[index] for index in range(len(instances))]

    def _job(self, instance: Instance, options: Options, repeat: int) -> Job:
        said = Conversation(messages=messages_of(str(instance.args[0])), max_tokens=options.max_tokens)
        return said.job(options.sampling, seed_for(self.seed, options.sampling, said.ids(), repeat, "chat", 0))

    def _engine(self, progress: Progress) -> Engine:
        engine = DeferredEngine(lambda: self.lm.decoding_engine(0, _json, lambda bytes_: None, progress.on_replicas))
        return JournaledEngine(engine, self.journal, f"{self.lm.fingerprint}, {self.lm.versions}", _json)

    @property
    def _count(self) -> Count | None:
        """Counts the tokens of a text, if there is a tokenizer."""
        tokenizer = self.lm.tokenizer
        return (lambda text: len(tokenizer.encode(text, add_special_tokens=False))) if tokenizer else None

    def _add(self, reply: ChatReply, made: Generation, resumed: bool) -> None:
        """Add a reply to the totals."""
        if resumed:
            self.totals.resumed += 1
            self.totals.resumed_tokens += reply.tokens
        else:
            self.totals.prompt_tokens += reply.prompt_tokens
            self.totals.thinking_tokens += made.thinking_tokens
            self.totals.answer_tokens += made.answer_tokens


def _json(ids: Sequence[int]) -> str:
    return bytes(ids).decode()


# Requests -------------------------------------------------------------------------------------------------


def _options(instance: Instance, max_tokens: int) -> Options:
    """The generation arguments of a request; raises if they need an endpoint that continues texts."""
    found = parse_options(instance.args[1], answer_budget=None, max_tokens=max_tokens)
    check_sampling(found.sampling)
    begun = getattr(instance, "gen_prefix", None)
    for asked, words in (
        (found.thinking_budget is not None, f"thinking_token_budget={found.thinking_budget}"),
        (found.answer_budget is not None, f"answer_token_budget={found.answer_budget}"),
        (found.wait_count, f"wait_count={found.wait_count}"),
        (found.thinking_start or found.thinking_end, "thinking_start or thinking_end"),
        (begun, f"gen_prefix {begun!r}"),
    ):
        if asked:
            raise ArgumentError(
                f"{instance.task_name}: {words} needs a server that goes on from the middle of a text, and chat "
                "doesn't; use tasks without a thinking budget (-1), or vLLM, llama.cpp or SGLang"
            )
    return found


def messages_of(prompt: str) -> tuple[Message, ...]:
    """The messages of a prompt: those of a chat template's JSON, or the prompt as what the user says.

    >>> [turn.role for turn in messages_of('[{"role": "system", "content": "Be brief."}]')]
    ['system']
    """
    try:
        found = json.loads(prompt)
        if isinstance(found, list) and found:
            return tuple(Message.model_validate(turn) for turn in found)
    except ValueError:  # JSON's and pydantic's errors
        pass
    return (Message(role="user", content=prompt),)


# Replies --------------------------------------------------------------------------------------------------


def generation(
    reply: ChatReply, thinking_format: ThinkingFormat, count: Count | None, until: Sequence[str], seed: int
) -> Generation:
    """The generation that a reply is.

    Args:
        reply: the endpoint's.
        thinking_format: how thinking is marked in the text.
        count: counts a text's tokens, if the endpoint doesn't say how many are thinking.
        until: strings that end the answer.
        seed: of the sample.

    Raises:
        ArgumentError: the tokens of the thinking cannot be counted.
    """
    before, answer = _parts(reply, thinking_format)
    written = "" if answer is None else answer[: min([len(answer), *(answer.find(s) for s in until if s in answer)])]
    thinking = _thinking_tokens(reply, before, count)
    return Generation(
        before + written,
        answer=None if answer is None else written,
        thinking_tokens=thinking,
        answer_tokens=reply.tokens - thinking,
        looped=loops(_numbered((reply.reasoning or before).split())),
        finish_reason="length" if reply.cut else "stop",
        seed=seed,
    )


def _parts(reply: ChatReply, thinking_format: ThinkingFormat) -> tuple[str, str | None]:
    """The text up to the end of thinking, and the answer; None for an answer that was cut before it began."""
    begun, ending = thinking_format.start, f"\n{thinking_format.end}\n\n"
    if reply.reasoning:
        if reply.cut and not reply.answer.strip():
            return begun + reply.reasoning, None
        return begun + reply.reasoning + ending, reply.answer
    answer = answer_after_thinking(reply.answer)
    if answer is None or (reply.cut and not answer.strip()):
        return reply.answer, None
    return reply.answer.removesuffix(answer), answer


def _thinking_tokens(reply: ChatReply, before: str, count: Count | None) -> int:
    if reply.thinking_tokens or not before:
        return min(reply.thinking_tokens or 0, reply.tokens)
    if count is None:
        raise ArgumentError(
            f"the endpoint doesn't say how many of its {reply.tokens} tokens are thinking; give tokenizer=NAME, that "
            "of the model, to count them"
        )
    return min(count(before), reply.tokens)


def _numbered(words: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(word, len(numbers)) for word in words]
