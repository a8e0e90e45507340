"""Prepares prompts: applies the chat template, moves `gen_prefix` to the assistant's turn, opens the thinking."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lm_eval.api.instance import Instance

from lm_eval_ext.errors import ArgumentError, TaskError, did_you_mean
from lm_eval_ext.generation.request import asks_for_thinking
from lm_eval_ext.harness.thinking_model import ThinkingModel
from lm_eval_ext.thinking_formats import ThinkingFormat, assistant_header

logger = logging.getLogger("lm_eval.tts")


class Prompt(NamedTuple):
    """A prompt as text, with the chat template applied.

    Attributes:
        text: the model's input.
        turn: the part of `text` in the assistant's turn; empty if the turn cannot be located.
        thinking: whether it is of a thinking request; others are taken as they are.
    """

    text: str
    turn: str
    thinking: bool = True


class EncodedPrompt(NamedTuple):
    """A prompt as token ids.

    Attributes:
        ids: the token ids; they include the start of thinking if `thinks`.
        thinks: whether the model should think before it answers.
    """

    ids: tuple[int, ...]
    thinks: bool


class Prompts:
    """Prepares lm-eval's prompts for thinking.

    Args:
        lm: provides tokenizer and chat template.
        auto_chat_template: apply the chat template to prompts without it.
        thinking: whether the model may think; otherwise every prompt closes the thinking.
    """

    def __init__(self, lm: ThinkingModel, auto_chat_template: bool, thinking: bool = True) -> None:
        self.lm = lm
        self.apply = auto_chat_template
        self.thinking = thinking

    def of(self, instances: Sequence[Instance]) -> list[Prompt]:
        """The prompts of the given requests, in order."""
        wanted = [
            (str(one.args[0]), getattr(one, "gen_prefix", None) or "", asks_for_thinking(one.args[1]))
            for one in instances
        ]
        rendered = {one: self._templated(*one) for one in dict.fromkeys(wanted)}
        bare = sum(text != one[0] for one, text in rendered.items())
        if bare:
            logger.info(
                "chat template applied to %d prompts without it (auto_chat_template=False leaves them unchanged)",
                bare,
            )
        return [Prompt(rendered[one], self._turn(rendered[one]), thinking=one[2]) for one in wanted]

    def _templated(self, text: str, prefix: str, thinking: bool) -> str:
        header = self._header.strip()
        if not thinking or not self.apply or not self.lm.tokenizer.chat_template or (header and header in text):
            return text
        said, begun = text.rstrip(), prefix.rstrip()
        if begun and said.endswith(begun):
            return self._begun(said.removesuffix(begun).rstrip(), prefix)
        return self.lm.apply_chat_template([{"role": "user", "content": text}])

    def _begun(self, said: str, prefix: str) -> str:
        """A prompt with the beginning of the assistant's turn; some templates don't support that as the last turn."""
        user = {"role": "user", "content": said}
        try:
            turns = [user, {"role": "assistant", "content": prefix}]
            return self.lm.apply_chat_template(turns, add_generation_prompt=False)
        except ValueError:
            return self.lm.apply_chat_template([user]) + prefix

    @cached_property
    def _header(self) -> str:
        if not self.lm.tokenizer.chat_template:
            return ""
        return assistant_header(lambda text: self.lm.apply_chat_template([{"role": "user", "content": text}]))

    def _turn(self, text: str) -> str:
        header = self._header.strip()
        return text.rpartition(header)[2] if header and header in text else ""

    def encoded(self, prompt: Prompt, thinking_format: ThinkingFormat) -> EncodedPrompt:
        """Encode a prompt and open the thinking, unless the prompt has closed it or begins the assistant's answer.

        Raises:
            ArgumentError: the thinking is to be closed, but the format has no marker for that.
        """
        if not prompt.thinking:
            return EncodedPrompt(tuple(self.lm.tok_encode(prompt.text)), False)
        encoded = self._opened(prompt, thinking_format)
        if self.thinking or not encoded.thinks:
            return encoded
        if not thinking_format.separates:
            raise ArgumentError(
                f"thinking=off: the thinking format {thinking_format.name} does not mark the end of thinking; name one "
                "that does with thinking_format="
            )
        close = self.lm.tokenizer.encode(thinking_format.close, add_special_tokens=False)
        return EncodedPrompt(encoded.ids + tuple(close), False)

    def _opened(self, prompt: Prompt, thinking_format: ThinkingFormat) -> EncodedPrompt:
        ids = tuple(self.lm.tok_encode(prompt.text))
        start, text = thinking_format.start.strip(), prompt.text.rstrip()
        if not thinking_format.separates or text.endswith(start):
            return EncodedPrompt(ids, True)
        opened = prompt.turn.rfind(start)
        closed = max(prompt.turn.rfind(end.strip()) for end in thinking_format.ends)
        if text.endswith(thinking_format.ends) or closed > opened or (opened < 0 and prompt.turn.strip()):
            return EncodedPrompt(ids, False)
        if opened >= 0:  # the task's gen_prefix begins the thinking
            return EncodedPrompt(ids, True)
        return EncodedPrompt(
            ids + tuple(self.lm.tokenizer.encode(thinking_format.start, add_special_tokens=False)), True
        )


_included: list[Path] = []


def include(folders: Sequence[Path]) -> None:
    """Look for tasks in these folders too: those of `--include_path`, which no model class is told."""
    _included[:] = folders


def unknown_task(name: str, known: Iterable[str]) -> TaskError:
    """The error for a task that isn't known; it names the included file that is to define it, which can't be read."""
    files = (file for folder in _included for file in folder.rglob("*.yaml"))
    defined = re.compile(rf"(?m)^task:\s*[\"']?{re.escape(name)}[\"']?\s*$")
    if broken := next((file for file in files if defined.search(file.read_text("utf-8", "replace"))), None):
        return TaskError(f"task {name}: {broken} cannot be read; `lm-eval-tts tasks check {broken}` says why")
    return TaskError.unknown(name, known)


class TaskQuestion(NamedTuple):
    """A question of a task.

    Attributes:
        prompt: without examples and chat template.
        asked: lm-eval's hash of its row.
        texts: what it asks, without the task's template: the longest text of its row that is in the prompt, and its
            options if they are there too; else the prompt.
    """

    prompt: str
    asked: str
    texts: tuple[str, ...]


def task_prompts(name: str, count: int) -> list[str]:
    """The first prompts of a task, without few-shot examples.

    Raises:
        ArgumentError: no task has that name, or it is a group.
    """
    return [one.prompt for one in task_questions(name, count)]


def task_questions(name: str, count: int | None = None) -> list[TaskQuestion]:
    """The first questions of a task, or all.

    Raises:
        ArgumentError: no task has that name, or it is a group.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[*_included])
    if name not in manager.all_subtasks:
        hint = did_you_mean(name, manager.all_subtasks) or "; `lm_eval ls tasks` lists all tasks"
        raise ArgumentError(f"task:{name}: unknown task{hint}")
    (task,) = manager.load([name])["tasks"].values()
    return [_question(row, str(task.doc_to_text(row))) for row in list(task.eval_docs)[:count]]


def _question(row: Mapping[str, object], prompt: str) -> TaskQuestion:
    inside = [one for one in row.values() if isinstance(one, str) and one and one in prompt]
    lists = [one.get("text") if isinstance(one, dict) else one for one in row.values()]
    options = next((one for one in lists if isinstance(one, list) and _are_options(one, prompt)), [])
    return TaskQuestion(prompt, _asked(row), (max(inside, key=len), *options) if inside else (prompt,))


def _are_options(some: Sequence[object], prompt: str) -> bool:
    return len(some) > 1 and all(isinstance(one, str) and one and one in prompt for one in some)


def _asked(row: object) -> str:
    """lm-eval's `doc_hash`."""
    from lm_eval.utils import handle_non_serializable, hash_string

    return str(hash_string(json.dumps(row, indent=2, default=handle_non_serializable, ensure_ascii=False)))
