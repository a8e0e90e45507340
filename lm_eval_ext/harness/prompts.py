"""Prompts: the chat template applied once, a task's `gen_prefix` in the assistant's turn, the thinking opened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from lm_eval.api.instance import Instance

from lm_eval_ext.harness.thinking_model import ThinkingModel
from lm_eval_ext.thinking_formats import ThinkingFormat, text_marks

logger = logging.getLogger("lm_eval.tts")

_PROBE = "PROBE-7f3a"  # stands for the user's words where the chat template is tried out


class Prompt(NamedTuple):
    """A prompt as text, with the chat template.

    Attributes:
        text: what the model is given.
        turn: the part of it that stands in the assistant's turn, as far as that can be told.
    """

    text: str
    turn: str


class EncodedPrompt(NamedTuple):
    """A prompt as ids.

    Attributes:
        ids: they end with the start of thinking, where the model is to think.
        thinks: whether it is.
    """

    ids: tuple[int, ...]
    thinks: bool


class Prompts:
    """Makes lm-eval's prompts ready for thinking.

    Args:
        lm: gives tokenizer and chat template.
        auto_chat_template: apply the chat template where a prompt comes without it.
    """

    def __init__(self, lm: ThinkingModel, auto_chat_template: bool) -> None:
        self.lm = lm
        self.apply = auto_chat_template

    def of(self, instances: Sequence[Instance]) -> list[Prompt]:
        """The prompts of requests, in order."""
        wanted = [(str(instance.args[0]), getattr(instance, "gen_prefix", None) or "") for instance in instances]
        rendered = {one: self._templated(*one) for one in dict.fromkeys(wanted)}
        bare = sum(text != one[0] for one, text in rendered.items())
        if bare:
            logger.info(
                "chat template applied to %d prompts that came without it (auto_chat_template=False leaves them)",
                bare,
            )
        return [Prompt(rendered[one], self._turn(rendered[one])) for one in wanted]

    def _templated(self, text: str, prefix: str) -> str:
        header = self._header.strip()
        if not self.apply or not self.lm.tokenizer.chat_template or (header and header in text):
            return text
        said, begun = text.rstrip(), prefix.rstrip()
        if begun and said.endswith(begun):
            return self._begun(said.removesuffix(begun).rstrip(), prefix)
        return self.lm.apply_chat_template([{"role": "user", "content": text}])

    def _begun(self, said: str, prefix: str) -> str:
        """A prompt whose assistant's turn has begun; some templates know no such turn at the end."""
        user = {"role": "user", "content": said}
        try:
            turns = [user, {"role": "assistant", "content": prefix}]
            return self.lm.apply_chat_template(turns, add_generation_prompt=False)
        except ValueError:
            return self.lm.apply_chat_template([user]) + prefix

    @cached_property
    def _header(self) -> str:
        """What the chat template puts between the user's words and the assistant's, marks of thinking left out."""
        if not self.lm.tokenizer.chat_template:
            return ""
        after = self.lm.apply_chat_template([{"role": "user", "content": _PROBE}]).rpartition(_PROBE)[2]
        marks = [mark for marks in text_marks() if not marks.anchored for mark in (marks.start, *marks.ends)]
        return after[: min((after.index(mark) for mark in marks if mark in after), default=len(after))]

    def _turn(self, text: str) -> str:
        header = self._header.strip()
        return text.rpartition(header)[2] if header and header in text else ""

    def encoded(self, prompt: Prompt, thinking_format: ThinkingFormat) -> EncodedPrompt:
        """Ids with the thinking opened, unless the prompt has closed it, or the assistant has begun to answer."""
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
